"""Whether a run is the same when it is lived again, and where it parts if it is not.

What is not the same twice proves nothing, and cannot be replayed. So explorations live through a share of
their runs twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeVar

from queuekit.exploration.elsewhere import begin, compared
from queuekit.exploration.errors import NotRepeatable
from queuekit.exploration.living import Plan, Run, Story, Terms, run_once
from queuekit.exploration.silence import silent
from queuekit.exploration.swarm import checked, drawn
from queuekit.simulation.schedule import SCHEDULES, schedules_of
from queuekit.simulation.trace import first_difference

T = TypeVar("T")

Sink = Callable[[str], None]

CONTEXT = 5
"Lines before the first difference that are shown with it."

REPEATED_SEEDS = 6
"Runs that `assert_repeatable` lives through twice, unless it is told how many: two of each schedule."


def assert_repeatable(
    story: Story,
    *,
    seeds: int = REPEATED_SEEDS,
    first_seed: int = 0,
    backend: str = "fakeredis",
    faults: Collection[str] | None = None,
    schedules: Collection[str] = SCHEDULES,
) -> str:
    """Live through some runs of a story twice each, and compare them line by line.

    And once each in two other processes, whose sets have other orders, if the story is found there: at the
    top of a module that can be imported by itself.

    `explore` does so with a share of its runs (`guard=`). This is for a story, or a simulated application, of
    which one wants to know just that.

    Args:
        story: an async function of a simulation, as for `explore`.
        seeds: how many runs.
        first_seed: the seeds are this one and those that follow it.
        backend: as for a `Simulation`.
        faults: kinds of misfortune (default: those that `explore` has by default; `()` is none).
        schedules: of "fifo", "random" and "pct", by turns.

    Returns:
        What was compared with other processes, in words; or why nothing was.

    Raises:
        NotRepeatable: two runs of one seed differ; its message has the first line that does, with both sides.
        SimulationError: there is no such fault or schedule.
    """
    kinds, turns = checked(faults), schedules_of(schedules)
    terms = Terms(backend=backend, check=False)
    plans = [
        Plan(seed, turns[(seed - first_seed) % len(turns)], drawn(seed, kinds), choices=True)
        for seed in range(first_seed, first_seed + seeds)
    ]
    begin(story, terms)
    with silent():
        for plan in plans:
            lived_twice(story, plan, terms)
    return compared(story, plans, terms)


def lived_twice(story: Story, plan: Plan, terms: Terms, *, ask: bool = False) -> Run:
    """Live through a plan twice; the first of the two runs, with all decisions if they are asked for.

    Raises:
        NotRepeatable: they differ.
    """
    return twice(
        lambda sink: run_once(story, plan, terms, ask=ask, sink=sink),
        f"seed {plan.seed} (schedule {plan.schedule})",
    )


def twice(live: Callable[[Sink], T], name: str) -> T:
    """Live through anything twice; what the first time gave.

    Args:
        live: one run from beginning to end, in a world of its own. It calls what it is given with each line
            of its trace.
        name: of the run, for the message.

    Raises:
        NotRepeatable: the two runs differ.
    """
    lines: list[str] = []
    lived = live(lines.append)
    comparison = _Comparison(lines)
    live(comparison.add)
    difference = comparison.told()
    if difference is not None:
        raise NotRepeatable(
            f"{name} was lived through twice, and was not the same twice: {difference}\n"
            "  (- is the first time, + the second.)\n"
            "  A run is to follow its decisions alone. Something in it follows a real clock, a thread,\n"
            "  the order of a set, an address in memory, or what the first run has left behind (a cache,\n"
            "  a global).\n"
            "  Look at the code that runs at the line shown; begin each run with new objects."
        )
    return lived


class _Comparison:
    """Of lines that come, with those of an earlier run."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self._count = 0
        self._parted: tuple[int, str] | None = None
        "The first line of the new run that differs: its place, and it."

    def add(self, line: str) -> None:
        place = self._count
        self._count += 1
        if self._parted is None and (place >= len(self._lines) or self._lines[place] != line):
            self._parted = (place, line)

    def told(self) -> str | None:
        """The first difference, with both sides; None if there is none."""
        place, line = self._parted or (self._count, "(end)")
        if self._parted is None and place == len(self._lines):
            return None
        before = self._lines[max(0, place - CONTEXT) : place]
        old = self._lines[place] if place < len(self._lines) else "(end)"
        told = first_difference([*before, old], [*before, line])
        return told and told.replace(f"line {len(before) + 1}:", f"line {place + 1}:", 1)

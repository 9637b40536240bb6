"""A failing run reduced, under the schedule by which it is told most simply.

A random walk that fails has hundreds of decisions, and what they do together cannot be cut in pieces: each
moves all that follow. Most often it amounts to somebody being held back for a while, which under PCT
is one decision. So that is tried, wherever a few decisions of a schedule are not enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from queuekit.exploration.shrink import PAIR, SHRINK_RUNS, Tape, shrink
from queuekit.simulation.chooser import Asked, Deviation

SCHEDULING = frozenset({"schedule", "pct.priority", "pct.change"})
"Kinds of decisions about who goes on."

FIRST_RUNS = 60
"Of a reduction, before simpler schedules are tried; most are done by then."

HELD_BACK_RUNS = 300
"Runs in which one actor is held back, each from another step on."

FailsUnder = Callable[[str, list[Deviation]], "Tape | None"]
"As `shrink.Fails`, under a schedule of that name."


@dataclass(frozen=True, slots=True)
class Reduced:
    """What is left, and the schedule that it is a tape of."""

    schedule: str
    tape: list[Deviation]
    runs: int
    "That it took."
    minimal: bool
    "Whether it passes without any one of its decisions."


def reduced(
    schedule: str,
    tape: Tape,
    fails: FailsUnder,
    look: Callable[[list[Deviation]], tuple[Sequence[Asked], int]],
    *,
    runs: int = SHRINK_RUNS,
) -> Reduced:
    """The smallest tape in reach that still fails, under the simplest schedule.

    Args:
        schedule: of the run that failed.
        tape: of it.
        fails: tries a tape under a schedule.
        look: lives with a tape under PCT; the decisions that there were, and how many choices PCT had.
        runs: how often it may be tried.

    Raises:
        NotRepeatable: the given tape, or the result, did not fail when it was run again.
    """
    spent, tape = 0, list(tape)
    rest = without_scheduling(tape)
    if schedule != "fifo" and rest and len(rest) < len(tape):
        spent += 1
        taken = fails("fifo", rest)
        if taken is not None:
            schedule, tape = "fifo", list(taken)
    shrunk = shrink(tape, lambda each: fails(schedule, each), runs=min(runs, FIRST_RUNS))
    spent += shrunk.runs
    rest = without_scheduling(shrunk.tape)
    again = not shrunk.minimal
    if len(shrunk.tape) - len(rest) > PAIR:
        spent += 1
        for held in islice(held_back(*look(rest)), max(0, runs - spent)):
            spent += 1
            taken = fails("pct", [*rest, *held])
            if taken is not None and len(taken) < len(shrunk.tape):
                shrunk, schedule, again = replace(shrunk, tape=list(taken)), "pct", True
                break
    if again and spent < runs:
        shrunk = shrink(shrunk.tape, lambda each: fails(schedule, each), runs=runs - spent)
        spent += shrunk.runs
    return Reduced(schedule, shrunk.tape, spent, shrunk.minimal)


def without_scheduling(tape: Sequence[Deviation]) -> list[Deviation]:
    """A tape without its decisions about who goes on."""
    return [d for d in tape if d.site.partition(":")[0] not in SCHEDULING]


def held_back(asked: Sequence[Asked], choices: int) -> Iterator[list[Deviation]]:
    """Under PCT, each actor held back from the beginning; then whoever goes on, from one choice on."""
    for each in asked:
        if each.site.startswith("pct.priority:"):
            yield [Deviation(each.site, each.nth, 1)]
    stride = -(-choices // HELD_BACK_RUNS) or 1
    for choice in range(1, choices + 1, stride):
        yield [Deviation("pct.change", 1, choice)]

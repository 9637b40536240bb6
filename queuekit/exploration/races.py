"""Races in plain asyncio code, without a queue and without Redis.

`find_race(main)` runs a coroutine function again and again in virtual time, each time in another order of its
tasks' steps, until it raises; then it takes from that order whatever is not needed, and tells which task ran
ahead of which, with source lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from queuekit.exploration.exhaustive import Lived, Searched, every_schedule
from queuekit.exploration.guard import Sink, twice
from queuekit.exploration.overtaking import LIBRARIES, Overtaking, Overtakings, line_of
from queuekit.exploration.shrink import SHRINK_RUNS
from queuekit.exploration.simpler import reduced
from queuekit.simulation.backends import require_testing_extra
from queuekit.simulation.chooser import Asked, Chooser, Deviation
from queuekit.simulation.clock import VirtualClock
from queuekit.simulation.ending import drop_all
from queuekit.simulation.errors import RefusedInSimulation, SimulationError
from queuekit.simulation.loop import SimulatedLoop
from queuekit.simulation.schedule import EXPECTED_CHOICES, PCT, schedule_of
from queuekit.simulation.trace import Trace

RACE_RUNS = 1_000
"Runs of a search; a small one takes 0.1 ms."

RACE_STEPS = 20_000
"Steps at one instant that are a livelock: small code takes few."

START_NS = 1_893_456_000 * 1_000_000_000
"2030-01-01, as in any simulation."

CANCEL_ROUNDS = 5
"How often a task that ignores its cancellation is asked again when its run ends."

Main = Callable[[], Coroutine[Any, Any, object]]


class RaceFound(AssertionError):  # noqa: N818 (says what happened)
    """Code failed in an order of steps that production can have."""

    def __init__(self, race: Race) -> None:
        super().__init__(race.story())
        self.race = race


@dataclass(slots=True)
class Race:
    """An order of steps in which code fails, as small as it gets."""

    error: BaseException
    schedule: str
    "Under which the tape is replayed."
    tape: list[Deviation]
    "The decisions that matter; none if it fails in the order of any loop."
    overtakings: list[Overtaking]
    "Who went ahead of whom in that order."
    found_in: int
    "Runs until it was found."
    seed: int
    "Of the run that found it."
    decisions: int
    "How many there were in it."
    reduced_in: int
    "Runs that reducing it took."
    minimal: bool
    "Whether the code does not fail in this way without any one of the decisions."
    found_under: str = "random"
    "The schedule of the run that found it."
    name: str = "main"
    "Of the function that failed."

    def story(self) -> str:
        """What failed, and the order that it needs."""
        said = "".join(traceback.format_exception_only(self.error)).strip()
        lines = [said, f"  raised at {_raised_at(self.error)}"]
        if not self.tape:
            return "\n".join([*lines, "  It fails in the order of any loop, without an adversary."])
        lines.append(
            f"  found in run {self.found_in} ({self.found_under}, seed {self.seed}); its {self.decisions}"
            f" decisions were reduced to {len(self.tape)} in {self.reduced_in} runs:"
        )
        lines += [f"  {n}. {each}" for n, each in enumerate(self.overtakings, 1)]
        if self.minimal:
            lines.append("  Without any one of these decisions it does not fail so:")
        lines += [f"    {deviation}" for deviation in self.tape]
        return "\n".join([*lines, f"  To run it in this order again: {self._replay()}"])

    def _replay(self) -> str:
        decisions = ", ".join(f"Deviation({d.site!r}, {d.nth}, {d.value})" for d in self.tape)
        return f"replay_race({self.name}, [{decisions}], schedule={self.schedule!r})"


@dataclass(slots=True)
class RaceSearch:
    """What a search has seen."""

    runs: int = 0
    race: Race | None = None
    searched: Searched | None = None
    "What was seen within `deviations`, if that was asked for."

    @property
    def exhausted(self) -> bool:
        """Whether all orders within `deviations` were seen; never without them."""
        return self.searched is not None and self.searched.exhausted

    def __str__(self) -> str:
        seen = str(self.searched) if self.searched is not None else f"{self.runs:,} run(s)"
        return f"{seen}; {'a race was' if self.race else 'no race was'} found"


@dataclass(slots=True)
class _Order:
    """How the steps of a run are ordered."""

    schedule: str = "random"
    seed: int = 0
    tape: list[Deviation] | None = None
    expected: int = EXPECTED_CHOICES


@dataclass(slots=True)
class _Run:
    """What one showed."""

    error: BaseException | None
    tape: list[Deviation]
    asked: list[Asked]
    choices: int
    "That PCT had."
    overtakings: list[Overtaking] = field(default_factory=list)


class RaceOptions(TypedDict, total=False):
    """The options of a search; `search_races` has what they mean."""

    runs: int
    first_seed: int
    deviations: int | None
    reduce_runs: int
    steps_per_instant: int


def find_race(main: Main, **options: Unpack[RaceOptions]) -> Race | None:
    """An order of steps in which `main` raises, reduced; None if none was found. See `search_races`."""
    return search_races(main, **options).race


def assert_no_race(main: Main, **options: Unpack[RaceOptions]) -> RaceSearch:
    """Search for a race as `search_races` does; what was seen.

    Raises:
        RaceFound: there is one; its message tells the order.
    """
    searched = search_races(main, **options)
    if searched.race is not None:
        raise RaceFound(searched.race) from searched.race.error
    return searched


def search_races(
    main: Main,
    *,
    runs: int = RACE_RUNS,
    first_seed: int = 1,
    deviations: int | None = None,
    reduce_runs: int = SHRINK_RUNS,
    steps_per_instant: int = RACE_STEPS,
) -> RaceSearch:
    """Look for an order of steps in which code raises.

    First in first out comes first, then random walks and PCT by turns. Time is virtual. A deadlock and
    turning in a circle are failures, too.

    Args:
        main: an async function without arguments, called anew for each run; it raises when something is
            wrong. What it awaits counts; an exception in a task that nobody awaits does not.
        runs: of the search, at most.
        first_seed: the seeds are this one and those that follow it.
        deviations: instead, try every order that differs from first in first out in at most so many
            decisions.
        reduce_runs: for reducing what was found, at most.
        steps_per_instant: more steps than this without time moving are a livelock.

    Raises:
        NotRepeatable: `main` does not do the same in the same order; the message shows where it parts.
        RefusedInSimulation: it reached for something that is not simulated.
    """
    require_testing_extra()
    lives = _Lives(main, steps_per_instant)
    boring = twice(
        lambda sink: lives.live(_Order(tape=[]), sink=sink),
        f"{lives.name} in the order of any loop",
    )
    searched = RaceSearch(1)
    if boring.error is not None:
        searched.race = lives.told(_Order(tape=[]), boring, searched.runs, reduce_runs)
        return searched
    if deviations is not None:
        return _every_order(lives, deviations, runs, reduce_runs)
    expected = max(2, len(boring.asked))
    for seed in range(first_seed, first_seed + runs - 1):
        order = _Order("random" if seed % 2 else "pct", seed, expected=expected)
        lived = lives.live(order)
        searched.runs += 1
        if lived.error is not None:
            searched.race = lives.told(order, lived, searched.runs, reduce_runs)
            break
    return searched


def _every_order(lives: _Lives, deviations: int, runs: int, reduce_runs: int) -> RaceSearch:
    def run(tape: list[Deviation]) -> Lived:
        lived = lives.live(_Order(tape=tape))
        return Lived(lived.asked, lived.error)

    seen = every_schedule(run, deviations, runs=runs)
    searched = RaceSearch(seen.runs, searched=seen)
    if seen.failures:
        order = _Order(tape=seen.failures[0][0])
        searched.race = lives.told(order, lives.live(order), seen.runs, reduce_runs)
    return searched


def replay_race(main: Main, tape: Iterable[Deviation], *, schedule: str = "random") -> None:
    """Run code once in a given order.

    Args:
        main: as for `search_races`.
        tape: of a `Race`.
        schedule: of it.

    Raises:
        BaseException: what `main` raises in that order.
    """
    require_testing_extra()
    lived = _Lives(main, RACE_STEPS).live(_Order(schedule, tape=list(tape)))
    if lived.error is not None:
        raise lived.error


def choose(name: str, n: int) -> int:
    """A choice of the code's own, one of 0 to n - 1: how long something takes, how much there is.

    0, unless a search or a replay decides otherwise; let it be the least, since failures are reduced towards
    it. Outside of any simulation it is 0, too.
    """
    chooser = getattr(asyncio._get_running_loop(), "chooser", None)
    return 0 if chooser is None else int(chooser.pick(f"choose:{name}", n))


class _Lives:
    """Runs of one function."""

    def __init__(self, main: Main, steps_per_instant: int) -> None:
        from queuekit.simulation import wallclock  # noqa: PLC0415 (freezegun is heavy)

        wallclock.install()
        self.name = getattr(main, "__name__", "main")
        self._main = main
        self._steps_per_instant = steps_per_instant

    def live(self, order: _Order, *, watched: bool = False, sink: Sink | None = None) -> _Run:
        """One run from beginning to end; `sink` is called with each line of its trace."""
        from queuekit.simulation import entropy  # noqa: PLC0415 (as above)

        chooser = Chooser(order.seed, order.tape)
        chooser.draw(["choose"])
        chooser.asked = []
        trace = Trace(keeps=sink is not None)
        trace.sink = sink
        loop = SimulatedLoop(
            VirtualClock(START_NS),
            trace=trace,
            chooser=chooser,
            steps_per_instant=self._steps_per_instant,
        )
        loop.set_exception_handler(lambda *_: None)  # what is awaited is told
        schedule = schedule_of(order.schedule, chooser, expected_choices=order.expected)
        loop.take_steps_by(schedule)
        overtakings = Overtakings(loop) if watched else []
        error: BaseException | None = None
        with contextlib.closing(loop), entropy.seeded(0):
            try:
                loop.run_until_complete(self._main())
            except RefusedInSimulation:
                raise
            except (Exception, asyncio.CancelledError) as raised:  # the answer that is looked for
                error = raised
            except (KeyboardInterrupt, SystemExit):
                drop_all(loop)
                raise
            tape = list(chooser.tape)
            loop.trace = Trace(keeps=False)  # how it is taken down is not part of it
            _take_down(loop)
        choices = schedule.choices if isinstance(schedule, PCT) else 0
        return _Run(error, tape, chooser.asked, choices, list(overtakings))

    def told(self, order: _Order, found: _Run, found_in: int, reduce_runs: int) -> Race:
        """A failure, reduced and told."""
        assert found.error is not None
        kind = _identity(found.error)

        def fails(schedule: str, tape: list[Deviation]) -> list[Deviation] | None:
            lived = self.live(_Order(schedule, tape=tape))
            same = lived.error is not None and _identity(lived.error) == kind
            return lived.tape if same else None

        def look(tape: list[Deviation]) -> tuple[list[Asked], int]:
            lived = self.live(_Order("pct", tape=tape))
            return lived.asked, lived.choices

        shrunk = reduced(order.schedule, found.tape, fails, look, runs=reduce_runs)
        last = self.live(_Order(shrunk.schedule, tape=shrunk.tape), watched=True)
        assert last.error is not None
        return Race(
            error=last.error,
            schedule=shrunk.schedule,
            tape=shrunk.tape,
            overtakings=last.overtakings,
            found_in=found_in,
            seed=order.seed,
            decisions=len(found.tape),
            reduced_in=shrunk.runs,
            minimal=shrunk.minimal,
            found_under=order.schedule,
            name=self.name,
        )


def _take_down(loop: SimulatedLoop) -> None:
    """End what a run has left behind, in the order of its age."""
    loop.take_steps_by(None)
    loop.fatal = None
    for _ in range(CANCEL_ROUNDS):
        left = loop.unfinished()
        if not left:
            break
        for task in left:
            task.cancel()
        with contextlib.suppress(
            SimulationError
        ):  # one that never ends has been told, or is not awaited
            loop.run_until_complete(asyncio.wait(left, timeout=60))
    if loop._asyncgens:  # type: ignore[attr-defined]  # a run of its own for nothing, most often
        loop.run_until_complete(loop.shutdown_asyncgens())


def _identity(error: BaseException) -> tuple[object, ...]:
    """What makes two failures the same: their type, and the line that raised."""
    return type(error), _raised_at(error)


def _raised_at(error: BaseException) -> str:
    """The innermost line of the user's; "" if there is none."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    places = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith(LIBRARIES)
    ]
    return line_of(*places[-1]) if places else ""

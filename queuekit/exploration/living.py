"""One run: the story under misfortune, healing, the time in which all must come right, and the checks."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from queuekit.exploration.checkers import Watch
from queuekit.exploration.excuses import excused, nothing_to_ask
from queuekit.exploration.jobs import foreign, runs_of_jobs, unfinished
from queuekit.exploration.once import done_again
from queuekit.exploration.swarm import CALM, Profile, Swarm
from queuekit.exploration.telling import Teller
from queuekit.simulation import diagnosis
from queuekit.simulation.chooser import Asked, Deviation
from queuekit.simulation.errors import (
    FaultNeverFired,
    InvariantBroken,
    ProcessFailed,
    SimulationDeadlock,
    SimulationError,
    SimulationLivelock,
    TaskFailed,
    VirtualTimeLimit,
)
from queuekit.simulation.processes import unseen_failures
from queuekit.simulation.schedule import EXPECTED_CHOICES, PCT
from queuekit.simulation.world import Simulation

Story = Callable[[Simulation], Coroutine[Any, Any, object]]
"""What an exploration lives through again and again. It may give back a function, called when all has come
right: what must hold in the end."""

LIMIT_S = 3600.0
"Virtual seconds after all misfortune has ended, within which every job must have ended."

STEPS_PER_INSTANT = 50_000
"More than this without time moving are a livelock: a quarter of what a test by hand may take."

STEPS_PER_RUN = 200_000
"""More than this in one run are a livelock, too: what asks again and again with a little wait between would
keep a run busy for its whole hour. Our own stories, with some fifty jobs, take up to 5,000."""

THOROUGH_EACH = 8
"""Every so manieth seed, and each run without misfortune, is looked at in each of its instants. That costs
it a tenth to a quarter, and shows what has passed again by the end."""

UNHEALED_S = 300.0
"Virtual seconds for which misfortune goes on after the story has been told, if jobs are left then."

_STANDSTILLS: tuple[tuple[type[SimulationError], str], ...] = (
    (SimulationDeadlock, "deadlock"),
    (SimulationLivelock, "livelock"),
    (VirtualTimeLimit, "time limit"),
)


Checker = Callable[[Simulation], Sequence[object]]
"Called after a run, with what the run was; gives back what was broken."


def checkers_of(story: Story, given: Sequence[Checker] = ()) -> tuple[Checker, ...]:
    """Those given, and those that a story brings: `story.checkers = (SaqQueue(),)`.

    So a failure that was kept has them, too.
    """
    own = getattr(story, "checkers", ())
    return (*given, *(each for each in own if not any(each is other for other in given)))


@dataclass(frozen=True)
class Terms:
    """What is the same in all runs of an exploration."""

    backend: str = "fakeredis"
    limit: float = LIMIT_S
    invariants: tuple[Callable[..., object], ...] = ()
    checkers: tuple[Callable[[Simulation], Sequence[object]], ...] = ()
    once: tuple[str, ...] = ()
    check: bool = True
    flush: bool = False
    steps: int = STEPS_PER_RUN
    name: str = ""
    "By which its failures are known, beside the story."


@dataclass(frozen=True)
class Plan:
    """What is a run's own."""

    seed: int = 0
    schedule: str = "fifo"
    profile: Profile = CALM
    tape: tuple[Deviation, ...] | None = None
    "Decisions to take again; None: they are drawn by the seed."
    choices: bool = False
    "Whether the story's own choices are drawn."
    expected_choices: int = EXPECTED_CHOICES
    "Between which PCT spreads its changes; for a tape it means nothing."

    @property
    def thorough(self) -> bool:
        """Whether what the server holds is looked at in each instant, and not only in the end."""
        return not self.profile or self.seed % THOROUGH_EACH == 0


@dataclass(frozen=True)
class Breach:
    """What a run has broken."""

    promise: str
    """P1, ..., `invariant:<name>`, `effect:<name>`, `story:<exception>:<file>:<line>`, `worker:<exception>`,
    `task:<exception>`, `end:<exception>` (at the world's end), `deadlock`, `livelock` or `time limit`."""
    what: str
    at_s: float = 0.0
    "Virtual seconds since the world began."
    job: str = ""


@dataclass
class Run:
    """What came of a run."""

    plan: Plan
    breaches: list[Breach] = field(default_factory=list)
    "The first one counts."
    tape: list[Deviation] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)
    effects: Counter[str] = field(default_factory=Counter)
    "How often each effect happened, by its name."
    runs_of_jobs: int = 0
    "How often a task was entered."
    unentered: str = ""
    "Why a task was not, if one was not: its job has a function that nobody knows, or other arguments."
    choices: int = 0
    "Among ready steps, if its schedule was PCT."
    lease_s: float = 0
    "The longest lease of its workers; 0 if they are none of ours."
    excused: str = ""
    "What the story raised because of a misfortune; it breaks no promise."
    trace: str = ""
    lines: int = 0
    story: str = ""
    "In words, if that was asked for."

    @property
    def broken(self) -> Breach | None:
        """The breach that counts."""
        return self.breaches[0] if self.breaches else None


def run_once(
    story: Story,
    plan: Plan | None = None,
    terms: Terms | None = None,
    *,
    ask: bool = False,
    tell: bool = False,
    sink: Callable[[str], None] | None = None,
    trace: bool = True,
) -> Run:
    """Live through a story once.

    Args:
        story: an async function of a simulation.
        plan: seed, schedule, misfortunes, or the tape of an earlier run.
        terms: limits and checks, beside which those of the story are asked.
        ask: keep all decisions that there were, in `Run.asked`.
        tell: put it into words, in `Run.story`.
        sink: called with each line of the trace.
        trace: whether there is one at all; without, a run takes a tenth less, and `Run.trace` says nothing.
    """
    terms = terms or Terms()
    terms = replace(terms, checkers=checkers_of(story, terms.checkers))
    living = _Living(story, plan or Plan(), terms)
    return living.live(ask=ask, tell=tell, sink=sink, trace=trace or sink is not None)


class _Living:
    def __init__(self, story: Story, plan: Plan, terms: Terms) -> None:
        self._story = story
        self._plan = plan
        self._terms = terms
        self._run = Run(plan)
        self._at_end: Callable[[], object] | None = None
        self._may: Callable[[BaseException], bool] = lambda _: False
        "Whether a misfortune has caused what was raised."
        self._cut_off = False
        "Whether the story was ended here, since it waits for what cannot come."

    def live(
        self, *, ask: bool, tell: bool, sink: Callable[[str], None] | None, trace: bool
    ) -> Run:
        plan, terms, run = self._plan, self._terms, self._run
        simulation = Simulation(
            seed=plan.seed,
            backend=terms.backend,
            schedule=plan.schedule,
            expected_choices=plan.expected_choices,
            choices=plan.tape,
            flush=terms.flush,
            steps_per_instant=STEPS_PER_INSTANT,
        )
        simulation.trace.sink = sink
        simulation.trace.keeps = trace
        run.asked = []
        if ask:
            simulation.chooser.asked = run.asked
        try:
            with simulation:
                _bound_steps(simulation, terms.steps)
                simulation.environment.expect_trouble()
                watch = Watch(simulation, thorough=plan.thorough)
                swarm = Swarm(simulation, plan.profile)
                if plan.choices:
                    simulation.chooser.draw(["choose"])
                for checker in terms.checkers:
                    if (attach := getattr(checker, "attach", None)) is not None:
                        attach(simulation)
                for rule in terms.invariants:
                    simulation.invariant(rule)
                teller = Teller(simulation, watch) if tell else None
                self._phases(simulation, watch, swarm)
                self._account(simulation)
                if teller is not None:
                    run.story = teller.told(run.broken)
        except FaultNeverFired as error:
            if not plan.profile and not run.breaches:
                run.breaches.append(Breach("story:FaultNeverFired", str(error)))
        except (ProcessFailed, TaskFailed) as error:
            # Raised as the world ended; all else is judged before.
            cause = error.__cause__ or error
            if not run.breaches and not self._swarm.data_lost and not self._may(cause):
                what = Breach(f"end:{type(cause).__name__}", str(error), _now_s(simulation))
                run.breaches.append(what)
        return run

    def _account(self, simulation: Simulation) -> None:
        run = self._run
        run.tape = list(simulation.chooser.tape)
        run.reached = Counter(simulation.reached)
        run.effects = Counter(effect.name for effect in simulation.effects)
        run.runs_of_jobs, run.unentered = runs_of_jobs(simulation, self._terms.checkers)
        run.lease_s = max((each.worker.lease_s for each in simulation.workers()), default=0)
        run.trace, run.lines = simulation.trace.digest(), simulation.trace.count
        pool = simulation.loop.pool
        if pool is not None and isinstance(pool.schedule, PCT):
            run.choices = pool.schedule.choices

    def _phases(self, simulation: Simulation, watch: Watch, swarm: Swarm) -> None:
        self._swarm = swarm
        may = self._may = partial(excused, simulation, watch)
        went = self._attempt(simulation, self._told, may)
        if went:
            went = self._attempt(simulation, lambda world: self._live_out(world, watch, swarm), may)
        if went and self._at_end is not None:
            self._attempt(simulation, self._end, partial(nothing_to_ask, simulation, watch))
        self._judge(simulation, watch)

    def _attempt(
        self,
        simulation: Simulation,
        phase: Callable[[Simulation], Any],
        may: Callable[[BaseException], bool],
    ) -> bool:
        """Run a phase, which may raise some things; whether the next one makes sense."""
        try:
            simulation.run(phase(simulation))
        except asyncio.CancelledError as error:  # see `_told`
            if self._cut_off:
                why = "the story waits for what the server does not have any more"
                self._run.excused = f"RecordGone: {why}"
                return True
            self._broken(simulation, _promise_of(error, self._story), _words(error))
        except InvariantBroken as error:
            if self._swarm.data_lost:
                self._run.excused = f"{type(error).__name__}: {error}"
                return True
            self._broken(simulation, f"invariant:{error.name}", str(error))
        except tuple(kind for kind, _ in _STANDSTILLS) as error:
            name = next(name for kind, name in _STANDSTILLS if isinstance(error, kind))
            self._broken(simulation, name, str(error))
            if name == "livelock":
                simulation.loop.fatal = None  # told; those who are left may take leave
        except Exception as error:  # of the story: jobs are not concerned, the run is judged by it
            if self._swarm.data_lost or may(error):
                self._run.excused = f"{type(error).__name__}: {error}"
                return True
            self._broken(simulation, _promise_of(error, self._story), _words(error))
        else:
            return True
        return False

    async def _told(self, simulation: Simulation) -> None:
        told = asyncio.current_task()
        assert told is not None

        def cut_off(kind: str) -> None:
            after = {"lose_data": UNHEALED_S, "step_clock": self._terms.limit}.get(kind)
            if after is not None:
                loop = simulation.loop
                loop.call_later(after, cut, context=loop.server_context())

        def cut() -> None:
            self._cut_off = told.cancel()

        self._swarm.at_strike = cut_off
        result = await self._story(simulation)
        self._at_end = result if callable(result) else None

    async def _end(self, simulation: Simulation) -> None:
        del simulation
        assert self._at_end is not None
        result = self._at_end()
        if inspect.isawaitable(result):
            await result

    async def _live_out(self, simulation: Simulation, watch: Watch, swarm: Swarm) -> None:
        """Go on until every job has ended that a worker is there for."""
        limit = self._terms.limit
        end_ms = simulation.clock.time_ns() // 1_000_000 + round((UNHEALED_S + limit) * 1000)

        def waiting() -> list[str]:
            ahead_ms = simulation.loop.server_clock.skew_ns // 1_000_000
            return unfinished(simulation, watch, end_ms + ahead_ms) + foreign(
                simulation, self._terms.checkers
            )

        async def ended_within(seconds: float) -> bool:
            try:
                await simulation.run_until(lambda: not (swarm.leaving or waiting()), limit=seconds)
            except (SimulationDeadlock, SimulationLivelock, VirtualTimeLimit):
                raise
            except SimulationError:
                return False
            return True

        await ended_within(UNHEALED_S)
        simulation.heal()
        if not await ended_within(limit):
            key = next(iter(waiting()), "")
            what = (
                f"{key!r} has not ended within {limit:g} s of virtual time after all was healed.\n"
                f"{diagnosis.idle(simulation)}"
            )
            self._broken(simulation, "P1", what, key)

    def _judge(self, simulation: Simulation, watch: Watch) -> None:
        found: list[Breach] = []
        start_ms = _start_ms(simulation)
        if self._terms.check:
            found += [
                Breach(b.promise, str(b), (b.at_ms - start_ms) / 1000, b.job)
                for b in watch.broken()
            ]
        # Nobody can promise anything of what the server has lost; promises are judged by what it holds since.
        lost = self._swarm.data_lost
        for checker in () if lost else self._terms.checkers:
            for each in checker(simulation):
                at_ms = getattr(each, "at_ms", None)
                found.append(
                    Breach(
                        str(getattr(each, "promise", "checker")),
                        str(each),
                        (at_ms - start_ms) / 1000 if at_ms is not None else _now_s(simulation),
                        str(getattr(each, "job", "")),
                    )
                )
        found += _done_twice(simulation, () if lost else self._terms.once)
        found += self._broken_processes(simulation, watch)
        found += _broken_callbacks(simulation)
        found += self._broken_tasks(simulation, watch)
        # What the queue broke comes first: a story often fails because of it.
        self._run.breaches[:0] = found

    def _broken_processes(self, simulation: Simulation, watch: Watch) -> list[Breach]:
        """Workers and other processes that ended by an exception of their own.

        A misfortune excuses a process of the application's, and no worker: that must live through it.
        """
        workers = {handle.name for handle in simulation.workers()}
        found = []
        for process, error in unseen_failures(simulation.processes()):
            kind = "worker" if process.name in workers else "process"
            if kind == "process" and excused(simulation, watch, error):
                self._run.excused = _words(error)
                continue
            what = f"{process.id} ended by itself: {_words(error)}"
            found.append(Breach(f"{kind}:{type(error).__name__}", what, _now_s(simulation)))
        return found

    def _broken_tasks(self, simulation: Simulation, watch: Watch) -> list[Breach]:
        """Tasks whose exception nobody has asked for, unless it is a misfortune's."""
        found = []
        for task, error in simulation.loop.unasked_tasks():
            if self._swarm.data_lost or excused(simulation, watch, error):
                self._run.excused = _words(error)
                continue
            what = f"{task} ended by {_words(error)}, and nobody has asked for it"
            found.append(Breach(f"task:{type(error).__name__}", what, _now_s(simulation)))
        return found

    def _broken(self, simulation: Simulation, promise: str, what: str, job: str = "") -> None:
        self._run.breaches.append(Breach(promise, what, _now_s(simulation), job))


def _bound_steps(simulation: Simulation, most: int) -> None:
    loop = simulation.loop
    told: list[int] = []

    def look(elapsed_ns: int) -> None:
        if loop.steps_taken > most and not told:
            told.append(elapsed_ns)
            loop.fatal = SimulationLivelock(
                f"a run took more than {most:,} steps, in {loop.time():g} s.\n{diagnosis.idle(simulation)}\n"
                "  Something asks again and again; or, if there is that much to do, raise the limit: steps=."
            )

    loop.at_instants_end.append(look)


def _broken_callbacks(simulation: Simulation) -> list[Breach]:
    """Callbacks that raised: a loop tells of them and goes on, so nobody else would."""
    simulation.loop.broken_callback()  # its world need not tell of it, too
    return [
        Breach(
            f"callback:{type(each['exception']).__name__}",
            f"{each['message']}: {_words(each['exception'])}",
            _now_s(simulation),
        )
        for each in simulation.loop.unseen
        if each.get("exception") is not None and "handle" in each
    ]


def _done_twice(simulation: Simulation, once: Sequence[str]) -> list[Breach]:
    """Effects that may happen once, and did twice with the same details."""
    if (found := done_again(simulation.effects, once)) is None:
        return []
    first, again = found
    what = f"{again.named} happened twice:\n  {first}\n  {again}"
    at_s = (again.at_ms - _start_ms(simulation)) / 1000
    return [Breach(f"effect:{again.name}", what, at_s, again.key)]


def _promise_of(error: BaseException, story: Story) -> str:
    """By which a failure of the story is known: the exception, and the story's own line."""
    code = inspect.unwrap(story)
    file = getattr(getattr(code, "__code__", None), "co_filename", "")
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename == file]
    foreign = [f for f in frames if "queuekit" not in f.filename]
    frame = (own or foreign or list(frames))[-1] if frames else None
    name = type(error).__name__
    if frame is None:
        return f"story:{name}"
    return f"story:{name}:{frame.filename.rpartition('/')[2]}:{frame.lineno}"


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".rstrip(": ")


def _start_ms(simulation: Simulation) -> int:
    return simulation.clock.time_ns() // 1_000_000 - simulation.loop.now_us() // 1000


def _now_s(simulation: Simulation) -> float:
    return simulation.loop.now_us() / 1e6

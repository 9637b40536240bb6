"""Looking for runs that break a promise, and telling the smallest one."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from queuekit.exploration import elsewhere, parallel, points, reduction
from queuekit.exploration.arguments import (
    check_amount,
    check_story,
    check_terms,
    folder_of,
    functions,
    names,
    refuse_here,
)
from queuekit.exploration.errors import ExplorationFailed, NotRepeatable, Vacuous
from queuekit.exploration.exhaustive import EVERY_RUNS, Lived, Searched, every_schedule, seen
from queuekit.exploration.failures import KEPT, Failure, Kept, in_words, keep, relive
from queuekit.exploration.guard import lived_twice
from queuekit.exploration.living import (
    LIMIT_S,
    STEPS_PER_RUN,
    Plan,
    Run,
    Story,
    Terms,
    checkers_of,
    run_once,
)
from queuekit.exploration.silence import silent
from queuekit.exploration.swarm import anything, checked, drawn
from queuekit.simulation.chooser import Deviation
from queuekit.simulation.schedule import SCHEDULES, schedules_of
from queuekit.simulation.world import Simulation

SEEDS = 100
"Runs of an exploration, unless it is given a number or some minutes."

GUARD = 0.05
"Share of runs that are lived twice and compared."

ELSEWHERE = 2
"Of these, so many are lived in two other processes, too: the boring one, and one with misfortunes."


@dataclass
class Exploration:
    """What an exploration has seen."""

    runs: int = 0
    failures: list[Failure] = field(default_factory=list)
    reached: Counter[str] = field(default_factory=Counter)
    "How often each label was reached, in all runs together."
    effects: Counter[str] = field(default_factory=Counter)
    "How often each effect happened, likewise."
    searched: Searched | None = None
    "What was seen within `deviations`, if that was asked for."
    seconds: float = 0.0
    "Of real time."
    runs_of_jobs: int = 0
    "How often a task was entered."
    unentered: str = ""
    "Why one was not, of the first for which that is known."
    excused: Counter[str] = field(default_factory=Counter)
    "What stories raised because of a misfortune, by its first words; no promise is broken by it."
    elsewhere: str = ""
    "What was compared with other processes, in words; or why nothing was."
    points: int = 0
    "Places at which a worker was killed, under `redeliver`."

    @property
    def exhausted(self) -> bool:
        """Whether it was all there is within `deviations`."""
        return self.searched is not None and self.searched.exhausted

    def __str__(self) -> str:
        runs = f"{self.runs:,} run{'' if self.runs == 1 else 's'}"
        if self.searched is not None:
            runs = seen(self.searched, "run")
        return f"{runs}; {self.failures[0].promise if self.failures else 'nothing'} is broken"

    def take(self, run: Run) -> None:
        """Count a run in."""
        self.runs += 1
        self.reached += run.reached
        self.effects += run.effects
        self.runs_of_jobs += run.runs_of_jobs
        self.unentered = self.unentered or run.unentered
        if run.excused:
            self.excused[run.excused.partition(":")[0]] += 1

    def add(self, part: Exploration) -> None:
        """Count in what another process has lived through."""
        self.runs += part.runs
        self.reached += part.reached
        self.effects += part.effects
        self.runs_of_jobs += part.runs_of_jobs
        self.unentered = self.unentered or part.unentered
        self.excused += part.excused


class Portfolio(NamedTuple):
    """Which run is lived at which seed."""

    schedules: tuple[str, ...]
    kinds: tuple[str, ...]
    first_seed: int
    points: bool = False
    "Whether every fourth run is the boring one, struck at one place by a kind of `points.STRIKES`."

    def plan(self, number: int) -> Plan:
        """The plan of a run, from 0: the first is the boring one; then schedules by turns, a swarm each."""
        seed = self.first_seed + number
        if number == 0:
            return Plan(seed, "fifo")
        schedule = self.schedules[number % len(self.schedules)]
        return Plan(seed, schedule, drawn(seed, self.kinds), choices=True)


class Budget(NamedTuple):
    """How much is run."""

    seeds: int | None
    minutes: float | None
    guard: float
    jobs: int

    @property
    def runs(self) -> int | None:
        """How many at most; None is as many as there is time for."""
        return SEEDS if self.seeds is None and self.minutes is None else self.seeds


def explore(
    story: Story,
    *,
    seeds: int | None = None,
    minutes: float | None = None,
    first_seed: int = 0,
    backend: str = "fakeredis",
    faults: Collection[str] | None = None,
    schedules: Collection[str] = SCHEDULES,
    invariants: Sequence[Callable[..., object]] = (),
    checkers: Sequence[Callable[[Simulation], Sequence[object]]] = (),
    once: Collection[str] = (),
    reach: Collection[str] = (),
    limit: float = LIMIT_S,
    steps: int = STEPS_PER_RUN,
    guard: float = GUARD,
    jobs: int = 1,
    kept: str | Path | None = KEPT,
    redeliver: bool = False,
    deviations: int | None = None,
    check: bool = True,
    name: str = "",
) -> Exploration:
    """Live through a story again and again, each time with other schedules and misfortunes.

    The first run is the boring one. Each run is the story; then all misfortune ends, and every job must
    end within `limit`; then what the story gave back is called, and the promises are checked.
    Runs that failed before and were kept come first of all.

    Args:
        story: an async function of a simulation, which starts workers and enqueues jobs.
        seeds: how many runs from `first_seed` on (default 100, or without end under `minutes`).
        minutes: how long, of real time.
        backend: as for a `Simulation`.
        faults: kinds of misfortune (default: all that a queue must live through; `()` is none).
        schedules: of "fifo", "random" and "pct", by turns.
        invariants: what must hold at each moment, beside those that the story adds.
        checkers: called with the simulation after each run, beside `story.checkers`; each gives what broke.
        once: names of effects that must not happen twice with the same details.
        reach: labels of which each must be reached in some run.
        limit, steps: virtual seconds after all misfortune, and steps of the loop in all, that a run may take.
        guard: the share of runs that are lived twice and must be the same; at least one, unless it is 0.
        jobs: processes that share the runs; the result is that of one.
        kept, name: the folder of failures (None keeps none), and by what they are known beside their story.
        redeliver: kill the worker at each point of the boring run too, each point once.
        deviations: instead of seeds, every run that differs from the boring one in at most so many
            decisions, up to `seeds` runs (10,000); `exhausted` tells whether these were all.
        check: whether the promises are checked.

    Raises:
        ExplorationFailed: a run broke something: an AssertionError, with the reduced run and what replays it.
        Vacuous: no job ever ran, or a label of `reach`, or an effect of `once`, never came.
        NotRepeatable, SimulationError: a run lived twice was not the same; an argument makes no sense.
    """
    rules, checks = functions(invariants, "invariants"), functions(checkers, "checkers")
    once, reach, checks = names(once, "once"), names(reach, "reach"), checkers_of(story, checks)
    terms = Terms(backend, limit, rules, checks, once, check, steps=steps, name=name)
    portfolio = Portfolio(schedules_of(schedules), checked(faults), first_seed, not redeliver)
    budget = Budget(seeds, minutes, guard, jobs)
    return _Exploring(story, terms, portfolio, kept).explored(budget, redeliver, deviations, reach)


class _Exploring:
    def __init__(
        self, story: Story, terms: Terms, portfolio: Portfolio, kept: str | Path | None
    ) -> None:
        self.result = Exploration()
        self._story = story
        self._terms = terms
        self._portfolio = portfolio
        self._folder = folder_of(kept)
        self._kept: Kept | None = None

    def explored(
        self, budget: Budget, redeliver: bool, deviations: int | None, reach: Collection[str]
    ) -> Exploration:
        """Look everywhere; what was seen if nothing was found."""
        refuse_here()
        check_story(self._story)
        check_terms(self._terms)
        check_amount(
            **budget._asdict(), first_seed=self._portfolio.first_seed, deviations=deviations
        )
        if self._folder is not None:
            self._kept = Kept(self._folder, self._story, self._terms.name)
        began = time.monotonic()
        if budget.guard:
            elsewhere.begin(self._story, self._terms)
        with _quick():
            self.kept_first()
            if redeliver:
                self.redeliver(guard=budget.guard)
            until = None if budget.minutes is None else began + 60 * budget.minutes
            if deviations is not None:
                self.exhaust(deviations, budget.seeds or EVERY_RUNS, until, guard=budget.guard)
            else:
                self.search(budget.runs, until, guard=budget.guard, jobs=budget.jobs)
            if budget.guard:
                few = [self._portfolio.plan(n) for n in range(min(ELSEWHERE, self.result.runs))]
                self.result.elsewhere = elsewhere.compared(self._story, few, self._terms)
        self.result.seconds = time.monotonic() - began
        self.not_vacuous(reach)
        return self.result

    def kept_first(self) -> None:
        """What failed before; what does not any more is forgotten."""
        for each in self._kept.all() if self._kept is not None else ():
            run = relive(each, self._story, self._terms)
            self.result.take(run)
            if run.broken is None:
                assert self._kept is not None
                self._kept.forget(each, self._terms)
                continue
            self._fail(run, f"kept from an earlier exploration ({each.path})")

    def search(self, runs: int | None, until: float | None, *, guard: float, jobs: int) -> None:
        """Run by run, in one process or several."""
        first = 0 if runs == 1 or until is not None else 1  # time may end after one run
        guarded = _Share(round(1 / guard), first) if guard else None
        live = _Numbered(self._story, self._terms, self._portfolio, guarded)
        of = f" of {runs}" if runs is not None else ""
        if jobs == 1:
            number = _one_by_one(live, self.result, runs, until)
            if number is not None:
                self._fail(_last(live), f"run {number + 1}{of}")
        elif found := parallel.search(live, self.result, runs=runs, until=until, jobs=jobs):
            number, what = found
            run = live(number)
            if run.broken is None:
                raise NotRepeatable(
                    f"run {number + 1}{of} broke something in one of {jobs} processes, and nothing when it"
                    f" was lived again in this one.\n  Found there: {what}\n"
                    "  The story follows something of its process: a global, a cache, the order of a set.\n"
                    "  queuekit.exploration.assert_repeatable shows the first difference between two runs."
                )
            self._fail(run, f"run {number + 1}{of}")

    def redeliver(self, *, guard: float) -> None:
        """The boring run with one worker killed, at each place at which that is possible."""
        seed = self._portfolio.first_seed
        plan = points.boring(seed)
        boring = _lived(self._story, plan, self._terms, twice=bool(guard), ask=True)
        self.result.take(boring)
        if boring.broken:
            self._fail(boring, "the run without any misfortune")
        for point in points.points_of(boring):
            run = run_once(self._story, points.struck(seed, point), self._terms, trace=False)
            self.result.take(run)
            self.result.points += 1
            if run.broken:
                self._fail(run, f"redelivery, point {self.result.points}")

    def exhaust(self, deviations: int, runs: int, until: float | None, *, guard: float) -> None:
        """Everything that differs in at most so many decisions."""
        profile = anything(self._portfolio.kinds)
        schedule = "random" if set(self._portfolio.schedules) != {"fifo"} else "fifo"
        last: list[Run] = []

        def live(tape: list[Deviation]) -> Lived:
            plan = Plan(self._portfolio.first_seed, schedule, profile, tuple(tape))
            twice = bool(guard) and not tape
            run = _lived(self._story, plan, self._terms, twice=twice, ask=True)
            self.result.take(run)
            last[:] = [run]
            return Lived(run.asked, run.broken)

        # What a run by a seed would draw. Jitter is none of it: its thousand values are pinned to one.
        kinds = ["choose", "schedule", *(f"swarm.{kind}" for kind in self._portfolio.kinds)]
        searched = every_schedule(live, deviations, runs=runs, kinds=kinds, until=until)
        self.result.searched = searched
        if searched.failures:
            self._fail(
                last[0], f"run {searched.runs} of every run with {deviations} deviation(s) at most"
            )

    def _fail(self, run: Run, where: str) -> None:
        """Reduce, keep and tell a failing run."""
        kinds = tuple(run.plan.profile.rates)
        try:
            reduced = reduction.reduce(self._story, run, self._terms)
        except NotRepeatable as error:
            assert run.broken is not None
            raise NotRepeatable(
                f"{error}\n  Found by {where}: seed {run.plan.seed}, schedule {run.plan.schedule};"
                f" {in_words(run.broken)}"
            ) from error
        failure = reduced.failure(self._story, self._terms, kinds)
        failure, how = keep(self._kept, failure, self._terms)
        self.result.failures.append(failure)
        raise ExplorationFailed(_told(failure, run, reduced, where, how), failure)

    def not_vacuous(self, reach: Collection[str]) -> None:
        """Raises Vacuous if nothing was proven."""
        missing = [label for label in reach if not self.result.reached[label]]
        never = [name for name in self._terms.once if not self.result.effects[name]]
        runs = self.result.runs
        if missing:
            seen = [f"{label} ({n})" for label, n in self.result.reached.most_common()]
            raise Vacuous(
                f"in {runs} run(s) nothing ever reached {', '.join(map(repr, missing))}.\n"
                f"  Reached were: {', '.join(seen) or 'no labels'}.\n"
                "  A promise about what never happened is not tested: more seeds, other faults, or a story"
                " that brings it about."
            )
        if never:
            seen = [f"{name} ({n})" for name, n in self.result.effects.most_common()]
            raise Vacuous(
                f"in {runs} run(s) no effect {', '.join(map(repr, never))} of once= ever happened.\n"
                f"  Effects were: {', '.join(seen) or 'none'}.\n"
                "  What never happens cannot happen twice: mend the name, or bring it about."
            )
        if not self.result.runs_of_jobs:
            why = f"  {self.result.unentered}\n" if self.result.unentered else ""
            raise Vacuous(
                f"in {runs} run(s) not one job ran: no task was ever entered.\n{why}"
                "  A story starts workers (simulation.worker) and enqueues jobs that they can run. Jobs of"
                " another queue are counted by its checker (queuekit.foreign)."
            )
        if self.result.excused.total() >= runs:
            kinds = ", ".join(f"{name} ({n})" for name, n in self.result.excused.most_common())
            raise Vacuous(
                f"in {runs} run(s) the story was never told to its end: a misfortune has excused each of"
                f" them.\n  It raised: {kinds}.\n"
                "  Let it catch what it can live with, or let the misfortune strike later."
            )


class _Share(NamedTuple):
    """Every so manieth run; the first of them comes early, so that every exploration has one."""

    every: int
    first: int

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and number % self.every == self.first % self.every


class _Numbered:
    """Lives through the run of a number; some of them twice."""

    def __init__(
        self, story: Story, terms: Terms, portfolio: Portfolio, guarded: _Share | None
    ) -> None:
        self._story, self._terms, self._portfolio = story, terms, portfolio
        self._guarded = guarded
        self.last: Run | None = None

    def __call__(self, number: int) -> Run:
        plan = self._plan(number)
        if plan.schedule == "pct":
            plan = replace(plan, expected_choices=self._expected_choices)
        twice = self._guarded is not None and number in self._guarded
        self.last = _lived(self._story, plan, self._terms, twice=twice)
        return self.last

    def _plan(self, number: int) -> Plan:
        turn, which = divmod(number, points.EVERY)
        portfolio = self._portfolio
        if portfolio.points and which == points.SECOND and turn < len(self._points):
            return points.struck(portfolio.first_seed, self._points[turn])
        return portfolio.plan(number)

    @cached_property
    def _points(self) -> list[Deviation]:
        seed = self._portfolio.first_seed
        kinds = [kind for kind in points.STRIKES if kind in self._portfolio.kinds]
        if not kinds:
            return []
        plan = points.boring(seed, kinds)
        boring = run_once(self._story, plan, self._terms, ask=True, trace=False)
        return points.in_turn(boring, seed, kinds)

    @cached_property
    def _expected_choices(self) -> int:
        """As many choices as the boring run has: PCT's changes are spread over the run, and not behind it."""
        plan = Plan(self._portfolio.first_seed, "pct", tape=())
        return max(1, run_once(self._story, plan, self._terms).choices)


def _lived(story: Story, plan: Plan, terms: Terms, *, twice: bool, ask: bool = False) -> Run:
    """A run, with its trace only where it is compared with that of a second one."""
    if twice:
        return lived_twice(story, plan, terms, ask=ask)
    return run_once(story, plan, terms, ask=ask, trace=False)


def _last(live: _Numbered) -> Run:
    assert live.last is not None
    return live.last


def _one_by_one(
    live: _Numbered, result: Exploration, runs: int | None, until: float | None
) -> int | None:
    """The number of the first run that fails."""
    number = 0
    while runs is None or number < runs:
        run = live(number)
        result.take(run)
        if run.broken:
            return number
        number += 1
        if until is not None and time.monotonic() >= until:
            break
    return None


def _told(failure: Failure, run: Run, reduced: reduction.Reduced, where: str, how: str) -> str:
    assert run.broken is not None
    before, after = len(run.tape), len(failure.tape)
    breach = reduced.run.broken or run.broken
    return (
        f"{in_words(breach)}\n\n"
        f"found by {where}: seed {failure.seed}, schedule {run.plan.schedule}; "
        f"reduced from {before} to {after} deviation(s) in {reduced.runs} runs\n\n"
        f"{failure.story}\n\n"
        f"token {failure.token}; to replay: {how}"
    )


@contextmanager
def _quick() -> Iterator[None]:
    """The collector leaves alone what was there before; warnings of each run are not printed."""
    gc.collect()
    gc.freeze()
    try:
        with silent():
            yield
    finally:
        gc.unfreeze()

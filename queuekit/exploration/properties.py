"""The entry for Hypothesis: a run's deviations are drawn, and reduced, by Hypothesis.

    @settings(deadline=None)
    @given(simulations(story))
    def test_story(simulated):
        simulated.check()

What is drawn is a sparse plan: a few decisions that are not the boring ones, all of them before the
loop starts. Drawn one by one while a run goes on they would be thousands, mostly boring, and taking one out
would move all that follow, so that nothing could be reduced.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import TYPE_CHECKING

from queuekit.errors import MissingDependencyError
from queuekit.exploration.arguments import check_story, check_terms, functions, names
from queuekit.exploration.errors import Vacuous
from queuekit.exploration.failures import in_words
from queuekit.exploration.living import (
    LIMIT_S,
    STEPS_PER_RUN,
    Checker,
    Plan,
    Run,
    Story,
    Terms,
    checkers_of,
    run_once,
)
from queuekit.exploration.silence import silent
from queuekit.exploration.swarm import anything, checked
from queuekit.simulation.chooser import Deviation

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

MAX_DEVIATIONS = 8
"Of one drawn run."

BEYOND = 2
"A decision may be drawn up to so many times as late as the boring run had its last: others have more."

VACUOUS_RUNS = 20
"Runs in which no job ran, after which no further one is waited for: misfortune may keep one from running."

_ORDER = {"choose": 0, "swarm": 1, "schedule": 2}


class _Seen:
    """What the runs of a strategy have shown, all together."""

    def __init__(self) -> None:
        self._runs = 0
        self._jobs = 0
        self.chooses = False
        "Whether the story leaves choices open: then whether there are jobs may be one of them."

    def take(self, run: Run) -> None:
        """Count a run in. Raises Vacuous if so many have proven nothing."""
        self._runs += 1
        self._jobs += run.runs_of_jobs
        if self._runs >= VACUOUS_RUNS and not (self._jobs or self.chooses):
            raise Vacuous(
                f"in {self._runs} runs not one job ran.\n"
                "  A story starts workers (simulation.worker) and enqueues jobs."
            )


class Simulated:
    """One drawn run, not yet lived."""

    def __init__(self, story: Story, plan: Plan, terms: Terms, seen: _Seen | None = None) -> None:
        self._story, self._plan, self._terms = story, plan, terms
        self._seen = seen or _Seen()

    @property
    def tape(self) -> tuple[Deviation, ...]:
        """Its deviations."""
        return self._plan.tape or ()

    def check(self) -> Run:
        """Live through it; what came of it.

        Raises:
            Vacuous: in many runs of a story that leaves nothing open not one job ran.
            AssertionError: something broke; the message tells the run as a story. What broke decides the
                class, so that Hypothesis does not take one failure for another when it reduces.
        """
        with silent():
            run = run_once(self._story, self._plan, self._terms, trace=False)
            if run.broken is None:
                if not self._terms.checkers:  # those know of jobs that queuekit does not
                    self._seen.take(run)
                return run
            told = run_once(self._story, self._plan, self._terms, tell=True)
        broken = told.broken or run.broken
        raise _class_of(run.broken.promise)(f"{in_words(broken)}\n\n{told.story}")

    def __repr__(self) -> str:
        tape = ", ".join(f"{d.site}[{d.nth}]={d.value}" for d in self.tape)
        return f"Simulated({tape})"


@cache
def _class_of(promise: str) -> type[AssertionError]:
    return type(f"Broken[{promise}]", (AssertionError,), {})


def simulations(
    story: Story,
    *,
    seed: int = 0,
    backend: str = "fakeredis",
    faults: Collection[str] | None = None,
    invariants: Sequence[Callable[..., object]] = (),
    checkers: Sequence[Checker] = (),
    once: Collection[str] = (),
    limit: float = LIMIT_S,
    steps: int = STEPS_PER_RUN,
    check: bool = True,
) -> SearchStrategy[Simulated]:
    """A strategy of Hypothesis: runs of a story, by their deviations from the boring one.

    Args:
        story: as for `explore`, and so are the others.
        seed: of ids and of `random` in the story; nothing else is drawn by it.

    Raises:
        MissingDependencyError: Hypothesis is not installed.
        SimulationError: an argument makes no sense.
    """
    check_story(story)
    if importlib.util.find_spec("hypothesis") is None:
        raise MissingDependencyError(
            "simulations() needs Hypothesis, which is not installed.\n"
            "  pip install hypothesis; or use explore(), which does without."
        )
    from hypothesis import strategies  # noqa: PLC0415 (only tests have it)

    checks = checkers_of(story, functions(checkers, "checkers"))
    rules, once = functions(invariants, "invariants"), names(once, "once")
    terms = Terms(backend, limit, rules, checks, once, check, steps=steps)
    check_terms(terms)
    kinds, seen = checked(faults), _Seen()

    def strategy() -> SearchStrategy[Simulated]:
        places = _places(story, Plan(seed, "random", anything(kinds), ()), terms)
        seen.chooses = any(site.startswith("choose:") for site, _, _ in places)
        return _drawn(places).map(
            lambda tape: Simulated(story, Plan(seed, "random", anything(kinds), tape), terms, seen)
        )

    return strategies.deferred(strategy)


def _places(story: Story, plan: Plan, terms: Terms) -> list[tuple[str, int, int]]:
    """The sites that the boring run came by: how often, and the most choices there were."""
    found: dict[str, tuple[int, int]] = {}
    for asked in run_once(story, plan, terms, ask=True, trace=False).asked:
        times, n = found.get(asked.site, (0, 0))
        found[asked.site] = (max(times, asked.nth), max(n, asked.n))
    order = sorted(found, key=lambda site: _ORDER.get(site.partition(":")[0].split(".")[0], 9))
    return [(site, *found[site]) for site in order]


def _drawn(places: list[tuple[str, int, int]]) -> SearchStrategy[tuple[Deviation, ...]]:
    from hypothesis import strategies  # noqa: PLC0415 (as above)

    if not places:
        return strategies.just(())

    @strategies.composite
    def deviation(draw: DrawFn) -> Deviation:
        site, times, n = draw(strategies.sampled_from(places))
        nth = draw(strategies.integers(1, BEYOND * times))
        return Deviation(site, nth, draw(strategies.integers(1, n - 1)))

    return strategies.lists(
        deviation(), max_size=MAX_DEVIATIONS, unique_by=lambda d: (d.site, d.nth)
    ).map(tuple)

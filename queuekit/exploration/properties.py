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
from queuekit.exploration.arguments import names
from queuekit.exploration.failures import in_words
from queuekit.exploration.living import LIMIT_S, STEPS_PER_RUN, Plan, Run, Story, Terms, run_once
from queuekit.exploration.silence import silent
from queuekit.exploration.swarm import anything, checked
from queuekit.simulation.chooser import Deviation

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn, SearchStrategy

MAX_DEVIATIONS = 8
"Of one drawn run."

BEYOND = 2
"A decision may be drawn up to so many times as late as the boring run had its last: others have more."

_ORDER = {"choose": 0, "swarm": 1, "schedule": 2}


class Simulated:
    """One drawn run, not yet lived."""

    def __init__(self, story: Story, plan: Plan, terms: Terms) -> None:
        self._story, self._plan, self._terms = story, plan, terms

    @property
    def tape(self) -> tuple[Deviation, ...]:
        """Its deviations."""
        return self._plan.tape or ()

    def check(self) -> Run:
        """Live through it; what came of it.

        Raises:
            AssertionError: something broke; the message tells the run as a story. What broke decides the
                class, so that Hypothesis does not take one failure for another when it reduces.
        """
        with silent():
            run = run_once(self._story, self._plan, self._terms, trace=False)
            if run.broken is None:
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
    """
    if importlib.util.find_spec("hypothesis") is None:
        raise MissingDependencyError(
            "simulations() needs Hypothesis, which is not installed.\n"
            "  pip install hypothesis; or use explore(), which does without."
        )
    from hypothesis import strategies  # noqa: PLC0415 (only tests have it)

    terms = Terms(backend, limit, tuple(invariants), (), names(once, "once"), check, steps=steps)
    kinds = checked(faults)

    def strategy() -> SearchStrategy[Simulated]:
        places = _places(story, Plan(seed, "random", anything(kinds), ()), terms)
        return _drawn(places).map(
            lambda tape: Simulated(story, Plan(seed, "random", anything(kinds), tape), terms)
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

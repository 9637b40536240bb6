"""Runs drawn and reduced by Hypothesis."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from queuekit.exploration import simulations
from queuekit.exploration.swarm import COMMON_KINDS
from tests.exploration.shop import charged_once, ship, sound

pytestmark = pytest.mark.slow
"Each of these lives through a story many times."

QUICKLY = settings(
    deadline=None,
    database=None,
    max_examples=150,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)


def falsified(story, **options):
    """The last run that Hypothesis tried, which is the smallest, and what it raised."""
    tried = []

    @seed(1)
    @QUICKLY
    @given(simulations(story, **options))
    def test(simulated):
        tried.append(simulated)
        simulated.check()

    with pytest.raises(AssertionError) as caught:
        test()
    return tried[-1], caught.value


def test_hypothesis_finds_and_reduces_a_task_that_charges_twice(backend):
    simulated, error = falsified(charged_once, faults=["kill", "lose_reply"], backend=backend)
    assert len(simulated.tape) == 1
    assert simulated.tape[0].site.startswith("swarm.kill:worker-1:")
    assert type(error).__name__.startswith("Broken[story:AssertionError:shop.py:")
    assert "FAULT kill" in str(error)


def test_hypothesis_reduces_the_choices_of_a_story():
    async def picky(simulation):
        n = simulation.choose("orders", 10)
        simulation.worker([ship])
        for order in range(n):
            await simulation.queue.enqueue("ship", order=order)
        assert n < 4

    simulated, _ = falsified(picky)
    assert [(d.site, d.nth, d.value) for d in simulated.tape] == [("choose:orders", 1, 4)]
    assert repr(simulated) == "Simulated(choose:orders[1]=4)"


@settings(deadline=None, max_examples=20)
@given(simulations(sound, faults=COMMON_KINDS))
def test_a_sound_story_passes(simulated):
    run = simulated.check()
    assert run.excused or run.runs_of_jobs >= 3

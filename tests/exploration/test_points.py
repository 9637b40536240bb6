"""Some runs of each exploration kill the worker at one place, where no chance has to find it."""

from __future__ import annotations

import asyncio

import pytest

from queuekit import effect
from queuekit.exploration import ExplorationFailed, explore, points, run_once
from tests.exploration.shop import sound

pytestmark = pytest.mark.slow
"Each of these lives through a story many times."

done: set[int] = set()


async def charge(ctx, order):
    if order in done:
        return
    await asyncio.sleep(0.1)
    await effect("charged", order=order)
    await asyncio.sleep(0.1)
    done.add(order)


async def marked_too_late(simulation):
    done.clear()
    simulation.worker([charge])
    for order in range(2):
        await simulation.queue.enqueue("charge", order=order, retries=3)


def failure_of(story, **options):
    with pytest.raises(ExplorationFailed) as caught:
        explore(story, kept=None, **options)
    return caught.value


@pytest.mark.parametrize("options", [{}, {"first_seed": 100}, {"jobs": 2}, {"minutes": 1}])
def test_a_crash_between_a_charge_and_its_mark_is_found_at_once(options):
    error = failure_of(marked_too_late, once=["charged"], **options)
    (kill,) = error.failure.tape
    assert kill.site == "swarm.kill:worker-1:charged"
    assert "found by run 3" in str(error)
    story = error.failure.story
    assert story.index("effect charged(order=0)") < story.index("FAULT kill")  # as it happened


def test_without_kills_no_worker_is_killed():
    for options in ({"faults": ["lose_reply"]}, {"faults": ()}):
        reached = explore(sound, kept=None, seeds=30, **options).reached
        assert not reached["a killed process held a job"]
    reached = explore(sound, kept=None, seeds=30, faults=["kill"], schedules=["fifo"]).reached
    assert reached["a killed process held a job"]


def test_each_place_has_its_turn_and_those_behind_effects_are_the_first():
    boring = run_once(marked_too_late, points.boring(7), ask=True)
    places = points.points_of(boring)
    assert len(places) > 20
    turns = points.in_turn(boring, 7)
    assert sorted(map(str, turns)) == sorted(map(str, places))
    assert [point.site for point in turns[:2]] == ["swarm.kill:worker-1:charged"] * 2
    assert turns != points.in_turn(boring, 8)

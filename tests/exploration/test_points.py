"""Some runs of each exploration strike a process at one place, where no chance has to find it."""

from __future__ import annotations

import asyncio
import re

import pytest
import redis.asyncio

from queuekit import effect
from queuekit.exploration import ExplorationFailed, explore, points, run_once
from queuekit.exploration.swarm import KINDS
from queuekit.simulation.chooser import Asked
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


def app():
    return redis.asyncio.Redis.from_url("redis://app.internal:6379/3", decode_responses=True)


async def publish(ctx):
    async with app() as client:
        version = await client.incr("version")
        await client.set("published", version)


async def published_late(simulation):
    """Who reads, stalls until another worker has its job, and writes, takes back what that has written."""
    for _ in range(2):
        simulation.worker([publish])
    await simulation.queue.enqueue("publish", retries=3)

    async def end():
        async with app() as client:
            assert await client.get("published") == await client.get("version")

    return end


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


@pytest.mark.parametrize("first_seed", [0, 1000])
@pytest.mark.parametrize("kind", points.STALLS)
def test_a_late_worker_is_found_early_and_told(kind, first_seed, tmp_path):
    with pytest.raises(ExplorationFailed) as caught:
        explore(published_late, kept=tmp_path, faults=[kind], first_seed=first_seed, guard=0)
    error = caught.value
    number = int(re.search(r"found by run (\d+)", str(error))[1])
    assert number % 4 == 3
    assert number <= 11
    (stall,) = error.failure.tape
    assert stall.site == f"swarm.{kind}:worker-1:INCRBY reply"
    assert f"FAULT {kind}" in error.failure.story
    assert "attempt 2  (worker-2#2)" in error.failure.story
    again = explored_again(tmp_path)
    assert again.failure.token == error.failure.token  # replayed, it fails likewise


def explored_again(kept):
    with pytest.raises(ExplorationFailed, match="kept") as caught:
        explore(published_late, kept=kept, seeds=1, guard=0)
    return caught.value


def test_a_late_worker_is_found_among_all_misfortunes():
    error = failure_of(published_late, first_seed=2000, guard=0)
    (stall,) = error.failure.tape
    assert stall.site.endswith("worker-1:INCRBY reply")


def test_each_place_has_its_turn_and_those_behind_effects_are_the_first():
    boring = run_once(marked_too_late, points.boring(7), ask=True)
    places = points.points_of(boring)
    assert len(places) > 20
    turns = points.in_turn(boring, 7)
    assert sorted(map(str, turns)) == sorted(map(str, places))
    assert [point.site for point in turns[:2]] == ["swarm.kill:worker-1:charged"] * 2
    assert turns != points.in_turn(boring, 8)


def test_kills_stalls_and_partitions_take_turns_behind_what_the_application_did():
    boring = run_once(published_late, points.boring(7, points.STRIKES), ask=True)
    turns = points.in_turn(boring, 7, points.STRIKES)
    kinds = [point.site.partition(":")[0] for point in turns[:8]]
    assert kinds == ["swarm.kill", "swarm.pause", "swarm.kill", "swarm.partition"] * 2
    commands = {point.site.partition("worker-1:")[2] for point in turns[:8:2]}
    assert {"INCRBY reply", "SET reply"} <= commands
    first = [point.site.rpartition(":")[2] for point in turns[:3]]
    assert set(first) == {"INCRBY reply", "SET reply"}
    for kind in points.STRIKES:
        places = points.points_of(boring, kind)
        own = [point for point in turns if point.site.startswith(f"swarm.{kind}:")]
        assert sorted(map(str, own)) == sorted(map(str, places))
    without_kills = points.in_turn(boring, 7, points.STALLS)
    assert [point.site[6:11] for point in without_kills[:4]] == ["pause", "parti"] * 2


@pytest.mark.parametrize(
    ("lease_s", "pause_s", "partition_s"), [(5, 12, 45), (30, 45, 45), (60, 120, 45), (0, 120, 45)]
)
def test_a_stall_is_longer_than_the_lease(lease_s, pause_s, partition_s):
    async def story(simulation):
        if lease_s:
            simulation.worker([charge], lease_s=lease_s)
        await simulation.queue.enqueue("charge", order=1)

    boring = run_once(story, points.boring(7, points.STRIKES), ask=True)
    assert boring.lease_s == lease_s
    boring.asked.append(Asked("swarm.pause:app:SET reply", 1, 5))
    boring.asked.append(Asked("swarm.partition:app:SET reply", 1, 5))
    for kind, seconds in (("pause", pause_s), ("partition", partition_s)):
        (value,) = {point.value for point in points.points_of(boring, kind)}
        assert KINDS[kind].arguments[value - 1]["seconds"] == seconds

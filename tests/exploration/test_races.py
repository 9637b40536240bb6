"""Races of plain asyncio code: found, reduced and told."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time

import pytest

from queuekit.exploration import (
    NotRepeatable,
    RaceFound,
    assert_no_race,
    choose,
    find_race,
    replay_race,
    search_races,
)
from queuekit.simulation import (
    Deviation,
    RefusedInSimulation,
    SimulationDeadlock,
    SimulationLivelock,
)


async def oversold():
    """Three buy the last two of something, one after the other unless somebody is quicker."""
    stock = 2

    async def buy(steps):
        nonlocal stock
        for _ in range(steps):
            await asyncio.sleep(0)
        if stock > 0:
            await asyncio.sleep(0)  # another one looks here
            stock -= 1

    await asyncio.gather(*(buy(2 * n) for n in range(3)))
    assert stock >= 0, "sold what was not there"


async def starved():
    """Wrong if one task is held back, in the midst of it, while another takes 25 of its 50 steps."""
    steps = 0

    async def runs():
        nonlocal steps
        for _ in range(50):
            steps += 1
            await asyncio.sleep(0)

    async def looks():
        for _ in range(5):
            await asyncio.sleep(0)
        before = steps
        await asyncio.sleep(0)
        assert steps - before < 25

    await asyncio.gather(runs(), looks())


async def sound():
    """The same purchase, under a lock."""
    stock = 2
    lock = asyncio.Lock()

    async def buy(steps):
        nonlocal stock
        for _ in range(steps):
            await asyncio.sleep(0)
        async with lock:
            if stock > 0:
                await asyncio.sleep(0)
                stock -= 1

    await asyncio.gather(*(buy(2 * n) for n in range(3)))
    assert stock >= 0


@pytest.mark.parametrize("first_seed", range(1, 200, 40))
def test_a_race_of_three_is_reduced_to_two_decisions_at_most(first_seed):
    race = find_race(oversold, first_seed=first_seed)
    assert 1 <= len(race.tape) <= 2 < race.decisions
    assert race.minimal
    with pytest.raises(AssertionError, match="sold what was not there"):
        replay_race(oversold, race.tape, schedule=race.schedule)
    for decision in race.tape:
        replay_race(oversold, [d for d in race.tape if d != decision], schedule=race.schedule)


@pytest.mark.parametrize("first_seed", range(1, 200, 40))
def test_a_task_held_back_for_long_is_found_by_pct_and_is_two_decisions_at_most(first_seed):
    race = find_race(starved, first_seed=first_seed)
    assert race.schedule == "pct"
    assert 1 <= len(race.tape) <= 2
    [most] = [each for each in race.overtakings if each.steps >= 24]
    assert most.actor.partition("-")[0].endswith("runs")


async def lost_update():
    """Three add one to a number, among others who do nothing; each reads, waits and writes."""
    total = 0

    async def idle(steps):
        for _ in range(steps):
            await asyncio.sleep(0)

    async def add(steps):
        nonlocal total
        await idle(steps)
        seen = total
        await asyncio.sleep(0)
        total = seen + 1

    await asyncio.gather(idle(30), add(4), idle(30), add(14), idle(30), idle(25), add(24))
    assert total == 3, "lost an update"


@pytest.mark.parametrize("first_seed", [1, 121, 241])
def test_a_walk_of_a_hundred_decisions_is_told_as_one_task_held_back(first_seed):
    race = find_race(lost_update, first_seed=first_seed)
    assert race.decisions > 2
    assert len(race.tape) == 1
    assert race.schedule == "pct"
    longest = max(race.overtakings, key=lambda each: each.steps)
    assert longest.steps > 5
    assert longest.others
    assert "ahead of add-" in race.story()
    with pytest.raises(AssertionError, match="lost an update"):
        replay_race(lost_update, race.tape, schedule=race.schedule)


def test_the_story_has_the_lines_of_source():
    story = find_race(oversold).story()
    assert "AssertionError: sold what was not there" in story
    here = "tests/exploration/test_races.py:"
    assert f"raised at {here}" in story
    assert story.count(here) >= 3
    assert "ahead of buy-" in story
    assert find_race(starved).story().count("  await asyncio.sleep(0)\n") >= 2


def test_the_line_that_is_told_replays_it():
    story = find_race(oversold).story()
    line = story.partition("To run it in this order again: ")[2]
    assert line.startswith("replay_race(oversold, [Deviation('schedule', ")
    with pytest.raises(AssertionError, match="sold what was not there"):
        eval(line, {"replay_race": replay_race, "oversold": oversold, "Deviation": Deviation})


def test_a_task_that_has_not_begun_is_told_by_its_first_line():
    async def main():
        done = []

        async def add(name):
            done.append(name)

        await asyncio.gather(add("a"), add("b"))
        assert done == ["a", "b"]

    assert "async def add(name):  (not begun)\n    ahead of add-" in find_race(main).story()


def test_what_fails_in_any_order_needs_no_decision():
    async def wrong():
        raise ValueError("always")

    race = find_race(wrong)
    assert (race.tape, race.found_in) == ([], 1)
    assert "without an adversary" in race.story()


def test_sound_code_is_tried_in_vain_and_all_orders_within_a_bound_are_seen():
    assert find_race(sound, runs=200) is None
    searched = assert_no_race(sound, deviations=1)
    assert searched.exhausted
    assert 10 < searched.runs < 100
    assert str(searched).startswith("every schedule that differs in at most one place: ")
    assert str(searched).endswith("; no race was found")
    assert not search_races(sound, deviations=2, runs=50).exhausted


def test_the_exhaustive_search_finds_the_race_with_the_fewest_decisions():
    with pytest.raises(RaceFound) as found:
        assert_no_race(oversold, deviations=2)
    assert len(found.value.race.tape) == 2
    assert find_race(oversold, deviations=1) is None


def test_a_search_does_not_run_more_often_than_it_may():
    lives = []

    async def counted():
        lives.append(1)

    assert search_races(counted, runs=20).runs == 20
    assert len(lives) == 21  # the first one is lived through twice, to see whether it is the same


def test_time_is_virtual_and_chance_is_the_same_in_each_run():
    said = []

    async def main():
        began = time.time()
        await asyncio.sleep(3600)
        said.append((time.time() - began, random.random()))

    assert find_race(main, runs=5) is None
    assert len(set(said)) == 1
    assert said[0][0] == 3600


def test_a_deadlock_of_some_orders_is_a_failure():
    async def main():
        one, other = asyncio.Lock(), asyncio.Lock()

        async def both(first, second, steps):
            for _ in range(steps):
                await asyncio.sleep(0)
            async with first:
                await asyncio.sleep(0)
                async with second:
                    await asyncio.sleep(0)

        await asyncio.gather(both(one, other, 0), both(other, one, 9))

    race = find_race(main)
    assert isinstance(race.error, SimulationDeadlock)
    assert race.tape


def test_turning_in_a_circle_is_a_failure():
    turns = 0

    async def main():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    assert isinstance(find_race(main, steps_per_instant=3_000).error, SimulationLivelock)
    assert turns < 5 * 3_001  # two runs at first, two for reducing, one to tell


def test_a_failure_of_another_kind_is_not_taken_for_the_same():
    async def main():
        order = []

        async def put(name, steps):
            for _ in range(steps):
                await asyncio.sleep(0)
            order.append(name)

        await asyncio.gather(put("a", 0), put("b", 2), put("c", 4))
        if order[0] == "c":
            raise LookupError
        if order != ["a", "b", "c"]:
            raise ValueError

    errors = {
        type(race.error): len(race.tape)
        for seed in range(1, 12)
        if (race := find_race(main, first_seed=seed))
    }
    assert errors.keys() == {LookupError, ValueError}
    assert errors[LookupError] >= errors[ValueError]


def test_code_may_choose_and_the_least_is_what_is_left():
    async def main():
        taken = choose("seconds", 10)
        assert taken < 4

    race = find_race(main)
    assert [(d.site, d.value) for d in race.tape] == [("choose:seconds", 4)]
    assert asyncio.run(chosen_in_real_time()) == 0


async def chosen_in_real_time():
    return choose("seconds", 10)


def test_code_that_is_not_the_same_twice_is_told():
    lives = []

    async def main():
        lives.append(1)
        await asyncio.sleep(len(lives))

    with pytest.raises(NotRepeatable, match="the traces part at line"):
        find_race(main)


def test_what_reaches_out_is_refused_and_no_race():
    async def main():
        await asyncio.open_connection("example.org", 80)

    with pytest.raises(RefusedInSimulation):
        find_race(main)


def test_nothing_that_a_failed_run_left_goes_on():
    ended = []

    async def main():
        async def lasts():
            try:
                await asyncio.sleep(100)
            finally:
                ended.append(1)

        task = asyncio.ensure_future(lasts())
        await asyncio.sleep(1)
        assert task.done()

    assert find_race(main).tape == []
    assert len(ended) == 5  # twice at first, two for reducing, one to tell


@pytest.mark.slow
def test_a_search_does_not_depend_on_the_hash_seed():
    code = (
        "from tests.exploration.test_races import *;"
        "print(find_race(oversold).story(), find_race(starved, first_seed=9).story())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert "ahead of" in said.pop()

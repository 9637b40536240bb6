"""Decisions that are drawn, kept on a tape and taken again; and the schedules that are made of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
import redis.asyncio

from queuekit.simulation import Deviation, Simulation, SimulationError, SimulationLivelock
from queuekit.simulation.chooser import Chooser


def drawing(seed, *kinds):
    chooser = Chooser(seed)
    chooser.draw(kinds)
    return chooser


def test_nothing_is_drawn_unless_it_was_asked_for():
    chooser = drawing(1, "fault")
    assert [chooser.pick("schedule", 10) for _ in range(50)] == [0] * 50
    assert chooser.tape == []


def test_a_kind_of_site_is_what_stands_before_the_colon():
    chooser = drawing(1, "fault")
    assert any(chooser.pick("fault:worker-1:claim", 10) for _ in range(50))
    assert not any(chooser.pick("faults:worker-1:claim", 10) for _ in range(50))


def test_the_tape_has_what_was_not_boring_and_gives_it_again():
    chooser = drawing(3, "a", "b")
    values = [
        (chooser.pick("a", 3), chooser.pick("b:x", 2), chooser.pick("c", 9)) for _ in range(40)
    ]
    assert 0 < len(chooser.tape) < 80
    assert all(deviation.value for deviation in chooser.tape)
    again = Chooser(99, chooser.tape)
    assert values == [
        (again.pick("a", 3), again.pick("b:x", 2), again.pick("c", 9)) for _ in range(40)
    ]
    assert again.tape == chooser.tape
    assert again.unused == []


def test_what_is_taken_out_of_a_tape_leaves_the_rest_as_it_was():
    chooser = drawing(3, "a", "b")
    values = [(chooser.pick("a", 3), chooser.pick("b", 3)) for _ in range(40)]
    without_a = Chooser(0, [d for d in chooser.tape if d.site == "b"])
    assert [without_a.pick("a", 3) for _ in range(40)] == [0] * 40
    assert [without_a.pick("b", 3) for _ in range(40)] == [b for _, b in values]


def test_a_tape_for_something_else_is_told_and_never_out_of_range():
    chooser = Chooser(0, [Deviation("a", 1, 7), Deviation("b", 1, 1)])
    assert chooser.pick("a", 3) == 2
    assert chooser.unused == [Deviation("b", 1, 1)]


def test_a_rare_choice_is_as_rare_as_it_was_said_to_be():
    chooser = drawing(5, "fault")
    fired = [chooser.pick("fault", 5, chance=0.1) for _ in range(2_000)]
    assert 120 < sum(value > 0 for value in fired) < 280
    assert set(fired) == {0, 1, 2, 3, 4}


# -- schedules


async def race(simulation):
    """Three add one to what they have read a step earlier."""
    total = 0

    async def add():
        nonlocal total
        await asyncio.sleep(0)
        read = total
        if simulation.trace.count % 2:  # a step between reading and writing, in some orders
            await asyncio.sleep(0)
        total = read + 1

    await asyncio.gather(add(), add(), add())
    return total


async def starved(simulation):
    """Wrong exactly if one task is held back while another takes 25 of its 50 steps."""
    steps = 0
    seen = None

    async def runs():
        nonlocal steps
        for _ in range(50):
            steps += 1
            await asyncio.sleep(0)

    async def looks():
        nonlocal seen
        await asyncio.sleep(0)
        seen = steps

    await asyncio.gather(runs(), looks())
    return seen


def live(story, **options):
    with Simulation(**options) as simulation:
        return simulation.run(story(simulation)), simulation


def test_first_in_first_out_holds_nobody_back():
    assert live(starved)[0] < 5


def test_pct_holds_a_task_back_and_that_is_one_deviation():
    seen, simulation = next(
        found for seed in range(100) if (found := live(starved, schedule="pct", seed=seed))[0] > 25
    )
    for count in range(1, len(simulation.chooser.tape) + 1):
        tapes = [
            simulation.chooser.tape[i : i + count] for i in range(len(simulation.chooser.tape))
        ]
        if any(live(starved, schedule="pct", choices=tape)[0] > 25 for tape in tapes):
            break
    assert count == 1
    assert seen > 25


@pytest.mark.parametrize("expected", [7, 5_000])
def test_pct_spreads_its_changes_over_as_many_choices_as_are_expected(expected):
    steps = [
        decision.value
        for seed in range(40)
        for decision in live(starved, schedule="pct", seed=seed, expected_choices=expected)[
            1
        ].chooser.tape
        if decision.site == "pct.change"
    ]
    assert expected / 2 < max(steps) <= expected


@pytest.mark.parametrize("schedule", ["random", "pct"])
def test_an_empty_tape_is_first_in_first_out(schedule):
    _, chosen = live(starved, schedule=schedule, choices=[])
    assert live(starved, schedule=schedule, choices=[])[0] < 5
    assert chosen.chooser.tape == []


@pytest.mark.parametrize("schedule", ["random", "pct"])
def test_seeds_differ_and_each_is_the_same_each_time(schedule):
    traces = {live(race, schedule=schedule, seed=seed)[1].trace.digest() for seed in range(20)}
    again = {live(race, schedule=schedule, seed=seed)[1].trace.digest() for seed in range(20)}
    assert traces == again
    assert len(traces) > 5


async def fails_once(ctx, *, n):
    if n == 1 and ctx["job"].attempts == 1:
        raise ValueError("the first time")
    return n


async def work(simulation):
    for _ in range(2):
        simulation.worker([fails_once])
    jobs = [
        await simulation.queue.enqueue("fails_once", n=n, retries=3, retry_delay=2)
        for n in range(4)
    ]
    await simulation.drain()
    for job in jobs:
        await job.refresh()
    return [job.result for job in jobs]


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["random", "pct"])
def test_a_queues_life_under_an_adversary_is_replayed_by_its_tape(schedule, on_each_backend):
    digests = set()
    for seed in range(5):
        results, lived = live(work, schedule=schedule, seed=seed, **on_each_backend)
        assert results == [0, 1, 2, 3]
        tape = lived.chooser.tape
        assert tape
        _, again = live(work, schedule=schedule, seed=seed, choices=tape, **on_each_backend)
        assert again.chooser.tape == tape
        assert again.chooser.unused == []
        steps = [line for line in kept(lived) if " d " not in line]
        assert steps == [line for line in kept(again) if " d " not in line]
        digests.add(lived.trace.digest())
    assert len(digests) == 5


def kept(simulation):
    return list(simulation.trace.lines())


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["random", "pct"])
def test_both_servers_see_one_order(schedule):
    first, second = (
        live(work, schedule=schedule, seed=4, backend=backend)[1]
        for backend in ("fakeredis", "server")
    )
    assert first.trace.digest() == second.trace.digest()


@pytest.mark.slow
def test_a_schedule_does_not_depend_on_the_hash_seed():
    code = (
        "from tests.simulation.test_schedules import live, work;"
        "print(*[live(work, schedule=s, seed=7)[1].trace.digest() for s in ('random', 'pct')])"
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
    assert len(said.pop().split()) == 2


async def commands_of_two(simulation):
    order = []
    queue = simulation.queue_named("q")

    async def put(name):
        await queue.enqueue("nothing", key=name)
        order.append(name)

    await asyncio.gather(put("a"), put("b"))
    return tuple(order)


def test_commands_of_different_connections_overtake_each_other():
    seen = {live(commands_of_two, schedule="random", seed=seed)[0] for seed in range(20)}
    assert seen == {("a", "b"), ("b", "a")}


async def pipelined(simulation):
    async with redis.asyncio.Redis(host="any") as client:
        async with client.pipeline(transaction=False) as pipe:
            for n in range(20):
                pipe.rpush("q", n)
            await pipe.execute()
        return await client.lrange("q", 0, -1)


@pytest.mark.parametrize("schedule", ["random", "pct"])
def test_commands_of_one_connection_keep_their_order(schedule):
    for seed in range(10):
        found, _ = live(pipelined, schedule=schedule, seed=seed)
        assert found == [b"%d" % n for n in range(20)]


async def turns_in_a_circle(simulation):
    done = False

    async def spins():
        while not done:  # noqa: ASYNC110 (it is to turn)
            await asyncio.sleep(0)

    async def ends_it():
        nonlocal done
        await asyncio.sleep(0)
        done = True

    await asyncio.gather(spins(), ends_it())
    return done


def test_who_turns_in_a_circle_holds_nobody_for_ever_under_pct():
    assert all(live(turns_in_a_circle, schedule="pct", seed=seed)[0] for seed in range(30))


async def never_ends(simulation):
    while True:  # noqa: ASYNC110 (it is to turn)
        await asyncio.sleep(0)


@pytest.mark.parametrize("schedule", ["random", "pct"])
def test_a_livelock_is_told_under_any_schedule(schedule):
    with pytest.raises(SimulationLivelock, match="never_ends"):
        live(never_ends, schedule=schedule, steps_per_instant=5_000)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(SimulationError, match="'fifo', 'random', 'pct'"):
        Simulation(schedule="lifo")


def test_a_story_chooses_the_least_unless_it_is_explored():
    with Simulation() as simulation:
        assert [simulation.choose("jobs", 5) for _ in range(9)] == [0] * 9
        with pytest.raises(SimulationError, match="one choice at least"):
            simulation.choose("jobs", 0)
    with Simulation(choices=[Deviation("choose:jobs", 2, 3)]) as simulation:
        assert [simulation.choose("jobs", 5) for _ in range(3)] == [0, 3, 0]


@pytest.mark.parametrize("schedule", ["random", "pct"])
@pytest.mark.parametrize("late", [{"command": "RPUSH"}, {"command": "RPUSH", "replies": True}])
def test_what_is_late_on_a_connection_is_not_overtaken_there(schedule, late):
    """The commands of a transaction were executed ahead of its MULTI, when that was late."""
    when = {"after": "RPUSH"} if late.pop("replies", False) else late

    async def story(simulation):
        simulation.inject("delay", seconds=1, process="test", **when)
        async with redis.asyncio.Redis(host="any") as client:
            async with client.pipeline(transaction=False) as pipe:
                for n in range(5):
                    pipe.rpush("q", n)
                lengths = await pipe.execute()
            return lengths, await client.lrange("q", 0, -1)

    for seed in range(10):
        with Simulation(seed=seed, schedule=schedule) as simulation:
            simulation.chooser.draw(["schedule", "pct"])
            lengths, held = simulation.run(story(simulation))
        assert lengths == [1, 2, 3, 4, 5]
        assert held == [b"0", b"1", b"2", b"3", b"4"]

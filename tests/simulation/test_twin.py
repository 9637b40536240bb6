"""The embedded Redis and a real one side by side: they agree, and where they do not it is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis.asyncio

from queuekit import CronJob
from queuekit.simulation import ServersDisagree, Simulation, SimulationError, scenario, server
from queuekit.simulation.backends import RealServer, Twins, private_server
from queuekit.simulation.contents import snapshot_of
from queuekit.simulation.private_server import find_servers, start_private_server


async def flaky(ctx, *, n):
    if ctx["job"].attempts < 2:
        raise ValueError("not yet")
    await ctx["job"].update(progress=0.5)
    return n


async def slow(ctx):
    await asyncio.sleep(120)


async def every_minute(ctx):
    """A tick."""


async def some_work(simulation):
    for _ in range(2):
        simulation.worker([flaky, slow], cron_jobs=[CronJob(every_minute, cron="* * * * *")])
    jobs = [
        await simulation.queue.enqueue("flaky", n=n, retries=3, retry_delay=5, priority=n % 2)
        for n in range(6)
    ]
    stuck = await simulation.queue.enqueue("slow", timeout=0, heartbeat=30)
    await simulation.queue.enqueue(
        "flaky", n=9, scheduled=simulation.clock.time() + 60, key="later"
    )
    await simulation.advance(20)
    await stuck.abort("enough")
    assert await simulation.queue.apply("flaky", n=7, retries=2) == 7
    await simulation.advance(200)
    for job in jobs:
        await job.refresh()
    return [job.status.value for job in jobs]


@pytest.mark.slow
@pytest.mark.parametrize(
    "program", [path for _, path in find_servers()], ids=lambda path: path.parts[-3]
)
def test_a_workers_life_is_the_same_on_both(program):
    real = start_private_server(program)
    try:
        with Simulation(backend=f"both+unix://{real.address}", flush=True) as simulation:
            assert simulation.run(some_work(simulation)) == ["complete"] * 6
            network = simulation.loop.network
            assert network.states_compared == network.commands > 100
            both = simulation.trace.digest()
    finally:
        real.close()
    with Simulation() as simulation:
        simulation.run(some_work(simulation))
        assert simulation.trace.digest() == both


@pytest.mark.slow
def test_the_shops_week_is_the_same_on_both():
    week = scenario.read(Path(__file__).parents[2] / "scenarios" / "shop" / "week.toml")
    main = week.load()
    twins = Twins(RealServer(private_server().address, private=True), state_every=250)
    with Simulation(backend=twins, **week.options) as simulation:
        simulation.run(main(simulation))
        assert simulation.loop.network.states_compared > 50


def test_the_embedded_redis_is_not_compared_with_itself():
    with pytest.raises(SimulationError, match="compares the embedded Redis with a real one"):
        Simulation(backend="both+fakeredis")


async def talk(*, database=0):
    async with redis.asyncio.Redis(host="anywhere", db=database) as client:
        await client.rpush("from", "a", "b")
        await client.blmove("empty", "to", 1)
        await client.blmove("from", "to", 1)


@pytest.mark.parametrize("database", [0, 3])
def test_an_answer_that_differs_names_the_command_and_both_answers(monkeypatch, database):
    monkeypatch.setattr(server.Connection, "_blmove", lambda self, *args: b"something else")
    with Simulation(backend="both") as simulation, pytest.raises(ServersDisagree) as caught:
        simulation.run(talk(database=database))
    told = str(caught.value)
    assert "BLMOVE empty to" in told
    assert "embedded: on connection 1: something else" in told
    assert "real:     (silent)" in told


@pytest.mark.parametrize("database", [0, 3])
def test_a_state_that_differs_names_the_key(monkeypatch, database):
    true = server._move

    def moves_twice(self, source, target, take_from, put_to, first):
        moved = true(self, source, target, take_from, put_to, first)
        if moved is not None:
            self._db.get(target).value.append(moved)
        return moved

    monkeypatch.setattr(server, "_move", moves_twice)
    with Simulation(backend="both") as simulation, pytest.raises(ServersDisagree) as caught:
        simulation.run(talk(database=database))
    told = str(caught.value)
    assert "hold different things at the key to" in told
    assert "embedded: list [a a]" in told
    assert "real:     list [a]" in told


KINDS = {
    "string": [(b"SET", b"q:string", b"v")],
    "hash": [(b"HSET", b"q:hash", b"b", b"1", b"a", b"2")],
    "list": [(b"RPUSH", b"q:list", b"b", b"a")],
    "set": [(b"SADD", b"q:set", b"b", b"a")],
    "zset": [(b"ZADD", b"q:zset", b"2", b"b", b"1", b"a")],
    "stream": [(b"XADD", b"q:stream", b"1-1", b"a", b"1")],
}


async def fill():
    async with redis.asyncio.Redis(host="anywhere") as client:
        for commands in KINDS.values():
            for command in commands:
                await client.execute_command(*command)


async def ping():
    async with redis.asyncio.Redis(host="anywhere") as client:
        await client.ping()


def test_values_of_every_kind_are_read_alike_on_both():
    with Simulation(backend="both") as simulation:
        simulation.run(fill())
        network = simulation.loop.network
        embedded, real = (
            snapshot_of(each.contents("q"), "q") for each in (network.embedded, network.relayed)
        )
    assert embedded == real
    assert embedded.contents == {
        "string": b"v",
        "hash": {"b": "1", "a": "2"},
        "list": ["b", "a"],
        "set": ["a", "b"],
        "zset": {"b": 2.0, "a": 1.0},
        "stream": 1,
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_of_any_kind_that_differs_is_named(kind):
    change = {b"SET": (b"other",), b"XADD": (b"2-1", b"b", b"2"), b"HSET": (b"c", b"3")}
    [command] = KINDS[kind]
    words = command[:2] + change.get(command[0], (b"3", b"c"))
    with Simulation(backend="both") as simulation:
        simulation.run(fill())
        simulation.loop.network.relayed.look(*words)  # behind the other one's back
        with pytest.raises(ServersDisagree, match=f"different things at the key q:{kind}, at"):
            simulation.run(ping())


def test_two_answers_to_one_command_are_held_against_each_other(monkeypatch):
    async def asks():
        async with redis.asyncio.Redis(host="anywhere") as client:
            await client.set("key", "1", ex=100)
            await client.ttl("key")
            await client.ttl("key")  # the world ends before

    monkeypatch.setattr(server.Connection, "_ttl", lambda self, key, scale: 42)
    with Simulation(backend="both") as simulation, pytest.raises(ServersDisagree) as caught:
        simulation.run(asks())
    told = str(caught.value)
    assert "answered differently" in told
    assert "embedded: on connection 1: 42" in told
    assert "real:     on connection 1: 100" in told

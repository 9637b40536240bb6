"""The simulated network and the Redis on it, embedded and real: unmodified redis-py as the client.

Findings 2 to 6 of our measurements are here, each as a claim: what fakeredis and real servers do
differently, and what redis-py does silently.
"""

from __future__ import annotations

import asyncio
import time

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from queuekit import Queue
from queuekit.simulation import Hop, Simulation
from queuekit.simulation.trace import first_difference


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


@pytest.fixture
def client(simulation):
    clients = []

    def make(**options):
        options = {"host": "h", "retry": Retry(NoBackoff(), 0), "socket_timeout": None, **options}
        clients.append(redis.asyncio.Redis(**options))
        return clients[-1]

    yield make
    for one in clients:
        simulation.run(one.aclose())


async def test_an_unmodified_client_reaches_the_server_at_any_address(client):
    r = client(protocol=2)
    await r.set("a", 1)
    assert await r.get("a") == b"1"
    assert await client(host="elsewhere", port=1234).get("a") == b"1"


async def test_both_protocols_work(client):
    for protocol in (2, 3):
        r = client(protocol=protocol)
        await r.hset("h", mapping={"x": 1})
        assert await r.hgetall("h") == {b"x": b"1"}
        assert (await r.info())["redis_version"]


async def test_databases_are_kept_apart(client):
    await client(db=0).set("a", 0)
    assert await client(db=1).get("a") is None


async def test_a_blmove_on_an_empty_list_waits_for_its_timeout(client):
    assert await client().blmove("src", "dst", 7) is None
    assert time.monotonic() == 7


@pytest.mark.parametrize(
    "wait",
    [
        lambda r: r.blpop("q", 7),
        lambda r: r.brpop("q", 7),
        lambda r: r.blmove("q", "done", 7),
        lambda r: r.brpoplpush("q", "done", 7),
        lambda r: r.blmpop(7, 1, "q", direction="LEFT"),
    ],
)
async def test_a_blocked_client_is_served_at_the_moment_of_the_push(client, wait):
    task = asyncio.create_task(wait(client()))
    await asyncio.sleep(2.25)
    await client().rpush("q", "job")
    assert b"job" in str(await task).encode()
    assert time.monotonic() == 2.25


async def test_a_wait_without_timeout_is_served_after_a_year(client):
    task = asyncio.create_task(client().blpop("q", 0))
    await asyncio.sleep(366 * 86_400)
    await client().rpush("q", "job")
    assert (await task)[1] == b"job"


async def test_whoever_waits_longest_is_served_first(client):
    served = []

    async def wait(name):
        await client().blpop("q", 0)
        served.append(name)

    tasks = []
    for name in "abcdefgh":
        tasks.append(asyncio.create_task(wait(name)))
        await asyncio.sleep(0.001)
    other = client()
    for _ in "abcdefgh":
        await other.rpush("q", "x")
        await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)
    assert "".join(served) == "abcdefgh"


async def test_a_cancelled_wait_leaves_no_ghost_that_takes_the_next_job(client):
    task = asyncio.create_task(client().brpoplpush("q", "done", 0))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])
    r = client()
    await r.rpush("q", "job")
    await asyncio.sleep(1)
    assert await r.lrange("q", 0, -1) == [b"job"]
    assert await r.lrange("done", 0, -1) == []


async def test_every_command_is_a_point_at_which_others_run(client):
    """Read-modify-write without a transaction loses updates, as on a real network."""

    async def increment(r):
        for _ in range(50):
            value = int(await r.get("n") or 0)
            await r.set("n", value + 1)

    await asyncio.gather(*(increment(client()) for _ in range(8)))
    assert int(await client().get("n")) < 400


async def test_a_connection_that_is_cut_is_an_error_for_the_client_and_not_retried_silently(
    simulation, client
):
    r = client()
    await r.incr("n")

    (wire,) = simulation.loop.network.wires

    def cut(event):
        if isinstance(event, Hop) and event.direction == "reply" and event.words == ("2",):
            wire.cut()

    simulation.observe(cut)
    with pytest.raises(redis.exceptions.ConnectionError):
        await r.incr("n")
    assert await client().get("n") == b"2", "it was executed, once"


async def test_messages_reach_subscribers_in_order(client):
    pubsub = client().pubsub()
    await pubsub.subscribe("news")
    r = client()
    for n in range(3):
        await r.publish("news", n)
    heard = []
    while len(heard) < 3:
        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5)
        if message:
            heard.append(message["data"])
    assert heard == [b"0", b"1", b"2"]
    await pubsub.aclose()


async def test_keys_expire_by_the_virtual_clock(client):
    r = client()
    await r.set("a", 1, ex=10)
    await r.set("b", 1, px=1500)
    await r.execute_command("SETEX", "c", 20, 1)
    await r.set("d", 1)
    await r.expire("d", 30)
    assert await r.ttl("a") == 10
    await asyncio.sleep(9.5)
    assert [await r.get(key) for key in "abcd"] == [b"1", None, b"1", b"1"]
    assert await r.pttl("a") == 500
    await asyncio.sleep(0.502)
    assert [await r.get(key) for key in "abcd"] == [None, None, b"1", b"1"]
    await r.persist("c")
    await r.set("d", 2)
    await asyncio.sleep(3600)
    assert [await r.get(key) for key in "cd"] == [b"1", b"2"]
    assert await r.ttl("d") == -1
    assert await r.ttl("a") == -2


async def test_scripts_and_transactions_run(client):
    r = client()
    script = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
    assert [await script(["n"], [5]) for _ in range(3)] == [5, 10, 15]
    async with r.pipeline(transaction=True) as pipe:
        assert await pipe.incr("n").lpush("l", "x").execute() == [16, 1]
    with pytest.raises(redis.exceptions.ResponseError):
        await r.lpush("n", "x")


async def test_a_wait_inside_a_transaction_does_not_wait(client):
    async with client().pipeline(transaction=True) as pipe:
        pipe.execute_command("BLPOP", "nothing", 0)
        assert await pipe.execute() == [None]


async def test_commands_behind_a_wait_on_one_connection_wait_too(client):
    pipe = client().pipeline(transaction=False)
    pipe.execute_command("BLPOP", "nothing", 3)
    pipe.execute_command("INCR", "n")
    assert await pipe.execute() == [None, 1]
    assert time.monotonic() == 3


async def busy(simulation):
    """Many clients that wait, push, publish and run scripts at the same instants."""
    seen = []

    async def consumer(name):
        r = redis.asyncio.Redis(host="h", protocol=2, socket_timeout=None)
        while (got := await r.blpop(["q1", "q2"], 5)) is not None:
            seen.append((name, got[1]))
            await r.eval("return redis.call('RPUSH', KEYS[1], ARGV[1])", 1, "done", got[1])
        await r.aclose()

    async def producer(n):
        r = redis.asyncio.Redis(host="h", protocol=2, socket_timeout=None)
        for i in range(6):
            async with r.pipeline(transaction=True) as pipe:
                await (
                    pipe.rpush("q1", f"{n}-{i}")
                    .publish("news", i)
                    .rpush("q2", f"{n}+{i}")
                    .execute()
                )
            await asyncio.sleep(0.5)
        await r.aclose()

    async def reader():
        r = redis.asyncio.Redis(host="h", protocol=2, socket_timeout=None)
        pubsub = r.pubsub()
        await pubsub.subscribe("news")
        for _ in range(12):
            await pubsub.get_message(timeout=0.7)
        await pubsub.aclose()
        await r.aclose()

    await asyncio.gather(
        *(consumer(n) for n in range(5)), *(producer(n) for n in range(4)), reader()
    )
    assert len(seen) == 48


@pytest.mark.slow
def test_the_trace_of_a_busy_network_is_the_same_on_every_server_each_time(on_each_backend):
    def lines(backend):
        with Simulation(seed=3, backend=backend) as simulation:
            simulation.run(busy(simulation))
        return simulation.trace.lines()

    expected = lines("fakeredis")
    for _ in range(5):
        assert first_difference(expected, lines(on_each_backend["backend"])) is None
    assert len(expected) > 500


async def test_a_queue_begins_with_its_work_and_the_server_knows_its_scripts(simulation):
    """Neither greetings, which differ with redis-py's version, nor the loading that each run would repeat."""
    sent = []
    simulation.observe(
        lambda event: (
            sent.append(event.words[:2])
            if isinstance(event, Hop) and event.direction == "request"
            else None
        )
    )
    await simulation.queue.enqueue("f")
    assert sent == [("EVALSHA", "enqueue")]

    simulation.server.flush_scripts()
    await simulation.queue.enqueue("f")
    assert sent[1:] == [("EVALSHA", "enqueue"), ("SCRIPT", "LOAD"), ("EVALSHA", "enqueue")]


def test_outside_of_a_simulation_a_queue_tells_what_client_it_is():
    async def main():
        queue = Queue.from_url("fakeredis://one")
        await queue.enqueue("f")
        network = asyncio.get_running_loop().__dict__["queuekit_embedded_networks"]["one"]
        told = network.wires[0].peer._client_info
        await queue.disconnect()
        return told["lib-name"], told["lib-ver"]

    assert asyncio.run(main()) == ("redis-py", redis.__version__)

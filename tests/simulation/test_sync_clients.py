"""Sync clients of Redis in a simulation: they reach the simulated server, and wait in virtual time."""

from __future__ import annotations

import asyncio
import time

import pytest
import redis

from queuekit.simulation import Hop, SimulationError
from tests.simulation.sync_client import connect, took


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


@pytest.fixture
def client(simulation):
    return connect()


# -- in a sync task


async def test_a_sync_task_reads_and_writes(simulation, client):
    def count(ctx):
        with client.pipeline() as pipeline:
            pipeline.incr("n")
            pipeline.rpush("l", "a", "b")
            return pipeline.execute()

    simulation.worker([count])
    assert await simulation.queue.apply("count") == [1, 2]
    assert await asyncio.to_thread(client.lrange, "l", 0, -1) == [b"a", b"b"]


async def test_a_blocking_pop_waits_in_virtual_time(simulation, client):
    assert await asyncio.to_thread(took, client.blpop, "l", 3600) == (None, 3600)


async def test_a_blocking_pop_ends_when_something_comes(simulation, client):
    popped = asyncio.create_task(asyncio.to_thread(took, client.blmove, "from", "to", 3600))
    await simulation.advance(20)
    client.rpush("from", "x")
    assert await popped == (b"x", 20)


async def test_the_time_out_of_a_socket_is_virtual(simulation):
    client = connect(socket_timeout=7)
    assert await asyncio.to_thread(took, client.blpop, "l", 60) == (redis.TimeoutError, 7)


async def test_messages_are_waited_for_in_virtual_time(simulation, client):
    def listen():
        with client.pubsub(ignore_subscribe_messages=True) as channel:
            channel.subscribe("news")
            while channel.get_message(timeout=0.1):
                pass
            return took(channel.get_message, timeout=60), took(channel.get_message, timeout=60)

    heard = asyncio.create_task(asyncio.to_thread(listen))
    await simulation.advance(10.5)
    assert client.publish("news", "rain") == 1
    (message, waited), (nothing, waited_then) = await heard
    assert (message["data"], nothing, waited_then) == (b"rain", None, 60)
    assert 10 <= waited <= 10.5


async def test_two_threads_take_turns_on_connections_of_their_own(simulation, client):
    def consume(key):
        return [took(client.blpop, key, 30) for _ in range(2)]

    first = asyncio.create_task(asyncio.to_thread(consume, "a"))
    second = asyncio.create_task(asyncio.to_thread(consume, "b"))
    await simulation.advance(5)
    await asyncio.to_thread(client.rpush, "b", 1)
    await simulation.advance(5)
    await asyncio.to_thread(client.rpush, "a", 2)
    assert await first == [((b"a", b"2"), 10), (None, 30)]
    assert await second == [((b"b", b"1"), 5), (None, 30)]


# -- faults and processes


async def test_a_lost_reply_is_a_reset_after_execution(simulation, client):
    simulation.inject("lose_reply", command="INCRBY")
    assert await asyncio.to_thread(took, client.incr, "n") == (redis.ConnectionError, 0)
    assert await asyncio.to_thread(client.get, "n") == b"1"


async def test_a_lost_request_was_never_executed(simulation, client):
    simulation.inject("lose_request", command="INCRBY")
    assert await asyncio.to_thread(took, client.incr, "n") == (redis.ConnectionError, 0)
    assert await asyncio.to_thread(client.get, "n") is None


async def test_silence_lasts_until_the_time_out(simulation):
    client = connect(socket_timeout=7)
    simulation.inject("lose_reply", command="INCRBY", how="silence")
    assert await asyncio.to_thread(took, client.incr, "n") == (redis.TimeoutError, 7)
    assert await asyncio.to_thread(client.get, "n") == b"1"


async def test_a_delay_is_waited_for(simulation, client):
    simulation.inject("delay", command="INCRBY", seconds=2)
    assert await asyncio.to_thread(took, client.incr, "n") == (1, 2)


async def test_an_outage_resets_who_waits_and_refuses_who_comes(simulation, client):
    waits = asyncio.create_task(asyncio.to_thread(took, client.blpop, "l", 60))
    await simulation.advance(3)
    simulation.server.outage(5)
    assert await waits == (redis.ConnectionError, 3)
    assert await asyncio.to_thread(took, client.ping) == (redis.ConnectionError, 0)
    await simulation.advance(5)
    assert await asyncio.to_thread(client.ping)


async def test_the_connection_belongs_to_the_process_that_runs_the_thread(simulation, client):
    seen = []
    simulation.observe(lambda event: seen.append(event) if isinstance(event, Hop) else None)
    web = simulation.process("web")
    await web.run(asyncio.to_thread, client.incr, "n")
    hops = [(event.process, event.direction) for event in seen]
    assert set(hops) == {(web.id, "request"), (web.id, "reply")}


async def test_a_partition_holds_it_until_it_is_healed(simulation, client):
    web = simulation.process("web")
    assert await web.run(asyncio.to_thread, client.ping)
    web.partition(seconds=30)
    assert await web.run(asyncio.to_thread, took, client.incr, "n") == (1, 30)


async def test_a_new_connection_across_a_partition_times_out(simulation):
    client = connect(socket_connect_timeout=4)
    web = simulation.process("web")
    web.partition()
    assert await web.run(asyncio.to_thread, took, client.ping) == (redis.TimeoutError, 4)


async def test_a_killed_process_is_silent_while_its_thread_waits(simulation, client):
    unwound = []

    def consume():
        try:
            client.blpop("l", 0)
            client.set("after", 1)
        finally:
            unwound.append(client.set("finally", 1))

    web = simulation.process("web", lambda: asyncio.to_thread(consume))
    await simulation.advance(1)
    wires = list(simulation.loop.network.wires)
    assert [wire.process for wire in wires] == [web.process]
    web.kill()
    assert simulation.loop.network.wires == []
    client.rpush("l", "x")
    await simulation.advance(3600)
    assert (client.lrange("l", 0, -1), client.keys("*")) == ([b"x"], [b"l"])
    assert unwound == []


async def test_a_kill_at_its_command_is_its_last_word(simulation, client):
    web = simulation.process("web")
    simulation.inject("kill", after="INCRBY", process=web)

    def main():
        client.incr("n")
        client.set("after", 1)

    done = asyncio.create_task(web.run(asyncio.to_thread, main))
    await simulation.advance(60)
    assert not web.alive
    with pytest.raises(SimulationError, match="died"):
        await done
    assert client.keys("*") == [b"n"]


async def test_the_clock_of_a_process_that_drifts_times_its_sockets_out_early(simulation, client):
    web = simulation.process("web")
    web.drift(1.0)
    began = simulation.now
    result, seconds = await web.run(asyncio.to_thread, took, client.blpop, "l", 60)
    assert (result, seconds) == (None, 120)
    assert (simulation.now - began).total_seconds() == 60


# -- in a plain test


def test_a_plain_test_reads_and_writes(client):
    with client.pipeline() as pipeline:
        assert pipeline.set("a", 1).incr("a").execute() == [True, 2]
    assert client.get("a") == b"2"


def test_a_blocking_call_of_a_plain_test_lets_the_world_live(simulation, client):
    async def later():
        await asyncio.sleep(20)
        await asyncio.to_thread(client.rpush, "l", "x")

    simulation.process("web", later)
    assert client.blpop("l", 60) == (b"l", b"x")
    assert simulation.clock.monotonic() == 20
    assert client.blpop("l", 60) is None
    assert simulation.clock.monotonic() == 80


def test_sleep_in_a_plain_test_lets_the_world_live(simulation):
    woken = []

    async def later():
        await asyncio.sleep(20)
        woken.append(simulation.clock.monotonic())

    simulation.process("web", later)
    time.sleep(30)
    assert (woken, simulation.clock.monotonic()) == ([20], 30)
    with pytest.raises(ValueError, match="non-negative"):
        time.sleep(-1)


def test_messages_reach_a_plain_test(simulation, client):
    with client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe("news")
        assert channel.get_message(timeout=5) is None
        client.publish("news", "rain")
        assert channel.get_message(timeout=5)["data"] == b"rain"


def test_a_fault_strikes_a_plain_test(simulation, client):
    simulation.inject("lose_reply", command="INCRBY", process="test")
    with pytest.raises(redis.ConnectionError):
        client.incr("n")
    assert client.get("n") == b"1"


# -- on the event loop


async def test_on_the_loop_the_answer_is_there_at_once(simulation, client):
    before = simulation.clock.monotonic()
    with client.pipeline() as pipeline:
        assert pipeline.set("a", 1).incr("a").execute() == [True, 2]
    assert (client.get("a"), simulation.clock.monotonic()) == (b"2", before)


async def test_on_the_loop_nothing_is_waited_for(simulation, client):
    client.ping()
    with pytest.raises(
        SimulationError, match=r"wait for redis\.internal:6379 on the event loop"
    ) as caught:
        client.blpop("l", 1)
    assert "asyncio.to_thread()" in str(caught.value)
    await simulation.run_until_idle()
    assert simulation.loop.network.wires == []
    assert await asyncio.to_thread(client.ping)


async def test_on_the_loop_a_late_answer_is_not_waited_for(simulation, client):
    simulation.inject("delay", command="INCRBY", seconds=1)
    with pytest.raises(SimulationError, match="on the event loop's own thread"):
        client.incr("n")


async def test_on_the_loop_of_a_process_that_is_cut_off_nobody_connects(simulation, client):
    web = simulation.process("web")
    web.partition()
    with pytest.raises(SimulationError, match=r"connect redis\.internal:6379"):
        await web.run(client.ping)


async def test_a_process_that_is_killed_at_a_command_on_its_loop_goes_no_further(
    simulation, client
):
    web = simulation.process("web")
    simulation.inject("kill", after="INCRBY", process=web)

    async def main():
        client.incr("n")
        client.set("after", 1)

    with pytest.raises(SimulationError, match="died"):
        await web.run(main)
    assert client.keys("*") == [b"n"]


async def test_who_waits_hears_of_what_is_sent_on_the_loop(simulation, client):
    waits = asyncio.create_task(asyncio.to_thread(client.blpop, "l", 60))
    await simulation.run_until_idle()
    client.rpush("l", "x")
    assert await waits == (b"l", b"x")

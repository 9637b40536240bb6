"""Misfortunes that overlap, and processes that share a name."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


async def test_an_outage_that_ends_leaves_a_later_one_as_it_is(simulation):
    server = simulation.server
    server.outage(1)
    await simulation.advance(0.5)
    server.outage(45)
    await simulation.advance(44)
    assert not server.running
    await simulation.advance(1)
    assert server.running


async def test_a_shorter_one_ends_nothing_either(simulation):
    server = simulation.server
    server.outage(10)
    server.outage(1)
    await simulation.advance(9)
    assert not server.running
    await simulation.advance(1)
    assert server.running


async def test_an_outage_that_ends_does_not_undo_a_stop(simulation):
    server = simulation.server
    server.outage(5)
    server.stop()
    await simulation.advance(100)
    assert not server.running
    server.start()
    assert server.running


@pytest.mark.parametrize("how", ["start", "restart"])
async def test_who_starts_it_ends_all_outages(simulation, how):
    server = simulation.server
    server.outage(5)
    getattr(server, how)()
    assert server.running
    await simulation.advance(1)
    server.outage(10)
    await simulation.advance(9)  # the first one would have ended on the way
    assert not server.running
    await simulation.advance(1)
    assert server.running
    assert await simulation.queue.count("queued") == 0


@pytest.mark.parametrize("waits_s", [1, 1000])
@pytest.mark.parametrize("direction", ["requests", "both"])
async def test_what_a_partition_has_held_up_does_not_reach_a_server_that_is_down(
    simulation, direction, waits_s
):
    web = simulation.process("web")
    client = redis.asyncio.Redis.from_url(
        "redis://localhost", retry=Retry(NoBackoff(), 0), socket_timeout=100
    )
    await web.run(client.set, "before", 1)
    web.partition(direction)
    asking = asyncio.ensure_future(web.run(client.set, "held up", 1))
    await simulation.advance(waits_s)  # in the longer time the client has given up
    simulation.server.outage(10)
    web.heal()
    with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
        await asking
    await simulation.advance(10)
    found = [await web.run(client.exists, key) for key in ("before", "held up")]
    assert found == [1, 0]


async def test_a_partition_holds_up_the_word_that_the_server_is_gone(simulation):
    web = simulation.process("web")
    client = redis.asyncio.Redis.from_url(
        "redis://localhost", retry=Retry(NoBackoff(), 0), socket_timeout=None
    )
    await web.run(client.set, "before", 1)
    web.partition("replies")
    asking = asyncio.ensure_future(web.run(client.blpop, "nothing"))
    await simulation.advance(0.1)
    simulation.server.restart()
    await simulation.advance(100)
    assert not asking.done()
    web.heal()
    with pytest.raises(redis.ConnectionError):
        await asking


async def main():
    await asyncio.sleep(100)


@pytest.mark.parametrize("struck", [0, 1])
async def test_of_two_processes_of_one_name_the_one_that_was_given_is_struck(simulation, struck):
    webs = [simulation.process("web", main) for _ in range(2)]
    simulation.inject("kill", at=1, process=webs[struck])
    await simulation.advance(2)
    assert [web.alive for web in webs] == [struck != 0, struck != 1]


@pytest.mark.parametrize("struck", [0, 1])
async def test_also_at_a_command(simulation, struck):
    webs = [simulation.process("web") for _ in range(2)]
    simulation.inject("kill", command="enqueue", process=webs[struck], optional=True)
    await webs[1 - struck].run(simulation.queue.enqueue, "f")
    assert [web.alive for web in webs] == [True, True]
    with pytest.raises(Exception, match="died while it ran"):
        await webs[struck].run(simulation.queue.enqueue, "f")


async def test_it_is_struck_in_a_later_start_too(simulation):
    web = simulation.process("web", main)
    simulation.inject("kill", at=1, process=web)
    web.restart()
    await simulation.advance(2)
    assert not web.alive


async def test_a_name_means_whoever_has_it(simulation):
    webs = [simulation.process("web") for _ in range(2)]
    fault = simulation.inject("delay", command="enqueue", seconds=1, process="web", times=2)
    for web in webs:
        await web.run(simulation.queue.enqueue, "f")
    assert len(fault.fired) == 2

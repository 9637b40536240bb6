"""Misfortunes that overlap, and processes that share a name."""

from __future__ import annotations

import asyncio

import pytest


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

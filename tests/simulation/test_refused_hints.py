"""A server that refuses subscriptions: who waits looks by itself, and the server is asked in peace."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


async def work(ctx, *, seconds=20):
    await asyncio.sleep(seconds)
    return "done"


@pytest.mark.parametrize("error", ["BUSY", "NOPERM No permissions to access a channel"])
async def test_it_is_asked_again_with_pauses(simulation, error):
    simulation.worker([work])
    fault = simulation.inject("error", command="SUBSCRIBE", error=error, times=1000, optional=True)
    assert await simulation.queue.apply("work", timeout=60) == "done"
    at = [strike.at for strike in fault.fired]
    assert 10 < len(at) < 40
    assert len(set(at)) == len(at), "several in one instant"
    assert max(later - sooner for sooner, later in pairwise(at)) < 1.01


async def test_a_subscription_that_was_lost_is_renewed_at_once(simulation):
    simulation.worker([work])
    waiting = asyncio.create_task(simulation.queue.apply("work", timeout=60))
    await simulation.advance(5)
    for _ in range(3):
        for wire in list(simulation.loop.network.wires):
            wire.cut()
        began = simulation.clock.elapsed_ns
        await simulation.advance(1)
        lines = [line for line in simulation.trace.lines() if " SUBSCRIBE " in line]
        assert int(lines[-1].split()[0]) * 1000 == pytest.approx(began, abs=10**6)
    assert await waiting == "done"


async def test_who_waits_is_told_again_once_it_is_over(simulation):
    simulation.worker([work])
    simulation.inject("refuse", at=1, error="BUSY", seconds=5)
    told = []
    job = await simulation.queue.enqueue("work", seconds=9, timeout=60)
    began = simulation.clock.elapsed_ns

    def note(key, status):
        told.append((str(status), (simulation.clock.elapsed_ns - began) // 10**9))

    await asyncio.sleep(2)
    await simulation.queue.listen([job.key], note, timeout=60)
    assert told[-1] == ("complete", 9)

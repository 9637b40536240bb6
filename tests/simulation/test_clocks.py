"""Clocks of processes that are wrong, and the server's, which decides."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from itertools import pairwise

import pytest
import redis.asyncio

from queuekit import Status
from queuekit.environment import environment
from queuekit.simulation import SimulationError


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


BEGIN = datetime(2030, 1, 1, tzinfo=UTC).timestamp()


def clocks():
    """All that a process can ask for the time."""
    wall = datetime.now(UTC).timestamp()
    assert time.time() == pytest.approx(wall, abs=1e-5)
    assert environment().time_ms() / 1000 == pytest.approx(wall, abs=2e-3)
    monotonic = time.monotonic()
    assert asyncio.get_running_loop().time() == pytest.approx(monotonic)
    assert environment().monotonic() == pytest.approx(monotonic)
    return wall - BEGIN, monotonic


async def test_a_process_whose_clock_is_set_wrong_sees_another_date_and_the_same_spans(simulation):
    process = simulation.process("ahead")
    _, before = await process.run(clocks)
    process.skew(3600)
    wall, monotonic = await process.run(clocks)
    assert (wall, monotonic) == (3600, before)
    process.skew(-60)
    await simulation.advance(10)
    wall, monotonic = await process.run(clocks)
    assert (wall, monotonic - before) == (-50, 10)
    assert clocks()[0] == 10, "the test's own clock is right"


@pytest.mark.parametrize("rate", [0.5, -0.5, 0.01])
async def test_a_drifting_process_has_all_its_clocks_and_timers_wrong_alike(simulation, rate):
    process = simulation.process("drifts")
    await simulation.advance(5)
    process.drift(rate)
    _, before = await process.run(clocks)
    await simulation.advance(100)
    wall, monotonic = await process.run(clocks)
    assert monotonic - before == pytest.approx(100 * (1 + rate))
    assert wall == pytest.approx(5 + 100 * (1 + rate))

    async def sleeps():
        began = time.monotonic()
        await asyncio.sleep(10)
        assert time.monotonic() - began == pytest.approx(10, abs=1e-5)
        async with asyncio.timeout(30):
            await asyncio.sleep(20)

    true = simulation.clock.elapsed_ns
    await process.run(sleeps)
    assert (simulation.clock.elapsed_ns - true) / 1e9 == pytest.approx(30 / (1 + rate), abs=1e-4)


async def test_a_drift_that_changes_takes_nothing_back(simulation):
    process = simulation.process("drifts")
    seen = []
    for rate in (1.0, 0.0, -0.9, 0.5, 0.0):
        process.drift(rate)
        await simulation.advance(1)
        seen.append((await process.run(clocks))[1])
    spans = [later - earlier for earlier, later in pairwise(seen)]
    assert spans == pytest.approx([1, 0.1, 1.5, 1])


async def test_a_clock_that_would_stand_still_is_refused(simulation):
    with pytest.raises(SimulationError, match="above -1"):
        simulation.process("broken").drift(-1)


async def test_hosts_whose_clocks_differ_by_minutes_change_no_outcome(simulation):
    async def work(ctx):
        return simulation.clock.time() - BEGIN

    web = simulation.process("web")
    web.skew(-300)
    for skew in (600, -600):
        simulation.worker([work]).skew(skew)
    now = await web.run(simulation.queue.enqueue, "work")
    later = await web.run(simulation.queue.enqueue, "work", scheduled=BEGIN + 60)
    await simulation.advance(59)
    for job in (now, later):
        await job.refresh()
    assert now.result == pytest.approx(0, abs=0.1)
    assert later.status is Status.QUEUED
    await simulation.advance(1.1)
    await later.refresh()
    assert later.result == pytest.approx(60, abs=0.1)
    assert (now.queued, now.completed) == pytest.approx((BEGIN * 1000, BEGIN * 1000), abs=100)


async def test_the_servers_clock_decides_when_a_job_is_due(simulation):
    async def work(ctx):
        return simulation.clock.time() - BEGIN

    simulation.worker([work])
    job = await simulation.queue.enqueue("work", scheduled=BEGIN + 3600)
    await simulation.advance(10)
    simulation.loop.server_clock.set_skew(3600)
    await simulation.queue.enqueue("work")  # whoever asks learns what time it is
    await simulation.advance(1)
    await job.refresh()
    assert job.result == pytest.approx(10, abs=0.1)


async def test_a_command_is_told_the_time_of_its_arrival(simulation):
    queue = simulation.queue
    web = simulation.process("web")
    await web.run(queue.enqueue, "nothing", key="first")
    web.partition("requests", 4)
    sending = asyncio.create_task(web.run(queue.enqueue, "nothing", key="second"))
    await sending
    job = await queue.job("second")
    assert job.queued / 1000 - BEGIN == pytest.approx(4, abs=0.1)


async def test_a_key_ends_by_the_servers_clock_whoever_set_it(simulation):
    async def set_key(client):
        await client.set("key", "value", ex=10)

    async with redis.asyncio.Redis(host="any") as client:
        web = simulation.process("web")
        web.skew(3600)
        own = redis.asyncio.Redis(host="any")
        await web.run(set_key, own)
        await web.run(own.aclose)
        await simulation.advance(9)
        assert await client.get("key") == b"value"
        await simulation.advance(2)
        assert await client.get("key") is None

"""A server that is in a bad state for a while: what it refuses, what goes on, and when it is over."""

from __future__ import annotations

import asyncio

import pytest

from queuekit import CronJob, Status
from queuekit.errors import ServerError
from queuekit.simulation import Simulation, SimulationError


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


async def work(ctx, *, seconds=1):
    await asyncio.sleep(seconds)
    return ctx["job"].attempts


async def test_it_refuses_for_as_long_as_it_is_told_and_lets_through_what_it_must(simulation):
    simulation.server.refuse("READONLY", seconds=10)
    queue = simulation.queue
    assert await queue.count("queued") == 0
    with pytest.raises(ServerError, match="READONLY"):
        await queue.enqueue("work")
    await simulation.advance(10)
    await queue.enqueue("work")
    assert await queue.count("queued") == 1


async def test_a_full_memory_costs_no_job_its_run(simulation):
    simulation.worker([work])
    job = await simulation.queue.enqueue("work", seconds=40, timeout=0)
    fault = simulation.inject("refuse", at=1, error="OOM", seconds=60)
    await simulation.advance(50)
    await job.refresh()
    assert (job.status, job.attempts, job.losses) == (Status.COMPLETE, 1, 0)
    with pytest.raises(ServerError, match="OOM"):
        await simulation.queue.enqueue("work")
    assert len(fault.fired) == 1
    await simulation.advance(12)
    await simulation.queue.enqueue("work")
    await simulation.drain()


@pytest.mark.parametrize("error", ["READONLY", "MISCONF", "LOADING", "BUSY", "MASTERDOWN"])
@pytest.mark.parametrize("server", ["redis 8", "redis 6.2", "valkey 9"])
async def test_a_run_outlasts_a_state_that_is_shorter_than_its_lease(simulation, error, server):
    simulation.worker([work])
    queue, began = simulation.queue, simulation.clock.time()
    inside = await queue.enqueue("work", seconds=5, timeout=0)
    across = await queue.enqueue("work", seconds=60, timeout=0)
    later = await queue.enqueue("work", scheduled=simulation.clock.time() + 6)
    simulation.inject("refuse", at=2, error=error, seconds=15, server=server)
    await simulation.drain()
    for job in (inside, across, later):
        await job.refresh()
        assert (job.status, job.attempts, job.losses) == (Status.COMPLETE, 1, 0)
    assert 17 < later.started / 1000 - began < 19


async def test_a_tick_that_was_refused_is_made_up_for(simulation):
    async def tick(ctx):
        """Nothing."""

    simulation.worker([], cron_jobs=[CronJob(tick, "* * * * *")])
    simulation.inject("refuse", at=55, error="OOM", seconds=20)
    await simulation.advance(100)
    ticks = [each for each in simulation.journal.ticks if each.verdict == "enqueued"]
    assert len(ticks) == 1


async def test_states_overlap_and_a_restart_ends_them(simulation):
    server, queue = simulation.server, simulation.queue
    server.refuse("OOM", seconds=5)
    server.refuse("BUSY", seconds=60, server="valkey 9")
    with pytest.raises(ServerError, match="BUSY"):
        await queue.count("queued")
    await simulation.advance(10)
    with pytest.raises(ServerError, match="Valkey is busy"):
        await queue.count("queued")
    server.restart()
    await queue.enqueue("work")
    server.refuse("OOM", seconds=60)
    simulation.heal()
    await queue.enqueue("work")
    assert await queue.count("queued") == 2


async def test_what_was_on_its_way_is_refused_when_it_arrives(simulation):
    simulation.inject("delay", command="enqueue", process="test", seconds=5)
    simulation.inject("refuse", at=2, error="OOM", seconds=10)
    with pytest.raises(ServerError, match="OOM"):
        await simulation.queue.enqueue("work")


async def test_a_refusal_is_in_the_trace_like_any_answer(simulation):
    simulation.server.refuse("OOM", seconds=60)
    with pytest.raises(ServerError):
        await simulation.queue.enqueue("work")
    lines = [line for line in simulation.trace.lines() if " enqueue " in line or "-OOM" in line]
    assert [line.split()[1] for line in lines[-2:]] == [">", "<"]


def test_the_same_is_refused_on_both_servers():
    def lived(backend):
        with Simulation(backend=backend) as simulation:
            simulation.inject("refuse", at=1, error="OOM", seconds=20)
            simulation.inject("refuse", after="commit", error="READONLY", seconds=9)

            async def main():
                for _ in range(2):
                    simulation.worker([work])
                for _ in range(4):
                    await simulation.queue.enqueue("work", timeout=0)
                await simulation.advance(60)

            simulation.run(main())
            return simulation.trace.digest()

    assert lived("fakeredis") == lived("server") == lived("both")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"error": "OOM"}, "missing: seconds"),
        ({"seconds": 3}, "missing: error"),
        ({"error": "OOM", "seconds": -1}, "0 or more"),
        ({"error": "OOM", "seconds": 1, "server": "redis 7"}, "one of redis 8"),
    ],
)
async def test_words_that_do_not_fit_are_refused(simulation, words, told):
    with pytest.raises(SimulationError, match=told):
        simulation.inject("refuse", at=1, **words)

"""Workers that the application starts in processes of its own are lived out, and judged, as others are."""

from __future__ import annotations

import asyncio

import pytest

from queuekit import Queue, Worker, effect
from queuekit.exploration import ExplorationFailed, explore

pytestmark = pytest.mark.slow


async def long(ctx):
    await asyncio.sleep(20)
    await effect("done")


async def works():
    await Worker(Queue.from_url("redis://localhost"), functions=[long]).start()


def test_their_jobs_are_waited_for(backend):
    async def story(simulation):
        simulation.process("worker", works)
        await simulation.queue.enqueue("long", timeout=0, retries=3)
        return lambda: simulation.effects("done").happened(times=1)

    assert explore(story, seeds=3, faults=(), kept=None, backend=backend).runs == 3


def test_they_come_back_after_every_misfortune_if_they_are_to():
    async def story(simulation):
        simulation.process("worker", works, restarts=True)
        await simulation.queue.enqueue("long", timeout=0, retries=5)
        return lambda: simulation.effects("done").at_least(1)

    kinds = ["kill", "terminate", "pause", "outage"]
    assert explore(story, seeds=25, faults=kinds, kept=None).runs == 25


def test_a_job_of_theirs_that_never_ends_breaks_p1():
    async def never(ctx):
        await asyncio.sleep(10**9)

    async def works_on_it():
        await Worker(Queue.from_url("redis://localhost"), functions=[never]).start()

    async def story(simulation):
        simulation.process("worker", works_on_it)
        await simulation.queue.enqueue("never", timeout=0)

    with pytest.raises(ExplorationFailed) as told:
        explore(story, seeds=1, kept=None)
    assert told.value.failure.promise == "P1"


def test_nobody_waits_for_one_that_was_ended():
    async def story(simulation):
        worker = simulation.process("worker", works)
        await simulation.queue.enqueue("long", timeout=0, retries=3)
        await simulation.advance(1)
        worker.terminate()
        await simulation.advance(60)
        assert not worker.running

    assert explore(story, seeds=1, kept=None).runs == 1


def test_one_that_crashes_is_a_failure():
    async def crashes():
        task = asyncio.create_task(works())
        await asyncio.sleep(25)
        await asyncio.sleep(0)
        raise RuntimeError(f"{task.get_name()} was left")

    async def story(simulation):
        simulation.process("worker", crashes)
        for _ in range(30):
            await simulation.queue.enqueue("long", timeout=0, retries=3)

    with pytest.raises(ExplorationFailed) as told:
        explore(story, seeds=1, kept=None)
    assert told.value.failure.promise == "process:RuntimeError"

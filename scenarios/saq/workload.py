"""Two workers of SAQ's and a few jobs: a plain workload, as anybody has it.

Nothing here knows of a simulation but the stories, which start the processes.
"""

from __future__ import annotations

import asyncio
from typing import Any

from saq import Queue, Worker

from queuekit import effect
from queuekit.foreign.saq import SaqQueue
from queuekit.simulation import Simulation

URL = "redis://redis.internal:6379/0?socket_timeout=86400"
"""SAQ asks for a redis-py below 8, whose blocking reads have no time-out of the socket's: so here they have
none to speak of."""


async def work(ctx: Any, *, n: int) -> int:
    await effect("worked", n=n)
    await asyncio.sleep(0.5)
    return n


async def run_worker() -> None:
    await Worker(Queue.from_url(URL), functions=[work], concurrency=2).start()


async def enqueue(count: int) -> None:
    queue = Queue.from_url(URL)
    await queue.connect()
    for n in range(count):
        await queue.enqueue("work", n=n, key=f"job-{n}", retries=2)
    await queue.disconnect()


async def workers_start_on_a_full_queue(simulation: Simulation) -> None:
    """A deploy: there is work already when the workers begin."""
    await enqueue(1 + simulation.choose("jobs", 4))
    for n in (1, 2):
        simulation.process(f"worker-{n}", run_worker, restarts=True)
    await simulation.advance(10)


async def workers_wait_for_jobs(simulation: Simulation) -> None:
    """Work comes to workers that wait for it."""
    for n in (1, 2):
        simulation.process(f"worker-{n}", run_worker, restarts=True)
    await simulation.advance(2)
    await enqueue(1 + simulation.choose("jobs", 4))
    await simulation.advance(10)


for story in (workers_start_on_a_full_queue, workers_wait_for_jobs):
    story.checkers = (SaqQueue(),)  # type: ignore[attr-defined]

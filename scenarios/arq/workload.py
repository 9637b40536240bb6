"""Two workers of arq's and a few jobs: a plain workload, as anybody has it.

Nothing here knows of a simulation but the stories, which start the processes.
"""

from __future__ import annotations

import asyncio
from signal import SIGTERM
from typing import Any

from arq import Retry, Worker, create_pool
from arq.connections import RedisSettings
from redis.exceptions import RedisError

from queuekit import effect
from queuekit.foreign.arq import ArqQueue
from queuekit.simulation import Simulation

SETTINGS = RedisSettings(host="redis.internal")

JOB_TIMEOUT_S = 30
"No job takes more than 20 s; arq's own default is 300."

RESTART_S = 2
"After which the supervisor starts a worker again that has ended by an error, as arq's do when Redis is away."


async def work(ctx: dict[str, Any], n: int) -> int:
    await effect("worked", n=n)
    await asyncio.sleep(0.5)
    return n


async def import_file(ctx: dict[str, Any], n: int) -> int:
    await effect("imported", n=n)
    await asyncio.sleep(20)
    return n


async def ask_slow_service(ctx: dict[str, Any], n: int) -> int:
    await asyncio.sleep(15)
    if ctx["job_try"] == 1:
        raise Retry(defer=3)
    return n


async def run_worker() -> None:
    """As a supervisor does it: a worker that has ended by an error is started again, unless it was to end."""
    signals: list[int] = []
    while not signals:
        worker = Worker(
            functions=[work, import_file, ask_slow_service],
            redis_settings=SETTINGS,
            max_jobs=2,
            job_timeout=JOB_TIMEOUT_S,
        )
        worker.on_stop = signals.append
        try:
            try:
                await worker.async_run()
            finally:  # as arq's own run() does
                await worker.close()
        except (OSError, RedisError):
            asyncio.get_running_loop().remove_signal_handler(SIGTERM)  # there is no worker now
            await asyncio.sleep(RESTART_S)


async def enqueue(function: str, count: int) -> None:
    pool = await create_pool(SETTINGS)
    for n in range(count):
        await pool.enqueue_job(function, n, _job_id=f"job-{n}")
    await pool.aclose()


async def workers_and_jobs(simulation: Simulation, function: str) -> None:
    for n in (1, 2):
        simulation.process(f"worker-{n}", run_worker, restarts=True)
    await simulation.advance(2)
    await enqueue(function, 1 + simulation.choose("jobs", 4))
    await simulation.advance(10)


async def short_jobs(simulation: Simulation) -> None:
    """Work that takes half a second."""
    await workers_and_jobs(simulation, "work")


async def long_jobs(simulation: Simulation) -> None:
    """Work that takes 20 s, of the 30 s that it may take."""
    await workers_and_jobs(simulation, "import_file")


async def jobs_that_ask_again(simulation: Simulation) -> None:
    """Work whose first try ends in arq's Retry."""
    await workers_and_jobs(simulation, "ask_slow_service")


for story in (short_jobs, long_jobs, jobs_that_ask_again):
    story.checkers = (ArqQueue(),)  # type: ignore[attr-defined]

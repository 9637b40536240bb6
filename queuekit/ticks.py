"""Cron: the job of each tick is enqueued when the tick comes."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from queuekit.cron import Schedule
from queuekit.environment import background, environment
from queuekit.store.redis import STORE_ERRORS, NewJob

if TYPE_CHECKING:
    from queuekit.worker import Worker

logger = logging.getLogger("queuekit")

RETRY_S = 0.5
"Before a tick is tried again that Redis refused or did not answer."


async def tick(worker: Worker[Any], schedules: list[Schedule]) -> None:
    """Enqueue the job of each tick when it comes.

    Ticks before the worker's start are not made up; those that pass while it is up, but held up, are.
    """
    store = worker.queue.store
    server = ServerClock(await _patiently(store.server_time_ms))
    due = {schedule.id: schedule.next_tick_ms(server.now_ms()) for schedule in schedules}
    while True:
        pause = (min(due.values()) - server.now_ms()) / 1000
        if pause > 0:
            await asyncio.sleep(pause)
        for schedule in schedules:
            while due[schedule.id] <= server.now_ms():
                tick_ms = due[schedule.id]
                verdict, now_ms = await _patiently(partial(_handle, worker, schedule, tick_ms))
                server = ServerClock(now_ms)
                if verdict == "early":
                    break
                due[schedule.id] = schedule.next_tick_ms(tick_ms)


async def _handle(worker: Worker[Any], schedule: Schedule, tick_ms: int) -> tuple[str, int]:
    job = schedule.job_at(tick_ms)
    record = NewJob(job.key, environment().new_id(), worker.queue.codec.encode_call(job))
    verdict, now_ms = await worker.queue.store.cron(
        schedule.id, tick_ms, unique=schedule.unique, job=record
    )
    if verdict == "overlap":
        logger.info(
            "schedule %r: the job of the last tick still runs; this one is skipped", schedule.id
        )
    world = environment()
    if world.watched and verdict in ("enqueued", "overlap"):
        await world.step(
            "ticked",
            key=job.key,
            function=job.function,
            kwargs=job.kwargs,
            queue=worker.queue.name,
            schedule=schedule.id,
            tick_ms=tick_ms,
            verdict=verdict,
        )
    return verdict, now_ms


async def _patiently(call: Any) -> Any:
    """Its answer, however long Redis is away."""
    while True:
        try:
            return await call()
        except STORE_ERRORS as error:
            logger.warning("cron waits for Redis: %s", type(error).__name__)
            with background():
                await asyncio.sleep(RETRY_S)


class ServerClock:
    """The server's time between two answers, kept by this process's monotonic clock."""

    def __init__(self, now_ms: int) -> None:
        self._now_ms = now_ms
        self._asked_at = environment().monotonic()

    def now_ms(self) -> int:
        return self._now_ms + round((environment().monotonic() - self._asked_at) * 1000)

"""Cron: the job of each tick is enqueued when the tick comes, and what was missed is made up for."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from queuekit.cron import Schedule
from queuekit.environment import background, environment
from queuekit.store.redis import STORE_ERRORS, NewJob
from queuekit.store.schedules import adopt

if TYPE_CHECKING:
    from queuekit.worker import Worker

logger = logging.getLogger("queuekit")

RETRY_S = 0.5
"Before cron tries again what Redis refused or did not answer."


async def tick(worker: Worker[Any], schedules: list[Schedule]) -> None:
    """Handle the ticks of a worker's schedules, as long as the worker is up.

    Any number of workers may do so at once: the store accepts each tick once. A worker that was held
    up (by a task that blocked the loop, by Redis) finds the ticks that passed meanwhile as one that
    has just started does, and treats them alike: see `Schedule.passed`.
    """
    server, courses = await _begin(worker, schedules)
    while True:
        next_ms = min(course.next_ms for course in courses)
        pause = (next_ms - server.now_ms()) / 1000
        if pause > 0:
            await asyncio.sleep(pause)
        try:
            for course in courses:
                if course.next_ms <= server.now_ms():
                    await _handle_passed(worker, course, server)
        except STORE_ERRORS as error:
            await _wait_for_redis(worker, error)


@dataclass
class Course:
    """How far a worker is with a schedule."""

    schedule: Schedule
    next_ms: int
    "The first tick that is not handled."


class ServerClock:
    """The server's time between two answers, kept by this process's monotonic clock.

    It counts from when the server was asked, so an answer that was long on its way makes no tick late. A
    question that was long on its way lets it run ahead: then the server says that it is early.
    """

    def __init__(self, now_ms: int, asked_at: float) -> None:
        self.set(now_ms, asked_at)

    def set(self, now_ms: int, asked_at: float) -> None:
        """What the server told when it was asked then (of the monotonic clock)."""
        self._now_ms = now_ms
        self._asked_at = asked_at

    def now_ms(self) -> int:
        return self._now_ms + round((environment().monotonic() - self._asked_at) * 1000)


async def _begin(
    worker: Worker[Any], schedules: list[Schedule]
) -> tuple[ServerClock, list[Course]]:
    timetables = [(schedule.id, schedule.timetable) for schedule in schedules]
    while True:
        asked_at = environment().monotonic()
        try:
            now_ms, since = await adopt(worker.queue.store, worker.address, timetables)
        except STORE_ERRORS as error:
            await _wait_for_redis(worker, error)
        else:
            worker.outage.over("cron")
            courses = [
                Course(schedule, schedule.next_tick_ms(done_ms))
                for schedule, done_ms in zip(schedules, since, strict=True)
            ]
            return ServerClock(now_ms, asked_at), courses


async def _handle_passed(worker: Worker[Any], course: Course, server: ServerClock) -> None:
    """Do what is to be done about the ticks that have passed, and be done with them."""
    schedule = course.schedule
    passed = schedule.passed(course.next_ms, server.now_ms())
    for tick_ms in passed.ticks:
        course.next_ms = tick_ms
        unique = schedule.unique and not passed.made_up
        asked_at = environment().monotonic()
        verdict, now_ms = await _handle(worker, schedule, tick_ms, unique=unique)
        worker.outage.over("cron")
        server.set(now_ms, asked_at)
        if verdict == "early":  # our clock had run ahead of the server's
            return
    course.next_ms = passed.next_ms


async def _handle(
    worker: Worker[Any], schedule: Schedule, tick_ms: int, *, unique: bool
) -> tuple[str, int]:
    job = schedule.job_at(tick_ms)
    record = NewJob(job.key, environment().new_id(), worker.queue.codec.encode_call(job))
    verdict, now_ms = await worker.queue.store.cron(
        schedule.id,
        tick_ms,
        unique=unique,
        job=record,
        timetable=schedule.timetable,
        worker=worker.address,
    )
    _tell(schedule, verdict)
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


def _tell(schedule: Schedule, verdict: str) -> None:
    if verdict == "overlap":
        logger.info(
            "schedule %r: the job of the last tick still runs; this one is skipped", schedule.id
        )
    elif verdict == "replaced":
        logger.info(
            "schedule %r: a worker that started later has another expression; by ours it ticks no more",
            schedule.id,
        )


async def _wait_for_redis(worker: Worker[Any], error: Exception) -> None:
    worker.outage.note("cron", error)
    with background():
        await asyncio.sleep(RETRY_S)

"""Waiting for what becomes of jobs: a hint wakes whoever waits, and the truth is read behind it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Iterable
from typing import TYPE_CHECKING, Any

from queuekit.environment import background
from queuekit.errors import UnreadableRecordError
from queuekit.job import UNSUCCESSFUL_TERMINAL_STATUSES, Job, JobError, Status
from queuekit.store.codec import COUNTERS
from queuekit.store.hints import FALLBACK_S
from queuekit.types import ListenCallback

if TYPE_CHECKING:
    from queuekit.queue import Queue


async def gather(queue: Queue, keys: list[str], return_exceptions: bool) -> list[Any]:
    """The results of these jobs, in order; None for one whose record is gone.

    Raises:
        JobError, UnreadableRecordError: one ended unsuccessfully, or its result cannot be read, unless
            `return_exceptions`.
    """
    found: dict[str, Any] = {}
    async with contextlib.aclosing(finishing(queue, keys)) as jobs:
        async for job in jobs:
            error = _failure(job)
            if error is not None and not return_exceptions:
                raise error
            found[job.key] = job.result if error is None else error
    return [found.get(key) for key in keys]


def take_over(job: Job, seen: Job) -> None:
    """Let a job object say what was read of it.

    Raises:
        UnreadableRecordError: it is complete, but its record cannot be read; what the object says of its
            task and arguments is kept.
    """
    if not seen.unreadable:
        job.replace(seen)
        return
    for name in ("status", "error", "unreadable", "result", "worker_id", *COUNTERS):
        setattr(job, name, getattr(seen, name))
    if (error := _failure(seen)) is not None and seen.status is Status.COMPLETE:
        raise error


def _failure(job: Job) -> Exception | None:
    """Why a finished job has no result to give."""
    if job.status in UNSUCCESSFUL_TERMINAL_STATUSES:
        return JobError(job)
    if job.unreadable:
        return UnreadableRecordError(
            f"job {job.key!r} is {job.status}, but {job.unreadable}\n"
            "  Its task has run; what it returned is not given out, since it may be anything.\n"
            "  Give this process the dump, load and signing_keys of the job's worker, or ask who else writes "
            "to this Redis."
        )
    return None


async def finishing(queue: Queue, keys: Iterable[str]) -> AsyncGenerator[Job, None]:
    """Each of these jobs once it is finished; those whose records are gone are left out."""
    waiting = dict.fromkeys(keys)
    channels = [queue.store.channel(key) for key in waiting]
    async with queue.store.connections.current().hints.watch(channels) as news:
        while waiting:
            news.clear()
            for key, job in zip(list(waiting), await queue.jobs(list(waiting)), strict=True):
                if job is None or job.finished:
                    del waiting[key]
                if job is not None and job.finished:
                    yield job
            if waiting:
                await _hint(news)


async def listen(queue: Queue, keys: Iterable[str], callback: ListenCallback) -> None:
    """See `Queue.listen`."""
    shown: dict[str, Status | None] = dict.fromkeys(keys)
    channels = [queue.store.channel(key) for key in shown]
    async with queue.store.connections.current().hints.watch(channels) as news:
        while True:
            news.clear()
            jobs = await queue.jobs(shown)
            for key, job in zip(shown, jobs, strict=True):
                if job is None or job.status is shown[key]:
                    continue
                shown[key] = job.status
                stop = callback(key, job.status)
                if inspect.isawaitable(stop):
                    stop = await stop
                if stop:
                    return
            if all(job is None or job.finished for job in jobs):
                return
            await _hint(news)


async def _hint(news: asyncio.Event) -> None:
    """Until there is news, or it is time to look without."""
    with background(), contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FALLBACK_S):
            await news.wait()

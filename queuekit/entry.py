"""How jobs come into a queue: checked and written down first, so that a bad one costs nobody anything."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

from queuekit import batch
from queuekit.environment import environment
from queuekit.errors import (
    DuplicateJobError,
    InvalidOptionError,
    QueueFullError,
    UnreadableRecordError,
)
from queuekit.job import Job
from queuekit.options import check, due_of
from queuekit.store.codec import NOT_KNOWN
from queuekit.store.redis import NewJob
from queuekit.text import gist

if TYPE_CHECKING:
    from queuekit.queue import Queue


async def enqueue_all(queue: Queue, jobs: Sequence[Job]) -> list[Job | None]:
    """Enqueue these; for each None, or the unfinished job that has its key.

    All are checked before the first one is written. A job that is refused belongs to no queue.
    """
    fresh = {id(job) for job in jobs if job.queue is None}
    try:
        records = [await _record(queue, job) for job in jobs]
    except BaseException:
        for job in jobs:
            if id(job) in fresh:
                job.queue = None
        raise
    batch.note(queue, jobs, records)
    answers = await queue.store.enqueue(records, queue.max_waiting)
    holders: list[Job | None] = []
    full = 0
    for job, answer in zip(jobs, answers, strict=True):
        if answer.verdict == "taken":
            assert answer.holder is not None
            holders.append(queue.seen(job.key, answer.holder))
            continue
        holders.append(None)
        if answer.verdict == "full":
            full += 1
            if id(job) in fresh:
                job.queue = None
            continue
        job.begin(answer.queued_ms)
        job.scheduled = answer.due_ms / 1000 if answer.due_ms else 0
        await queue.show("enqueued", job, due_ms=answer.due_ms, kwargs=job.kwargs)
    if full:
        raise QueueFullError(
            f"queue {queue.name!r} is full: {full} of {len(jobs)} jobs were not stored.\n"
            f"  At most {queue.max_waiting:,} jobs may wait in it (max_waiting).\n"
            "  Try again later, start more workers, or raise the limit."
        )
    return holders


def duplicate(job: Job, holder: Job) -> DuplicateJobError:
    """The error for a key that an unfinished job has."""
    return DuplicateJobError(
        f"job {job.key!r} is {holder.status} already ({holder.function}).\n"
        "  Of jobs with one key, one at most is unfinished; nothing was stored.\n"
        "  Wait for it (error.job.refresh(until_complete=...)), abort it, or choose another key.",
        holder,
    )


def readable(job: Job) -> Job:
    """The job, if it says what it is to run.

    A new life writes the record anew: with what is shown of an unreadable one, it would destroy what a
    reader with the right `load`, keys or release could still read.

    Raises:
        UnreadableRecordError: it was read from a record that cannot be read.
    """
    if job.unreadable and job.function == NOT_KNOWN:
        raise UnreadableRecordError(
            f"job {job.id!r} cannot be queued anew: {gist(job.unreadable)}\n"
            "  A job to be run has its function and arguments; of this one they are not known here.\n"
            "  If quarantined() lists it, queue.restore(key) queues it as it was enqueued, and\n"
            "  queue.discard(key) removes it. Otherwise enqueue a new Job."
        )
    return job


async def _record(queue: Queue, job: Job) -> NewJob:
    readable(job)
    if job.queue is not None and job.queue.name != queue.name:
        raise InvalidOptionError(
            f"job {job.key!r} belongs to queue {job.queue.name!r}, not to {queue.name!r}.\n"
            "  A job is in one queue, where it can be asked after.\n"
            "  Make a new Job for this queue."
        )
    job.queue = queue
    callbacks = list(queue.before_enqueues.values())
    for callback in callbacks:
        told = callback(job)
        if inspect.isawaitable(told):
            await told
    if callbacks:  # they may have changed it
        check(job)
    due, delay = due_of(job.scheduled)
    call = queue.codec.encode_call(job)
    # The same Job again, after an enqueue that nobody acknowledged, is that enqueue again.
    job.enqueue_id = job.enqueue_id or environment().new_id()
    return NewJob(job.key, job.enqueue_id, call, due, delay, job.priority, job.group_key or "")

"""Jobs whose records cannot be read: set aside, where they can be seen, put back, or thrown away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from queuekit.environment import environment
from queuekit.errors import JobNotFoundError
from queuekit.store.codec import payload_of

if TYPE_CHECKING:
    from queuekit.queue import Queue


@dataclass(frozen=True)
class Quarantined:
    """A job that was set aside."""

    key: str
    reason: str
    raw: bytes | None
    "What was to be run, as its producer wrote it; None when it is gone."
    since: int
    "When it was set aside: milliseconds since the epoch."


async def listed(queue: Queue, offset: int, limit: int) -> list[Quarantined]:
    """See `Queue.quarantined`."""
    found = await queue.store.quarantined(offset, limit)
    stored = await queue.store.read([key for key, _ in found])
    return [
        Quarantined(key, queue.seen(key, each).error or "", payload_of(each.call), moment)
        for (key, moment), each in zip(found, stored, strict=True)
        if each is not None
    ]


async def restore(queue: Queue, job_key: str) -> None:
    """See `Queue.restore`."""
    verdict = await queue.store.restore(job_key, environment().new_id())
    if verdict == "gone":
        raise JobNotFoundError(
            f"job {queue.job_id(job_key)!r} is in quarantine, but what it was to run is gone.\n"
            "  Its call was evicted or deleted, so it cannot be restored.\n"
            "  Enqueue it anew, and discard() what is left of it."
        )
    if verdict == "missing":
        raise _not_there(queue, job_key)


async def discard(queue: Queue, job_key: str) -> None:
    """See `Queue.discard`."""
    if not await queue.store.discard(job_key):
        raise _not_there(queue, job_key)


def _not_there(queue: Queue, job_key: str) -> JobNotFoundError:
    return JobNotFoundError(
        f"job {queue.job_id(job_key)!r} is not in quarantine.\n"
        "  Jobs whose records cannot be read are kept there for 30 days.\n"
        "  quarantined() lists those that are there now."
    )

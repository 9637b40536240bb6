"""A block whose jobs are aborted if it raises: which jobs these are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING

from queuekit.store.redis import STORE_ERRORS, NewJob

if TYPE_CHECKING:
    from queuekit.job import Job
    from queuekit.queue import Queue


class Batch:
    """What a block of `Queue.batch()` has enqueued."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._sent: list[tuple[Job, str]] = []
        self._ended = False

    def note(self, queue: Queue, jobs: Sequence[Job], records: Sequence[NewJob]) -> None:
        """These are about to be sent, each under the id of its enqueue."""
        if queue is self._queue and not self._ended:
            self._sent += [(job, record.id) for job, record in zip(jobs, records, strict=True)]

    def end(self) -> None:
        """A task that was begun in the block may go on for ever: what it enqueues is not noted any more."""
        self._ended = True
        self._sent.clear()

    async def abort(self) -> None:
        """Abort those that are there, under the id that they were sent with.

        Under another one the key is somebody else's: it was taken, or enqueued anew since. Those that
        have finished meanwhile refuse, and Redis may be away; the error of the block is what counts.
        """
        with contextlib.suppress(*STORE_ERRORS):
            stored = await self._queue.store.read([job.key for job, _ in self._sent])
            ours = [
                self._queue.abort(job, "cancelled")
                for (job, sent), found in zip(self._sent, stored, strict=True)
                if found is not None and (found.call or b"").startswith(f"{sent} ".encode())
            ]
            await asyncio.gather(*ours, return_exceptions=True)


_BATCHES: ContextVar[tuple[Batch, ...]] = ContextVar("queuekit_batches", default=())
"The blocks that this code runs in."


@contextlib.contextmanager
def block(queue: Queue) -> Iterator[Batch]:
    """A block of `Queue.batch()`: for the code in it, and the tasks that it begins."""
    begun = Batch(queue)
    _BATCHES.set((*_BATCHES.get(), begun))
    try:
        yield begun
    finally:
        _BATCHES.set(tuple(each for each in _BATCHES.get() if each is not begun))
        begun.end()


def note(queue: Queue, jobs: Sequence[Job], records: Sequence[NewJob]) -> None:
    """These are about to be sent: each batch that this code runs in learns of them."""
    for each in _BATCHES.get():
        each.note(queue, jobs, records)

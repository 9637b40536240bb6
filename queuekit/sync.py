"""The blocking twins of a queue and a job, for code that cannot await.

In a sync task they run on its worker's loop. Elsewhere (a view, a script) on a loop of their own, in
a thread that the process keeps for it; in a plain test of a simulation, on the simulation's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar

from queuekit import batch
from queuekit.environment import environment
from queuekit.job import Job, Status
from queuekit.store.redis import BATCH

if TYPE_CHECKING:
    from queuekit.history import Attempt
    from queuekit.quarantine import Quarantined
    from queuekit.queue import Queue
    from queuekit.types import CountKind, ListenCallback, OnDuplicate, QueueInfo

T = TypeVar("T")

TASK_LOOP: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar(
    "queuekit_task_loop", default=None
)
"The loop of the worker whose sync task runs in this thread."


def block_on(coroutine: Coroutine[Any, Any, T]) -> T:
    """The coroutine's result, for a thread that may wait.

    Raises:
        RuntimeError: the caller runs in an event loop, which would stand still.
    """
    if asyncio._get_running_loop() is not None:  # get_running_loop() without its exception
        coroutine.close()
        raise RuntimeError(
            "a blocking method was called where an event loop runs; it would stand still.\n"
            "  Await the method of the same name: await queue.enqueue(...), not queue.sync.enqueue(...)."
        )
    return environment().wait_from_thread(TASK_LOOP.get(), coroutine)


class SyncQueue:
    """A queue's methods, blocking. See `Queue` for what they do."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def connect(self) -> None:
        """See `Queue.connect`."""
        block_on(self._queue.connect())

    def disconnect(self) -> None:
        """Close the connections of the loop on which these methods run."""
        block_on(self._queue.disconnect())

    def enqueue(
        self,
        job_or_func: str | Callable[..., Any] | Job,
        /,
        *,
        on_duplicate: OnDuplicate = "none",
        **kwargs: Any,
    ) -> Job | None:
        """See `Queue.enqueue`."""
        return block_on(self._queue.enqueue(job_or_func, on_duplicate=on_duplicate, **kwargs))

    def apply(
        self,
        job_or_func: str | Callable[..., Any] | Job,
        /,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """See `Queue.apply`."""
        return block_on(self._queue.apply(job_or_func, timeout, **kwargs))

    def map(
        self,
        job_or_func: str | Callable[..., Any] | Job,
        /,
        iter_kwargs: Iterable[dict[str, Any]],
        timeout: float | None = None,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """See `Queue.map`."""
        return block_on(
            self._queue.map(job_or_func, iter_kwargs, timeout, return_exceptions, **kwargs)
        )

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """See `Queue.batch`."""
        with batch.block(self._queue) as begun:
            try:
                yield
            except BaseException:
                block_on(begun.abort())
                raise

    def job(self, job_key: str) -> Job | None:
        """See `Queue.job`."""
        return block_on(self._queue.job(job_key))

    def jobs(self, job_keys: Iterable[str]) -> list[Job | None]:
        """See `Queue.jobs`."""
        return block_on(self._queue.jobs(job_keys))

    def iter_jobs(
        self, statuses: Iterable[Status] | None = None, batch_size: int = BATCH
    ) -> Iterator[Job]:
        """See `Queue.iter_jobs`."""
        jobs = self._queue.iter_jobs(statuses, batch_size)
        while (job := block_on(_next(jobs))) is not None:
            yield job

    def count(self, kind: CountKind) -> int:
        """See `Queue.count`."""
        return block_on(self._queue.count(kind))

    def info(self, jobs: bool = False, offset: int = 0, limit: int = 10) -> QueueInfo:
        """See `Queue.info`."""
        return block_on(self._queue.info(jobs, offset, limit))

    def listen(
        self, job_keys: Iterable[str], callback: ListenCallback, timeout: float | None = 10
    ) -> None:
        """See `Queue.listen`. The callback is called where the loop runs, and must not block."""
        block_on(self._queue.listen(job_keys, callback, timeout))

    def refresh(self, job: Job, until_complete: float | None = None) -> None:
        """See `Queue.refresh`."""
        block_on(self._queue.refresh(job, until_complete))

    def abort(self, job: Job, error: str, ttl: float | None = None) -> None:
        """See `Queue.abort`."""
        block_on(self._queue.abort(job, error, ttl))

    def update(self, job: Job, **fields: Any) -> None:
        """See `Queue.update`."""
        block_on(self._queue.update(job, **fields))

    def finish(
        self, job: Job, status: Status, *, result: Any = None, error: str | None = None
    ) -> None:
        """See `Queue.finish`."""
        block_on(self._queue.finish(job, status, result=result, error=error))

    def retry(self, job: Job, error: str | None) -> None:
        """See `Queue.retry`."""
        block_on(self._queue.retry(job, error))

    def history(self, job: Job) -> list[Attempt]:
        """See `Queue.history`."""
        return block_on(self._queue.history(job))

    def quarantined(self, offset: int = 0, limit: int = BATCH) -> list[Quarantined]:
        """See `Queue.quarantined`."""
        return block_on(self._queue.quarantined(offset, limit))

    def restore(self, job_key: str) -> None:
        """See `Queue.restore`."""
        block_on(self._queue.restore(job_key))

    def discard(self, job_key: str) -> None:
        """See `Queue.discard`."""
        block_on(self._queue.discard(job_key))


class SyncJob:
    """A job's methods, blocking: `ctx["job"].sync.update(progress=0.5)`."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def update(self, **fields: Any) -> None:
        """See `Job.update`: progress, meta, and a heartbeat."""
        block_on(self._job.update(**fields))

    def refresh(self, until_complete: float | None = None) -> None:
        """See `Job.refresh`."""
        block_on(self._job.refresh(until_complete))

    def enqueue(self, queue: Queue | None = None) -> None:
        """See `Job.enqueue`."""
        block_on(self._job.enqueue(queue))

    def abort(self, error: str, ttl: float | None = None) -> None:
        """See `Job.abort`."""
        block_on(self._job.abort(error, ttl))

    def finish(self, status: Status, *, result: Any = None, error: str | None = None) -> None:
        """See `Job.finish`."""
        block_on(self._job.finish(status, result=result, error=error))

    def retry(self, error: str | None) -> None:
        """See `Job.retry`."""
        block_on(self._job.retry(error))

    def history(self) -> list[Attempt]:
        """See `Job.history`."""
        return block_on(self._job.history())


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


async def _next(jobs: AsyncIterator[Job]) -> Job | None:
    return await anext(jobs, None)

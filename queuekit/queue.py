"""The queue as applications see it: enqueue, wait for results, look, stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from queuekit import batch, entry, held, lifecycle, quarantine, results
from queuekit.environment import environment
from queuekit.errors import InvalidOptionError, InvalidOptionTypeError
from queuekit.history import Attempt, attempts_of
from queuekit.job import Job, JobError, Status
from queuekit.lifecycle import RetryPolicy
from queuekit.options import (
    MAX_OFFSET,
    anew,
    check_callable,
    check_job,
    check_max_waiting,
    check_number,
    check_queue_name,
    check_statuses,
    check_text,
    check_whole,
    keys_of,
    make_job,
    make_jobs,
)
from queuekit.quarantine import Quarantined
from queuekit.store.codec import Codec, State, decode_infos, unreadable, worker_name
from queuekit.store.redis import BATCH, CONTAINERS, MAX_PAGE, Store, Stored
from queuekit.store.seal import Seal
from queuekit.text import clip_error

if TYPE_CHECKING:
    from queuekit.sync import SyncQueue
    from queuekit.types import (
        BeforeEnqueueType,
        CountKind,
        DumpType,
        ListenCallback,
        LoadType,
        OnDuplicate,
        QueueInfo,
    )

__all__ = ["JobError", "Queue"]


class Queue:
    """A queue of jobs in Redis.

    Building one connects to nothing, so it may be done at import time; clients are made for the
    loop (and the simulated world) in which it is used.

    Args:
        url: `redis://`, `rediss://` (TLS), `unix://`, `sentinel://host:26379,host2:26379/mymaster`,
            `rediscluster://host:6379`, or `fakeredis://` for a server inside this process.
        name: several queues share a Redis under different names.
        dump, load: how calls, results and meta are written: any pair that takes a mapping to text or
            bytes and back. JSON by default; a pickle would let whoever can write to Redis run code.
        max_waiting: how many jobs may wait in the queue, scheduled ones too (default: no limit); one more
            is refused with a `QueueFullError`.
        signing_keys: a ring of secrets for a Redis that others can write to: records are signed with
            the first one, and accepted if signed with any. All users of the queue need the same.
        durability: `"primary"`, or `"replica"`: an enqueue is acknowledged only when a replica has it
            too, so that a failover cannot lose it. See docs/production.md.
        options: of each connection, as redis-py knows them (`password=`, `ssl_ca_certs=`, ...).

    Raises:
        InvalidUrlError, MissingDependencyError, InvalidOptionError: see their messages.
    """

    def __init__(
        self,
        url: str,
        name: str = "default",
        dump: DumpType | None = None,
        load: LoadType | None = None,
        *,
        max_waiting: int | None = None,
        signing_keys: Sequence[str | bytes] = (),
        durability: str = "primary",
        **options: Any,
    ) -> None:
        if (dump is None) != (load is None):
            given, missing = ("dump", "load") if load is None else ("load", "dump")
            raise InvalidOptionError(
                f"{given} was given without {missing}.\n"
                "  dump and load belong together: what one writes the other reads.\n"
                "  Give both, or neither."
            )
        for option, function in (("dump", dump), ("load", load)):
            if function is not None:
                check_callable(option, function, "Pass a function, such as json.dumps.")
        self.name = check_queue_name(name)
        self.max_waiting = check_max_waiting(max_waiting)
        self.codec = Codec(dump, load, Seal(name, signing_keys))
        self.store = Store(url, name, options, durability)
        self.before_enqueues: dict[int, BeforeEnqueueType] = {}

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Queue:
        """A queue at this address: `Queue.from_url("redis://localhost", name="mails")`."""
        return cls(url, **options)

    def __repr__(self) -> str:
        return f"Queue<name={self.name!r}, {self.store.connections!r}>"

    @property
    def sync(self) -> SyncQueue:
        """The same methods, blocking: for sync tasks, views and scripts."""
        from queuekit.sync import SyncQueue  # noqa: PLC0415 (asked for by its users only)

        return SyncQueue(self)

    async def connect(self) -> None:
        """Check that the server can be reached. Not needed before use."""
        await self.store.server_time_ms()

    async def disconnect(self) -> None:
        """Close this loop's connections. The queue can be used again."""
        await self.store.connections.close()

    def job_id(self, job_key: str) -> str:
        """A job's name in full: queue and key."""
        return f"{self.name}:{job_key}"

    def register_before_enqueue(self, callback: BeforeEnqueueType) -> None:
        """Call `callback(job)`, sync or async, before each enqueue; it may change the job, or raise."""
        check_callable("callback", callback, "Pass a function of a job.")
        self.before_enqueues[id(callback)] = callback

    def unregister_before_enqueue(self, callback: BeforeEnqueueType) -> None:
        """Take it back."""
        self.before_enqueues.pop(id(callback), None)

    async def enqueue(
        self,
        job_or_func: str | Callable[..., Any] | Job,
        /,
        *,
        on_duplicate: OnDuplicate = "none",
        **kwargs: Any,
    ) -> Job | None:
        """Put a job into the queue.

        Args:
            job_or_func: the name of a task, the task, or a `Job`.
            on_duplicate: what to do when an unfinished job has the key: give None as SAQ does, "return"
                that job, or "raise" a `DuplicateJobError` that has it.
            kwargs: options of the job (see `Job`) and arguments of the task. Arguments whose names
                are those of options go into `kwargs={...}`:
                `enqueue("ping", kwargs={"timeout": 3}, timeout=60)`.

        Returns:
            The job, or None when an unfinished job has its key.

        Raises:
            InvalidOptionError, InvalidOptionTypeError, NotSerializableError: before any write.
            UnreadableRecordError: the `Job` was read from a record that cannot be read: see `restore`.
            QueueFullError: as many jobs wait as the queue's `max_waiting` allows.
            DuplicateJobError: see `on_duplicate`.
            ServerUnreachableError: the server is away. If `error.may_have_happened`, its answer got
                lost and the job may be there: make a `Job`, and enqueue that same object again;
                it makes no second job. It comes within 15 s, mostly at once.
            ServerRefusedError: it refuses, for the reason in `error.code` (OOM, READONLY, NOPERM, ...).
            NotReplicatedError: under `durability="replica"`: stored, but on the primary only.
        """
        if on_duplicate not in ("none", "return", "raise"):
            raise InvalidOptionError(
                f"on_duplicate={on_duplicate!r} is not known.\n"
                "  It is 'none', 'return' or 'raise'.\n"
                "  'none' gives None for a job whose key is taken, as SAQ does."
            )
        job = make_job(job_or_func, kwargs)
        [holder] = await entry.enqueue_all(self, [job])
        if holder is None:
            return job
        if on_duplicate == "raise":
            raise entry.duplicate(job, holder)
        return holder if on_duplicate == "return" else None

    async def apply(
        self,
        job_or_func: str | Callable[..., Any] | Job,
        /,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Enqueue a job and wait for its result.

        `timeout` limits the wait, in seconds (None: no limit), and the job's own run too if it is
        given, as in SAQ.

        Raises:
            JobError: it ended unsuccessfully; `error.job` is the job.
            UnreadableRecordError: it is complete, but its result cannot be read, or trusted.
            TimeoutError: it was not finished in time; it goes on.
        """
        [result] = await self.map(job_or_func, [kwargs], timeout=timeout)
        return result

    async def map(
        self,
        job_or_func: str | Callable[..., Any] | Job,
        /,
        iter_kwargs: Iterable[dict[str, Any]],
        timeout: float | None = None,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """Enqueue one job for each item, and wait for all results, in order.

        Args:
            job_or_func: a task or its name.
            iter_kwargs: for each job what `enqueue` would take.
            timeout: for the whole, in seconds; also the jobs' own when given.
            return_exceptions: put a `JobError` (or `UnreadableRecordError`) into the list instead of
                raising the first one; the other jobs go on either way.
            kwargs: defaults for all jobs.
        """
        if timeout is not None:
            kwargs = {"timeout": check_number("timeout", timeout, 0), **kwargs}
        jobs = make_jobs(job_or_func, iter_kwargs, kwargs)
        async with asyncio.timeout(timeout or None):
            await entry.enqueue_all(self, jobs)
            return await results.gather(self, [job.key for job in jobs], return_exceptions)

    @contextlib.asynccontextmanager
    async def batch(self) -> AsyncIterator[None]:
        """Abort the jobs that its block enqueued (also in tasks begun in it) if the block raises.

        Not a job that had the key already, nor what others enqueue on this queue meanwhile.
        """
        with batch.block(self) as begun:
            try:
                yield
            except BaseException:
                await begun.abort()
                raise

    async def job(self, job_key: str) -> Job | None:
        """The job of that key, or None."""
        [job] = await self.jobs([job_key])
        return job

    async def jobs(self, job_keys: Iterable[str]) -> list[Job | None]:
        """The jobs of these keys, each or None, in order."""
        keys = keys_of(job_keys)
        stored = await self.store.read(keys)
        return [
            None if each is None else self.seen(key, each)
            for key, each in zip(keys, stored, strict=True)
        ]

    def seen(self, key: str, stored: Stored) -> Job:
        """A job as it is shown: one whose record cannot be read is shown with the reason."""
        try:
            return self.decode(key, stored.call, stored.state)
        except Exception as error:  # whatever a `load` raises: others are looked at too
            job = unreadable(key, stored.state, error)
            job.queue = self
            return job

    def decode(self, key: str, call: bytes | None, state: State | None) -> Job:
        """A job of this queue from its record; see `Codec.decode_job` for what it raises."""
        job = self.codec.decode_job(key, call, state)
        job.queue = self
        return job

    async def iter_jobs(
        self, statuses: Iterable[Status] | None = None, batch_size: int = BATCH
    ) -> AsyncIterator[Job]:
        """All jobs of these statuses (None: of any), in no particular order, each once.

        A job that moves while this runs is given in one of its statuses. One that is claimed and put
        back meanwhile, or begins a new life, can be missed; one that stays cannot.
        """
        wanted = check_statuses(statuses)
        check_whole("batch_size", batch_size, 1, MAX_PAGE)
        seen: set[str] = set()
        # In the order in which jobs travel: one that moves on meanwhile is met further down. Those that
        # run come first: they may be put back.
        for container in (CONTAINERS[-1], *CONTAINERS, "finished"):
            async with contextlib.aclosing(self.store.pages(container, batch_size)) as pages:
                async for keys in pages:
                    fresh = [key for key in keys if key not in seen]
                    seen.update(fresh)
                    for job in await self.jobs(fresh):
                        if job is not None and job.status in wanted:
                            yield job

    async def count(self, kind: CountKind) -> int:
        """How many jobs are `queued` (could start), `active`, `scheduled` or `incomplete` (all three)."""
        counts = await self.store.counts()
        counts["incomplete"] = sum(counts.values())
        if not isinstance(kind, str) or kind not in counts:
            raise InvalidOptionError(
                f"cannot count {kind!r}.\n"
                f"  A kind is one of {', '.join(counts)}.\n"
                "  iter_jobs(statuses) finds the jobs of any status."
            )
        return counts[kind]

    async def info(self, jobs: bool = False, offset: int = 0, limit: int = 10) -> QueueInfo:
        """Counts, workers, and with `jobs` a page of unfinished jobs, active ones first."""
        check_whole("offset", offset, 0, MAX_OFFSET)
        check_whole("limit", limit, 0, MAX_PAGE)
        counts = await self.store.counts()
        told = await self.store.workers(await self.store.server_time_ms())
        page: list[dict[str, Any]] = []
        if jobs:
            keys: list[str] = []
            for container in CONTAINERS[::-1]:
                keys += await self.store.page(container, 0, offset + limit)
            page = [job.to_dict() for job in await self.jobs(keys[offset : offset + limit]) if job]
        return {
            "workers": {str(worker_name(at)): info for at, info in decode_infos(told).items()},
            "name": self.name,
            "queued": counts["queued"],
            "active": counts["active"],
            "scheduled": counts["scheduled"],
            "jobs": page,
        }

    async def listen(
        self, job_keys: Iterable[str], callback: ListenCallback, timeout: float | None = 10
    ) -> None:
        """Call `callback(key, status)` with each status seen of these jobs until it returns truth.

        A job that passes through two statuses at once may be seen in the later one only. Ends by
        itself when all jobs are finished or gone.

        Raises:
            TimeoutError: after `timeout` seconds (None or 0: no limit).
        """
        check_callable("callback", callback, "Pass a function of a key and a status.")
        if timeout is not None:
            check_number("timeout", timeout, 0)
        job_keys = keys_of(job_keys)
        async with asyncio.timeout(timeout or None):
            await results.listen(self, job_keys, callback)

    async def refresh(self, job: Job, until_complete: float | None = None) -> None:
        """Read a job again: see `Job.refresh`."""
        if until_complete is None:
            results.take_over(job, await self._existing(job))
            return
        check_number("until_complete", until_complete, 0)
        async with (
            asyncio.timeout(until_complete or None),
            contextlib.aclosing(results.finishing(self, [job.key])) as finishing,
        ):
            async for finished in finishing:
                results.take_over(job, finished)
                return
        raise lifecycle.missing(job)

    async def _existing(self, job: Job) -> Job:
        stored = await self.job(job.key)
        if stored is None:
            raise lifecycle.missing(job)
        return stored

    async def abort(self, job: Job, error: str, ttl: float | None = None) -> None:
        """Stop a job.

        One that waits is aborted at once and never starts. One that runs is told to stop: its
        status is `aborting` until its clean-up is done, then `aborted`, whatever it returns.

        Args:
            job: the job, or one of the same key.
            error: why; becomes `job.error`.
            ttl: accepted for compatibility with SAQ; the record is kept for the job's own ttl.

        Raises:
            JobStateError: it is finished. A finished job never changes.
            JobNotFoundError: there is no such job.
        """
        del ttl
        check_job("abort", job)
        check_text("error", error, "Say why the job is to be stopped.")
        verdict = await self.store.abort(
            job.key, clip_error(error), job.ttl * 1000, environment().new_id()
        )
        if verdict == "missing":
            raise lifecycle.missing(job)
        if verdict.startswith("final "):
            job.status = Status(verdict.removeprefix("final "))
            raise lifecycle.refusal(job.key, job.status, "aborted")
        job.status = Status(verdict)
        job.error = error
        await self.show("aborted" if verdict == "aborted" else "abort requested", job, reason=error)

    async def update(self, job: Job, **fields: Any) -> None:
        """Store `progress` and `meta` of a job; called from its own run it is a heartbeat.

        Raises:
            LeaseLostError: this run no longer holds the job.
            JobStateError: the job is finished.
            JobNotFoundError: there is no such job.
        """
        await held.update(self, job, fields)

    async def finish(
        self, job: Job, status: Status, *, result: Any = None, error: str | None = None
    ) -> None:
        """End a job from inside its own run. The task should return right after it.

        Raises:
            LeaseLostError: this run does not hold the job (any more).
        """
        check_job("finish", job)
        if not isinstance(status, str):  # a Status is one; so is SAQ's
            raise InvalidOptionTypeError(
                f"finish(job, {status!r}) ({type(status).__name__}): that is no status.\n"
                "  A job ends as Status.COMPLETE, FAILED or ABORTED.\n"
                "  from queuekit import Status"
            )
        await held.finish(self, job, status, result, error)

    async def retry(self, job: Job, error: str | None) -> None:
        """Run a job again.

        From inside its own run: put it back, charged as a failure, after its retry delay; the task
        should return right after it. A finished job begins a new life under its key, its budget
        untouched. One that waits, or runs elsewhere, is refused: it will run anyway. So is one whose
        record cannot be read (`UnreadableRecordError`): see `restore`.
        """
        if job.fence and not job.finished:
            await held.retry(self, job, error)
            return
        stored = await self._existing(job)
        if not stored.finished:
            raise lifecycle.refusal(job.key, stored.status, "retried")
        await entry.enqueue_all(self, [again := anew(entry.readable(stored))])
        job.replace(again)

    def next_delay_ms(self, job: Job, unsuccessful: int) -> int:
        """The pause before a job's next run, drawn from its policy by the chance of the moment."""
        upper, jittered = lifecycle.retry_delay_ms(RetryPolicy.of(job), unsuccessful)
        return round(environment().jitter(upper / 1000) * 1000) if jittered else upper

    async def history(self, job: Job) -> list[Attempt]:
        """A job's last attempts: see `Job.history`."""
        [stored] = await self.store.read([job.key])
        if stored is None:
            raise lifecycle.missing(job)
        found = self.seen(job.key, stored)
        return attempts_of(found, stored.log.decode("utf-8", "replace"), found.worker_id or "")

    async def quarantined(self, offset: int = 0, limit: int = BATCH) -> list[Quarantined]:
        """The jobs that were set aside because their records could not be read, newest first.

        They count as failed, and hold up nothing. Each is kept for 30 days, or until `restore()` or
        `discard()`.
        """
        check_whole("offset", offset, 0, MAX_OFFSET)
        check_whole("limit", limit, 1, MAX_PAGE)
        return await quarantine.listed(self, offset, limit)

    async def restore(self, job_key: str) -> None:
        """Queue a job that was set aside again, as it was enqueued: when its cause is mended.

        Raises:
            JobNotFoundError: it is not in quarantine, or nothing is left of what it was to run.
        """
        [job_key] = keys_of([job_key])
        await quarantine.restore(self, job_key)

    async def discard(self, job_key: str) -> None:
        """Remove a job that was set aside, for good.

        Raises:
            JobNotFoundError: it is not in quarantine.
        """
        [job_key] = keys_of([job_key])
        await quarantine.discard(self, job_key)

    async def show(self, moment: str, job: Job, **details: object) -> None:
        """Name a moment in a job's life to whoever looks on: a simulation's observers."""
        world = environment()
        if world.watched:
            await world.step(moment, key=job.key, function=job.function, queue=self.name, **details)

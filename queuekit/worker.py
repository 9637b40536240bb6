"""The worker: takes jobs from a queue and runs them, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Collection
from contextvars import ContextVar
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any, Generic, cast

from queuekit import ticks, upkeep
from queuekit.cron import distinct, make_schedule
from queuekit.environment import environment
from queuekit.errors import InvalidOptionError, InvalidOptionTypeError
from queuekit.execution import Execution, Outcome, call
from queuekit.job import CronJob, Job, Status
from queuekit.lifecycle import LEASE_MS, Event
from queuekit.queue import Queue
from queuekit.registry import Registry
from queuekit.session import Session, signals_stop, wait_for_all
from queuekit.store.redis import STORE_ERRORS, Claimed, Held, Move
from queuekit.text import gist
from queuekit.types import (
    Context,
    CtxType,
    FunctionsType,
    LifecycleFunctionsType,
    TimersDict,
    WorkerInfo,
)
from queuekit.zones import zone_of

if TYPE_CHECKING:
    from queuekit.types import WorkerStats

logger = logging.getLogger("queuekit")

MAX_BACKOFF_S = 2.0
"The longest pause between two tries to reach Redis: a worker is back within it."

UNREADABLE_TTL_MS = 24 * 3_600_000
"A record that nobody could read is kept for a day, for somebody to look at."

TIMERS = ("schedule", "worker_info", "sweep", "abort")


_within: ContextVar[Worker[Any] | None] = ContextVar("queuekit_worker", default=None)
"The worker whose hook or task this code is."


class Worker(Generic[CtxType]):
    """Runs the jobs of one queue.

    Building one connects to nothing and makes nothing of asyncio's, so it may be done at import time.

    Args:
        queue: where the jobs come from.
        functions: the tasks, or (name, task) pairs. Tasks are sync or async, and take a context and
            keyword arguments.
        id: the worker's name; made up at each start when not given.
        concurrency: jobs that run at one time (default 10).
        cron_jobs: what to enqueue at which times; their tasks are registered too.
        cron_tz: the time zone of cron expressions, or its name (default UTC).
        startup, shutdown: called with the context, which they may fill, before and after all jobs.
        before_process, after_process: called with a job's context around each run. One or many, sync
            or async, like all hooks.
        timers: upper bounds in seconds, see `TimersDict`.
        dequeue_timeout: in burst mode, how long to wait for another job before stopping (seconds).
        burst: stop when there is nothing left to do.
        max_burst_jobs: in burst mode, stop after so many jobs.
        shutdown_grace_period_s: how long running jobs may go on after `stop()` (None: not at all).
            Those that do not end are cancelled and handed back, charged with nothing.
        cancellation_hard_deadline_s: how long a cancelled task may take to clean up (default 1).
        metadata: told with the worker's statistics.
        lease_s: how long a claim holds without renewal (default 30). A dead worker's jobs come back
            after it.

    Raises:
        InvalidOptionError, InvalidOptionTypeError: see their messages.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(
        self,
        queue: Queue,
        functions: FunctionsType[Any],
        *,
        id: str | None = None,  # noqa: A002 (SAQ's name)
        concurrency: int = 10,
        cron_jobs: Collection[CronJob] | None = None,
        cron_tz: tzinfo | str = UTC,
        startup: LifecycleFunctionsType[Any] | None = None,
        shutdown: LifecycleFunctionsType[Any] | None = None,
        before_process: LifecycleFunctionsType[Any] | None = None,
        after_process: LifecycleFunctionsType[Any] | None = None,
        timers: TimersDict | None = None,
        dequeue_timeout: float = 0.0,
        burst: bool = False,
        max_burst_jobs: int | None = None,
        shutdown_grace_period_s: float | None = None,
        cancellation_hard_deadline_s: float = 1.0,
        metadata: dict[str, Any] | None = None,
        lease_s: float = LEASE_MS / 1000,
    ) -> None:
        _check(concurrency=concurrency, max_burst_jobs=max_burst_jobs, lease_s=lease_s)
        self.queue = queue
        self.functions = Registry(functions)
        self.names = self.functions.names
        self.concurrency = min(concurrency, max_burst_jobs or concurrency)
        zone = zone_of(cron_tz)
        self.schedules = distinct([make_schedule(job, zone) for job in cron_jobs or ()])
        for schedule in self.schedules:
            queue.codec.encode_call(schedule.job_at(0))  # refused here, not at its first tick
        for cron_job in cron_jobs or ():
            self.functions.add(cron_job.function)
        self.startup, self.shutdown = _hooks(startup), _hooks(shutdown)
        self.before_process, self.after_process = _hooks(before_process), _hooks(after_process)
        self.timers = _checked_timers(timers)
        self.dequeue_timeout = dequeue_timeout
        self.burst = burst
        self.max_burst_jobs = max_burst_jobs
        self.shutdown_grace_period_s = shutdown_grace_period_s
        self.cancellation_hard_deadline_s = cancellation_hard_deadline_s
        self.metadata = metadata
        self.lease_s = lease_s
        self._given_id = id
        self._claims_made = 0
        self.context: CtxType = cast("CtxType", {"worker": self, "queue": queue})
        self.running: dict[int, Execution] = {}
        "The runs under way, by the fence of their claim."
        self.abandoned = 0
        "Tasks that ignored their cancellation and were left behind."
        self._session: Session | None = None
        self._reset("")

    def __repr__(self) -> str:
        return f"Worker<id={self.id!r}, queue={self.queue.name!r}>"

    def _reset(self, worker_id: str) -> None:
        self.id = worker_id or self._given_id or ""
        self.address = ""
        "What Redis knows this start of the worker by: its claims, and the key of messages to it."
        self.stats: dict[str, int] = dict.fromkeys(("complete", "failed", "retried", "aborted"), 0)
        self._started_at = 0.0
        self._processed = 0
        self._unanswered = False

    @property
    def changed(self) -> asyncio.Event:
        """Set when there are new statistics to tell."""
        assert self._session is not None
        return self._session.changed

    def info(self) -> WorkerInfo:
        """What the worker tells about itself."""
        uptime = round((environment().monotonic() - self._started_at) * 1000)
        stats = cast("WorkerStats", {**self.stats, "uptime": uptime})
        return {"stats": stats, "queue_key": self.queue.name, "metadata": self.metadata}

    async def start(self) -> None:
        """Work until `stop()`, a signal, or in burst mode until there is nothing left.

        Cancelling it stops the worker as `stop()` does. Raises what a startup or shutdown hook raises;
        jobs that were running have been handed back by then.
        """
        if self._session is not None:
            raise RuntimeError(f"{self!r} is running already; make another Worker for another one.")
        self._reset(self._given_id or environment().new_id())
        # A name that was given may be another worker's too, or that of this one before its restart.
        self.address = self.id if self._given_id is None else f"{self.id}~{environment().new_id()}"
        self._started_at = environment().monotonic()
        session = self._session = Session(self)
        token = _within.set(self)
        try:
            async with signals_stop(self):
                for hook in self.startup:
                    await call(hook, self.context)
                await self._work(session)
        finally:
            try:
                for hook in self.shutdown:
                    await call(hook, self.context)
            finally:
                _within.reset(token)
                self._session = None
                session.stopped.set()

    async def stop(self) -> None:
        """Stop: no new jobs; running ones get the grace period, then go back. Returns when all is done."""
        session = self._session
        if session is None:
            return
        session.stop()
        # A hook or task of this worker that stops it would wait for itself.
        if _within.get() is not self:
            await session.stopped.wait()

    def request_stop(self) -> None:
        """Stop, without waiting for it (a first signal does)."""
        if self._session is not None:
            self._session.stop()

    def hurry(self) -> None:
        """Cut the grace period short (a second signal does)."""
        if self._session is not None:
            self._session.stop()
            self._session.hurry.set()

    async def _work(self, session: Session) -> None:
        logger.info("worker %s starts on %r with %s", self.id, self.queue, ", ".join(self.names))
        await upkeep.write_info(self)
        session.spawn(upkeep.tell_statistics(self), "statistics")
        if self.schedules:
            session.spawn(ticks.tick(self, self.schedules), "cron")
        try:
            await self._take_jobs(session)
        finally:
            logger.info("worker %s stops", self.id)
            await self._drain(session)
            with contextlib.suppress(*STORE_ERRORS):  # it will be noticed by its silence
                await self.queue.store.deregister(self.address)

    async def _take_jobs(self, session: Session) -> None:
        """Claim first, wait after, always: the token may have been somebody else's."""
        backoff = 0.05
        while not session.stopping:
            session.attention.clear()
            try:
                claimed = await self._claim(session)
                if claimed is not None:
                    await upkeep.after_claim(self, claimed)
            except STORE_ERRORS as error:
                logger.warning("worker %s cannot reach Redis: %s", self.id, type(error).__name__)
                await session.pause(backoff)
                backoff = min(backoff * 2, MAX_BACKOFF_S)
                continue
            backoff = 0.05
            if self._is_done(session, claimed):
                session.stop()
            elif not (claimed and self._comes_again_at_once(claimed)):
                await self._wait(session, claimed)

    def has_room(self) -> bool:
        """Whether another job could start now."""
        return self._free() > 0

    def _free(self) -> int:
        left = self.concurrency - len(self.running)
        if self.max_burst_jobs is not None and self.burst:
            left = min(left, self.max_burst_jobs - self._processed)
        return max(0, left)

    async def _claim(self, session: Session) -> Claimed | None:
        free = self._free()
        if not free:
            return None
        claimed = await self._ask_for(free)
        for held in claimed.jobs:
            await self._launch(session, held)
        return claimed

    async def _ask_for(self, jobs: int) -> Claimed:
        # The same id as long as there was no answer: a claim whose reply got lost is not a second one.
        claim_id = f"{self.address}.{self._claims_made}"
        self._unanswered = True
        claimed = await self.queue.store.claim(
            self.address, claim_id, jobs, round(self.lease_s * 1000), upkeep.alive_ms()
        )
        self._unanswered = False
        self._claims_made += 1
        return claimed

    async def _return_unanswered(self) -> None:
        """Hand back the jobs of a claim that was cut off before its answer was here."""
        if not self._unanswered:
            return
        with contextlib.suppress(*STORE_ERRORS):  # then their leases end, and they are recovered
            held = (await self._ask_for(0)).jobs
            await self.queue.store.commit(
                [Move(h.key, h.fence, h.claim_id, Status.QUEUED, front=True) for h in held]
            )

    async def _launch(self, session: Session, held: Held) -> None:
        self._processed += 1
        try:
            job = self.queue.decode(held.key, held.call, held.state)
            previous = self.queue.codec.decode_failure(held.state)
        except Exception as error:  # whatever a `load` raises: the job fails, the others go on
            logger.exception("the record of job %r cannot be read; it fails", held.key)
            await self._fail_unreadable(held, error)
            return
        job.fence, job.claim_id = held.fence, held.claim_id
        for run in self.running.values():
            if run.job.key == job.key:  # it lost its lease, and is the last to learn of it
                run.interrupt(Event.LOST, "its lease ended")
        run = self.running[held.fence] = Execution(self, job, previous)
        session.spawn(self._run(session, run), f"job {job.key}")
        session.keep_leases(self)

    async def _fail_unreadable(self, held: Held, error: Exception) -> None:
        text = f"its record cannot be read: {error}".encode("utf-8", "backslashreplace")
        proof = (held.key, held.fence, held.claim_id)
        move = Move(*proof, Status.FAILED, ttl_ms=UNREADABLE_TTL_MS, error=text)
        # If Redis is away now, whoever recovers the job meets the same record, and fails it.
        with contextlib.suppress(*STORE_ERRORS):
            await self.queue.store.commit([move])

    async def _run(self, session: Session, run: Execution) -> None:
        try:
            await run.run()
        finally:
            self.running.pop(run.job.fence, None)
            if self.burst or not session.hears_work:
                session.attention.set()

    def account(self, job: Job, outcome: Outcome) -> None:
        """Count how a run ended, and say so."""
        counter = _COUNTERS.get(outcome.event)
        if counter:
            self.stats[counter] += 1
            if self._session is not None:
                self._session.changed.set()
        level = logging.WARNING if outcome.event in (Event.FAILED, Event.LOST) else logging.INFO
        said = f": {gist(outcome.error)}" if outcome.error else ""
        logger.log(level, "job %r (%s) %s%s", job.key, job.function, outcome.event.value, said)

    def _is_done(self, session: Session, claimed: Claimed | None) -> bool:
        """In burst mode: whether there is nothing left to do."""
        if not self.burst or self.running:
            return False
        if self.max_burst_jobs is not None and self._processed >= self.max_burst_jobs:
            return True
        if claimed is None or claimed.jobs:
            session.idle_since = None
            return False
        now = environment().monotonic()
        session.idle_since = now if session.idle_since is None else session.idle_since
        return now - session.idle_since >= self.dequeue_timeout

    def _comes_again_at_once(self, claimed: Claimed) -> bool:
        return (
            bool(self._free()) and claimed.due_ms is not None and claimed.due_ms <= claimed.now_ms
        )

    async def _wait(self, session: Session, claimed: Claimed | None) -> None:
        """Until there is something to do: a token, a message, a free slot, a moment that comes."""
        due_s = None
        if claimed is not None and claimed.due_ms is not None:
            due_s = (claimed.due_ms - claimed.now_ms) / 1000
        session.wake_in(due_s=due_s, upkeep_s=self._bound(claimed))
        await session.listen(for_work=self.has_room())
        await session.attention.wait()

    def _bound(self, claimed: Claimed | None) -> float:
        """For how many seconds upkeep may be left alone."""
        bounds = [environment().idle_wait_s()]
        bounds += [self.timers[name] for name in ("schedule", "sweep") if name in self.timers]
        if self.burst:
            bounds.append(self.dequeue_timeout)
        if claimed is not None:
            moments = (claimed.lease_end_ms, claimed.record_end_ms)
            bounds += [(moment - claimed.now_ms) / 1000 for moment in moments if moment is not None]
        return max(0.001, min(bounds))

    async def _drain(self, session: Session) -> None:
        """Let running jobs end within the grace period, then hand them back."""
        jobs = [task for task in session.tasks if task.get_name().startswith("job ")]
        if jobs and self.shutdown_grace_period_s and not session.hurry.is_set():
            hurry = session.spawn(session.hurry.wait(), "hurry")
            await wait_for_all(jobs, hurry, self.shutdown_grace_period_s)
        for run in list(self.running.values()):
            run.interrupt(Event.RELEASED, "its worker shuts down")
        if jobs:
            await asyncio.wait(jobs)
        await self._return_unanswered()
        await session.end_duties()


_COUNTERS = {
    Event.COMPLETED: "complete",
    Event.FAILED: "failed",
    Event.RETRIED: "retried",
    Event.ABORTED: "aborted",
}


def _hooks(given: LifecycleFunctionsType[Any] | None) -> list[Callable[[Context], Any]]:
    if given is None:
        return []
    hooks = [given] if callable(given) else list(given)
    for hook in hooks:
        if not callable(hook):
            raise InvalidOptionTypeError(
                f"{hook!r} is no hook: it must be a function of a context."
            )
    return hooks


def _checked_timers(timers: TimersDict | None) -> dict[str, float]:
    checked: dict[str, float] = {}
    for name, seconds in (timers or {}).items():
        if name not in TIMERS:
            raise InvalidOptionError(f"there is no timer {name!r}; known are {', '.join(TIMERS)}.")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
            raise InvalidOptionError(
                f"timer {name}={seconds!r} must be a positive number of seconds."
            )
        checked[name] = float(seconds)
    return checked


def _check(concurrency: int, max_burst_jobs: int | None, lease_s: float) -> None:
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidOptionError(f"concurrency={concurrency!r} must be a whole number from 1.")
    if max_burst_jobs is not None and max_burst_jobs < 1:
        raise InvalidOptionError(f"max_burst_jobs={max_burst_jobs!r} must be at least 1, or None.")
    if not lease_s >= 1:
        raise InvalidOptionError(
            f"lease_s={lease_s!r} is too short.\n"
            "  A lease is renewed at a third of its time; give it at least 1 second."
        )

"""The worker: takes jobs from a queue and runs them, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import signal
from collections.abc import Collection
from contextvars import ContextVar
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any, Generic, cast

from queuekit import ticks, upkeep
from queuekit.application import call
from queuekit.cron import Schedule, distinct, make_schedule
from queuekit.environment import environment
from queuekit.execution import Execution, Outcome
from queuekit.job import CronJob, Job
from queuekit.lifecycle import LEASE_MS, SOLO_WAIT_S, Event
from queuekit.outage import Backoff, Outage
from queuekit.queue import Queue
from queuekit.registry import Registry
from queuekit.session import Session, signals_stop, wait_for_all
from queuekit.store.advice import advice
from queuekit.store.redis import STORE_ERRORS, Claimed
from queuekit.text import gist, one_line
from queuekit.types import (
    CtxType,
    FunctionsType,
    LifecycleFunctionsType,
    TimersDict,
    WorkerInfo,
)
from queuekit.worker_options import (
    check_cron_jobs,
    check_seconds,
    check_worker,
    checked_hooks,
    checked_timers,
)
from queuekit.zones import zone_of

if TYPE_CHECKING:
    from queuekit.types import WorkerStats

logger = logging.getLogger("queuekit")


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
        solo_wait_s: a job that was lost twice runs alone in its process. The worker that takes it lets its
            other jobs go on for so long (default 30), then hands them back.

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
        solo_wait_s: float = SOLO_WAIT_S,
    ) -> None:
        check_worker(queue, concurrency, max_burst_jobs, lease_s, id, metadata)
        check_seconds(
            dequeue_timeout=dequeue_timeout,
            shutdown_grace_period_s=shutdown_grace_period_s,
            cancellation_hard_deadline_s=cancellation_hard_deadline_s,
            solo_wait_s=solo_wait_s,
        )
        self.queue = queue
        self.functions = Registry(functions)
        self.names = self.functions.names
        self.concurrency = min(concurrency, max_burst_jobs or concurrency)
        self.schedules = self._take_schedules(cron_jobs or (), zone_of(cron_tz))
        self.startup = checked_hooks("startup", startup)
        self.shutdown = checked_hooks("shutdown", shutdown)
        self.before_process = checked_hooks("before_process", before_process)
        self.after_process = checked_hooks("after_process", after_process)
        self.timers = checked_timers(timers)
        self.dequeue_timeout = dequeue_timeout
        self.burst = burst
        self.max_burst_jobs = max_burst_jobs
        self.shutdown_grace_period_s = shutdown_grace_period_s
        self.cancellation_hard_deadline_s = cancellation_hard_deadline_s
        self.metadata = metadata
        self.lease_s = lease_s
        self.solo_wait_s = solo_wait_s
        self._given_id = id
        self._begin_anew()

    def __repr__(self) -> str:
        return f"Worker<id={self.id!r}, queue={self.queue.name!r}>"

    def _take_schedules(self, cron_jobs: Collection[CronJob], zone: tzinfo) -> list[Schedule]:
        check_cron_jobs(cron_jobs)
        schedules = distinct([make_schedule(job, zone) for job in cron_jobs])
        for schedule in schedules:
            self.queue.codec.encode_call(schedule.job_at(0))  # refused here, not at its first tick
        for cron_job in cron_jobs:
            self.functions.add(cron_job.function)
        return schedules

    def anew(self) -> Worker[CtxType]:
        """A worker of the same settings that has not run yet, as a restart of its process makes one."""
        other = copy.copy(self)
        other._begin_anew()  # noqa: SLF001 (of our own kind)
        return other

    def _begin_anew(self) -> None:
        self.context = cast("CtxType", {"worker": self, "queue": self.queue})
        self._session: Session | None = None
        self._reset("")

    def _reset(self, worker_id: str) -> None:
        self.id = worker_id or self._given_id or ""
        self.address = ""
        "What Redis knows this start of the worker by: its claims, and the key of messages to it."
        self.stats: dict[str, int] = dict.fromkeys(("complete", "failed", "retried", "aborted"), 0)
        self.running: dict[int, Execution] = {}
        "The runs under way, by the fence of their claim."
        self.abandoned = 0
        "Tasks that ignored their cancellation and were left behind."
        self.outage = Outage(self.id)
        "Whether Redis is away, as all duties of the worker together know it."
        self._started_at = 0.0

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
        tasks = one_line(", ".join(self.names))
        logger.info("worker %s starts on %r with %s", self.id, self.queue, tasks)
        await upkeep.write_info(self)
        if not environment().simulated:
            # Beside the work, which does not wait for it. Not in a simulation: its server is a test's,
            # nobody's data is on it, and a warning in each test would be noise.
            session.spawn(self._advise(), "advice")
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

    async def _advise(self) -> None:
        for finding in await advice(self.queue.store.server):
            logger.warning("worker %r: %s", self.id, one_line(" ".join(finding.split())))

    async def _take_jobs(self, session: Session) -> None:
        """Claim first, wait after, always: the token may have been somebody else's."""
        pauses = Backoff()
        while not session.stopping:
            session.heed_cancellation()
            session.attention.clear()
            try:
                claimed = await session.intake.claim()
                if claimed is not None:
                    await upkeep.after_claim(self, claimed)
            except STORE_ERRORS as error:
                self.outage.note("claiming", error)
                await session.pause(pauses.next_s())
                continue
            pauses.reset()
            if claimed is not None:
                self.outage.over("claiming")
            if self._is_done(session, claimed):
                session.stop()
            elif not (claimed and self._comes_again_at_once(claimed)):
                await self._wait(session, claimed)

    def has_room(self) -> bool:
        """Whether another job could start now."""
        return self._session is not None and self._session.intake.room() > 0

    async def while_it_may(self, hook: asyncio.Task[Any]) -> None:
        """Wait for a hook behind a run; when the worker stops it has as long as a cancelled task has."""
        assert self._session is not None
        closing = asyncio.create_task(self._session.closing.wait(), name="closing")
        try:
            await asyncio.wait([hook, closing], return_when=asyncio.FIRST_COMPLETED)
            for _ in ("to end", "to end cancelled"):
                if hook.done():
                    return
                await asyncio.wait([hook], timeout=self.cancellation_hard_deadline_s)
                hook.cancel()
        finally:
            closing.cancel()
            hook.cancel()

    def account(self, job: Job, outcome: Outcome) -> None:
        """Count how a run ended, and say so."""
        counter = _COUNTERS.get(outcome.event)
        if counter:
            self.stats[counter] += 1
            if self._session is not None:
                self._session.changed.set()
        level = logging.WARNING if outcome.event in (Event.FAILED, Event.LOST) else logging.INFO
        task, said = one_line(job.function), f": {gist(outcome.error)}" if outcome.error else ""
        logger.log(level, "job %r (%s) %s%s", job.key, task, outcome.event.value, said)

    def _is_done(self, session: Session, claimed: Claimed | None) -> bool:
        """In burst mode: whether there is nothing left to do."""
        if not self.burst or self.running:
            return False
        if self.max_burst_jobs is not None and session.intake.taken >= self.max_burst_jobs:
            return True
        if claimed is None or claimed.jobs:
            session.idle_since = None
            return False
        now = environment().monotonic()
        session.idle_since = now if session.idle_since is None else session.idle_since
        return now - session.idle_since >= self.dequeue_timeout

    def _comes_again_at_once(self, claimed: Claimed) -> bool:
        return self.has_room() and claimed.due_ms is not None and claimed.due_ms <= claimed.now_ms

    async def _wait(self, session: Session, claimed: Claimed | None) -> None:
        """Until there is something to do: a token, a message, a free slot, a moment that comes."""
        if claimed is not None:  # else what the last claim told still holds
            due_s = None
            if claimed.due_ms is not None:
                due_s = (claimed.due_ms - claimed.now_ms) / 1000
            session.wake_in(due_s=due_s, upkeep_s=self._bound(claimed))
        await session.listen(for_work=self.has_room())
        session.heed_cancellation()
        await session.attention.wait()

    def _bound(self, claimed: Claimed) -> float:
        """For how many seconds upkeep may be left alone."""
        bounds = [environment().idle_wait_s()]
        bounds += [self.timers[name] for name in ("schedule", "sweep") if name in self.timers]
        if self.burst and not self.running:  # else nothing ends with this wait
            bounds.append(self.dequeue_timeout)
        moments = (claimed.lease_end_ms, claimed.record_end_ms)
        bounds += [(moment - claimed.now_ms) / 1000 for moment in moments if moment is not None]
        return max(0.001, min(bounds))

    async def _drain(self, session: Session) -> None:
        """Let running jobs end within the grace period, then hand them back."""
        await session.give_token_back()
        jobs = session.jobs()
        if jobs and self.shutdown_grace_period_s and not session.hurry.is_set():
            hurry = session.spawn(session.hurry.wait(), "hurry")
            await wait_for_all(jobs, hurry, self.shutdown_grace_period_s)
        for run in list(self.running.values()):
            run.interrupt(Event.RELEASED, "its worker shuts down")
        session.closing.set()
        if jobs:
            await asyncio.wait(jobs)
        await session.intake.return_unanswered()
        await session.end_duties()


_COUNTERS = {
    Event.COMPLETED: "complete",
    Event.FAILED: "failed",
    Event.RETRIED: "retried",
    Event.ABORTED: "aborted",
}

"""The worker: takes jobs from a queue and runs them, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Collection
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any, Generic, cast

from queuekit import upkeep
from queuekit.cron import distinct, make_schedule
from queuekit.environment import background, environment
from queuekit.errors import InvalidOptionError, InvalidOptionTypeError
from queuekit.execution import Execution, Outcome, call
from queuekit.job import CronJob, Job, Status
from queuekit.lifecycle import LEASE_MS, Event
from queuekit.queue import Queue
from queuekit.registry import Registry
from queuekit.store.redis import STORE_ERRORS, Claimed, Held, Move
from queuekit.types import (
    Context,
    CtxType,
    FunctionsType,
    LifecycleFunctionsType,
    TimersDict,
    WorkerInfo,
)

if TYPE_CHECKING:
    from queuekit.types import WorkerStats

logger = logging.getLogger("queuekit")

MAX_BACKOFF_S = 2.0
"The longest pause between two tries to reach Redis: a worker is back within it."

UNREADABLE_TTL_MS = 24 * 3_600_000
"A record that nobody could read is kept for a day, for somebody to look at."

TIMERS = ("schedule", "worker_info", "sweep", "abort")


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
        cron_tz: the time zone of cron expressions (default UTC).
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
        cron_tz: tzinfo = UTC,
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
        self.schedules = distinct([make_schedule(job, cron_tz) for job in cron_jobs or ()])
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
        self._state: _Running | None = None
        self._reset("")

    def __repr__(self) -> str:
        return f"Worker<id={self.id!r}, queue={self.queue.name!r}>"

    def _reset(self, worker_id: str) -> None:
        self.id = worker_id or self._given_id or ""
        self.stats: dict[str, int] = dict.fromkeys(("complete", "failed", "retried", "aborted"), 0)
        self._started_at = 0.0
        self._processed = 0

    @property
    def changed(self) -> asyncio.Event:
        """Set when there are new statistics to tell."""
        assert self._state is not None
        return self._state.changed

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
        if self._state is not None:
            raise RuntimeError(f"{self!r} is running already; make another Worker for another one.")
        self._reset(self._given_id or environment().new_id())
        self._started_at = environment().monotonic()
        state = self._state = _Running(self)
        try:
            async with _signals(self):
                for hook in self.startup:
                    await call(hook, self.context)
                await self._work(state)
        finally:
            try:
                for hook in self.shutdown:
                    await call(hook, self.context)
            finally:
                self._state = None
                state.stopped.set()

    async def stop(self) -> None:
        """Stop: no new jobs; running ones get the grace period, then go back. Returns when all is done."""
        state = self._state
        if state is None:
            return
        state.stop()
        # A hook or task of this worker that stops it would wait for itself.
        if asyncio.current_task() not in state.tasks:
            await state.stopped.wait()

    def hurry(self) -> None:
        """Cut the grace period short (a second signal does)."""
        if self._state is not None:
            self._state.stop()
            self._state.hurry.set()

    async def _work(self, state: _Running) -> None:
        logger.info("worker %s starts on %r with %s", self.id, self.queue, ", ".join(self.names))
        await upkeep.write_info(self, starts=True)
        state.spawn(upkeep.tell_statistics(self), "statistics")
        if self.schedules:
            state.spawn(upkeep.tick(self, self.schedules), "cron")
        try:
            await self._take_jobs(state)
        finally:
            logger.info("worker %s stops", self.id)
            await self._drain(state)
            with contextlib.suppress(*STORE_ERRORS):  # it will be noticed by its silence
                await self.queue.store.deregister(self.id)

    async def _take_jobs(self, state: _Running) -> None:
        """Claim first, wait after, always: the token may have been somebody else's."""
        backoff = 0.05
        while not state.stopping:
            state.attention.clear()
            try:
                claimed = await self._claim(state)
                if claimed is not None:
                    await upkeep.after_claim(self, claimed)
            except STORE_ERRORS as error:
                logger.warning("worker %s cannot reach Redis: %s", self.id, type(error).__name__)
                await state.pause(backoff)
                backoff = min(backoff * 2, MAX_BACKOFF_S)
                continue
            backoff = 0.05
            if self._is_done(state, claimed):
                state.stop()
            elif not (claimed and self._comes_again_at_once(claimed)):
                await self._wait(state, claimed)

    def has_room(self) -> bool:
        """Whether another job could start now."""
        return self._free() > 0

    def _free(self) -> int:
        left = self.concurrency - len(self.running)
        if self.max_burst_jobs is not None and self.burst:
            left = min(left, self.max_burst_jobs - self._processed)
        return max(0, left)

    async def _claim(self, state: _Running) -> Claimed | None:
        free = self._free()
        if not free:
            return None
        # The same id as long as there was no answer: a claim whose reply got lost is not a second one.
        claim_id = f"{self.id}.{self._claims_made}"
        claimed = await self.queue.store.claim(
            self.id, claim_id, free, round(self.lease_s * 1000), upkeep.alive_ms()
        )
        self._claims_made += 1
        for held in claimed.jobs:
            await self._launch(state, held)
        return claimed

    async def _launch(self, state: _Running, held: Held) -> None:
        self._processed += 1
        try:
            job = self.queue.decode(held.key, held.call, held.state)
            previous = self.queue.codec.decode_failure(held.state)
        except Exception as error:  # whatever a `load` raises: one bad record must not stop the rest
            logger.exception("the record of job %r cannot be read; it fails", held.key)
            text = f"its record cannot be read: {error}".encode()
            proof = (held.key, held.fence, held.claim_id)
            move = Move(*proof, Status.FAILED, ttl_ms=UNREADABLE_TTL_MS, error=text)
            await self.queue.store.commit([move])
            return
        job.fence, job.claim_id = held.fence, held.claim_id
        run = self.running[held.fence] = Execution(self, job, previous)
        state.spawn(self._run(state, run), f"job {job.key}")
        state.keep_leases(self)

    async def _run(self, state: _Running, run: Execution) -> None:
        try:
            await run.run()
        finally:
            self.running.pop(run.job.fence, None)
            if self.burst or not state.hears_work:
                state.attention.set()

    def account(self, job: Job, outcome: Outcome) -> None:
        """Count how a run ended, and say so."""
        counter = _COUNTERS.get(outcome.event)
        if counter:
            self.stats[counter] += 1
            if self._state is not None:
                self._state.changed.set()
        level = logging.WARNING if outcome.event in (Event.FAILED, Event.LOST) else logging.INFO
        said = outcome.error.strip().rpartition("\n")[2] if outcome.error else ""
        logger.log(level, "job %r (%s) %s %s", job.key, job.function, outcome.event.value, said)

    def _is_done(self, state: _Running, claimed: Claimed | None) -> bool:
        """In burst mode: whether there is nothing left to do."""
        if not self.burst or self.running:
            return False
        if self.max_burst_jobs is not None and self._processed >= self.max_burst_jobs:
            return True
        if claimed is None or claimed.jobs:
            state.idle_since = None
            return False
        now = environment().monotonic()
        state.idle_since = now if state.idle_since is None else state.idle_since
        return now - state.idle_since >= self.dequeue_timeout

    def _comes_again_at_once(self, claimed: Claimed) -> bool:
        return bool(self._free()) and claimed.due_ms is not None and claimed.due_ms <= claimed.now_ms

    async def _wait(self, state: _Running, claimed: Claimed | None) -> None:
        """Until there is something to do: a token, a message, a free slot, a moment that comes."""
        for_work = self._free() > 0
        seconds, idle = self._bound(claimed)
        await state.listen(for_work=for_work, timeout_s=seconds, idle=idle)
        await state.attention.wait()

    def _bound(self, claimed: Claimed | None) -> tuple[float, bool]:
        """How long to wait at most, and whether its end would be mere upkeep."""
        bounds = [environment().idle_wait_s()]
        bounds += [self.timers[name] for name in ("schedule", "sweep") if name in self.timers]
        if self.burst:
            bounds.append(max(self.dequeue_timeout, 0.001))
        if claimed is None:
            return min(bounds), True
        if claimed.peers > 1:
            # A neighbour's lease that begins now is known before it ends.
            bounds.append(self.lease_s)
        moments = (claimed.lease_end_ms, claimed.record_end_ms)
        bounds += [(moment - claimed.now_ms) / 1000 for moment in moments if moment is not None]
        idle = min(bounds)
        if claimed.due_ms is not None and (due := (claimed.due_ms - claimed.now_ms) / 1000) <= idle:
            return due, False
        return max(idle, 0.001), not self.burst

    async def _drain(self, state: _Running) -> None:
        """Let running jobs end within the grace period, then hand them back."""
        jobs = [task for task in state.tasks if task.get_name().startswith("job ")]
        if jobs and self.shutdown_grace_period_s and not state.hurry.is_set():
            hurry = state.spawn(state.hurry.wait(), "hurry")
            await _wait_for_all(jobs, hurry, self.shutdown_grace_period_s)
        for run in list(self.running.values()):
            run.interrupt(Event.RELEASED, "its worker shuts down")
        if jobs:
            await asyncio.wait(jobs)
        await state.end_duties()


class _Running:
    """What exists only while a worker runs; made in its loop."""

    def __init__(self, worker: Worker[Any]) -> None:
        self.attention = asyncio.Event()
        "Set when the main loop is to look again."
        self.changed = asyncio.Event()
        self.stopped = asyncio.Event()
        self.hurry = asyncio.Event()
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.idle_since: float | None = None
        self.stopping = False
        self._worker = worker
        self._leases: asyncio.Task[None] | None = None
        self._ear: asyncio.Task[None] | None = None
        self.hears_work = False

    def stop(self) -> None:
        self.stopping = True
        self.attention.set()

    def spawn(self, coroutine: Any, name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine, name=name)
        self.tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s of worker %s broke", task.get_name(), self._worker.id, exc_info=error)

    def keep_leases(self, worker: Worker[Any]) -> None:
        if self._leases is None or self._leases.done():
            self._leases = self.spawn(upkeep.renew_leases(worker), "leases")

    async def pause(self, seconds: float) -> None:
        """Wait, but not past the worker's stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.attention.wait()

    async def listen(self, *, for_work: bool, timeout_s: float, idle: bool) -> None:
        """Have one blocking read under way: on the control key, and for work if there are slots."""
        if self._ear is not None and not self._ear.done():
            if self.hears_work or not for_work:
                return
            # It listens for messages alone; a word to ourselves ends it, and loses none.
            with contextlib.suppress(*STORE_ERRORS):
                await self._worker.queue.store.nudge(self._worker.id)
            await asyncio.wait([self._ear])
        self.hears_work = for_work
        with background(idle):
            self._ear = self.spawn(self._hear(for_work, timeout_s), "ear")

    async def _hear(self, for_work: bool, timeout_s: float) -> None:
        worker = self._worker
        try:
            message = await worker.queue.store.wait(worker.id, for_work=for_work, timeout_s=timeout_s)
        except (*STORE_ERRORS, TimeoutError) as error:
            logger.warning("worker %s cannot listen to Redis: %s", worker.id, type(error).__name__)
            with background():
                await asyncio.sleep(0.1)
            message = None
        if message and message.startswith("abort\n"):
            _, fence, key, reason = message.split("\n", 3)
            run = worker.running.get(int(fence))
            if run is not None and run.job.key == key:
                run.interrupt(Event.ABORTED, reason)
        elif message == "" and not worker.has_room():
            with contextlib.suppress(*STORE_ERRORS):
                await worker.queue.store.pass_on()
        self.attention.set()

    async def end_duties(self) -> None:
        """End everything that is no job. A message lost with it concerned jobs that are gone."""
        duties = [task for task in self.tasks if task is not asyncio.current_task()]
        for task in duties:
            task.cancel()
        if duties:
            await asyncio.wait(duties)


_COUNTERS = {
    Event.COMPLETED: "complete",
    Event.FAILED: "failed",
    Event.RETRIED: "retried",
    Event.ABORTED: "aborted",
}


@contextlib.asynccontextmanager
async def _signals(worker: Worker[Any]) -> Any:
    """The first signal stops the worker, a second one hurries it."""
    loop = asyncio.get_running_loop()
    seen = False

    def on_signal() -> None:
        nonlocal seen
        if seen:
            worker.hurry()
        elif worker._state is not None:  # noqa: SLF001 (same file)
            worker._state.stop()  # noqa: SLF001
        seen = True

    handled = []
    for number in worker.SIGNALS:
        # Not in the main thread, or Windows: then signals are the application's.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, on_signal)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


async def _wait_for_all(
    jobs: list[asyncio.Task[Any]], hurry: asyncio.Task[Any], seconds: float
) -> None:
    end = environment().monotonic() + seconds
    while (left := end - environment().monotonic()) > 0:
        pending = [task for task in jobs if not task.done()]
        if not pending or hurry.done():
            return
        await asyncio.wait([*pending, hurry], timeout=left, return_when=asyncio.FIRST_COMPLETED)


def _hooks(given: LifecycleFunctionsType[Any] | None) -> list[Callable[[Context], Any]]:
    if given is None:
        return []
    hooks = [given] if callable(given) else list(given)
    for hook in hooks:
        if not callable(hook):
            raise InvalidOptionTypeError(f"{hook!r} is no hook: it must be a function of a context.")
    return hooks


def _checked_timers(timers: TimersDict | None) -> dict[str, float]:
    checked: dict[str, float] = {}
    for name, seconds in (timers or {}).items():
        if name not in TIMERS:
            raise InvalidOptionError(f"there is no timer {name!r}; known are {', '.join(TIMERS)}.")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
            raise InvalidOptionError(f"timer {name}={seconds!r} must be a positive number of seconds.")
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

"""One job, from its claim to its commit, as named steps.

    claimed -> before_process -> the task, under its limits -> ended -> commit -> after_process

A run ends in one of these ways, and the first reason wins: its task returns or raises; its timeout
or heartbeat passes; its job is aborted; its worker shuts down and hands the job back; its lease is
lost. Whatever ends a run, its task is cancelled and given `cancellation_hard_deadline_s`; a task
that ignores that is abandoned: its slot is freed, and that is logged and counted.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from queuekit import lifecycle
from queuekit.application import contained, traceback_of
from queuekit.environment import environment
from queuekit.errors import (
    HeartbeatMissedError,
    InvalidOptionError,
    NotSerializableError,
    QueuekitError,
    TaskArgumentsError,
    TaskFailure,
    TaskTimeoutError,
    UnknownFunctionError,
)
from queuekit.history import note_of
from queuekit.job import Job, Status
from queuekit.lifecycle import Event, RetryPolicy
from queuekit.store.codec import encode_exception
from queuekit.store.redis import STORE_ERRORS, Move
from queuekit.text import clip_error, gist, one_line

if TYPE_CHECKING:
    from queuekit.types import Context
    from queuekit.worker import Worker

logger = logging.getLogger("queuekit")

COMMIT_RETRY_S = 0.2
"Between two tries to commit while Redis is away. It goes on until the lease ends."

TARGETS = {
    Event.COMPLETED: Status.COMPLETE,
    Event.FAILED: Status.FAILED,
    Event.RETRIED: Status.QUEUED,
    Event.RELEASED: Status.QUEUED,
    Event.UNKNOWN: Status.QUEUED,
    Event.ABORTED: Status.ABORTED,
}

_CHARGES = {Event.FAILED: "failures", Event.RETRIED: "failures", Event.UNKNOWN: "unknown"}
"The counter of a job that an end of its run raises."


class _ResultError(Exception):
    """What the task returned cannot be stored."""


class Interrupted(Exception):  # noqa: N818 (a signal between two methods, not an error)
    """The run is to end for a reason outside the task."""

    def __init__(self, event: Event, reason: str) -> None:
        super().__init__(reason)
        self.event = event
        self.reason = reason


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and what is to be stored of it."""

    event: Event
    result: bytes = b""
    error: str = ""
    exception: BaseException | None = None
    delay_ms: int = 0
    uncharged: bool = False
    "A failure that was no run of the task."


class Execution:
    """One run of a job that this worker holds.

    Args:
        worker: who runs it.
        job: what is run, with the proof of its claim.
        lease_end: on this process's monotonic clock.
        previous: the failure of the attempt before.
        unknown_tries: how often a worker put it back because it did not know its function.
        alone: whether nothing else may run in this process meanwhile.
    """

    def __init__(
        self,
        worker: Worker[Any],
        job: Job,
        previous: TaskFailure | None,
        *,
        lease_end: float,
        unknown_tries: int = 0,
        alone: bool = False,
    ) -> None:
        self.job = job
        # Its task may assign to the object: what is held stays what was claimed.
        self.key, self.fence, self.claim_id = job.key, job.fence, job.claim_id
        self.attempt = job.attempts
        self.alone = alone
        self._settled = False
        self._unknown_tries = unknown_tries
        self._abandoned = False
        self.lease_end = lease_end
        "Each renewal moves it."
        self._worker = worker
        self._interruption: Interrupted | None = None
        self._interrupted = asyncio.Event()
        self._inner: asyncio.Task[Any] | None = None
        "What of the application's runs now."
        self._last_beat = 0.0
        self._context = cast(
            "Context",
            {**worker.context, "queue": worker.queue, "job": job, "exception": previous},
        )
        job.run = self

    def interrupt(self, event: Event, reason: str) -> None:
        """End the run from outside: ABORTED, RELEASED or LOST.

        The first reason wins. A lease that is lost afterwards needs no word: the commit is refused.
        """
        if self._interruption is None:
            self._interruption = Interrupted(event, reason)
        self._interrupted.set()

    def lose(self) -> None:
        """Its lease is over by our own clock: cancel what runs here before it takes another step.

        A process that hung wakes up with timers that are all due at once; whatever they woke takes its
        step after this. What has ended by now is left to the commit, which is refused if the job has gone on.
        """
        if self._inner is not None and not self._inner.done() and self._interruption is None:
            self._inner.cancel()
            self.interrupt(Event.LOST, "its lease ended before it was renewed")

    def beat(self) -> None:
        """See `Run.beat`."""
        self._last_beat = environment().monotonic()

    def holds(self) -> bool:
        """See `Run.holds`."""
        return environment().monotonic() < self.lease_end

    def settle(self) -> None:
        """See `Run.settle`."""
        self._settled = True

    async def run(self) -> Outcome:
        """The whole run. Never raises for what the application's code does."""
        await self._show("claimed", worker=self._worker.id, attempt=self.attempt)
        outcome = await self._attempt()
        await self._show("ended", event=outcome.event.value)
        outcome = await self._commit(outcome)
        await self._after(outcome)
        return outcome

    async def _attempt(self) -> Outcome:
        try:
            function = self._worker.functions.get(self.job.function)
            if function is None:
                return self._unknown()
            await self._guarded(self._before(), limited=False)
            result = await self._guarded(self._call(function), limited=True)
            return Outcome(Event.COMPLETED, result=self._encoded(result))
        except Interrupted as interrupted:
            return Outcome(interrupted.event, error=interrupted.reason)
        except _ResultError as error:
            # The task has run and may have done its work: it is not run again for its answer.
            return Outcome(Event.FAILED, error=f"ran, but {error}", exception=error.__cause__)
        except TaskArgumentsError as error:
            # It would fail in each run.
            return Outcome(Event.FAILED, error=traceback_of(error), exception=error)
        except Exception as error:  # the task's own: its job is tried again, or fails
            return self._failed(error)

    def _unknown(self) -> Outcome:
        """Nobody here knows the function: another worker may, in the middle of a rolling deploy."""
        tries = self._unknown_tries + 1
        known = ", ".join(sorted(self._worker.names)) or "none"
        error = UnknownFunctionError(
            f"there is no function {self.job.function!r} in worker {self._worker.id}.\n"
            f"  It has: {known}.\n"
            "  Pass the function in functions= of the worker, or enqueue one that it has.\n"
            f"  The job is put back for another worker ({tries} of {lifecycle.UNKNOWN_TRIES} times)."
        )
        logger.warning("job %r: %s", self.job.key, gist(str(error)))
        if lifecycle.after_unknown(tries) is Status.FAILED:
            return Outcome(Event.FAILED, error=str(error), exception=error, uncharged=True)
        delay = lifecycle.unknown_delay_ms(tries)
        return Outcome(Event.UNKNOWN, error=str(error), exception=error, delay_ms=delay)

    def _encoded(self, result: Any) -> bytes:
        if result is None:
            return b""
        try:
            return self._worker.queue.codec.encode_value("result", self.key, result)
        except (NotSerializableError, InvalidOptionError) as error:
            raise _ResultError(str(error)) from error

    async def _before(self) -> None:
        for hook in self._worker.before_process:
            await contained("before_process", hook, self._context)

    async def _call(self, function: Callable[..., Any]) -> Any:
        await self._show("started", attempt=self.attempt)
        self._check_ours()
        try:
            with environment().running(copy.copy(self.job)):
                return await contained(
                    self.job.function, function, self._context, **(self.job.kwargs or {})
                )
        except TypeError as error:
            self._check_arguments(function, error)
            raise

    def _check_arguments(self, function: Callable[..., Any], error: TypeError) -> None:
        """Asked only after a TypeError: does the call itself not fit?"""
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # a builtin that tells nothing about itself
            return
        try:
            signature.bind(self._context, **(self.job.kwargs or {}))
        except TypeError as misfit:
            raise TaskArgumentsError(
                f"the arguments of job {self.job.key!r} do not fit its task: {misfit}.\n"
                f"  The task is {self.job.function}{signature}.\n"
                "  A task gets a context and the job's keyword arguments.\n"
                "  Mend the call that enqueues it; it is not run again."
            ) from error

    def _failed(self, error: Exception) -> Outcome:
        job = self.job
        text = traceback_of(error)
        event = lifecycle.after_failure(RetryPolicy.of(job), job.failures + 1)
        delay = 0
        if event is Event.RETRIED:
            delay = self._worker.queue.next_delay_ms(job, job.failures + job.losses + 1)
        return Outcome(event, error=text, exception=error, delay_ms=delay)

    async def _guarded(self, coroutine: Coroutine[Any, Any, Any], *, limited: bool) -> Any:
        """The coroutine's result; it is cancelled when the run is interrupted or passes a limit."""
        try:
            self._check_ours()
        except Interrupted:
            coroutine.close()
            raise
        inner = asyncio.create_task(coroutine, name=f"task {self.job.key}")
        self._inner = inner
        stop = await self._watch(inner, limited=limited)
        if stop is None:
            if inner.cancelled() and self._interruption is not None:
                raise self._interruption
            if inner.cancelled():
                raise QueuekitError("the task was cancelled, and not by its worker")
            return inner.result()
        await self._end(inner)
        raise stop

    def _check_ours(self) -> None:
        """Begin nothing for a job that was aborted or handed back, or whose lease is over.

        A process that hung, or a machine that slept, wakes up with jobs that have gone on without it.
        """
        if self._interruption is None and environment().monotonic() >= self.lease_end:
            self.interrupt(Event.LOST, "its lease ended before it began")
        if self._interruption is not None:
            raise self._interruption

    async def _watch(self, inner: asyncio.Task[Any], *, limited: bool) -> Exception | None:
        """Wait for the task; why it is to be stopped, or None when it ended by itself."""
        began = self._last_beat = environment().monotonic()
        interrupted = asyncio.create_task(self._interrupted.wait(), name=f"watch {self.job.key}")
        try:
            while True:
                left, limit = self._time_left(began) if limited else (None, None)
                try:
                    await asyncio.wait(
                        [inner, interrupted], timeout=left, return_when=asyncio.FIRST_COMPLETED
                    )
                except asyncio.CancelledError:
                    # Whoever cancels the worker's tasks ends the worker: hand the job back.
                    self.interrupt(Event.RELEASED, "cancelled")
                if inner.done():
                    return None
                if self._interruption is not None:
                    return self._interruption
                if limit is not None and self._time_left(began)[0] == 0:
                    return limit
        finally:
            interrupted.cancel()

    def _time_left(self, began: float) -> tuple[float | None, Exception | None]:
        """Seconds until the nearest limit, and the failure that it is."""
        job, now = self.job, environment().monotonic()
        limits: list[tuple[float, Exception]] = []
        if job.timeout:
            text = f"{job.function} ran longer than its timeout of {job.timeout:g} s"
            limits.append((began + job.timeout, TaskTimeoutError(text)))
        if job.heartbeat:
            text = f"{job.function} did not call job.update() for {job.heartbeat:g} s"
            limits.append((self._last_beat + job.heartbeat, HeartbeatMissedError(text)))
        if not limits:
            return None, None
        end, failure = min(limits, key=lambda limit: limit[0])
        return max(0.0, end - now), failure

    async def _end(self, inner: asyncio.Task[Any]) -> None:
        """Cancel the task, and leave it behind if it does not end in time."""
        if not inner.cancelling():  # else `lose` has: its clean-up is not to be cancelled as well
            inner.cancel()
        deadline = self._worker.cancellation_hard_deadline_s
        done, _ = await asyncio.wait([inner], timeout=deadline)
        if done:
            # Its own last words do not count any more, but must be heard, or asyncio complains.
            inner.cancelled() or inner.exception()
            return
        self._abandoned = True
        self.job.abandoned += 1
        self._worker.abandoned += 1
        inner.add_done_callback(lambda task: task.cancelled() or task.exception())
        logger.warning(
            "job %r (%s) ignored its cancellation for %g s and is left running; its slot is freed",
            self.job.key,
            one_line(self.job.function),
            deadline,
        )
        await self._show("abandoned")

    async def _commit(self, outcome: Outcome) -> Outcome:
        """Store the outcome, if the job is still ours. What came of it."""
        if self._settled:
            return outcome  # the task has called finish() or retry() itself
        while outcome.event is not Event.LOST:
            await self._show("committing", event=outcome.event.value)
            verdict, word = await self._try_commit(self._move(outcome))
            if verdict in ("ok", "done"):
                self._take_over(outcome)
                break
            if verdict == "aborting":
                outcome = Outcome(Event.ABORTED, error=word, exception=outcome.exception)
            else:
                outcome = Outcome(Event.LOST, error=f"found {word}")
        self._worker.account(self.job, outcome)
        await self._show_committed(outcome)
        return outcome

    async def _show_committed(self, outcome: Outcome) -> None:
        if not environment().watched:
            return
        codec = self._worker.queue.codec
        await self._show(
            "committed",
            event=outcome.event.value,
            attempt=self.attempt,
            delay_ms=outcome.delay_ms,
            exception=type(outcome.exception).__name__ if outcome.exception else "",
            error=outcome.error,
            result=codec.decode_value("result", self.key, outcome.result)
            if outcome.result
            else None,
        )

    def _take_over(self, outcome: Outcome) -> None:
        """Let the job object, which hooks still see, say what was stored."""
        job = self.job
        job.status = TARGETS[outcome.event]
        job.error = outcome.error or None
        if outcome.result:
            codec = self._worker.queue.codec
            job.result = codec.decode_value("result", self.key, outcome.result)
        if outcome.event is Event.COMPLETED:
            job.progress = 1.0

    def _move(self, outcome: Outcome) -> Move:
        job = self.job
        exception = encode_exception(outcome.exception) if outcome.exception else b""
        released = outcome.event is Event.RELEASED
        return Move(
            self.key,
            self.fence,
            self.claim_id,
            TARGETS[outcome.event],
            delay_ms=outcome.delay_ms,
            ttl_ms=job.ttl * 1000,
            charge="" if outcome.uncharged else _CHARGES.get(outcome.event, ""),
            front=released,
            abandoned=self._abandoned,
            outcome=outcome.event.value,
            note=note_of(outcome.error),
            result=outcome.result,
            error=b"" if released else clip_error(outcome.error),
            exception=exception,
        )

    async def _try_commit(self, move: Move) -> tuple[str, str]:
        """Commit, again and again while Redis is away, as long as the lease may still hold."""
        while True:
            try:
                [verdict] = await self._worker.queue.store.commit([move])
            except STORE_ERRORS as error:
                if environment().monotonic() + COMMIT_RETRY_S >= self.lease_end:
                    return (
                        "lost",
                        f"no answer from Redis ({type(error).__name__}) until the lease ended",
                    )
                await asyncio.sleep(COMMIT_RETRY_S)
            else:
                return verdict

    async def _after(self, outcome: Outcome) -> None:
        """The hooks behind a run. The job has ended already: nothing of it changes any more."""
        self._context["exception"] = outcome.exception
        for hook in self._worker.after_process:
            hooked = contained("after_process", hook, self._context)
            inner = asyncio.create_task(hooked, name=f"after {self.job.key}")
            await self._worker.while_it_may(inner)
            if not inner.done() or inner.cancelled():
                logger.warning(
                    "after_process of job %r was cut off: its worker stops", self.job.key
                )
            elif (error := inner.exception()) is not None:
                logger.error("after_process of job %r raised", self.job.key, exc_info=error)

    async def _show(self, moment: str, **details: object) -> None:
        world = environment()
        if world.watched:
            job = self.job
            await world.step(
                moment,
                key=self.key,
                function=job.function,
                queue=self._worker.queue.name,
                **details,
            )

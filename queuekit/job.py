"""A job: one run of a task that was, or is to be, put into a queue."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from queuekit.environment import environment
from queuekit.errors import QueuekitError

if TYPE_CHECKING:
    from queuekit.history import Attempt
    from queuekit.queue import Queue
    from queuekit.sync import SyncJob
    from queuekit.types import CatchUp, DurationKind


class Status(StrEnum):
    """Where a job stands. `lifecycle.py` has the moves between them."""

    NEW = "new"
    "Made in this process, not enqueued yet."
    QUEUED = "queued"
    "Waits for a worker, or for its time (`scheduled`, or the delay before a retry)."
    ACTIVE = "active"
    "Held by a worker under a lease."
    ABORTING = "aborting"
    "Held by a worker that has been told to stop it."
    ABORTED = "aborted"
    "Final: stopped on request."
    FAILED = "failed"
    "Final: its runs are used up, or it can never succeed."
    COMPLETE = "complete"
    "Final: it returned."


ACTIVE_STATUSES = frozenset({Status.NEW, Status.QUEUED, Status.ACTIVE})
TERMINAL_STATUSES = frozenset({Status.COMPLETE, Status.FAILED, Status.ABORTED})
UNSUCCESSFUL_TERMINAL_STATUSES = TERMINAL_STATUSES - {Status.COMPLETE}


class JobError(QueuekitError):
    """A job that was waited for ended unsuccessfully; `job` is that job."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"job {job.key!r} ({job.function}) is {job.status}:\n\n{job.error}")
        self.job = job


@dataclasses.dataclass(kw_only=True)
class CronJob:
    """A task that is enqueued at each tick of a cron expression.

    Args:
        function: the task.
        cron: five fields, or six with seconds last (croniter's order).
        unique: skip a tick while the job of the tick before is unfinished (default True).
        catch_up: what becomes of ticks that nobody handled within a minute, because no worker was up
            or Redis was away: "skip" drops them, "one" (the default) runs the newest once, "all" runs
            each, up to the newest 1,000.
        name: the schedule's identity. By default it is made of function, expression and arguments,
            so that two schedules of one function never meet; a changed expression is a new schedule.
        timeout, heartbeat, retries, ttl, retry_delay, retry_backoff: as for `Job`.
        kwargs: the task's arguments.
    """

    function: Callable[..., Any] = dataclasses.field(kw_only=False)
    cron: str = dataclasses.field(kw_only=False)
    unique: bool = dataclasses.field(default=True, kw_only=False)
    timeout: float | None = dataclasses.field(default=None, kw_only=False)
    heartbeat: float | None = dataclasses.field(default=None, kw_only=False)
    retries: int | None = dataclasses.field(default=None, kw_only=False)
    ttl: int | None = dataclasses.field(default=None, kw_only=False)
    kwargs: dict[str, Any] | None = dataclasses.field(default=None, kw_only=False)
    name: str | None = None
    retry_delay: float | None = None
    retry_backoff: bool | float | None = None
    catch_up: CatchUp = "one"


class Run(Protocol):
    """What a job may ask of the run that holds it."""

    def beat(self) -> None:
        """The task is alive."""

    def holds(self) -> bool:
        """Whether its lease still holds, by its worker's own clock."""

    def settle(self) -> None:
        """The task has ended its run itself, by `finish()` or `retry()`: nothing is left to commit."""


@dataclasses.dataclass(eq=False)
class Job:
    """One run of a task.

    The first block is set by whoever enqueues. Times are in seconds:

    - `function`: the task's name; `kwargs`: its arguments.
    - `key`: at most one unfinished job has it; made up when not given.
    - `timeout`: a run may take this long (default 10; 0 or None: no limit).
    - `heartbeat`: at most this long between two `update()` of a run (default 0: not asked for).
    - `retries`: the number of runs that may fail before the job does (default 1: no second run).
    - `ttl`: how long the record is kept when it is finished (default 600; 0: for ever, -1: not at all).
    - `retry_delay`: the pause before the next run after a failure (default 0).
    - `retry_backoff`: double the pause with each failure, with full jitter; a number is its maximum.
    - `scheduled`: not before this moment: epoch seconds, an aware `datetime`, or a `timedelta` from now.
    - `priority`: jobs of a lower number start first (-32768 to 32767, default 0).
    - `group_key`: at most one job of a group runs at a time; the others of it follow in their order.
    - `max_lost`: how many losses (its worker died, or lost its lease) it survives (default 2; 0: at most
      one run, if its worker dies).
    - `meta`: anything serialisable; `progress`: 0.0 to 1.0.

    The rest is read only. Its times (`queued started completed touched`) are milliseconds since the
    epoch by the server's clock, 0 when it has not happened.
    """

    function: str
    kwargs: dict[str, Any] | None = None
    queue: Queue | None = dataclasses.field(default=None, repr=False)
    key: str = dataclasses.field(default_factory=lambda: environment().new_id())
    timeout: float | None = 10
    heartbeat: float = 0
    retries: int = 1
    ttl: int = 600
    retry_delay: float = 0.0
    retry_backoff: bool | float = False
    scheduled: float | datetime | timedelta = 0
    priority: int = 0
    group_key: str | None = None
    max_lost: int = 2
    progress: float = 0.0
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)

    attempts: int = 0
    "Runs started."
    failures: int = 0
    "Runs that raised, timed out or missed a heartbeat: these spend `retries`."
    losses: int = 0
    "Runs whose worker died or lost its lease."
    abandoned: int = 0
    "Runs that ignored their cancellation and were left behind: such a one may still be at work."
    queued: int = 0
    started: int = 0
    completed: int = 0
    touched: int = 0
    result: Any = None
    error: str | None = None
    "The traceback of the last failure, or why the job was aborted."
    status: Status = Status.NEW
    worker_id: str | None = None
    unreadable: str | None = None
    "Why its record cannot be read, if so: then little more than its key and status is known."

    fence: int = dataclasses.field(default=0, repr=False)
    "Proof of the claim under which this object was handed out; 0: it was only read."
    claim_id: str = dataclasses.field(default="", repr=False)
    run: Run | None = dataclasses.field(default=None, repr=False)
    "The run under which this object was handed to a task."
    enqueue_id: str = dataclasses.field(default="", repr=False)
    "Of an enqueue that was not acknowledged yet: sent again under it, it makes no second job."

    def __post_init__(self) -> None:
        self.status = Status(self.status)
        if self.key is None:  # SAQ's way of saying: make one up
            self.key = environment().new_id()

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self.key == other.key

    @property
    def id(self) -> str:
        """The job's name in full: queue and key."""
        return f"{self.queue.name if self.queue else '?'}:{self.key}"

    @property
    def finished(self) -> bool:
        """Whether the status is final."""
        return self.status in TERMINAL_STATUSES

    @property
    def retryable(self) -> bool:
        """Whether one more failure would still leave a run."""
        return self.retries > self.failures + 1

    @property
    def sync(self) -> SyncJob:
        """The same methods, blocking: for sync tasks (`ctx["job"].sync.update(progress=0.5)`)."""
        from queuekit.sync import SyncJob  # noqa: PLC0415 (a floor above, asked for by its users only)

        return SyncJob(self)

    def info(self, full: bool = False) -> str:
        """One line about the job; with `full`, its arguments, result and options too."""
        shown = self.to_dict()
        if not full:
            shown = {name: shown[name] for name in _SHORT_INFO if name in shown}
        return f"Job<{', '.join(f'{name}: {value}' for name, value in shown.items())}>"

    def to_dict(self) -> dict[str, Any]:
        """The fields that differ from their defaults, ready to be serialised; `queue` is its name."""
        fields: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in _INTERNAL or _is_default(value, field) or value == {}:
                continue
            fields[field.name] = value.name if field.name == "queue" else value
        return fields

    def duration(self, kind: DurationKind) -> int | None:
        """Milliseconds, or None while that cannot be told.

        `process`: from the last run's start to its end; `start`: from enqueue to start;
        `total`: from enqueue to the end; `running`: from the start until now.
        """
        spans = {
            "process": (self.started, self.completed),
            "start": (self.queued, self.started),
            "total": (self.queued, self.completed),
            "running": (self.started, environment().time_ms()),
        }
        if kind not in spans:
            raise ValueError(f"there is no duration {kind!r}; it is one of {', '.join(spans)}.")
        begin, end = spans[kind]
        return end - begin if begin and end else None

    async def enqueue(self, queue: Queue | None = None) -> None:
        """Enqueue this job; if its key is taken, become a copy of the job that has it."""
        target = queue or self.get_queue()
        if not await target.enqueue(self):
            await self.refresh()

    async def abort(self, error: str, ttl: float | None = None) -> None:
        """Stop the job: see `Queue.abort`."""
        await self.get_queue().abort(self, error, ttl=ttl)

    async def finish(self, status: Status, *, result: Any = None, error: str | None = None) -> None:
        """End the job from inside its own run: see `Queue.finish`."""
        await self.get_queue().finish(self, status, result=result, error=error)

    async def retry(self, error: str | None) -> None:
        """Run the job again: see `Queue.retry`."""
        await self.get_queue().retry(self, error)

    async def update(self, **fields: Any) -> None:
        """Store `progress=` and `meta=`, and tell that the run is alive (a heartbeat)."""
        await self.get_queue().update(self, **fields)

    async def refresh(self, until_complete: float | None = None) -> None:
        """Read the job again.

        Args:
            until_complete: None returns at once; otherwise wait until the job is finished, at most
                this many seconds (0: without limit).

        Raises:
            JobNotFoundError: its record is gone.
            TimeoutError: it was not finished in time.
        """
        await self.get_queue().refresh(self, until_complete)

    async def history(self) -> list[Attempt]:
        """Its last attempts, oldest first, at most 20: when, by whom, and what came of each.

        Raises:
            JobNotFoundError: its record is gone.
        """
        return await self.get_queue().history(self)

    def replace(self, job: Job) -> None:
        """Take over all that `job` says."""
        for field in dataclasses.fields(job):
            if field.name not in _INTERNAL:
                setattr(self, field.name, getattr(job, field.name))

    def begin(self, queued_ms: int) -> None:
        """Become what a job is that has just been enqueued: nothing has happened to it yet."""
        self.status = Status.QUEUED
        self.queued = self.touched = queued_ms
        self.attempts = self.failures = self.losses = self.abandoned = 0
        self.started = self.completed = 0
        self.result = self.error = self.worker_id = self.unreadable = self.run = None
        self.fence, self.claim_id, self.enqueue_id = 0, "", ""

    def get_queue(self) -> Queue:
        """The job's queue, or an error when it has none yet."""
        if self.queue is None:
            raise TypeError(
                f"job {self.key!r} belongs to no queue yet.\n"
                "  Enqueue it first: await queue.enqueue(job)."
            )
        return self.queue


_INTERNAL = frozenset({"fence", "claim_id", "run", "enqueue_id"})
_SHORT_INFO = (
    "function",
    "queue",
    "key",
    "attempts",
    "queued",
    "started",
    "completed",
    "worker_id",
)

OPTIONS = frozenset(
    {
        "key",
        "timeout",
        "heartbeat",
        "retries",
        "ttl",
        "retry_delay",
        "retry_backoff",
        "scheduled",
        "priority",
        "group_key",
        "max_lost",
        "progress",
        "meta",
    }
)
"The fields of a job that `enqueue` takes as keywords."

RESERVED = frozenset(field.name for field in dataclasses.fields(Job)) - OPTIONS - {"kwargs"}
"The fields that only queuekit sets."


def _is_default(value: object, field: dataclasses.Field[Any]) -> bool:
    if value is field.default:
        return True
    try:
        return bool(value == field.default)
    except (ValueError, TypeError):  # an array of the user's that has no single truth
        return False

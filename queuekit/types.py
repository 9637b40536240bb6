"""The shapes that applications annotate their code with: `Context`, hooks, settings, counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Literal,
    Required,
    TypeAlias,
    TypedDict,
    TypeVar,
)

if TYPE_CHECKING:
    from datetime import tzinfo

    from queuekit.job import CronJob, Job, Status
    from queuekit.queue import Queue
    from queuekit.worker import Worker


class Context(TypedDict, total=False):
    """What a task receives as its first argument. Start-up hooks may add keys of their own."""

    worker: Required[Worker[Any]]
    "The worker that runs the task."
    job: Job
    "The job being run: its key, attempts, meta, and `update()` to report progress."
    queue: Queue
    "The queue that the job was claimed from."
    exception: BaseException | None
    """While the task runs: the failure of the previous attempt (a `TaskFailure`), None on the first.
    In `after_process`: the exception of this attempt."""


class WorkerStats(TypedDict):
    """What one worker has done since it started."""

    complete: int
    failed: int
    retried: int
    aborted: int
    uptime: int
    "Milliseconds since the worker started."


class WorkerInfo(TypedDict):
    """What a worker has told about itself."""

    queue_key: str | None
    stats: WorkerStats | None
    metadata: dict[str, Any] | None


class QueueInfo(TypedDict):
    """The state of a queue at one moment."""

    workers: dict[str, WorkerInfo]
    "By worker id; only workers that were heard of lately."
    name: str
    queued: int
    "Jobs that could start now."
    active: int
    scheduled: int
    "Jobs that wait for their time, first attempts and retries alike."
    jobs: list[dict[str, Any]]
    "With `jobs=True`: a page of unfinished jobs, active ones first."


class TimersDict(TypedDict, total=False):
    """Upper bounds, in seconds, on how long a worker leaves something unlooked at (SAQ's names).

    queuekit is woken when there is something to do, so none of these is a polling interval.
    """

    schedule: float
    "At most this long between two looks at the queue (default: no bound but the worker's idle wait)."
    worker_info: float
    "Changed statistics are written at most this often (default 10)."
    sweep: float
    "At most this long between two looks for expired leases (default: when the next one is due)."
    abort: float
    "Accepted for compatibility: an abort is pushed to the worker that runs the job."


CtxType = TypeVar("CtxType", bound=Context)

JSONType: TypeAlias = (
    "dict[str, JSONType] | list[JSONType] | tuple[JSONType, ...] | str | int | float | bool | None"
)
"What a task may return with the default `dump`."

Function: TypeAlias = Callable[Concatenate[CtxType, ...], Any]
FunctionsType: TypeAlias = Collection[Function[CtxType] | tuple[str, Function[CtxType]]]
ReceivesContext: TypeAlias = Callable[[CtxType], Any]
LifecycleFunctionsType: TypeAlias = ReceivesContext[CtxType] | Collection[ReceivesContext[CtxType]]
BeforeEnqueueType: TypeAlias = "Callable[[Job], Awaitable[Any]]"
ListenCallback: TypeAlias = "Callable[[str, Status], Any]"
CountKind: TypeAlias = Literal["queued", "active", "scheduled", "incomplete"]
OnDuplicate: TypeAlias = Literal["none", "return", "raise"]
DurationKind: TypeAlias = Literal["process", "start", "total", "running"]
CatchUp: TypeAlias = Literal["skip", "one", "all"]
DumpType: TypeAlias = Callable[[Mapping[Any, Any]], bytes | str]
LoadType: TypeAlias = Callable[[bytes | str], Any]


class SettingsDict(TypedDict, total=False):
    """The arguments of a `Worker`, as an application keeps them in one dictionary."""

    queue: Queue
    functions: Required[FunctionsType[Any]]
    concurrency: int
    cron_jobs: Collection[CronJob]
    cron_tz: tzinfo | str
    startup: LifecycleFunctionsType[Any]
    shutdown: LifecycleFunctionsType[Any]
    before_process: LifecycleFunctionsType[Any]
    after_process: LifecycleFunctionsType[Any]
    timers: TimersDict
    dequeue_timeout: float

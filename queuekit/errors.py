"""Every error that queuekit raises on purpose: what happened, what was expected, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from queuekit.job import Job


class QueuekitError(Exception):
    """The family of queuekit's own errors."""


class InvalidUrlError(QueuekitError, ValueError):
    """The address of a queue is not one that queuekit can connect to."""


class MissingDependencyError(QueuekitError, ImportError):
    """Something optional is needed and not installed; the message has the command."""


class ForeignLoopError(QueuekitError, RuntimeError):
    """A queue is used beside the simulation in which it is meant to be; the message says where it belongs."""


class InvalidOptionError(QueuekitError, ValueError):
    """An option of a job, queue, worker or cron job has a value that can never work."""


class InvalidOptionTypeError(QueuekitError, TypeError):
    """An option or argument has a type that can never work."""


class NotSerializableError(QueuekitError, TypeError):
    """Arguments, meta or a result hold something that cannot be written down."""


class UnreadableRecordError(QueuekitError, ValueError):
    """A job's record is damaged, foreign, or of a newer format."""


class SignatureError(UnreadableRecordError):
    """A record is not signed as its queue asks for."""


class QueueFullError(QueuekitError, RuntimeError):
    """As many jobs wait in the queue as its `max_waiting` allows; nothing was stored."""


class DuplicateJobError(QueuekitError, RuntimeError):
    """An unfinished job has the key; `job` is that job. Nothing was stored."""

    def __init__(self, message: str, job: Job) -> None:
        super().__init__(message)
        self.job = job


class JobNotFoundError(QueuekitError, RuntimeError):
    """There is no job of that key: it never was, or its record has expired."""


class JobStateError(QueuekitError, RuntimeError):
    """A job's status does not allow the move that was asked for."""


class LeaseLostError(QueuekitError, RuntimeError):
    """This run no longer holds its job: its lease ended, so it can change nothing of it."""


class TaskTimeoutError(QueuekitError, TimeoutError):
    """A task ran longer than its job's `timeout`."""


class TaskExitError(QueuekitError, RuntimeError):
    """A task called `sys.exit()`, or raised something else that ends programs."""


class TaskArgumentsError(QueuekitError, TypeError):
    """A job's arguments do not fit its task, so that no run of it can succeed."""


class HeartbeatMissedError(QueuekitError, TimeoutError):
    """A task did not call `job.update()` within its job's `heartbeat`."""


class UnknownFunctionError(QueuekitError, LookupError):
    """A job names a function that its worker was not given."""


class ServerError(QueuekitError):
    """Redis did not do what it was asked to: it was away, it refused, or it promised too little."""

    def __init__(self, message: str, *, may_have_happened: bool = False) -> None:
        super().__init__(message)
        self.may_have_happened = may_have_happened
        """Whether the command may have been executed all the same. False: it was not, and nothing
        was stored. True: a reply was lost, and nobody knows."""


class ServerUnreachableError(ServerError, ConnectionError):
    """There was no answer from Redis: no connection, a connection that was lost, or silence."""


class ServerRefusedError(ServerError):
    """Redis answered with a refusal, whose reason is `code`."""

    def __init__(self, message: str, *, code: str = "ERR", may_have_happened: bool = False) -> None:
        super().__init__(message, may_have_happened=may_have_happened)
        self.code = code
        "OOM, READONLY, MISCONF, NOPERM, NOAUTH, WRONGPASS, BUSY, LOADING, MAXCLIENTS, ..."


class NotReplicatedError(ServerError):
    """An enqueue under `durability="replica"` is stored, but no replica has acknowledged it in time."""


class TaskFailure(QueuekitError):  # noqa: N818 (a report of an error, not one of ours)
    """The failure of an earlier attempt, rebuilt from the job's record.

    `ctx["exception"]` of a retry is always of this type, whichever process ran the attempt before.
    """

    def __init__(self, type_name: str, message: str, traceback: str | None = None) -> None:
        super().__init__(f"{type_name}: {message}" if message else type_name)
        self.type_name = type_name
        "The class of the original exception, as `module.QualName` (built-ins without module)."
        self.message = message
        "Its text."
        self.traceback = traceback
        "Its traceback as text, at most 32 KiB."

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.type_name, self.message, self.traceback)

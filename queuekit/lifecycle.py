"""The rules of a job's life: which moves there are, and the arithmetic of retries and leases.

Two rules hold for this file. Every change of a status is an arrow of `TRANSITIONS`; the store's
scripts name the arrows they make in their heads, and a test compares both. And everything here is
values in, values out: no await, no clock, no chance, no Redis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from queuekit.errors import JobNotFoundError, JobStateError
from queuekit.job import TERMINAL_STATUSES, Job, Status

LEASE_MS = 30_000
"""How long a claim holds without a renewal. Long enough for a garbage collection or a failover,
short enough that a dead worker's jobs are not missed for long."""

SOLO_AFTER = 2
"""Losses after which a job runs alone in its process: should it be the one that kills processes, it takes
no neighbour along. Once is bad luck, and often a deploy."""

SOLO_WAIT_S = 30.0
"How long a worker that makes room for such a job lets its other jobs go on before it hands them back."

UNKNOWN_TRIES = 10
"""How often a job is handed back by workers that do not know its function, before it fails. With the pauses
of `unknown_delay_ms` these are some five minutes: a rolling deploy brings the function in that time."""

MAX_RETRY_DELAY_MS = 366 * 24 * 3_600_000
"No backoff grows beyond a year: doubling would overflow before anybody noticed."


class Event(StrEnum):
    """What happens to a job. Events are past; each moves it along one arrow."""

    ENQUEUED = "enqueued"
    CLAIMED = "claimed"
    COMPLETED = "completed"
    FAILED = "failed"
    RETRIED = "retried"
    RELEASED = "released"
    LOST = "lost"
    UNKNOWN = "unknown function"
    QUARANTINED = "quarantined"
    ABORT_REQUESTED = "abort requested"
    ABORTED = "aborted"


TRANSITIONS: Mapping[tuple[Status, Event], tuple[Status, ...]] = MappingProxyType(
    {
        (Status.NEW, Event.ENQUEUED): (Status.QUEUED,),
        (Status.QUEUED, Event.CLAIMED): (Status.ACTIVE,),
        (Status.QUEUED, Event.ABORTED): (Status.ABORTED,),
        # Its record is damaged, foreign or newer: it is set aside, where it can be seen.
        (Status.QUEUED, Event.QUARANTINED): (Status.FAILED,),
        (Status.ACTIVE, Event.COMPLETED): (Status.COMPLETE,),
        (Status.ACTIVE, Event.FAILED): (Status.FAILED,),
        (Status.ACTIVE, Event.RETRIED): (Status.QUEUED,),
        # A worker that shuts down hands its job back; nobody is charged.
        (Status.ACTIVE, Event.RELEASED): (Status.QUEUED,),
        (Status.ACTIVE, Event.LOST): (Status.QUEUED, Status.FAILED),
        # An old worker met a job of a newer release's: it is put back, so many times.
        (Status.ACTIVE, Event.UNKNOWN): (Status.QUEUED, Status.FAILED),
        (Status.ACTIVE, Event.QUARANTINED): (Status.FAILED,),
        (Status.ACTIVE, Event.ABORT_REQUESTED): (Status.ABORTING,),
        # Once an abort is acknowledged, no other end is accepted: whatever the run does, it is aborted.
        (Status.ABORTING, Event.ABORT_REQUESTED): (Status.ABORTING,),
        (Status.ABORTING, Event.ABORTED): (Status.ABORTED,),
        (Status.ABORTING, Event.LOST): (Status.ABORTED,),
    }
)
"""The arrows: from a status, by an event, to one of these. Terminal statuses have none.

An explicit `retry` of a finished job, or an `enqueue` with its key, begins a new life: it is an
ENQUEUED of a new record, not an arrow out of a terminal status.
"""


def allowed(status: Status, event: Event) -> bool:
    """Whether `event` may happen to a job of that status."""
    return (status, event) in TRANSITIONS


def refusal(key: str, status: Status, verb: str) -> JobStateError:
    """The error for a move that the table does not have; `verb` is a past participle."""
    if status in TERMINAL_STATUSES:
        return JobStateError(
            f"job {key!r} is {status} and cannot be {verb}.\n"
            f"  {status.value!r} is final: a finished job never changes.\n"
            "  To run it again, enqueue its key anew or call retry()."
        )
    expected = sorted({source.value for source, _ in TRANSITIONS} - {status.value})
    return JobStateError(
        f"job {key!r} is {status} and cannot be {verb}.\n"
        f"  That is possible for a job that is {' or '.join(expected)}.\n"
        "  Read it again with refresh(): another process may have moved it."
    )


def missing(job: Job) -> JobNotFoundError:
    """The error for a job that is not there."""
    return JobNotFoundError(
        f"there is no job {job.id!r}.\n"
        "  It was never enqueued, or it is finished and its record's ttl is over.\n"
        "  ttl=0 keeps records for ever."
    )


@dataclass(frozen=True)
class RetryPolicy:
    """How often a job may fail, and how long it rests between runs."""

    retries: int
    delay_ms: int
    backoff: bool | int
    "False: always the same delay; True: doubled each time; a number: doubled up to so many ms."

    @classmethod
    def of(cls, job: Job) -> RetryPolicy:
        """The part of a job that decides about its retries."""
        backoff = job.retry_backoff
        return cls(
            retries=job.retries,
            delay_ms=round(job.retry_delay * 1000),
            backoff=backoff if isinstance(backoff, bool) else round(backoff * 1000),
        )


def after_failure(policy: RetryPolicy, failures: int) -> Event:
    """What a failed run leads to; `failures` counts this one."""
    return Event.RETRIED if failures < policy.retries else Event.FAILED


def after_loss(losses: int, max_lost: int) -> Status:
    """Where a job goes whose run was lost; `losses` counts this one."""
    return Status.QUEUED if losses <= max_lost else Status.FAILED


def runs_alone(losses: int) -> bool:
    """Whether a job that was lost so often is to run alone in its process."""
    return losses >= SOLO_AFTER


def after_unknown(tries: int) -> Status:
    """Where a job goes whose function its worker does not know; `tries` counts this time."""
    return Status.QUEUED if tries <= UNKNOWN_TRIES else Status.FAILED


def unknown_delay_ms(tries: int) -> int:
    """The pause before another worker looks: doubled from a second up to a minute."""
    return min(1000 << min(tries - 1, 6), 60_000)


def retry_delay_ms(policy: RetryPolicy, unsuccessful: int) -> tuple[int, bool]:
    """The upper bound of the pause before the next run, and whether it is to be jittered.

    Exponential backoff with full jitter (Brooker, "Exponential Backoff And Jitter", 2015): the
    delay is drawn between zero and `delay * 2 ** (n - 1)` after the n-th unsuccessful run. The draw
    is the caller's, since chance has no place here.
    """
    if policy.backoff is False:
        return policy.delay_ms, False
    cap = MAX_RETRY_DELAY_MS if policy.backoff is True else policy.backoff
    # The exponent is bounded so that a job of many thousand retries does not build a huge integer.
    doubled = policy.delay_ms << min(max(unsuccessful - 1, 0), 64)
    return min(doubled, cap, MAX_RETRY_DELAY_MS), True

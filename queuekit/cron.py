"""When a schedule ticks. The moments come from croniter; here is what they mean for us."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from croniter import CroniterBadDateError, CroniterError, croniter

from queuekit.errors import InvalidOptionError, InvalidOptionTypeError
from queuekit.job import CronJob, Job
from queuekit.options import MAX_JOB_KEY_BYTES, check, function_name

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Schedule:
    """A cron job with its identity and its time zone."""

    id: str
    expression: str
    zone: tzinfo
    unique: bool
    make_job: Callable[[str], Job]

    def next_tick_ms(self, after_ms: int) -> int:
        """The first tick later than this moment, both in epoch milliseconds."""
        return next_tick_ms(self.expression, self.zone, after_ms)

    def job_at(self, tick_ms: int) -> Job:
        """The job of one tick. Its key names the tick, so that it is enqueued once."""
        return self.make_job(f"cron:{self.id}:{tick_ms}")


def next_tick_ms(expression: str, zone: tzinfo, after_ms: int) -> int:
    """The first tick of a cron expression later than this moment, in epoch milliseconds."""
    # Not fromtimestamp(): the machine's range and a frozen clock's own class are none of our business.
    after = (_EPOCH + timedelta(milliseconds=after_ms)).astimezone(zone)
    return round(croniter(expression, after).get_next(float) * 1000)


def make_schedule(cron_job: CronJob, zone: tzinfo) -> Schedule:
    """The schedule of a cron job, checked.

    Raises:
        InvalidOptionError: a bad expression, one that never comes, or a bad option.
    """
    if not callable(cron_job.function):
        raise InvalidOptionTypeError(
            f"the function of a CronJob must be a task, got {cron_job.function!r}.\n"
            "  Pass the function itself: CronJob(cleanup, cron='0 0 * * *')."
        )
    _check_expression(cron_job.cron, zone)
    options = {
        name: value
        for name in ("timeout", "heartbeat", "retries", "ttl", "retry_delay", "retry_backoff")
        if (value := getattr(cron_job, name)) is not None
    }

    def make_job(key: str) -> Job:
        return Job(
            function=function_name(cron_job.function),
            kwargs=dict(cron_job.kwargs) if cron_job.kwargs else None,
            key=key,
            **options,
        )

    check(make_job("cron"))
    return Schedule(
        id=_identity(cron_job),
        expression=cron_job.cron,
        zone=zone,
        unique=cron_job.unique,
        make_job=make_job,
    )


def _check_expression(expression: object, zone: tzinfo) -> None:
    try:
        if not isinstance(expression, str):
            raise InvalidOptionTypeError(f"cron={expression!r} is no cron expression.")
        next_tick_ms(expression, zone, 1_700_000_000_000)
    except CroniterBadDateError as error:
        raise InvalidOptionError(
            f"cron={expression!r} never comes: {error}.\n  Check day and month."
        ) from error
    except (CroniterError, ValueError, KeyError) as error:
        raise InvalidOptionError(
            f"cron={expression!r} is no cron expression: {error}.\n"
            "  It has five fields (minute hour day month weekday), or six with seconds last."
        ) from error


def _identity(cron_job: CronJob) -> str:
    if cron_job.name is not None:
        identity = cron_job.name
    else:
        identity = f"{function_name(cron_job.function)}:{cron_job.cron}"
        if cron_job.kwargs:
            written = json.dumps(cron_job.kwargs, sort_keys=True, default=repr)
            identity += f":{hashlib.sha256(written.encode()).hexdigest()[:12]}"
    if not identity or len(identity.encode()) > MAX_JOB_KEY_BYTES - 30:
        raise InvalidOptionError(
            f"{identity[:80]!r} cannot name a schedule: it is empty, or too long for a job's key.\n"
            "  Give the CronJob a short name=."
        )
    return identity


def distinct(schedules: list[Schedule]) -> list[Schedule]:
    """The schedules, or an error when two have one identity."""
    seen: set[str] = set()
    for schedule in schedules:
        if schedule.id in seen:
            raise InvalidOptionError(
                f"two cron jobs are called {schedule.id!r}.\n"
                "  Their ticks would be taken for each other's; give each a name= of its own."
            )
        seen.add(schedule.id)
    return schedules


def fires_between(cron_job: CronJob, zone: tzinfo, begin_ms: int, end_ms: int) -> list[int]:
    """All ticks in (begin, end], in epoch milliseconds: a dry run."""
    ticks: list[Any] = []
    tick = next_tick_ms(cron_job.cron, zone, begin_ms)
    while tick <= end_ms:
        ticks.append(tick)
        tick = next_tick_ms(cron_job.cron, zone, tick)
    return ticks

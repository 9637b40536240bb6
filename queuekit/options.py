"""From the arguments of `enqueue` to a job, checked before anything is written."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from queuekit.environment import environment
from queuekit.errors import InvalidOptionError, InvalidOptionTypeError
from queuekit.job import OPTIONS, RESERVED, Job
from queuekit.text import clip, repr_of

MAX_QUEUE_NAME = 128
"Characters; a name is part of every key."

MAX_JOB_KEY_BYTES = 512
"UTF-8 bytes; the key is stored four times."

MAX_RETRIES = 10_000
"More runs than this are a loop, not a retry."

MAX_SECONDS = 10 * 366 * 24 * 3600
"Ten years: the longest timeout, heartbeat, delay or ttl."

MAX_HORIZON_S = MAX_SECONDS
"How far ahead a job may be scheduled, from now: later than that is a mistake of units."

MIN_PRIORITY, MAX_PRIORITY = -32_768, 32_767
"Of `priority`, as in SAQ: each one owns a band of the order in which jobs start."

MAX_GROUP_KEY_BYTES = 256
"UTF-8 bytes; a group's name stands beside each of its jobs that waits."

MAX_MAX_LOST = 100
"A job that costs more processes than this is no longer unlucky."


def function_name(function: Callable[..., Any]) -> str:
    """The name under which a task is found: its qualified name, without an enclosing function's."""
    if isinstance(function, functools.partial):
        return function_name(function.func)
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name.rpartition("<locals>.")[2]


def make_job(what: str | Callable[..., Any] | Job, arguments: Mapping[str, Any]) -> Job:
    """The job that `enqueue(what, **arguments)` means.

    Keywords that are options of a job are options, the rest are the task's arguments. A task whose
    own parameters have an option's name gets them through `kwargs={...}`, which is never mistaken.

    Raises:
        InvalidOptionError, InvalidOptionTypeError: an option that can never work.
    """
    options = {name: value for name, value in arguments.items() if name in OPTIONS}
    explicit = arguments.get("kwargs")
    loose = {
        name: value for name, value in arguments.items() if name not in OPTIONS and name != "kwargs"
    }
    _refuse_reserved(loose)
    if explicit is not None and not isinstance(explicit, Mapping):
        raise InvalidOptionTypeError(
            f"kwargs={_shown(explicit)} is no mapping.\n"
            "  It holds the task's arguments by name: kwargs={'order': 42}."
        )
    job = _job(what)
    for name, value in options.items():
        setattr(job, name, value)
    if explicit is not None or loose:
        job.kwargs = {**(job.kwargs or {}), **(explicit or {}), **loose}
    check(job)
    return job


def anew(job: Job) -> Job:
    """The same work under the same key and options, as a job to which nothing has happened yet."""
    options = {name: getattr(job, name) for name in OPTIONS - {"scheduled", "progress"}}
    return Job(job.function, kwargs=job.kwargs, **options)


def _job(what: str | Callable[..., Any] | Job) -> Job:
    if isinstance(what, Job):
        return what
    if isinstance(what, str) and what:
        return Job(function=what)
    if callable(what):
        return Job(function=function_name(what))
    raise InvalidOptionTypeError(
        f"{_shown(what)} ({type(what).__name__}) is no task.\n"
        "  Pass the name of a task, the task itself, or a Job."
    )


def _refuse_reserved(arguments: Mapping[str, Any]) -> None:
    for name in arguments:
        if name in RESERVED and name != "function":
            raise InvalidOptionTypeError(
                f"{name}={_shown(arguments[name])} cannot be set: only queuekit sets a job's {name}.\n"
                f"  Options are {', '.join(sorted(OPTIONS))}.\n"
                f"  If it is an argument of the task, pass kwargs={{{name!r}: ...}}."
            )


def check(job: Job) -> None:
    """Refuse a job that could never run as asked."""
    check_job_key(job.key)
    if job.timeout is not None:
        _number("timeout", job.timeout, 0)
    _number("heartbeat", job.heartbeat, 0)
    _number("retry_delay", job.retry_delay, 0)
    if not isinstance(job.retry_backoff, bool):
        _number("retry_backoff", job.retry_backoff, 0)
    _whole("retries", job.retries, 0, MAX_RETRIES)
    _whole("ttl", job.ttl, -1, MAX_SECONDS)
    _whole("priority", job.priority, MIN_PRIORITY, MAX_PRIORITY)
    _whole("max_lost", job.max_lost, 0, MAX_MAX_LOST)
    _number("progress", job.progress, 0, 1)
    if job.group_key is not None:
        check_name(
            "group_key",
            job.group_key,
            MAX_GROUP_KEY_BYTES,
            "Leave it out for no group.",
        )
    due_of(job.scheduled)
    for name, value in (("meta", job.meta), ("kwargs", job.kwargs or {})):
        if not isinstance(value, Mapping):
            raise InvalidOptionTypeError(
                f"{name}={_shown(value)} ({type(value).__name__}) is no mapping.\n"
                f"  Pass a dictionary: {name}={{'name': value}}."
            )


def _number(name: str, value: Any, least: float, most: float = MAX_SECONDS) -> None:
    unit = " (seconds)" if most == MAX_SECONDS else ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOptionTypeError(
            f"{name}={_shown(value)} ({type(value).__name__}) is no number.\n"
            f"  Pass a number from {least:g} to {most:g}{unit}."
        )
    if not math.isfinite(value) or not least <= value <= most:
        raise InvalidOptionError(
            f"{name}={value!r} is out of range.\n  Pass a number from {least:g} to {most:g}{unit}."
        )


def _whole(name: str, value: Any, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidOptionTypeError(
            f"{name}={_shown(value)} ({type(value).__name__}) is no whole number.\n"
            f"  Pass one from {least} to {most}."
        )
    if not least <= value <= most:
        raise InvalidOptionError(
            f"{name}={value!r} is out of range.\n  Pass a whole number from {least} to {most}."
        )


def _shown(value: object) -> str:
    return clip(repr_of(value), 80)


def check_queue_name(name: object) -> str:
    """The name, or an error: it must not be empty, nor hold braces (they move the hash tag)."""
    if not isinstance(name, str):
        raise InvalidOptionTypeError(
            f"a queue's name must be text, got {name!r} ({type(name).__name__})."
        )
    bad = [character for character in name if character in "{}" or ord(character) < 32]
    if not name or len(name) > MAX_QUEUE_NAME or bad:
        raise InvalidOptionError(
            f"{name[:80]!r} cannot name a queue.\n"
            f"  A name has 1 to {MAX_QUEUE_NAME} characters, no control characters and no braces "
            "(they decide where Redis Cluster puts a key).\n"
            "  Choose another name."
        )
    return name


def check_max_waiting(most: object) -> int | None:
    """The limit, or an error: a whole number from 1, or None for no limit."""
    if most is None:
        return None
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise InvalidOptionError(
            f"max_waiting={_shown(most)} is no limit.\n  Pass a whole number from 1, or None for no limit."
        )
    return most


def check_job_key(key: object) -> str:
    """The key, or an error: text of 1 to 512 bytes without control characters."""
    return check_name(
        "key", key, MAX_JOB_KEY_BYTES, "Leave it out to have one made up, or hash a long one."
    )


def check_name(option: str, name: object, most: int, advice: str) -> str:
    """The name, or an error: text of 1 to `most` bytes without control characters."""
    if not isinstance(name, str):
        raise InvalidOptionTypeError(
            f"{option} must be text, got {_shown(name)} ({type(name).__name__}).\n  {advice}"
        )
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidOptionError(
            f"{option} {name!r} is no valid Unicode text.\n  {advice}"
        ) from error
    if not 1 <= size <= most or any(ord(character) < 32 for character in name):
        raise InvalidOptionError(
            f"{option} {name[:80]!r} has {size} bytes.\n"
            f"  It has 1 to {most} bytes of UTF-8 and no control characters.\n"
            f"  {advice}"
        )
    return name


def due_of(scheduled: float | datetime | timedelta) -> tuple[int, int]:
    """When a job may start: (epoch ms, ms from now), each 0 when not meant.

    A timedelta is left to the server, so that hosts with different clocks agree on it.

    Raises:
        InvalidOptionError, InvalidOptionTypeError: no such moment.
    """
    if isinstance(scheduled, timedelta):
        _within_horizon(scheduled, scheduled.total_seconds())
        return 0, max(0, _milliseconds(scheduled.total_seconds()))
    if isinstance(scheduled, datetime):
        if scheduled.tzinfo is None:
            raise InvalidOptionError(
                f"scheduled={scheduled!r} has no time zone, so it names no moment.\n"
                "  Pass an aware datetime (datetime.now(UTC) + ...), a timedelta, or epoch seconds."
            )
        _within_horizon(scheduled, scheduled.timestamp() - environment().time_ms() / 1000)
        return max(0, _milliseconds(scheduled.timestamp())), 0
    if isinstance(scheduled, bool) or not isinstance(scheduled, int | float):
        raise InvalidOptionTypeError(
            f"scheduled={scheduled!r} ({type(scheduled).__name__}) is no moment.\n"
            "  Pass epoch seconds, an aware datetime, or a timedelta from now."
        )
    if not math.isfinite(scheduled) or not 0 <= scheduled < _YEAR_2200_S:
        raise InvalidOptionError(
            f"scheduled={scheduled!r} is outside 1970 to 2200.\n"
            "  Pass epoch seconds (milliseconds are too large by a thousand)."
        )
    _within_horizon(scheduled, scheduled - environment().time_ms() / 1000)
    return _milliseconds(scheduled), 0


def _within_horizon(scheduled: object, ahead_s: float) -> None:
    if ahead_s > MAX_HORIZON_S:
        raise InvalidOptionError(
            f"scheduled={_shown(scheduled)} is {ahead_s / 86_400:,.0f} days ahead.\n"
            f"  At most {MAX_HORIZON_S // 86_400:,} days are accepted.\n"
            "  Check the unit; let a cron job enqueue what comes later than that."
        )


_YEAR_2200_S = 7_258_118_400


def _milliseconds(seconds: float) -> int:
    # Up, not down: a job that is due at .0005 must not start at .000 (never early).
    return math.ceil(round(seconds * 1000, 3))

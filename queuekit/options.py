"""From the arguments of `enqueue` to a job, checked before anything is written."""

from __future__ import annotations

import copy
import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, cast

from queuekit.environment import environment
from queuekit.errors import InvalidOptionError, InvalidOptionTypeError, QueuekitError
from queuekit.job import OPTIONS, RESERVED, Job, Status
from queuekit.text import breaks_lines, clip, repr_of

MAX_QUEUE_NAME = 128
"Characters; a name is part of every key."

MAX_FUNCTION_BYTES = 512
"UTF-8 bytes of a task's name: a qualified name, not a text."

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

MAX_MAX_WAITING = 2**36
"Of `max_waiting`: so many jobs have a place of their own in the order of one priority."

MAX_OFFSET = 2**53
"Where a page may begin: further than any queue is long."

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
    if explicit is not None:
        check_mapping("kwargs", explicit)
    job = _job(what)
    if options.get("key", "") is None:
        options["key"] = environment().new_id()
    if explicit is not None or loose:
        options["kwargs"] = {
            **check_mapping("kwargs", job.kwargs or {}),
            **(explicit or {}),
            **loose,
        }
    # A Job that was handed over stays as it is when an option is refused.
    for draft in (copy.copy(job), job) if job is what else (job,):
        for name, value in options.items():
            setattr(draft, name, value)
        check(draft)
    return job


def make_jobs(
    what: str | Callable[..., Any] | Job,
    items: Iterable[Mapping[str, Any]],
    common: Mapping[str, Any],
) -> list[Job]:
    """The jobs of one `map`, each with a key of its own.

    Raises:
        InvalidOptionError, InvalidOptionTypeError: as `make_job`; a note says which item it was.
    """
    if isinstance(items, Mapping | str | bytes) or not isinstance(items, Iterable):
        raise InvalidOptionTypeError(
            f"iter_kwargs={_shown(items)} ({type(items).__name__}) is no list of mappings.\n"
            "  It has the arguments of one job in each item.\n"
            "  Pass a list of dictionaries: map('send', [{'to': 1}, {'to': 2}])."
        )
    jobs: dict[str, Job] = {}
    for number, item in enumerate(items):
        try:
            job = make_job(what, {**common, **check_mapping(f"iter_kwargs[{number}]", item)})
        except QueuekitError as error:
            error.add_note(f"in item {number} of map()")
            raise
        if job.key in jobs:
            raise InvalidOptionError(
                f"two jobs of one map() have the same key {_shown(job.key)}; item {number} is the second.\n"
                "  Of jobs with one key, one at most is unfinished.\n"
                "  Give each item a key of its own, or none."
            )
        jobs[job.key] = job
    return list(jobs.values())


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
        "  What is enqueued is one run of a task.\n"
        "  Pass the name of a task, the task itself, or a Job."
    )


def _refuse_reserved(arguments: Mapping[str, Any]) -> None:
    for name in arguments:
        if name == "on_duplicate":  # enqueue() has taken its own
            raise InvalidOptionTypeError(
                f"on_duplicate={_shown(arguments[name])} is an option of enqueue() alone.\n"
                "  apply() and map() wait for the job that has the key, whoever enqueued it.\n"
                "  If it is an argument of the task, pass kwargs={'on_duplicate': ...}."
            )
        if name in RESERVED and name != "function":
            raise InvalidOptionTypeError(
                f"{name}={_shown(arguments[name])} cannot be set: only queuekit sets a job's {name}.\n"
                f"  Options are {', '.join(sorted(OPTIONS))}.\n"
                f"  If it is an argument of the task, pass kwargs={{{name!r}: ...}}."
            )


def check(job: Job) -> None:
    """Refuse a job that could never run as asked."""
    check_job_key(job.key)
    check_call(job)
    due_of(job.scheduled)


def check_call(job: Job) -> None:
    """Refuse what could never run: a task's name, arguments or options that cannot be."""
    check_name(
        "function", job.function, MAX_FUNCTION_BYTES, "Pass the name of a task, or the task itself."
    )
    if job.timeout is not None:
        check_number("timeout", job.timeout, 0)
    check_number("heartbeat", job.heartbeat, 0)
    check_number("retry_delay", job.retry_delay, 0)
    if not isinstance(job.retry_backoff, bool):
        check_number("retry_backoff", job.retry_backoff, 0)
    check_whole("retries", job.retries, 0, MAX_RETRIES)
    check_whole("ttl", job.ttl, -1, MAX_SECONDS)
    check_whole("priority", job.priority, MIN_PRIORITY, MAX_PRIORITY)
    check_whole("max_lost", job.max_lost, 0, MAX_MAX_LOST)
    check_number("progress", job.progress, 0, 1)
    if job.group_key is not None:
        check_name(
            "group_key",
            job.group_key,
            MAX_GROUP_KEY_BYTES,
            "Leave it out for no group.",
        )
    check_mapping("meta", job.meta)
    for name in check_mapping("kwargs", {} if job.kwargs is None else job.kwargs):
        if not isinstance(name, str):
            raise InvalidOptionTypeError(
                f"kwargs has the name {_shown(name)} ({type(name).__name__}).\n"
                "  A task's arguments have names, which are text: kwargs={'order': 42}.\n"
                "  Pass a mapping with other keys as one of the arguments."
            )


def check_mapping(name: str, value: Any) -> Mapping[Any, Any]:
    """The mapping, or an error."""
    if isinstance(value, Mapping):
        return value
    raise InvalidOptionTypeError(
        f"{name}={_shown(value)} ({type(value).__name__}) is no mapping.\n"
        f"  It holds values by name.\n"
        f"  Pass a dictionary: {name}={{'name': value}}."
    )


_ADVICE = {
    "timeout": "None or 0 means no limit.",
    "heartbeat": "0 means that none is asked for.",
    "retries": "1 means that there is no second run.",
    "ttl": "0 keeps the finished job's record for ever, -1 not at all.",
    "retry_delay": "0 means at once.",
    "retry_backoff": "True doubles the delay with each failure; a number is its maximum.",
    "priority": "A lower number starts first; 0 is in the middle.",
    "max_lost": "0 means that a job whose worker dies has failed.",
    "max_waiting": "None means no limit.",
    "progress": "It is a share of the whole: 0.5 is half.",
}
"What to do instead, by option."


def check_number(name: str, value: Any, least: float, most: float = MAX_SECONDS) -> float:
    """The number, or an error: from `least` to `most`, neither NaN nor a truth value."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and least <= value <= most:  # NaN is not
        return cast("float", value)
    unit = " of seconds" if most == MAX_SECONDS else ""
    expected = f"a number{unit} from {least:g} to {most:.15g}"
    if not is_number:
        raise InvalidOptionTypeError(_refusal(name, value, "is no number", expected))
    raise InvalidOptionError(_refusal(name, value, "is out of range", expected))


def check_whole(name: str, value: Any, least: int, most: int) -> int:
    """The whole number, or an error: from `least` to `most`, and no truth value."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if is_whole and least <= value <= most:
        return int(value)
    expected = f"a whole number from {least} to {most}"
    if not is_whole:
        raise InvalidOptionTypeError(_refusal(name, value, "is no whole number", expected))
    raise InvalidOptionError(_refusal(name, value, "is out of range", expected))


def _refusal(name: str, value: object, wrong: str, expected: str) -> str:
    advice = _ADVICE.get(name, "Leave it out for the default.")
    kind = f" ({type(value).__name__})" if wrong.startswith("is no") else ""
    return f"{name}={_shown(value)}{kind} {wrong}.\n  It is {expected}.\n  {advice}"


def check_callable(name: str, value: object, advice: str) -> None:
    """An error unless it can be called."""
    if not callable(value):
        raise InvalidOptionTypeError(
            f"{name}={_shown(value)} ({type(value).__name__}) cannot be called.\n"
            f"  It is a function.\n"
            f"  {advice}"
        )


def check_statuses(statuses: Iterable[Status] | None) -> set[Status]:
    """These statuses, or all; an error for what is none."""
    try:
        return set(Status) if statuses is None else {Status(status) for status in statuses}
    except (ValueError, TypeError) as error:
        raise InvalidOptionError(
            f"statuses={_shown(statuses)} are no statuses: {error}.\n"
            f"  A status is one of {', '.join(Status)}.\n"
            "  Pass a list of them, or None for all: iter_jobs([Status.FAILED])."
        ) from error


def _can_be_stored(key: str) -> bool:
    """Whether it can be written as UTF-8, or is bytes of Redis's that are none; half of a pair is neither."""
    try:
        key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def keys_of(job_keys: Iterable[str]) -> list[str]:
    """The keys of jobs that are asked for; an error for what is no key at all."""
    if not isinstance(job_keys, str | bytes) and isinstance(job_keys, Iterable):
        keys = list(job_keys)
        strange = [key for key in keys if not isinstance(key, str) or not _can_be_stored(key)]
        if not strange:
            return keys
        job_keys = strange[0]
    raise InvalidOptionTypeError(
        f"{_shown(job_keys)} ({type(job_keys).__name__}) is no list of keys.\n"
        "  A job is asked for by its key, which is text that UTF-8 can hold.\n"
        "  Pass job.key: queue.job(job.key), queue.jobs([job.key])."
    )


def check_job(what: str, job: object) -> None:
    """Raises InvalidOptionTypeError for what is no job."""
    if not isinstance(job, Job):
        raise InvalidOptionTypeError(
            f"{what}({_shown(job)}) ({type(job).__name__}): that is no job.\n"
            "  It is a Job, as enqueue() and queue.job(key) give it.\n"
            "  queue.job(key) is None when there is no job of that key."
        )


def check_text(name: str, value: Any, advice: str) -> str:
    """The text, or an error. What of it cannot be stored is escaped when it is."""
    if isinstance(value, str):
        return value
    raise InvalidOptionTypeError(
        f"{name}={_shown(value)} ({type(value).__name__}) is no text.\n  It is text (str).\n  {advice}"
    )


def _shown(value: object) -> str:
    return clip(repr_of(value), 80)


_NOT_IN_QUEUE_NAMES = frozenset("{}*?[]\\")
"""Braces decide where Redis Cluster puts a key; the others are patterns in an ACL, so that whoever may use a
queue of such a name might use others too."""


def check_queue_name(name: object) -> str:
    """The name, or an error: no braces, patterns, white space or control characters."""
    if not isinstance(name, str):
        raise InvalidOptionTypeError(
            f"a queue's name must be text, got {_shown(name)} ({type(name).__name__}).\n"
            "  It is a part of every key of the queue's in Redis.\n"
            "  Pass name='mails', or leave it out for 'default'."
        )
    bad = breaks_lines(name) or any(
        character in _NOT_IN_QUEUE_NAMES or character.isspace() for character in name
    )
    if not name or len(name) > MAX_QUEUE_NAME or bad or not _is_unicode(name):
        raise InvalidOptionError(
            f"{_shown(name)} cannot name a queue.\n"
            f"  A name has 1 to {MAX_QUEUE_NAME} characters, none of them white space, a control character "
            "or one of {}*?[]\\.\n"
            "  Choose another name."
        )
    return name


def check_max_waiting(most: object) -> int | None:
    """The limit, or an error: a whole number from 1, or None for no limit."""
    if most is None:
        return None
    return check_whole("max_waiting", most, 1, MAX_MAX_WAITING)


def check_job_key(key: object) -> str:
    """The key, or an error: text of 1 to 512 bytes without control characters."""
    return check_name(
        "key", key, MAX_JOB_KEY_BYTES, "Leave it out to have one made up, or hash a long one."
    )


def check_name(option: str, name: object, most: int, advice: str) -> str:
    """The name, or an error: text of 1 to `most` bytes without control characters."""
    if not isinstance(name, str):
        raise InvalidOptionTypeError(
            f"{option} must be text, got {_shown(name)} ({type(name).__name__}).\n"
            f"  It has 1 to {most} bytes of UTF-8 and no control characters.\n"
            f"  {advice}"
        )
    if not _is_unicode(name):
        raise InvalidOptionError(
            f"{option} {_shown(name)} is no valid Unicode text.\n"
            f"  It has 1 to {most} bytes of UTF-8 and no control characters.\n"
            f"  {advice}"
        )
    size = len(name.encode())
    if not 1 <= size <= most or breaks_lines(name):
        raise InvalidOptionError(
            f"{option} {_shown(name)} has {size} bytes.\n"
            f"  It has 1 to {most} bytes of UTF-8 and no control characters.\n"
            f"  {advice}"
        )
    return name


_SURROGATE = re.compile("[\ud800-\udfff]")


def _is_unicode(text: str) -> bool:
    """Whether it can be written: a lone surrogate cannot."""
    return _SURROGATE.search(text) is None


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
                f"scheduled={_shown(scheduled)} has no time zone, so it names no moment.\n"
                "  A job is due at a moment, wherever its worker is.\n"
                "  Pass an aware datetime (datetime.now(UTC) + ...), a timedelta, or epoch seconds."
            )
        return max(0, _milliseconds(_moment(scheduled, scheduled.timestamp()))), 0
    if isinstance(scheduled, bool) or not isinstance(scheduled, int | float):
        raise InvalidOptionTypeError(
            f"scheduled={_shown(scheduled)} ({type(scheduled).__name__}) is no moment.\n"
            "  A moment is epoch seconds, an aware datetime, or a timedelta from now.\n"
            "  Pass one of these; text must be parsed first."
        )
    if not 0 <= scheduled < _YEAR_2200_S:  # nor is NaN
        raise InvalidOptionError(
            f"scheduled={_shown(scheduled)} is outside 1970 to 2200.\n"
            "  A moment is given in seconds since 1970.\n"
            "  Pass epoch seconds (milliseconds are too large by a thousand)."
        )
    return _milliseconds(_moment(scheduled, scheduled)), 0


def _moment(scheduled: object, epoch_s: float) -> float:
    now_s = environment().time_ms() / 1000
    if 0 < epoch_s < _YEAR_1971_S <= now_s:
        raise InvalidOptionError(
            f"scheduled={_shown(scheduled)} is a moment of the year 1970.\n"
            "  Numbers are seconds since 1970, not from now.\n"
            "  Pass a timedelta for a pause from now: scheduled=timedelta(seconds=60)."
        )
    _within_horizon(scheduled, epoch_s - now_s)
    return epoch_s


def _within_horizon(scheduled: object, ahead_s: float) -> None:
    if ahead_s > MAX_HORIZON_S:
        raise InvalidOptionError(
            f"scheduled={_shown(scheduled)} is {ahead_s / 86_400:,.0f} days ahead.\n"
            f"  At most {MAX_HORIZON_S // 86_400:,} days are accepted.\n"
            "  Check the unit; let a cron job enqueue what comes later than that."
        )


_YEAR_1971_S = 31_536_000
_YEAR_2200_S = 7_258_118_400


def _milliseconds(seconds: float) -> int:
    # Up, not down: a job that is due at .0005 must not start at .000 (never early).
    return math.ceil(round(seconds * 1000, 3))

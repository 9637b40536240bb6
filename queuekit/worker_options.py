"""A worker's options, checked when it is built: none of them is found to be wrong at night."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

from queuekit.errors import InvalidOptionError, InvalidOptionTypeError
from queuekit.job import CronJob
from queuekit.options import check_name, check_number, check_whole
from queuekit.queue import Queue
from queuekit.text import clip, repr_of, text_of
from queuekit.types import Context, LifecycleFunctionsType, TimersDict

MAX_CONCURRENCY = 10_000
"Jobs of one worker at a time: each has a lease to renew, and a slot. More work is for more workers."

MAX_LEASE_S = 24 * 3600
"A day: so long a dead worker's jobs would be missed."

MAX_WAIT_S = 7 * 24 * 3600
"A week: the longest time that a worker may be told to wait for its jobs, or between two looks."

MAX_WORKER_ID_BYTES = 128
"UTF-8 bytes of a worker's name; it stands beside each job that it runs."

MAX_METADATA_BYTES = 64 * 1024
"Of a worker's metadata: all workers' are read with each look at the queue."

TIMERS = ("schedule", "worker_info", "sweep", "abort")


def check_cron_jobs(cron_jobs: object) -> None:
    """Refuse what is no collection of cron jobs."""
    given = list(cron_jobs) if isinstance(cron_jobs, Iterable) else [cron_jobs]
    strange = [each for each in given if not isinstance(each, CronJob)]
    if strange or not isinstance(cron_jobs, Iterable):
        wrong = (strange or given)[0]
        raise InvalidOptionTypeError(
            f"cron_jobs={clip(repr_of(wrong), 80)} is no list of cron jobs.\n"
            "  It is a list of CronJob.\n"
            '  cron_jobs=[CronJob(function, cron="* * * * *")]'
        )


def check_worker(
    queue: object,
    concurrency: object,
    max_burst_jobs: object,
    lease_s: object,
    worker_id: object,
    metadata: object,
) -> None:
    """Refuse a worker that could never work as asked."""
    if not isinstance(queue, Queue):
        raise InvalidOptionTypeError(
            f"queue={clip(repr_of(type(queue).__name__), 80)} is no queue.\n"
            "  A worker takes its jobs from a Queue.\n"
            "  Pass queue=Queue.from_url('redis://localhost')."
        )
    check_whole("concurrency", concurrency, 1, MAX_CONCURRENCY)
    if max_burst_jobs is not None:
        check_whole("max_burst_jobs", max_burst_jobs, 1, 2**53)
    # It is renewed at a third of its time: a shorter one would be lost by a busy loop.
    check_number("lease_s", lease_s, 1, MAX_LEASE_S)
    if worker_id is not None:
        check_name("id", worker_id, MAX_WORKER_ID_BYTES, "Leave it out to have one made up.")
    _check_metadata(metadata)


def check_seconds(**seconds: object) -> None:
    """Refuse what is no time to wait; the grace period alone may be None."""
    for name, value in seconds.items():
        if value is not None or name != "shutdown_grace_period_s":
            check_number(name, value, 0, MAX_WAIT_S)


def _check_metadata(metadata: object) -> None:
    if metadata is None:
        return
    try:
        size = len(json.dumps(metadata, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOptionTypeError(
            f"metadata={clip(repr_of(metadata), 80)} cannot be told to others: {text_of(error)}.\n"
            "  It is shown with the worker's statistics, as JSON.\n"
            "  Pass plain JSON values: metadata={'host': 'web-1'}."
        ) from error
    if not isinstance(metadata, dict) or size > MAX_METADATA_BYTES:
        raise InvalidOptionError(
            f"metadata ({type(metadata).__name__}) takes {size:,} bytes.\n"
            f"  It is a dictionary of at most {MAX_METADATA_BYTES:,} bytes as JSON.\n"
            "  Tell less, or where more can be found."
        )


def checked_timers(timers: TimersDict | None) -> dict[str, float]:
    """The bounds that were given, by name."""
    if timers is not None and not isinstance(timers, dict):
        raise InvalidOptionTypeError(
            f"timers={clip(repr_of(timers), 80)} ({type(timers).__name__}) is no dictionary.\n"
            f"  It holds seconds by name; known are {', '.join(TIMERS)}.\n"
            "  Leave it out for the defaults."
        )
    checked: dict[str, float] = {}
    for name, seconds in (timers or {}).items():
        if name not in TIMERS:
            raise InvalidOptionError(
                f"there is no timer {name!r}.\n"
                f"  Known are {', '.join(TIMERS)}.\n"
                "  Leave it out: what it was for in SAQ happens when it is due."
            )
        checked[name] = float(check_number(f"timers[{name!r}]", seconds, 0.001, MAX_WAIT_S))
    return checked


def checked_hooks(
    option: str, given: LifecycleFunctionsType[Any] | None
) -> list[Callable[[Context], Any]]:
    """The hooks that were given: one, many or none."""
    if given is None:
        return []
    hooks: list[Any] = list(given) if isinstance(given, Iterable) else [given]
    for hook in hooks:
        if not callable(hook):
            raise InvalidOptionTypeError(
                f"{option}={clip(repr_of(hook), 80)} ({type(hook).__name__}) is no hook.\n"
                "  A hook is a function of a context, sync or async.\n"
                f"  Pass one, or a list of them: {option}=[connect]."
            )
    return hooks

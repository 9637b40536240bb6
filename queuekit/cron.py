"""When a schedule ticks. The moments come from croniter; here is what they mean for us."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo

from croniter import CroniterBadDateError, CroniterError, croniter

from queuekit.errors import InvalidOptionError, InvalidOptionTypeError
from queuekit.job import CronJob, Job
from queuekit.options import MAX_JOB_KEY_BYTES, check, function_name
from queuekit.zones import DAY_S, change_s, first_s, name_of, offset_s, wall_s

LATE_MS = 60_000
"""A tick that is handled by then is late; one that is not is missed, and `catch_up` decides.

Long enough for a worker to restart in, or Redis; short enough that nobody is surprised by the hour."""

MAX_CATCH_UP = 1000
"""Ticks that `catch_up="all"` makes up for at most, the newest: of an hourly schedule six weeks, of one
of each minute sixteen hours. More jobs at once help nobody."""

CATCH_UP = ("skip", "one", "all")


class Expression:
    """A cron expression: which wall times it names, and whether these are times of day.

    It names *times of day* when the fields of hour, minute and second (if there is one) only list
    values: numbers, lists, ranges (`30 1 * * *`, `0 9-17 * * 1-5`). Each such time comes once: when
    the clock is set back, at its first showing; when it leaps over it, at the leap (several at
    once).

    It is *periodic* when one of these fields has a `*` or a step (`0 * * * *`, `*/5 1 * * *`,
    `0 8-20/4 * * *`). It then ticks whenever the clock shows a time that matches: in a repeated
    hour again, in a skipped one never, so that an even pace stays even.

    That is the rule of Debian's cron (cron(8), notes) for a `*`; that a step is one too is ours.
    croniter's own rule would run `30 1 * * *` twice in autumn.
    """

    def __init__(self, text: str) -> None:
        fields = text.lower().split()
        if len(fields) not in (5, 6) and not (len(fields) == 1 and fields[0].startswith("@")):
            raise ValueError(f"{len(fields)} fields")
        if re.search(r"(?<![a-z])r(?![a-z])", text.lower()):
            raise ValueError("a random field (R) is another time in each worker")
        if alone := re.search(r"\b(\w+)-\1\b", text.lower()):
            # croniter takes it for all values: `0 9-9 * * *` would tick each hour.
            raise ValueError(f"{alone[0]} is no range; write {alone[1]}")
        self.text = " ".join(fields)
        self.periodic = self.text == "@hourly" or any(
            mark in field for field in (*fields[:2], *fields[5:]) for mark in "*/"
        )
        # In UTC: croniter is asked for wall times alone, which are counted as if the wall were there.
        self._walls = croniter(self.text, 0.0)

    def next_tick_ms(self, zone: tzinfo, after_ms: int) -> int:
        """The first tick later than this moment, both in epoch milliseconds."""
        begin_s = after_ms // 1000 + 1
        tick_s = self._next_showing(zone, begin_s) if self.periodic else self._next(zone, begin_s)
        return tick_s * 1000

    def _next(self, zone: tzinfo, begin_s: int) -> int:
        """The next first showing of a time of day."""
        before_s = begin_s - 1
        wall = self._next_wall(wall_s(zone, before_s) + 1)
        moment = first_s(zone, wall)
        if moment < begin_s:
            # The clock repeats itself: what it shows now it has shown before. On from where it was set.
            turn = change_s(zone, moment, before_s)
            assert turn is not None
            moment = first_s(zone, self._next_wall(wall_s(zone, turn - 1) + 1))
        return moment

    def _next_showing(self, zone: tzinfo, begin_s: int) -> int:
        """The next moment at which the clock shows a time that matches."""
        while True:
            offset = offset_s(zone, begin_s)
            wall = self._next_wall(begin_s + offset)
            moment = wall - offset
            ahead = min(moment, begin_s + DAY_S)
            turn = change_s(zone, begin_s, ahead)
            if turn is not None:
                begin_s = turn
            elif moment == ahead:
                return moment
            else:
                # Whatever the clock is set by, it shows nothing that matches before that day.
                begin_s = max(ahead, wall - 2 * DAY_S)

    def _next_wall(self, begin: int) -> int:
        """The first wall time from this one on."""
        return round(self._walls.get_next(float, start_time=float(begin - 1)))


@dataclass(frozen=True)
class Passed:
    """Ticks whose time has come, and what is to become of them."""

    ticks: list[int]
    "To be handled, oldest first."
    next_ms: int
    "The tick after all that have passed."
    made_up: bool
    "All are wanted, whether the jobs of those before are finished or not."


@dataclass(frozen=True)
class Schedule:
    """A cron job with its identity and its time zone."""

    id: str
    expression: Expression
    zone: tzinfo
    unique: bool
    catch_up: str
    make_job: Callable[[str], Job]

    @property
    def timetable(self) -> str:
        """Expression and zone, in words that are the same in every process."""
        return f"{self.expression.text} {name_of(self.zone)}"

    def next_tick_ms(self, after_ms: int) -> int:
        """The first tick later than this moment, both in epoch milliseconds."""
        return self.expression.next_tick_ms(self.zone, after_ms)

    def job_at(self, tick_ms: int) -> Job:
        """The job of one tick. Its key names the tick, so that it is enqueued once."""
        return self.make_job(f"cron:{self.id}:{tick_ms}")

    def passed(self, first_ms: int, now_ms: int) -> Passed:
        """What to do about the ticks that have passed by now; `first_ms` is the first of them.

        Those that are at most `LATE_MS` late are handled. The others were missed: none of them is
        made up for with "skip"; with "one" the newest, if there is no late one to take its place;
        with "all" each, up to `MAX_CATCH_UP`.
        """
        late_ms = now_ms - LATE_MS
        missed = first_ms < late_ms
        if self.catch_up == "all":
            ticks, next_ms = self._newest(first_ms, now_ms)
            return Passed(ticks, next_ms, made_up=missed or len(ticks) > 1)
        begin_ms = self.next_tick_ms(late_ms - 1) if missed else first_ms
        ticks, next_ms = self._from(begin_ms, now_ms)
        if not ticks and self.catch_up == "one":
            ticks = [self._last(first_ms, late_ms)]
        return Passed(ticks, next_ms, made_up=False)

    def _from(self, tick_ms: int, end_ms: int, limit: float = math.inf) -> tuple[list[int], int]:
        """The ticks from this one up to an end (or the first of them), and the one after these."""
        ticks: list[int] = []
        while tick_ms <= end_ms and len(ticks) < limit:
            ticks.append(tick_ms)
            tick_ms = self.next_tick_ms(tick_ms)
        return ticks, tick_ms

    def _last(self, tick_ms: int, end_ms: int) -> int:
        """The last tick up to an end, if this is one; found by halving."""
        while end_ms - tick_ms > 1:
            middle = (tick_ms + end_ms) // 2
            later_ms = self.next_tick_ms(middle)
            if later_ms <= end_ms:
                tick_ms = later_ms
            else:
                end_ms = middle
        return tick_ms

    def _newest(self, first_ms: int, end_ms: int) -> tuple[list[int], int]:
        """The newest `MAX_CATCH_UP` ticks up to an end, and the one after these."""
        # From windows that grow backwards, so that a schedule of each second costs no more after a year.
        span_ms = MAX_CATCH_UP * 1000
        while True:
            whole = end_ms - span_ms <= first_ms
            tick_ms = first_ms if whole else self.next_tick_ms(end_ms - span_ms)
            ticks, next_ms = self._from(tick_ms, end_ms, limit=MAX_CATCH_UP + 1)
            if len(ticks) > MAX_CATCH_UP:
                ticks, next_ms = self._from(tick_ms, end_ms)
            if whole or len(ticks) >= MAX_CATCH_UP:
                return ticks[-MAX_CATCH_UP:], next_ms
            span_ms *= 2


def next_tick_ms(expression: str, zone: tzinfo, after_ms: int) -> int:
    """The first tick of a cron expression later than this moment, in epoch milliseconds."""
    return Expression(expression).next_tick_ms(zone, after_ms)


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
    expression = _checked_expression(cron_job.cron, zone)
    if cron_job.catch_up not in CATCH_UP:
        raise InvalidOptionError(
            f"catch_up={cron_job.catch_up!r} is unknown; it is one of {', '.join(CATCH_UP)}."
        )
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
        expression=expression,
        zone=zone,
        unique=cron_job.unique,
        catch_up=cron_job.catch_up,
        make_job=make_job,
    )


def _checked_expression(given: object, zone: tzinfo) -> Expression:
    if not isinstance(given, str):
        raise InvalidOptionTypeError(
            f"cron={given!r} is no cron expression.\n  Pass text: cron='0 0 * * *'."
        )
    try:
        expression = Expression(given)
        expression.next_tick_ms(zone, _SOME_MOMENT_MS)
    except CroniterBadDateError as error:
        raise InvalidOptionError(
            f"cron={given!r} never comes: {error}.\n  Check day and month."
        ) from error
    except (CroniterError, ValueError, KeyError) as error:
        raise InvalidOptionError(
            f"cron={given!r} is no cron expression: {error}.\n"
            "  It has five fields (minute hour day month weekday), or six with seconds last."
        ) from error
    return expression


_SOME_MOMENT_MS = 1_700_000_000_000
"From where an expression must come within fifty years (croniter's limit)."


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
    expression = Expression(cron_job.cron)
    ticks: list[int] = []
    tick = expression.next_tick_ms(zone, begin_ms)
    while tick <= end_ms:
        ticks.append(tick)
        tick = expression.next_tick_ms(zone, tick)
    return ticks

"""What cron has to do, found out the slow way: by looking at a zone's clock minute after minute.

Shares nothing with queuekit: it reads expressions itself, and knows no arithmetic of changes of the
clock. It only watches what the clock shows, and remembers what it has shown already.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MEMORY = timedelta(days=2)
"How long before the asked span the watching begins: what was shown then is not new."


@dataclass(frozen=True)
class Look:
    """One look at the clock."""

    at_s: int
    "The moment, in seconds since the epoch."
    shows: datetime
    leapt_over: tuple[datetime, ...]
    "Times that the clock went past since the look before without ever showing them."
    again: bool
    "It has shown this time before."


def watch(zone: str, begin: datetime, end: datetime, every_s: int = 60) -> list[Look]:
    """Look at a zone's clock from `begin` up to and with `end`."""
    looks: list[Look] = []
    step = timedelta(seconds=every_s)
    clock = ZoneInfo(zone)
    moment = begin - MEMORY
    shown_up_to = None
    while moment <= end:
        shows = moment.astimezone(clock).replace(tzinfo=None)
        leapt: list[datetime] = []
        again = shown_up_to is not None and shows <= shown_up_to
        if shown_up_to is not None and not again:
            missing = shown_up_to + step
            while missing < shows:
                leapt.append(missing)
                missing += step
        if not again:
            shown_up_to = shows
        if moment >= begin:
            looks.append(Look(int(moment.timestamp()), shows, tuple(leapt), again))
        moment += step
    return looks


def ticks(expression: str, looks: list[Look]) -> Iterator[int]:
    """The moments at which an expression ticks, of those that were looked at, in seconds."""
    fields = expression.split()
    periodic = any(mark in field for field in fields[:2] for mark in "*/")
    minutes, hours = values(fields[0], 0, 59), values(fields[1], 0, 23)
    days, months = values(fields[2], 1, 31), values(fields[3], 1, 12)
    weekdays = {day % 7 for day in values(fields[4], 0, 7)}
    either = fields[2] != "*" and fields[4] != "*"

    def named(wall: datetime) -> bool:
        if wall.minute not in minutes or wall.hour not in hours or wall.month not in months:
            return False
        on_day, on_weekday = wall.day in days, wall.isoweekday() % 7 in weekdays
        return (on_day or on_weekday) if either else (on_day and on_weekday)

    for look in looks:
        if periodic:
            if named(look.shows):
                yield look.at_s
        elif (not look.again and named(look.shows)) or any(map(named, look.leapt_over)):
            yield look.at_s


def values(field: str, low: int, high: int) -> set[int]:
    """The numbers that a field of an expression names."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, dash, last = span.partition("-")
        begin = low if first == "*" else int(first)
        end = int(last) if dash else high if first == "*" or step else begin
        found |= set(range(begin, end + 1, int(step or 1)))
    return found


def utc(*when: int) -> datetime:
    return datetime(*when, tzinfo=UTC)

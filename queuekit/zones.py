"""Wall-clock times as moments: what a clock shows, and when it does, across changes of the clock.

Wall times are counted in seconds like moments are: as if the wall were in UTC. A time zone is only
ever asked what its clock shows at a moment, never the other way round, since that is the question
that every `tzinfo` answers rightly (pytz's do not know the other one). It is taken for granted that
a zone's clock is set at most once within two days.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from queuekit.errors import InvalidOptionError, InvalidOptionTypeError

DAY_S = 86_400
"A clock is never further from UTC than that, nor set by more (Samoa skipped a whole day in 2011)."

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def zone_of(zone: tzinfo | str) -> tzinfo:
    """The time zone, also by its name in the time zone database.

    Raises:
        InvalidOptionError: there is no zone of that name.
        InvalidOptionTypeError: neither a zone nor a name.
    """
    if isinstance(zone, tzinfo):
        return zone
    if not isinstance(zone, str):
        raise InvalidOptionTypeError(
            f"cron_tz={zone!r} is no time zone.\n"
            "  It says in which zone cron expressions are meant.\n"
            "  Pass a tzinfo (ZoneInfo('Europe/Berlin')), or a zone's name."
        )
    try:
        return ZoneInfo(zone)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidOptionError(
            f"there is no time zone {zone!r}.\n"
            "  Take a name of the time zone database: 'Europe/Berlin', 'America/New_York', 'UTC'."
        ) from error


def name_of(zone: tzinfo) -> str:
    """What a zone is called, the same in every process."""
    # A name that holds an address in memory is another one in each process: then the class must do.
    said = str(getattr(zone, "key", None) or zone)
    return type(zone).__qualname__ if " at 0x" in said else said


def offset_s(zone: tzinfo, moment_s: int) -> int:
    """How far the zone's clock is ahead of UTC at a moment."""
    # Not fromtimestamp(): the machine's range and a frozen clock's own class are none of our business.
    moment = _EPOCH + timedelta(seconds=moment_s)
    # Not utcoffset(): of a time that is shown twice it needs the fold, which a frozen clock's class drops.
    shows = moment.astimezone(zone).replace(tzinfo=None)
    return round((shows - moment.replace(tzinfo=None)).total_seconds())


def wall_s(zone: tzinfo, moment_s: int) -> int:
    """What the zone's clock shows at a moment."""
    return moment_s + offset_s(zone, moment_s)


def change_s(zone: tzinfo, after_s: int, until_s: int) -> int | None:
    """The second at which the clock is set, in (after, until], a span of two days at most."""
    before = offset_s(zone, after_s)
    if offset_s(zone, until_s) == before:
        return None
    while until_s - after_s > 1:
        middle = (after_s + until_s) // 2
        if offset_s(zone, middle) == before:
            after_s = middle
        else:
            until_s = middle
    return until_s


def first_s(zone: tzinfo, wall: int) -> int:
    """The moment at which the clock first shows a time; for a time that it leaps over, the leap.

    Of two times the later one never has the earlier moment.
    """
    early, late = wall - DAY_S, wall + DAY_S  # no clock shows `wall` outside of these
    before, after = offset_s(zone, early), offset_s(zone, late)
    moment = wall - before
    if before == after or offset_s(zone, moment) == before:
        return moment
    moment = wall - after
    if offset_s(zone, moment) == after:
        return moment
    leap = change_s(zone, early, late)
    assert leap is not None
    return leap

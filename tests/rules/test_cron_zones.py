"""Ticks across changes of the clock: by hand for the cases with a story, by the oracle for the rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuekit.cron import Expression, fires_between
from queuekit.job import CronJob
from tests.cron import oracle

ZONES = (
    "America/New_York",
    "Europe/Berlin",
    "Europe/Dublin",  # its winter is the exception, by the book
    "Australia/Lord_Howe",  # half an hour
    "America/Santiago",  # at midnight, back into the day before
    "Africa/Cairo",  # at midnight, over the first hour of a day
    "Antarctica/Troll",  # two hours
    "Africa/Casablanca",  # around a month of the moon's
    "Asia/Kolkata",  # never; half an hour beside the others
    "UTC",
)


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"Made before any simulation: the datetime class of a frozen clock forgets which of two showings it means."


def local(zone, begin, end, expression):
    """The ticks in (begin, end], as the zone's clock shows them."""

    async def task(ctx):
        """A task."""

    zone = ZoneInfo(zone)
    span = [
        round(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp() * 1000)
        for at in (begin, end)
    ]
    ticks = fires_between(CronJob(task, expression), zone, *span)
    moments = [EPOCH + timedelta(milliseconds=tick) for tick in ticks]
    return [moment.astimezone(zone).isoformat(" ", "minutes") for moment in moments]


SPRING = ("America/New_York", "2030-03-10 05:30", "2030-03-10 10:30")
AUTUMN = ("America/New_York", "2030-11-03 04:30", "2030-11-03 09:30")


def test_a_time_of_day_that_the_clock_leaps_over_comes_at_the_leap_once():
    assert local(*SPRING, "30 2 * * *") == ["2030-03-10 03:00-04:00"]
    assert local(*SPRING, "0,15,30,45 2 * * *") == ["2030-03-10 03:00-04:00"]
    assert local(*SPRING, "30 2,3 * * *") == ["2030-03-10 03:00-04:00", "2030-03-10 03:30-04:00"]
    assert local(*SPRING, "0 2,3 * * *") == ["2030-03-10 03:00-04:00"], "both fall on one moment"


def test_a_time_of_day_that_the_clock_shows_twice_comes_at_its_first_showing():
    assert local(*AUTUMN, "30 1 * * *") == ["2030-11-03 01:30-04:00"]
    assert local(*AUTUMN, "0 1,2 * * *") == ["2030-11-03 01:00-04:00", "2030-11-03 02:00-05:00"]
    assert local(*AUTUMN, "0 2 * * *") == ["2030-11-03 02:00-05:00"]


def test_a_periodic_schedule_keeps_its_pace_through_both_changes():
    assert local(*SPRING, "0 * * * *") == [
        "2030-03-10 01:00-05:00",
        "2030-03-10 03:00-04:00",
        "2030-03-10 04:00-04:00",
        "2030-03-10 05:00-04:00",
        "2030-03-10 06:00-04:00",
    ]
    assert local(*AUTUMN, "0 * * * *") == [
        "2030-11-03 01:00-04:00",
        "2030-11-03 01:00-05:00",
        "2030-11-03 02:00-05:00",
        "2030-11-03 03:00-05:00",
        "2030-11-03 04:00-05:00",
    ]


def test_a_step_that_the_clock_leaps_over_is_left_out():
    assert local(*SPRING, "0 */2 * * *") == ["2030-03-10 04:00-04:00", "2030-03-10 06:00-04:00"]
    assert local(*SPRING, "*/15 2 * * *") == []


def test_a_leap_of_half_an_hour_is_one_too():
    spring = ("Australia/Lord_Howe", "2030-10-05 12:00", "2030-10-05 17:00")
    autumn = ("Australia/Lord_Howe", "2030-04-06 12:00", "2030-04-06 17:00")
    assert local(*spring, "15 2 * * *") == ["2030-10-06 02:30+11:00"]
    assert local(*autumn, "45 1 * * *") == ["2030-04-07 01:45+11:00"]
    assert local(*autumn, "45 * * * *")[2:4] == ["2030-04-07 01:45+11:00", "2030-04-07 01:45+10:30"]


def test_midnight_that_does_not_exist_comes_at_one_o_clock_of_its_day():
    spring = ("America/Santiago", "2030-09-07 00:00", "2030-09-09 00:00")
    assert local(*spring, "0 0 * * *") == ["2030-09-07 00:00-04:00", "2030-09-08 01:00-03:00"]
    assert local(*spring, "0 0 * * 0") == ["2030-09-08 01:00-03:00"], "it is a Sunday's midnight"


def test_the_clock_that_is_set_back_into_the_day_before_starts_no_day_twice():
    autumn = ("America/Santiago", "2030-04-06 12:00", "2030-04-07 12:00")
    assert local(*autumn, "30 23 * * 6") == ["2030-04-06 23:30-03:00"]
    assert local(*autumn, "0 0 * * *") == ["2030-04-07 00:00-04:00"]
    assert local(*autumn, "59 * * * 6")[-2:] == ["2030-04-06 23:59-03:00", "2030-04-06 23:59-04:00"]


def test_a_day_that_was_left_out_comes_as_the_next_one_begins():
    samoa = ("Pacific/Apia", "2011-12-29 12:00", "2011-12-31 12:00")
    assert local(*samoa, "0 12 * * *") == [
        "2011-12-29 12:00-10:00",
        "2011-12-31 00:00+14:00",
        "2011-12-31 12:00+14:00",
    ]
    assert local(*samoa, "0 12 30 * *") == ["2011-12-31 00:00+14:00"]


# -- everything else: the oracle

BEGIN, YEARS = oracle.utc(2030, 1, 1), 10


@cache
def days_of_change(zone):
    """Days within ten years in which a zone's clock is set, and one in which none is."""
    clock, days = ZoneInfo(zone), [BEGIN + timedelta(days=100)]
    for number in range(YEARS * 365):
        day = BEGIN + timedelta(days=number)
        if (
            day.astimezone(clock).utcoffset()
            != (day + timedelta(days=1)).astimezone(clock).utcoffset()
        ):
            days.append(day)
    return days


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("text", ["* * * * *", "*/10 * * * *", "*/30 * * * *"])
def test_a_pace_that_divides_every_change_of_the_clock_is_even_through_all_of_them(zone, text):
    expression, clock, gaps = Expression(text), ZoneInfo(zone), set()
    for day in days_of_change(zone)[:5]:
        tick = round(day.timestamp() * 1000)
        while tick < (day + timedelta(days=1)).timestamp() * 1000:
            following = expression.next_tick_ms(clock, tick)
            gaps.add(following - tick)
            tick = following
    assert len(gaps) == 1


@cache
def looks_at(zone, begin):
    return oracle.watch(zone, begin, begin + timedelta(days=3))


DENSE = (
    "0,10,20,30,40,50 0-4,22,23 * * *",
    "5 0-23 * * *",
    "59 0,23 * * 0,4,5,6",
    "*/10 * * * *",
    "0 */2 * * *",
    "*/20 0-3 * * 0,5",
)


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_from_whatever_minute_around_a_change_one_asks_the_next_tick_is_the_same(zone):
    clock = ZoneInfo(zone)
    for day in days_of_change(zone)[1:5]:
        looks = looks_at(zone, day - timedelta(days=1))
        for text in DENSE:
            expression, expected = Expression(text), list(oracle.ticks(text, looks))
            for tick in expected:
                assert expression.next_tick_ms(clock, tick * 1000 - 1) == tick * 1000
            # In the midst of a repeated hour too, when some of its times have been shown already.
            for look in looks[1200:3000:7]:
                found = expression.next_tick_ms(clock, look.at_s * 1000) // 1000
                wanted = next((tick for tick in expected if tick > look.at_s), None)
                assert found == wanted or (wanted is None and found > looks[-1].at_s)


def a_list(low, high):
    return st.lists(st.integers(low, high), min_size=1, max_size=4, unique=True).map(
        lambda values: ",".join(map(str, values))
    )


def a_range(low, high):
    pair = st.tuples(st.integers(low, high), st.integers(low, high)).filter(lambda p: p[0] < p[1])
    return pair.map(lambda p: f"{p[0]}-{p[1]}")


def a_field(low, high):
    steps = st.integers(2, 7)
    return st.one_of(
        a_list(low, high),
        a_range(low, high),
        st.just("*"),
        steps.map(lambda n: f"*/{n}"),
        st.tuples(a_range(low, high), steps).map(lambda p: f"{p[0]}/{p[1]}"),
    )


EXPRESSIONS = st.tuples(
    a_field(0, 59),
    st.one_of(a_list(0, 4), a_field(0, 23)),  # clocks are set at night
    st.one_of(st.just("*"), a_list(1, 31)),
    st.one_of(st.just("*"), a_range(1, 12)),
    st.one_of(st.just("*"), a_list(0, 6)),
).map(" ".join)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ZONES), EXPRESSIONS, st.integers(0, 30), st.integers(0, 2 * 86_400))
def test_ticks_are_those_that_someone_would_find_who_looks_at_the_clock_each_minute(
    zone, text, which, skipped_s
):
    days = days_of_change(zone)
    begin = days[which % len(days)] - timedelta(days=1)
    looks = looks_at(zone, begin)
    # Wherever one begins to ask, in the midst of a repeated hour too.
    begin_s = looks[0].at_s + skipped_s
    expected = [tick for tick in oracle.ticks(text, looks) if tick > begin_s]
    expression, clock, found = Expression(text), ZoneInfo(zone), []
    tick = expression.next_tick_ms(clock, begin_s * 1000)
    while tick <= looks[-1].at_s * 1000:
        found.append(tick // 1000)
        tick = expression.next_tick_ms(clock, tick)
    assert found == expected

"""Schedules: what they mean, and which are refused."""

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queuekit.cron import (
    CATCH_UP,
    LATE_MS,
    MAX_CATCH_UP,
    Expression,
    Passed,
    distinct,
    fires_between,
    make_schedule,
    next_tick_ms,
)
from queuekit.errors import InvalidOptionError, InvalidOptionTypeError, NotSerializableError
from queuekit.job import CronJob
from queuekit.queue import Queue
from queuekit.worker import Worker


async def clean(ctx):
    """A task."""


def ms(*when: int, zone=UTC) -> int:
    return round(datetime(*when, tzinfo=zone).timestamp() * 1000)


def test_the_next_tick_is_later_than_the_moment_itself():
    assert next_tick_ms("0 0 * * *", UTC, ms(2030, 1, 1)) == ms(2030, 1, 2)
    assert next_tick_ms("0 0 * * *", UTC, ms(2030, 1, 1) - 1) == ms(2030, 1, 1)


def test_six_fields_have_seconds_last():
    assert next_tick_ms("* * * * * 30", UTC, ms(2030, 1, 1)) == ms(2030, 1, 1, 0, 0, 30)


def test_a_schedule_is_read_in_its_time_zone():
    zone = ZoneInfo("America/New_York")
    assert next_tick_ms("0 9 * * *", zone, ms(2030, 1, 1)) == ms(2030, 1, 1, 9, zone=zone)


def test_a_dry_run_lists_ticks_up_to_and_with_the_end():
    ticks = fires_between(CronJob(clean, "0 */6 * * *"), UTC, ms(2030, 1, 1), ms(2030, 1, 2))
    assert ticks == [ms(2030, 1, 1, h) for h in (6, 12, 18)] + [ms(2030, 1, 2)]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * *",
        "61 * * * *",
        "a b c d e",
        "* * * * * * * *",
        "0 24 * * *",
        "H * * * *",
        "@often",
    ],
)
def test_bad_expression_is_refused(expression):
    with pytest.raises(InvalidOptionError, match="is no cron expression"):
        make_schedule(CronJob(clean, expression), UTC)


def test_an_expression_that_never_comes_is_refused():
    with pytest.raises(InvalidOptionError, match="never comes"):
        make_schedule(CronJob(clean, "0 0 31 2 *"), UTC)


def test_a_year_field_is_refused_since_such_a_schedule_would_end():
    with pytest.raises(InvalidOptionError, match="7 fields"):
        make_schedule(CronJob(clean, "0 0 1 1 * 0 2035"), UTC)


@pytest.mark.parametrize("expression", ["R * * * *", "0 R(1-5) * * *", "0,r * * * *"])
def test_a_random_field_is_refused_since_each_worker_would_draw_another_time(expression):
    with pytest.raises(InvalidOptionError, match="random"):
        make_schedule(CronJob(clean, expression), UTC)


@pytest.mark.parametrize(
    ("expression", "instead"),
    [("0 9-9 * * *", "write 9"), ("0 0 1-1 * *", "write 1"), ("0 0 * * fri-FRI", "write fri")],
)
def test_a_range_of_one_is_refused_since_croniter_takes_it_for_all(expression, instead):
    with pytest.raises(InvalidOptionError, match=instead):
        make_schedule(CronJob(clean, expression), UTC)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "America", "../etc/passwd", ""])
def test_an_unknown_time_zone_is_refused_when_the_worker_is_built(zone):
    with pytest.raises(InvalidOptionError, match="there is no time zone"):
        Worker(Queue.from_url("redis://nowhere"), [clean], cron_tz=zone)


def test_what_is_no_time_zone_is_refused_when_the_worker_is_built():
    with pytest.raises(InvalidOptionTypeError, match="is no time zone"):
        Worker(Queue.from_url("redis://nowhere"), [clean], cron_tz=3600)


def test_arguments_that_cannot_be_written_down_are_refused_when_the_worker_is_built():
    job = CronJob(clean, "0 9 * * *", kwargs={"what": object()})
    with pytest.raises(NotSerializableError):
        Worker(Queue.from_url("redis://nowhere"), [], cron_jobs=[job])


def test_a_time_zone_may_be_named():
    job = CronJob(clean, "0 9 * * *")
    worker = Worker(Queue.from_url("redis://nowhere"), [], cron_jobs=[job], cron_tz="Asia/Tokyo")
    assert worker.schedules[0].next_tick_ms(ms(2030, 1, 1, 1)) == ms(2030, 1, 2)


def test_an_unknown_way_to_catch_up_is_refused():
    with pytest.raises(InvalidOptionError, match="catch_up='some' is unknown; it is one of skip"):
        make_schedule(CronJob(clean, "0 0 * * *", catch_up="some"), UTC)


def test_what_is_no_text_or_no_function_is_refused():
    with pytest.raises(InvalidOptionTypeError, match="is no cron expression"):
        make_schedule(CronJob(clean, 5), UTC)
    with pytest.raises(InvalidOptionTypeError, match="must be a task"):
        make_schedule(CronJob("clean", "* * * * *"), UTC)


def test_bad_options_of_a_cron_job_are_refused_when_the_worker_is_built():
    with pytest.raises(InvalidOptionError, match="timeout=-1"):
        make_schedule(CronJob(clean, "* * * * *", timeout=-1), UTC)


def test_two_schedules_of_one_function_never_meet():
    schedules = [
        make_schedule(CronJob(clean, "0 0 * * *"), UTC),
        make_schedule(CronJob(clean, "0 1 * * *"), UTC),
        make_schedule(CronJob(clean, "0 0 * * *", kwargs={"all": True}), UTC),
    ]
    assert len({schedule.id for schedule in distinct(schedules)}) == 3


def test_the_same_schedule_twice_is_refused():
    twice = [make_schedule(CronJob(clean, "0 0 * * *"), UTC) for _ in range(2)]
    with pytest.raises(InvalidOptionError, match="give each a name="):
        distinct(twice)


def test_the_job_of_a_tick_is_named_after_it():
    schedule = make_schedule(CronJob(clean, "0 0 * * *", name="nightly", timeout=5), UTC)
    job = schedule.job_at(ms(2030, 1, 2))
    assert (job.key, job.function, job.timeout) == (f"cron:nightly:{ms(2030, 1, 2)}", "clean", 5)


@pytest.mark.parametrize(
    ("expression", "periodic"),
    [
        ("30 1 * * *", False),
        ("0 1-3 * * *", False),
        ("0,30 2 * * 0", False),
        ("0 0 */2 */3 *", False),
        ("0 0 * * * 0-30", False),
        ("@daily", False),
        ("0 * * * *", True),
        ("* 2 * * *", True),
        ("*/15 2 * * *", True),
        ("0-59/15 2 * * *", True),
        ("0 8-20/4 * * *", True),
        ("0 0,*/6 * * *", True),
        ("0 0 * * * */10", True),
        ("@Hourly", True),
    ],
)
def test_an_expression_is_periodic_when_hour_minute_or_second_has_a_star_or_a_step(
    expression, periodic
):
    assert Expression(expression).periodic is periodic


HOUR, NOON = 3_600_000, ms(2030, 1, 1, 12)


def hourly(catch_up, cron="0 * * * *"):
    return make_schedule(CronJob(clean, cron, catch_up=catch_up), UTC)


@pytest.mark.parametrize("catch_up", ["skip", "one", "all"])
@pytest.mark.parametrize("late_ms", [0, 1, LATE_MS])
def test_a_late_tick_is_handled_whatever_the_policy(catch_up, late_ms):
    passed = hourly(catch_up).passed(NOON, NOON + late_ms)
    assert passed == Passed([NOON], NOON + HOUR, made_up=False)


@pytest.mark.parametrize(("catch_up", "ticks"), [("skip", []), ("one", [NOON]), ("all", [NOON])])
def test_a_tick_is_missed_when_it_is_later_than_a_minute(catch_up, ticks):
    passed = hourly(catch_up).passed(NOON, NOON + LATE_MS + 1)
    assert passed == Passed(ticks, NOON + HOUR, made_up=catch_up == "all")


def test_one_makes_up_for_the_newest_of_many_and_for_none_if_a_late_one_takes_its_place():
    schedule = hourly("one")
    assert schedule.passed(NOON - 9 * HOUR, NOON + HOUR // 2).ticks == [NOON]
    assert schedule.passed(NOON - 9 * HOUR, NOON + 5).ticks == [NOON]
    assert schedule.passed(NOON - 9 * HOUR, NOON - 1).ticks == [NOON - HOUR]
    minutely = hourly("one", "* * * * *")
    assert minutely.passed(NOON - 9 * HOUR, NOON + 5) == minutely.passed(NOON, NOON + 5)


def test_of_several_late_ticks_each_is_handled():
    often = hourly("skip", "* * * * * */20")
    assert often.passed(NOON - HOUR, NOON + 5000).ticks == [NOON - 40_000, NOON - 20_000, NOON]


def test_several_late_ticks_of_all_are_wanted_together():
    often = hourly("all", "* * * * * */20")
    assert often.passed(NOON - 20_000, NOON + 5000) == Passed(
        [NOON - 20_000, NOON], NOON + 20_000, made_up=True
    )


def test_skip_makes_up_for_none():
    assert hourly("skip").passed(NOON - 9 * HOUR, NOON + HOUR // 2) == Passed(
        [], NOON + HOUR, made_up=False
    )
    assert hourly("skip").passed(NOON - 9 * HOUR, NOON + 5).ticks == [NOON]


def test_all_makes_up_for_each_oldest_first():
    passed = hourly("all").passed(NOON - 2 * HOUR, NOON + HOUR // 2)
    assert passed == Passed([NOON - 2 * HOUR, NOON - HOUR, NOON], NOON + HOUR, made_up=True)


@pytest.mark.parametrize("cron", ["0 * * * *", "* * * * * *", "* * 1 * *"])
def test_all_makes_up_for_the_newest_thousand_at_most(cron):
    schedule = hourly("all", cron)
    now = ms(2030, 3, 1, 12)
    passed = schedule.passed(schedule.next_tick_ms(now - 300 * 24 * HOUR), now)
    assert len(passed.ticks) == MAX_CATCH_UP
    tick = passed.ticks[0]
    for expected in [*passed.ticks[1:], passed.next_ms]:
        tick = schedule.next_tick_ms(tick)
        assert tick == expected
    assert passed.ticks[-1] <= now < passed.next_ms


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(["0 * * * *", "*/7 * * * *", "30 3 * * *", "* * * * * */50", "0 0 1 * *"]),
    st.integers(0, 40 * 24 * HOUR),
)
def test_what_is_made_up_for_is_the_end_of_all_that_passed(cron, ago_ms):
    """Found one by one, and compared with what halving and windows find."""
    schedules = {name: hourly(name, cron) for name in CATCH_UP}
    first = schedules["all"].next_tick_ms(NOON - ago_ms)
    ticks, tick = [], first
    while tick <= NOON:
        ticks.append(tick)
        tick = schedules["all"].next_tick_ms(tick)
    if not ticks:
        return
    late = [passed for passed in ticks if passed >= NOON - LATE_MS]
    wanted = {"skip": late, "one": late or ticks[-1:], "all": ticks[-MAX_CATCH_UP:]}
    for name, schedule in schedules.items():
        passed = schedule.passed(first, NOON)
        assert (passed.ticks, passed.next_ms) == (wanted[name], tick)


def test_a_timetable_reads_the_same_in_every_process():
    class Odd(tzinfo):
        def utcoffset(self, dt):
            return timedelta(0)

        dst = utcoffset

    job = CronJob(clean, " 0  9 * * MON", name="s")
    assert make_schedule(job, ZoneInfo("Asia/Tokyo")).timetable == "0 9 * * mon Asia/Tokyo"
    assert make_schedule(job, UTC).timetable == make_schedule(job, ZoneInfo("UTC")).timetable
    assert "0x" not in make_schedule(job, Odd()).timetable

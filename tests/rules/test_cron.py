"""Schedules: what they mean, and which are refused."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from queuekit.cron import distinct, fires_between, make_schedule, next_tick_ms
from queuekit.errors import InvalidOptionError, InvalidOptionTypeError
from queuekit.job import CronJob


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


@pytest.mark.parametrize("expression", ["", "* * *", "61 * * * *", "a b c d e", "* * * * * * * *"])
def test_bad_expression_is_refused(expression):
    with pytest.raises(InvalidOptionError, match="is no cron expression"):
        make_schedule(CronJob(clean, expression), UTC)


def test_an_expression_that_never_comes_is_refused():
    with pytest.raises(InvalidOptionError, match="never comes"):
        make_schedule(CronJob(clean, "0 0 31 2 *"), UTC)


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

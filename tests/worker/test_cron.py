"""Cron: each tick once, never early, whatever workers there are."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

import pytest

from queuekit import CronJob
from queuekit.errors import ServerUnreachableError


async def hourly(ctx):
    """A task."""


async def minutely(ctx):
    """Another one."""


def _hour(tick_ms):
    return tick_ms // 3_600_000 % 24


def _ms(moment):
    return round(datetime.fromisoformat(moment).timestamp() * 1000)


@pytest.mark.slow
async def test_cron_enqueues_each_tick_once_with_several_workers(simulation):
    async def nightly(ctx):
        return ctx["job"].key

    for _ in range(3):
        simulation.worker(cron_jobs=[CronJob(nightly, "0 0 * * *")])
    await simulation.advance(3 * 86_400)
    simulation.assert_cron_ran(nightly, times=3, at=["2030-01-02", "2030-01-03", "2030-01-04"])


async def test_cron_never_ticks_early_and_not_for_the_time_before_the_start(simulation):
    async def hourly(ctx):
        return time.time()

    await simulation.advance(1800)
    simulation.worker(cron_jobs=[CronJob(hourly, "0 * * * *")])
    await simulation.advance(1799.999)
    assert not simulation.journal.ticks
    await simulation.advance(0.001)
    [record] = simulation.assert_cron_ran(hourly, times=1)
    assert record.result == simulation.now.timestamp()


async def test_cron_skips_a_tick_while_its_last_job_still_runs(simulation):
    async def long(ctx):
        await asyncio.sleep(90)

    simulation.worker(cron_jobs=[CronJob(long, "* * * * *", timeout=300)])
    await simulation.advance(330)
    verdicts = [tick.verdict for tick in simulation.journal.ticks]
    assert verdicts == ["enqueued", "overlap", "enqueued", "overlap", "enqueued"]


async def test_cron_with_overlap_allowed_runs_each_tick(simulation):
    async def long(ctx):
        await asyncio.sleep(90)

    simulation.worker(cron_jobs=[CronJob(long, "* * * * *", unique=False, timeout=300)])
    await simulation.advance(330)
    assert [tick.verdict for tick in simulation.journal.ticks] == ["enqueued"] * 5


async def test_cron_seconds_and_options_of_the_job(simulation):
    async def often(ctx, n):
        return n + ctx["job"].timeout

    simulation.worker(cron_jobs=[CronJob(often, "* * * * * */10", timeout=3, kwargs={"n": 1})])
    await simulation.advance(60)
    ran = simulation.assert_cron_ran(often, times=6)
    assert {record.result for record in ran} == {4}


async def test_a_stopped_worker_ticks_no_more(simulation):
    worker = simulation.worker(cron_jobs=[CronJob(hourly, "0 * * * *")])
    await simulation.advance(3600)
    await worker.stop()
    await simulation.advance(3 * 3600)
    simulation.assert_cron_ran(hourly, times=1)


# -- what was missed


@pytest.mark.parametrize(
    ("catch_up", "ran"),
    [
        ("skip", ["01:00", "05:00"]),
        ("one", ["01:00", "04:00", "05:00"]),
        ("all", ["01:00", "02:00", "03:00", "04:00", "05:00"]),
    ],
)
async def test_ticks_that_passed_while_no_worker_was_up_are_made_up_for_as_was_chosen(
    simulation, catch_up, ran
):
    """Once, though three workers start at one time."""
    settings = {"cron_jobs": [CronJob(hourly, "0 * * * *", catch_up=catch_up)]}
    worker = simulation.worker(**settings)
    await simulation.advance_to("2030-01-01T01:30Z")
    await worker.stop()
    await simulation.advance_to("2030-01-01T04:30Z")
    for _ in range(3):
        simulation.worker(**settings)
    await simulation.advance_to("2030-01-01T05:00Z")
    simulation.assert_cron_ran(hourly, times=len(ran), at=[f"2030-01-01T{at}Z" for at in ran])
    assert [tick.tick_ms for tick in simulation.journal.ticks] == sorted(
        tick.tick_ms for tick in simulation.journal.ticks
    )


async def test_the_newest_missed_tick_is_made_up_for_when_nothing_is_chosen(simulation):
    """What SAQ comes to, which puts the next tick into the queue in advance."""
    worker = simulation.worker(cron_jobs=[CronJob(hourly, "0 * * * *")])
    await simulation.run_until_idle()
    await worker.stop()
    await simulation.advance_to("2030-01-01T04:30Z")
    simulation.worker(cron_jobs=[CronJob(hourly, "0 * * * *")])
    await simulation.run_until_idle()
    simulation.assert_cron_ran(hourly, times=1, at=["2030-01-01T04:00Z"])


async def test_a_tick_that_falls_into_a_restart_is_only_late(simulation):
    settings = {"cron_jobs": [CronJob(hourly, "0 * * * *", catch_up="skip")]}
    worker = simulation.worker(**settings)
    await simulation.advance_to("2030-01-01T00:59:50Z")
    await worker.stop()
    await simulation.advance(20)
    simulation.worker(**settings)
    await simulation.run_until_idle()
    simulation.assert_cron_ran(hourly, times=1, at=["2030-01-01T01:00Z"])


@pytest.mark.parametrize("catch_up", ["skip", "one", "all"])
async def test_a_new_schedule_begins_now(simulation, catch_up):
    await simulation.advance_to("2030-01-01T04:00:01Z")
    simulation.worker(cron_jobs=[CronJob(hourly, "0 * * * *", catch_up=catch_up)])
    await simulation.advance_to("2030-01-01T05:00Z")
    simulation.assert_cron_ran(hourly, times=1, at=["2030-01-01T05:00Z"])


async def test_all_makes_up_for_each_tick_though_the_job_of_the_last_one_has_not_ended(simulation):
    """`unique` holds back what comes on time; of those made up for together all are wanted."""

    async def long(ctx):
        await asyncio.sleep(90)

    settings = {"cron_jobs": [CronJob(long, "0 * * * *", catch_up="all", timeout=300)]}
    worker = simulation.worker(**settings)
    await simulation.run_until_idle()
    await worker.stop()
    await simulation.advance_to("2030-01-01T03:30Z")
    simulation.worker(**settings, concurrency=1)
    await simulation.advance(600)
    simulation.assert_cron_ran(long, times=3)


@pytest.mark.parametrize(
    ("catch_up", "ran"),
    [
        ("skip", ["00:05"]),
        ("one", ["00:03", "00:05"]),
        ("all", ["00:01", "00:02", "00:03", "00:05"]),
    ],
)
@pytest.mark.by_hand
async def test_a_worker_that_was_held_up_treats_what_passed_as_one_that_starts_does(
    simulation, monkeypatch, catch_up, ran
):
    """Redis takes no tick until 00:05; the newest that passed is two minutes late by then."""
    store, refused = simulation.queue.store, 0
    handle = store.cron

    async def cron(*arguments, **options):
        nonlocal refused
        if simulation.now.minute < 5 and simulation.now.hour == 0:
            refused += 1
            raise ServerUnreachableError("away")
        return await handle(*arguments, **options)

    monkeypatch.setattr(store, "cron", cron)
    cron_job = CronJob(hourly, "1-3 0 * * *", catch_up=catch_up, unique=False)
    simulation.worker(cron_jobs=[cron_job, CronJob(minutely, "5 0 * * *", catch_up=catch_up)])
    await simulation.advance_to("2030-01-01T00:05:30Z")
    assert refused > 100
    ticks = sorted(tick.tick_ms for tick in simulation.journal.ticks)
    assert ticks == [_ms(f"2030-01-01T{at}Z") for at in ran]


async def test_what_has_been_made_up_for_is_not_brought_again_when_redis_goes_away_in_between(
    simulation, monkeypatch
):
    settings = {"cron_jobs": [CronJob(hourly, "0 * * * *", catch_up="all")]}
    worker = simulation.worker(**settings)
    await simulation.run_until_idle()
    await worker.stop()
    await simulation.advance_to("2030-01-01T05:30Z")
    store, brought = simulation.queue.store, []
    handle = store.cron

    async def cron(schedule, tick_ms, **options):
        brought.append(tick_ms)
        if len(brought) == 3:
            raise ServerUnreachableError("away")
        return await handle(schedule, tick_ms, **options)

    monkeypatch.setattr(store, "cron", cron)
    simulation.worker(**settings)
    await simulation.advance(1)
    assert [_hour(tick) for tick in brought] == [1, 2, 3, 3, 4, 5]
    simulation.assert_cron_ran(hourly, times=5)


@pytest.mark.by_hand
async def test_ticks_that_pass_while_another_one_is_handled_are_handled_next(
    simulation, monkeypatch
):
    store = simulation.queue.store
    handle = store.cron

    async def cron(*arguments, **options):
        verdict, _ = await handle(*arguments, **options)
        await asyncio.sleep(150)
        return verdict, await store.server_time_ms()

    monkeypatch.setattr(store, "cron", cron)
    simulation.worker(cron_jobs=[CronJob(hourly, "* * * * *", catch_up="all")])
    await simulation.advance(3600)
    ticks = [tick.tick_ms for tick in simulation.journal.ticks]
    begin = _ms("2030-01-01T00:01Z")
    assert ticks == [begin + 60_000 * number for number in range(len(ticks))]
    assert len(ticks) > 20


# -- changed expressions


async def test_a_changed_expression_takes_effect_at_the_restart_and_leaves_no_ghost(simulation):
    worker = simulation.worker(cron_jobs=[CronJob(hourly, "0 * * * *")])
    await simulation.advance_to("2030-01-01T01:30Z")
    await worker.stop()
    simulation.worker(cron_jobs=[CronJob(hourly, "45 * * * *")])
    await simulation.advance_to("2030-01-01T03:30Z")
    at = ["2030-01-01T01:00Z", "2030-01-01T01:45Z", "2030-01-01T02:45Z"]
    simulation.assert_cron_ran(hourly, times=3, at=at)


@pytest.mark.parametrize("catch_up", ["skip", "one", "all"])
async def test_a_named_schedule_with_a_new_expression_begins_now_whatever_the_policy(
    simulation, catch_up
):
    def cron(expression):
        return [CronJob(hourly, expression, name="h", catch_up=catch_up)]

    worker = simulation.worker(cron_jobs=cron("0 * * * *"))
    await simulation.advance_to("2030-01-01T01:30Z")
    await worker.stop()
    await simulation.advance_to("2030-01-01T04:30Z")
    simulation.worker(cron_jobs=cron("*/15 * * * *"))
    await simulation.advance_to("2030-01-01T05:00Z")
    at = ["2030-01-01T01:00Z", "2030-01-01T04:45Z", "2030-01-01T05:00Z"]
    simulation.assert_cron_ran(hourly, times=3, at=at)


async def test_workers_of_before_a_deploy_tick_a_named_schedule_no_more_by_its_old_expression(
    simulation,
):
    old = simulation.worker(cron_jobs=[CronJob(hourly, "0 * * * *", name="h")])
    await simulation.advance_to("2030-01-01T00:30Z")
    new = simulation.worker(cron_jobs=[CronJob(hourly, "40 * * * *", name="h")])
    await simulation.advance_to("2030-01-01T02:30Z")
    simulation.assert_cron_ran(hourly, at=["2030-01-01T00:40Z", "2030-01-01T01:40Z"])
    await new.stop()  # the deploy is taken back: what is left goes on with what it has
    await simulation.advance_to("2030-01-01T03:30Z")
    assert old.running
    at = ["2030-01-01T00:40Z", "2030-01-01T01:40Z", "2030-01-01T03:00Z"]
    simulation.assert_cron_ran(hourly, times=3, at=at)


async def test_a_changed_time_zone_is_a_changed_expression(simulation):
    jobs = [CronJob(hourly, "0 9 * * *", name="h", catch_up="all")]
    worker = simulation.worker(cron_jobs=jobs, cron_tz="UTC")
    await simulation.advance_to("2030-01-01T10:00Z")
    await worker.stop()
    simulation.worker(cron_jobs=jobs, cron_tz="America/New_York")
    await simulation.advance_to("2030-01-01T20:00Z")
    simulation.assert_cron_ran(hourly, times=2, at=["2030-01-01T09:00Z", "2030-01-01T14:00Z"])


# -- whose clock


@pytest.mark.parametrize("skew_s", [-300, 300])
async def test_the_servers_clock_decides_however_wrong_that_of_a_host_is(simulation, skew_s):
    started = []

    async def punctual(ctx):
        started.append(simulation.now.isoformat())

    simulation.worker(cron_jobs=[CronJob(punctual, "0 * * * *")]).skew(skew_s)
    await simulation.advance(2 * 3600)
    assert started == ["2030-01-01T01:00:00+00:00", "2030-01-01T02:00:00+00:00"]


@pytest.mark.parametrize("rate", [-0.001, 0.001])
async def test_a_worker_whose_clock_runs_faster_or_slower_than_the_servers_brings_no_tick_early(
    simulation, monkeypatch, rate
):
    store = simulation.queue.store
    verdicts, handle = [], store.cron

    async def cron(schedule, tick_ms, **options):
        verdict, now_ms = await handle(schedule, tick_ms, **options)
        verdicts.append(verdict)
        assert (verdict == "early") is (tick_ms > now_ms)
        return verdict, now_ms

    monkeypatch.setattr(store, "cron", cron)
    simulation.worker(cron_jobs=[CronJob(hourly, "0 * * * *")]).drift(rate)
    await simulation.advance(4 * 3600 + 60)
    simulation.assert_cron_ran(hourly, times=4)
    assert verdicts.count("enqueued") == 4
    assert ("early" in verdicts) is (rate > 0), "the case that the test is about"
    assert len(verdicts) < 20, "who was early waits for the rest, not in a loop"


# -- changes of the clock


@pytest.mark.parametrize(
    ("start", "at_night", "each_hour"),
    [
        ("2030-03-10T05:30Z", ["07:00"], ["06:00", "07:00", "08:00"]),
        ("2030-11-03T04:30Z", ["05:30"], ["05:00", "06:00", "07:00"]),
    ],
    ids=["spring", "autumn"],
)
async def test_two_workers_run_a_time_of_day_once_and_an_hourly_task_each_hour_as_the_clock_is_set(
    simulation, start, at_night, each_hour
):
    """In New York 02:30 does not exist in March, and 01:30 comes twice in November."""

    async def nightly(ctx):
        """A task."""

    await simulation.advance_to(start)
    time_of_day = "30 2 * * *" if "-03-" in start else "30 1 * * *"
    jobs = [CronJob(nightly, time_of_day), CronJob(hourly, "0 * * * *")]
    for _ in range(2):
        simulation.worker(cron_jobs=jobs, cron_tz="America/New_York")
    await simulation.advance(3 * 3600)
    day = start[:11]
    simulation.assert_cron_ran(nightly, times=1, at=[f"{day}{at}Z" for at in at_night])
    simulation.assert_cron_ran(hourly, times=3, at=[f"{day}{at}Z" for at in each_hour])

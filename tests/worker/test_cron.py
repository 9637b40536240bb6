"""Cron: each tick once, never early, whatever workers there are."""

from __future__ import annotations

import asyncio
import time

import pytest

from queuekit import CronJob


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


async def test_a_stopped_worker_ticks_no_more_and_the_next_one_goes_on_without_catching_up(
    simulation,
):
    async def hourly(ctx):
        """A task."""

    first = simulation.worker(cron_jobs=[CronJob(hourly, "0 * * * *")])
    await simulation.advance(3600)
    await first.stop()
    await simulation.advance(3 * 3600)
    simulation.worker(cron_jobs=[CronJob(hourly, "0 * * * *")])
    await simulation.advance(3600)
    simulation.assert_cron_ran(hourly, times=2, at=["2030-01-01T01:00", "2030-01-01T05:00"])

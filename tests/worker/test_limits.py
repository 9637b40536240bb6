"""Timeouts, heartbeats and cancellation."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from queuekit import Status
from queuekit.errors import LeaseLostError


async def ok(ctx):
    """A task."""


async def hang(ctx):
    await asyncio.sleep(3600)


async def test_a_run_over_its_timeout_is_cancelled_at_that_moment_and_counts_as_failure(simulation):
    cleaned = []

    async def slow(ctx):
        try:
            await asyncio.sleep(11)
        finally:
            cleaned.append(time.monotonic())

    simulation.worker([slow])
    job = await simulation.queue.enqueue("slow", timeout=10, retries=2, retry_delay=5)
    await simulation.advance(10)
    simulation.assert_timed_out(job, attempt=1)
    simulation.assert_retried(job, delays=[5])
    await simulation.advance(15)
    simulation.assert_failed(job, error="ran longer than its timeout of 10 s", attempts=2)
    assert cleaned == [10, 25]


async def test_the_default_timeout_is_ten_seconds(simulation):
    simulation.worker([hang])
    job = await simulation.queue.enqueue("hang")
    await simulation.advance(9.999)
    assert simulation.record_of(job).status is Status.ACTIVE
    await simulation.advance(0.001)
    simulation.assert_timed_out(job)


@pytest.mark.parametrize("timeout", [0, None])
async def test_without_timeout_a_run_has_no_end(simulation, timeout):
    simulation.worker([hang])
    job = await simulation.queue.enqueue("hang", timeout=timeout)
    await simulation.advance(3600)
    simulation.assert_completed(job)


async def test_a_run_without_a_heartbeat_is_ended_and_one_with_heartbeats_lives(simulation):
    async def beating(ctx, beats):
        for _ in range(beats):
            await asyncio.sleep(4)
            await ctx["job"].update()
        await asyncio.sleep(100)

    simulation.worker([beating])
    job = await simulation.queue.enqueue("beating", beats=3, heartbeat=5, timeout=None)
    await simulation.advance(16.999)
    assert simulation.record_of(job).status is Status.ACTIVE
    await simulation.advance(0.001)
    record = simulation.assert_failed(job, error="did not call job.update() for 5 s")
    assert len(record.updates) == 3


async def test_a_task_that_ignores_its_cancellation_is_left_behind_and_its_slot_freed(
    simulation, caplog
):
    async def stubborn(ctx):
        for _ in range(5):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                continue

    worker = simulation.worker([stubborn, ok], concurrency=1, cancellation_hard_deadline_s=2).worker
    first = await simulation.queue.enqueue("stubborn", timeout=3)
    second = await simulation.queue.enqueue("ok")
    with caplog.at_level(logging.WARNING, "queuekit"):
        await simulation.advance(5)
    simulation.assert_timed_out(first)
    simulation.assert_completed(second)
    assert worker.abandoned == 1
    assert "ignored its cancellation for 2 s" in caplog.text


@pytest.mark.parametrize("limit", [{"timeout": 3}, {"timeout": None, "heartbeat": 3}])
@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_the_run_after_an_abandoned_one_sees_that_it_was_and_hears_nothing_of_it(
    simulation, limit, kind
):
    seen, late = [], []

    async def ignores(ctx):
        job = ctx["job"]
        seen.append(job.abandoned)
        if job.attempts == 1:
            for _ in range(2):
                try:
                    await asyncio.sleep(20)
                except asyncio.CancelledError:
                    continue
            late.append(await refused(job.update(progress=0.9)))
            late.append(await refused(job.finish(Status.FAILED, error="late")))
        return job.attempts

    def blocks(ctx):
        job = ctx["job"]
        seen.append(job.abandoned)
        if job.attempts == 1:
            time.sleep(20)
            for word in (lambda: job.sync.update(progress=0.9), lambda: job.sync.retry("late")):
                try:
                    word()
                except LeaseLostError as error:
                    late.append(error)
        return job.attempts

    task = ignores if kind == "async" else blocks
    simulation.worker([("task", task)])
    job = await simulation.queue.enqueue("task", retries=2, retry_delay=10, **limit)
    await simulation.advance(60)
    stored = await simulation.queue.job(job.key)
    assert (stored.status, stored.result, stored.failures) == (Status.COMPLETE, 2, 1)
    assert (seen, stored.abandoned) == ([0, 1], 1)
    assert len(late) == 2
    assert stored.progress == 1.0


async def refused(word):
    with pytest.raises(LeaseLostError) as error:
        await word
    return error.value


async def test_a_limit_is_kept_by_the_clock_that_no_date_moves(simulation, monkeypatch):
    """The server's and the machine's date may jump: limits are the worker's own monotonic time."""
    simulation.worker([hang])
    job = await simulation.queue.enqueue("hang", timeout=60)
    await simulation.advance(1)
    later = simulation.environment.time_ms() + 3_600_000
    monkeypatch.setattr(simulation.environment, "time_ms", lambda: later)
    await simulation.advance(58.9)
    assert simulation.record_of(job).status is Status.ACTIVE
    await simulation.advance(0.1)
    simulation.assert_timed_out(job)


async def test_heartbeats_of_a_retry_are_counted_anew(simulation):
    async def beats_late(ctx):
        await asyncio.sleep(4)
        if ctx["job"].attempts == 2:
            return "second"
        await asyncio.sleep(4)
        return "first"

    simulation.worker([beats_late])
    job = await simulation.queue.enqueue("beats_late", heartbeat=5, timeout=None, retries=2)
    await simulation.advance(9)
    simulation.assert_completed(job, result="second", attempts=2)


async def test_a_run_whose_own_task_is_cancelled_hands_its_job_back_uncharged(simulation):
    """As when a loop ends: all tasks in it are cancelled, in any order."""
    cleaned = []

    async def long(ctx):
        try:
            await asyncio.sleep(20)
        finally:
            cleaned.append(time.monotonic())

    simulation.worker([long])
    job = await simulation.queue.enqueue("long", timeout=None)
    await simulation.advance(5)
    [run] = [task for task in asyncio.all_tasks() if task.get_name() == f"job {job.key}"]
    run.cancel()
    await simulation.run_until_idle()
    assert cleaned == [5]
    await simulation.advance(20)
    stored = await simulation.queue.job(job.key)
    assert (stored.status, stored.failures, stored.losses) == (Status.COMPLETE, 0, 0)
    assert [attempt.outcome for attempt in await job.history()] == ["released", "completed"]


@pytest.mark.parametrize("nth", range(1, 7))
async def test_a_worker_that_is_cancelled_ends_whatever_it_is_at(simulation, nth):
    """Also when the cancellation meets an answer of Redis, and Python 3.11 swallows it."""
    simulation.inject("cancel", task="worker-1", nth=nth)
    worker = simulation.worker([ok])
    await simulation.queue.enqueue("ok")
    await simulation.advance(10)
    assert not worker.running

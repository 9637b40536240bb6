"""Timeouts, heartbeats and cancellation."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from queuekit import Status


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

"""Hooks around the worker and around each run."""

from __future__ import annotations

import pytest


async def ok(ctx):
    """A task."""


async def test_hooks_see_the_context_and_run_in_order_sync_or_async(simulation):
    seen = []

    async def startup(ctx):
        seen.append("startup")
        ctx["db"] = "connected"

    def before(ctx):
        seen.append(("before", ctx["job"].function, ctx["db"]))

    async def before_too(ctx):
        seen.append("before too")

    def after(ctx):
        seen.append(("after", type(ctx["exception"]).__name__, ctx["job"].status.value))

    async def shutdown(ctx):
        seen.append("shutdown")

    async def fails(ctx):
        raise ValueError(ctx["db"])

    handle = simulation.worker(
        [fails],
        startup=startup,
        shutdown=[shutdown],
        before_process=[before, before_too],
        after_process=after,
    )
    await simulation.queue.enqueue("fails")
    await simulation.run_until_idle()
    await handle.stop()
    assert seen == [
        "startup",
        ("before", "fails", "connected"),
        "before too",
        ("after", "ValueError", "failed"),
        "shutdown",
    ]


async def test_a_failure_in_before_process_is_a_failure_of_the_run(simulation):
    async def before(ctx):
        if ctx["job"].attempts == 1:
            raise ValueError("not yet")

    simulation.worker([ok], before_process=before)
    job = await simulation.queue.enqueue("ok", retries=2)
    await simulation.run_until_idle()
    simulation.assert_completed(job, attempts=2)


async def test_a_failure_in_after_process_changes_nothing(simulation, caplog):
    async def after(ctx):
        raise ValueError("too late")

    simulation.worker([ok], after_process=after)
    job = await simulation.queue.enqueue("ok")
    await simulation.run_until_idle()
    simulation.assert_completed(job)
    assert "after_process of job" in caplog.text


async def test_a_failure_at_startup_ends_the_worker_with_it(simulation):
    async def startup(ctx):
        raise ValueError("no database")

    handle = simulation.worker([ok], startup=startup)
    with pytest.raises(ValueError, match="no database"):
        await handle.wait()

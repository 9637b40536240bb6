"""The table of docs/lifecycle.md, row by row: what becomes of a job, and what it is charged with."""

from __future__ import annotations

import asyncio
import contextlib
import re
from pathlib import Path

import pytest

from queuekit.job import Status
from queuekit.simulation import Hold, Moment
from queuekit.simulation.process import PROCESS, Process
from tests.worker.test_recovery import hold_at

PAGE = Path(__file__).parents[2] / "docs" / "lifecycle.md"
CHARGES = {"nothing": (0, 0), "a failure": (1, 0), "a loss": (0, 1)}
ROWS = {}
"What brings each row about: an async function of a simulation that leaves the job `k` behind."


def rows():
    _, _, section = PAGE.read_text("utf-8").partition("## Hooks, failures and cancellation")
    lines = [line for line in section.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def row(name):
    def keep(function):
        assert name not in ROWS
        ROWS[name] = function
        return function

    return keep


@pytest.mark.parametrize(
    ("what", "status", "charged"), [row[:3] for row in rows()], ids=[row[0] for row in rows()]
)
async def test_each_row_of_the_table_is_true(simulation, what, status, charged):
    assert what in ROWS, "a row of the table that has no test"
    await ROWS[what](simulation)
    job = await simulation.queue.job("k")
    [wanted] = re.findall(r"`(\w+)`", status)[:1]
    before = 2 if "third time" in what else 0
    assert (job.status.value, job.failures, job.losses - before) == (wanted, *CHARGES[charged])


def test_each_test_of_a_row_has_its_row():
    assert [name for name, *_ in rows()] == list(ROWS)


# -- what they are made of


async def quick(ctx):
    return "done"


async def long(ctx):
    await asyncio.sleep(100)


async def raises(ctx):
    raise ValueError("no")


async def cancels(ctx):
    raise asyncio.CancelledError


async def ignores(ctx):
    for _ in range(3):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(100)


def keeps(seen, name):
    """A hook that notes what the run's job says."""
    return lambda ctx: seen.append(getattr(ctx["job"], name))


async def enqueue(simulation, function=quick, **options):
    """With a retry that comes much later, so that a job that is tried again is seen as queued."""
    given = {"timeout": None, "retries": 2, "retry_delay": 50, **options}
    return await simulation.queue.enqueue(function, key="k", **given)


async def once(simulation, function, *, seconds=10, hooks=None, **options):
    """The job has its run."""
    await enqueue(simulation, function, **options)
    handle = simulation.worker([function], **(hooks or {}))
    await simulation.advance(seconds)
    return handle


async def ends_with(handle, error):
    with pytest.raises(error):
        await handle.wait()


async def recovered(simulation):
    """A minute later; nobody takes the job again."""
    simulation.worker([])
    await simulation.advance(31)


def victim(simulation, function, **hooks):
    process = Process(simulation.loop, "victim")
    process.run(simulation.worker, [function], **hooks)
    return process


def kill_at(simulation, name):
    def observer(event):
        if isinstance(event, Moment) and event.name == name and PROCESS.get():
            PROCESS.get().kill()

    simulation.observe(observer)


# -- the rows


@row("`startup` raises")
async def startup_raises(simulation):
    closed = []
    await enqueue(simulation)
    handle = simulation.worker([quick], startup=raises, shutdown=lambda _: closed.append(1))
    await ends_with(handle, ValueError)
    assert closed == [1]
    assert not simulation.record_of("k").attempts


@row("`shutdown` raises")
async def shutdown_raises(simulation):
    handle = await once(simulation, long, hooks={"shutdown": raises})
    await handle.stop()
    await ends_with(handle, ValueError)


@row("`before_process` raises")
async def before_process_raises(simulation):
    ended = []

    async def after(ctx):
        ended.append(str(ctx["exception"]))

    await once(simulation, quick, hooks={"before_process": raises, "after_process": after})
    assert simulation.record_of("k").last.started_ms is None
    assert ended == ["no"]


@row("`before_process` is cancelled by an abort")
async def before_process_is_cancelled_by_an_abort(simulation):
    await once(simulation, quick, hooks={"before_process": long})
    await (await simulation.queue.job("k")).abort("no more")
    await simulation.run_until_idle()
    assert simulation.record_of("k").last.started_ms is None


@row("`before_process` is cancelled by a shutdown")
async def before_process_is_cancelled_by_a_shutdown(simulation):
    handle = await once(simulation, quick, hooks={"before_process": long})
    await simulation.queue.enqueue("quick", key="behind")
    await handle.stop()
    assert simulation.record_of("k").last.started_ms is None
    assert await simulation.queue.store.page("ready", 0, 1) == ["k"]


@row("`before_process` takes longer than `timeout`")
async def before_process_takes_longer_than_timeout(simulation):
    await once(simulation, quick, hooks={"before_process": long}, seconds=100, timeout=10)


@row("`before_process` ignores its cancellation")
async def before_process_ignores_its_cancellation(simulation):
    await once(simulation, quick, hooks={"before_process": ignores})
    await (await simulation.queue.job("k")).abort("no more")
    await simulation.advance(1)
    assert (await simulation.queue.job("k")).abandoned == 1
    assert simulation.record_of("k").last.started_ms is None


@row("the task raises")
async def the_task_raises(simulation):
    await once(simulation, raises)


@row("the task passes its `timeout`")
async def the_task_passes_its_timeout(simulation):
    await once(simulation, long, timeout=10)


@row("the task misses its `heartbeat`")
async def the_task_misses_its_heartbeat(simulation):
    await once(simulation, long, heartbeat=10)


@row("the task ignores its cancellation")
async def the_task_ignores_its_cancellation(simulation):
    handle = await once(simulation, ignores, timeout=5)
    assert (await simulation.queue.job("k")).abandoned == handle.worker.abandoned == 1
    assert handle.worker.has_room()


@row("the task cancels itself")
async def the_task_cancels_itself(simulation):
    await once(simulation, cancels)


@row("the task calls `sys.exit()`")
async def the_task_calls_sys_exit(simulation):
    async def leaves(ctx):
        raise SystemExit(3)

    handle = await once(simulation, leaves)
    assert handle.running


@row("the task's result cannot be stored")
async def the_tasks_result_cannot_be_stored(simulation):
    async def unstorable(ctx):
        return {1, 2}

    await once(simulation, unstorable)


@row("the arguments do not fit the task")
async def the_arguments_do_not_fit_the_task(simulation):
    await once(simulation, quick, n=1)


@row("the worker does not know the function")
async def the_worker_does_not_know_the_function(simulation):
    await enqueue(simulation, "unheard of")
    simulation.worker([quick])
    await simulation.advance(10)
    assert await (await simulation.queue.job("k")).history()


@row("its record cannot be read")
async def its_record_cannot_be_read(simulation):
    queue = simulation.queue
    await enqueue(simulation)
    await queue.store._command("SET", f"{queue.store.root}:call:k", "not json")
    other = await queue.enqueue("quick")
    simulation.worker([quick])
    await simulation.run_until_idle()
    simulation.assert_completed(other)
    assert [aside.key for aside in await queue.quarantined()] == ["k"]


@row("`after_process` raises")
async def after_process_raises(simulation):
    await once(simulation, quick, hooks={"after_process": raises})


@row("`after_process` is cancelled")
async def after_process_is_cancelled(simulation):
    handle = await once(simulation, quick, hooks={"after_process": cancels})
    assert handle.running


@row("`after_process` hangs at shutdown")
async def after_process_hangs_at_shutdown(simulation):
    handle = await once(simulation, quick, hooks={"after_process": long}, seconds=1)
    began = simulation.now
    await handle.stop()
    assert (simulation.now - began).total_seconds() <= 2


@row("it is aborted while it waits")
async def it_is_aborted_while_it_waits(simulation):
    await (await enqueue(simulation)).abort("no more")
    simulation.worker([quick])
    await simulation.advance(10)
    assert not simulation.record_of("k").attempts


@row("it is aborted between claim and start")
async def it_is_aborted_between_claim_and_start(simulation):
    hold = Hold()
    simulation.observe(lambda e: hold if isinstance(e, Moment) and e.name == "claimed" else None)
    await once(simulation, quick)
    await (await simulation.queue.job("k")).abort("no more")
    await simulation.run_until_idle()
    hold.release()
    await simulation.run_until_idle()
    assert simulation.record_of("k").last.started_ms is None


@row("it is aborted while it runs")
async def it_is_aborted_while_it_runs(simulation):
    async def returns(ctx):
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return "all the same"

    await once(simulation, returns)
    await (await simulation.queue.job("k")).abort("no more")
    await simulation.run_until_idle()


@row("it is aborted while it runs, and its task reads it again")
async def it_is_aborted_while_it_runs_and_its_task_reads_it_again(simulation):
    seen = []

    async def asks_why(ctx):
        try:
            await asyncio.sleep(100)
        finally:
            await ctx["job"].refresh()
            seen.append(ctx["job"].status.value)

    handle = await once(simulation, asks_why)
    await (await simulation.queue.job("k")).abort("no more")
    await simulation.advance(1)
    assert seen == ["aborting"]
    assert simulation.record_of("k").last.outcome == "aborted"
    assert handle.worker.has_room()


@row("the task aborts its own job")
async def the_task_aborts_its_own_job(simulation):
    async def gives_up(ctx):
        await ctx["job"].abort("no sense in it")
        return "all the same"

    await once(simulation, gives_up)
    assert (await simulation.queue.job("k")).error == "no sense in it"


@row("the task calls `finish()`")
async def the_task_calls_finish(simulation):
    async def ends(ctx):
        await ctx["job"].finish(Status.COMPLETE, result="first")
        return "later"

    await once(simulation, ends, hooks={"after_process": keeps(seen := [], "result")})
    assert (await simulation.queue.job("k")).result == "first"
    assert seen == ["first"]


@row("the task calls `retry()`")
async def the_task_calls_retry(simulation):
    async def again(ctx):
        await ctx["job"].retry("not yet")
        return "later"

    await once(simulation, again, hooks={"after_process": keeps(seen := [], "status")})
    assert (await simulation.queue.job("k")).error == "not yet"
    assert seen == [Status.QUEUED]


@row("the task assigns a status to its job")
async def the_task_assigns_a_status_to_its_job(simulation):
    async def assigns(ctx):
        ctx["job"].status = Status.FAILED
        return "done"

    await once(simulation, assigns)
    assert (await simulation.queue.job("k")).result == "done"


@row("the task assigns a key to its job")
async def the_task_assigns_a_key_to_its_job(simulation):
    async def goes_on_as_another(ctx):
        job = ctx["job"]
        if job.key == "k":
            job.key = "other"
            await job.enqueue()
            await asyncio.sleep(35)  # past the lease, unless it is renewed
        return "done"

    handle = await once(simulation, goes_on_as_another, seconds=70)
    assert simulation.record_of("k").last.outcome == "completed"
    assert simulation.record_of("other").last.outcome == "completed"
    assert not handle.worker.running


@row("its worker stops")
async def its_worker_stops(simulation):
    handle = await once(simulation, long, hooks={"shutdown_grace_period_s": 5})
    await simulation.queue.enqueue("quick", key="behind", scheduled=simulation.now)
    await handle.stop()
    assert (await simulation.queue.store.page("ready", 0, 2))[0] == "k"


@row("its worker's own task is cancelled")
async def its_workers_own_task_is_cancelled(simulation):
    handle = await once(simulation, long)
    handle.cancel()
    await simulation.run_until(lambda: not handle.running, limit=5)


@row("its worker is killed before it starts")
async def its_worker_is_killed_before_it_starts(simulation):
    kill_at(simulation, "claimed")
    victim(simulation, quick)
    await enqueue(simulation)
    await recovered(simulation)
    assert simulation.record_of("k").attempts[0].started_ms is None


@row("its worker is killed in `before_process`")
async def its_worker_is_killed_in_before_process(simulation):
    process = victim(simulation, quick, before_process=long)
    await enqueue(simulation)
    await simulation.advance(1)
    process.kill()
    await recovered(simulation)


@row("its worker is killed in the task")
async def its_worker_is_killed_in_the_task(simulation):
    process = victim(simulation, long)
    await enqueue(simulation, long)
    await simulation.advance(1)
    process.kill()
    await recovered(simulation)


@row("its worker is killed before the commit")
async def its_worker_is_killed_before_the_commit(simulation):
    kill_at(simulation, "committing")
    victim(simulation, quick)
    await enqueue(simulation)
    await recovered(simulation)


@row("its worker is killed in `after_process`")
async def its_worker_is_killed_in_after_process(simulation):
    process = victim(simulation, quick, after_process=long)
    await enqueue(simulation)
    await simulation.advance(1)
    process.kill()
    await recovered(simulation)


@row("its worker is killed while it is `aborting`")
async def its_worker_is_killed_while_it_is_aborting(simulation):
    process = victim(simulation, long)
    job = await enqueue(simulation, long)
    await simulation.advance(1)
    await job.abort("no more")
    process.kill()
    await recovered(simulation)


@row("its worker is killed for the third time")
async def its_worker_is_killed_for_the_third_time(simulation):
    async def poison(ctx):
        await PROCESS.get().die()

    await enqueue(simulation, poison, retry_delay=0)
    for _ in range(3):
        victim(simulation, poison)
        await simulation.advance(31)
    await recovered(simulation)
    assert "that was loss 3, and 2 are allowed" in (await simulation.queue.job("k")).error


@row("its worker hangs longer than the lease")
async def its_worker_hangs_longer_than_the_lease(simulation):
    async def slow(ctx):
        await asyncio.sleep(35)
        return ctx["job"].attempts

    hold = hold_at(simulation, "committing")
    await once(simulation, slow, retry_delay=0, seconds=1, hooks={"concurrency": 1})
    simulation.worker([slow])
    await simulation.advance(75)
    hold.release()
    await simulation.run_until_idle()
    assert (await simulation.queue.job("k")).result == 2

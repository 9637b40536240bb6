"""Runs of a job: results, failures, retries, backoff, limits, contexts."""

from __future__ import annotations

import asyncio
import contextvars
import dataclasses
import pickle
import time
from datetime import UTC, datetime, timedelta

import pytest

from queuekit import Job, Status, Worker
from queuekit.errors import LeaseLostError, TaskFailure

WORDS = contextvars.ContextVar("words", default="default")


class Flaky:
    """A task that fails its first runs."""

    def __init__(self, failures):
        self.failures = failures
        self.runs = []
        self.exceptions = []

    async def __call__(self, ctx):
        self.runs.append(datetime.now(UTC))
        self.exceptions.append(ctx["exception"])
        if len(self.runs) <= self.failures:
            raise ValueError(f"failure {len(self.runs)}")
        return len(self.runs)


async def ok(ctx, **arguments):
    return arguments


async def hang(ctx):
    await asyncio.sleep(3600)


async def test_a_job_runs_with_its_arguments_and_keeps_its_result(simulation):
    simulation.worker([ok])
    job = await simulation.queue.enqueue("ok", a=1, b=[1, {"c": None}])
    await simulation.run_until_idle()
    await job.refresh()
    assert (job.status, job.result, job.attempts) == (
        Status.COMPLETE,
        {"a": 1, "b": [1, {"c": None}]},
        1,
    )
    assert job.progress == 1.0
    assert job.worker_id == simulation.workers()[0].worker.id


async def test_a_job_starts_at_the_moment_it_is_enqueued(simulation):
    simulation.worker([ok])
    await simulation.advance(12_345.678)
    job = await simulation.queue.enqueue("ok")
    await simulation.run_until_idle()
    await job.refresh()
    assert job.queued == job.started == job.completed == simulation.environment.time_ms()


async def test_times_are_milliseconds_of_the_servers_clock(simulation):
    async def three_seconds(ctx):
        await asyncio.sleep(3)

    simulation.worker([three_seconds])
    job = await simulation.queue.enqueue("three_seconds", scheduled=timedelta(seconds=2))
    await simulation.advance(10)
    await job.refresh()
    assert (job.duration("start"), job.duration("process"), job.duration("total")) == (
        2000,
        3000,
        5000,
    )


async def test_by_default_a_failure_is_final(simulation):
    flaky = Flaky(1)
    simulation.worker([("flaky", flaky)])
    job = await simulation.queue.enqueue("flaky")
    await simulation.advance(60)
    simulation.assert_failed(job, error=ValueError, attempts=1)
    await job.refresh()
    assert "ValueError: failure 1" in job.error


async def test_retries_is_the_number_of_runs(simulation):
    flaky = Flaky(99)
    simulation.worker([("flaky", flaky)])
    job = await simulation.queue.enqueue("flaky", retries=4)
    await simulation.run_until_idle()
    simulation.assert_failed(job, attempts=4)
    simulation.assert_retried(job, delays=[0, 0, 0])


async def test_backoff_doubles_and_no_run_is_early_or_late(simulation):
    flaky = Flaky(3)
    simulation.worker([("flaky", flaky)])
    start = simulation.now
    job = await simulation.queue.enqueue("flaky", retries=4, retry_delay=5, retry_backoff=True)
    await simulation.advance(60)
    simulation.assert_completed(job, attempts=4, result=4)
    assert [(run - start).total_seconds() for run in flaky.runs] == [0, 5, 15, 35]


async def test_backoff_stops_at_its_maximum(simulation):
    simulation.worker([("flaky", Flaky(4))])
    job = await simulation.queue.enqueue("flaky", retries=5, retry_delay=5, retry_backoff=8)
    await simulation.advance(60)
    simulation.assert_retried(job, delays=[5, 8, 8, 8])


@pytest.mark.queuekit(jitter="full", seed=3)
async def test_full_jitter_draws_each_delay_up_to_its_bound(simulation):
    simulation.worker([("flaky", Flaky(6))])
    job = await simulation.queue.enqueue("flaky", retries=7, retry_delay=5, retry_backoff=True)
    await simulation.advance(600)
    record = simulation.assert_completed(job, attempts=7)
    bounds = [5000 * 2**n for n in range(6)]
    assert all(0 <= d <= b for d, b in zip(record.retry_delays_ms, bounds, strict=True))
    assert record.retry_delays_ms != bounds


async def test_a_retry_sees_the_failure_before_as_an_exception_with_type_text_and_traceback(
    simulation,
):
    flaky = Flaky(1)
    simulation.worker([("flaky", flaky)])
    await simulation.queue.enqueue("flaky", retries=2)
    await simulation.run_until_idle()
    first, second = flaky.exceptions
    assert first is None
    assert isinstance(second, TaskFailure)
    assert (second.type_name, second.message) == ("ValueError", "failure 1")
    assert "in __call__" in second.traceback
    assert "queuekit/execution.py" not in second.traceback, (
        "it begins with the application's frames"
    )


async def test_the_failure_before_is_known_when_another_worker_runs_the_retry(simulation):
    flaky = Flaky(1)
    first = simulation.worker([("flaky", flaky)])
    await simulation.queue.enqueue("flaky", retries=2, retry_delay=60)
    await simulation.run_until_idle()
    await first.stop()
    simulation.worker([("flaky", flaky)])
    await simulation.advance(60)
    assert flaky.exceptions[1].message == "failure 1"


async def test_a_result_that_cannot_be_stored_fails_the_job_once(simulation):
    runs = []

    async def bad(ctx):
        runs.append(1)
        return {"x": {1, 2}}

    simulation.worker([bad])
    job = await simulation.queue.enqueue("bad", retries=5)
    await simulation.advance(60)
    record = simulation.assert_failed(job, attempts=1)
    assert record.error.startswith("ran, but result cannot be stored: TypeError at ")
    assert "['x']" in record.error.splitlines()[0]
    assert runs == [1]


async def test_dump_and_load_of_the_queue_decide_what_can_be_stored(simulation):

    queue = simulation.queue_named("pickled", dump=pickle.dumps, load=pickle.loads)

    async def given(ctx, when):
        return {when, "text"}

    simulation.worker([given], queue=queue)
    job = await queue.enqueue("given", when=datetime(2030, 1, 1, tzinfo=UTC))
    await simulation.run_until_idle()
    assert (await queue.job(job.key)).result == {datetime(2030, 1, 1, tzinfo=UTC), "text"}


async def test_a_sync_task_runs_in_a_thread_with_the_callers_context_variables(simulation):
    seen = []

    def sync(ctx):
        seen.append(WORDS.get())
        time.sleep(5)
        return time.monotonic()

    WORDS.set("hook")
    simulation.worker([sync])
    job = await simulation.queue.enqueue("sync")
    await simulation.advance(5)
    simulation.assert_completed(job, result=5.0)
    assert seen == ["hook"]


async def test_a_sync_task_reports_progress_and_heartbeats_through_its_blocking_twin(simulation):
    def sync(ctx):
        for part in (0.25, 0.5, 0.75):
            time.sleep(4)
            ctx["job"].sync.update(progress=part, meta={"part": part})
        ctx["queue"].sync.enqueue("ok", after=part)
        time.sleep(4)

    simulation.worker([sync, ok])
    job = await simulation.queue.enqueue("sync", heartbeat=5, timeout=60)
    await simulation.advance(12)
    assert (await simulation.queue.job(job.key)).progress == 0.75
    assert (await simulation.queue.job(job.key)).meta == {"part": 0.75}
    await simulation.advance(4)
    record = simulation.assert_completed(job)
    assert [progress for _, progress in record.updates] == [0.25, 0.5, 0.75]
    assert [r.kwargs for r in simulation.journal if r.function == "ok"] == [{"after": 0.75}]


async def test_a_sync_task_over_its_timeout_is_left_behind(simulation):
    def sync(ctx):
        time.sleep(100)

    worker = simulation.worker([sync]).worker
    job = await simulation.queue.enqueue("sync", timeout=3)
    await simulation.advance(4)
    simulation.assert_timed_out(job)
    assert worker.abandoned == 1


async def test_sync_tasks_run_beside_each_other(simulation):
    def sync(ctx):
        time.sleep(10)

    simulation.worker([sync], concurrency=5)
    jobs = [await simulation.queue.enqueue("sync", timeout=60) for _ in range(5)]
    await simulation.advance(10)
    for job in jobs:
        simulation.assert_completed(job)


async def test_an_unknown_function_fails_in_the_end_with_the_names_that_are_known(simulation):
    handle = simulation.worker([ok])
    job = await simulation.queue.enqueue("nope", retries=1)
    await simulation.advance(290)
    assert (await simulation.queue.job(job.key)).status is Status.QUEUED
    await simulation.advance(60)
    simulation.assert_failed(
        job, error=f"there is no function 'nope' in worker {handle.worker.id}.\n  It has: ok."
    )
    stored = await simulation.queue.job(job.key)
    assert (stored.failures, stored.losses) == (0, 0), "it was never run"
    assert {attempt.outcome for attempt in (await job.history())[:-1]} == {"unknown function"}


async def test_a_job_that_an_old_worker_does_not_know_runs_on_a_new_one(simulation):
    """A rolling deploy: its producer is newer than the worker that meets it first."""
    old = simulation.worker([ok])

    async def newer(ctx):
        return "done"

    job = await simulation.queue.enqueue("newer")
    await simulation.advance(20)
    simulation.worker([ok, newer])
    await old.stop()
    await simulation.advance(120)
    simulation.assert_completed(job, result="done")
    assert (await simulation.queue.job(job.key)).failures == 0


async def test_arguments_that_do_not_fit_fail_the_job_once(simulation):
    runs = []

    async def strict(ctx, *, order):
        runs.append(order)

    simulation.worker([strict])
    job = await simulation.queue.enqueue("strict", ordre=3, retries=5)
    await simulation.run_until_idle()
    simulation.assert_failed(job, attempts=1, error="do not fit its task")
    assert runs == []


async def test_a_type_error_of_the_task_itself_is_a_failure_like_any_other(simulation):
    async def adds(ctx, *, order):
        return order + None

    simulation.worker([adds])
    job = await simulation.queue.enqueue("adds", order=3, retries=2)
    await simulation.run_until_idle()
    simulation.assert_failed(job, attempts=2, error="unsupported operand")


@pytest.mark.parametrize("raised", [GeneratorExit, type("OwnError", (BaseException,), {})])
async def test_what_would_end_a_program_ends_a_run_only(simulation, raised):
    async def breaks(ctx):
        raise raised

    simulation.worker([breaks, ok])
    job = await simulation.queue.enqueue("breaks", retries=2)
    other = await simulation.queue.enqueue("ok")
    await simulation.run_until_idle()
    simulation.assert_failed(job, attempts=2, error=f"raised {raised.__name__}, which ends its run")
    simulation.assert_completed(other)


async def test_an_exception_whose_text_raises_does_not_hurt_the_worker(simulation):
    class BrokenError(Exception):
        def __str__(self):
            raise RuntimeError

    async def breaks(ctx):
        raise BrokenError

    simulation.worker([breaks, ok])
    job = await simulation.queue.enqueue("breaks")
    other = await simulation.queue.enqueue("ok")
    await simulation.run_until_idle()
    simulation.assert_failed(job)
    simulation.assert_completed(other)


async def test_a_record_that_cannot_be_read_is_set_aside_alone(simulation):
    queue = simulation.queue
    bad = await queue.enqueue("ok", key="bad")
    await queue.store._command("SET", f"{queue.store.root}:call:bad", "not json")
    good = await queue.enqueue("ok")
    simulation.worker([ok])
    await simulation.run_until_idle()
    simulation.assert_completed(good)
    [aside] = await queue.quarantined()
    assert (aside.key, aside.raw) == (bad.key, b"not json")
    assert "its record cannot be read" in aside.reason
    seen = await queue.job(bad.key)
    assert (seen.status, seen.function) == (Status.FAILED, "?")
    assert "its record cannot be read" in seen.error


async def test_a_task_may_finish_its_job_itself(simulation):
    async def own(ctx):
        await ctx["job"].finish(Status.COMPLETE, result="early")
        return "late"

    simulation.worker([own])
    job = await simulation.queue.enqueue("own")
    await simulation.run_until_idle()
    simulation.assert_completed(job, result="early")


async def test_a_task_may_put_its_job_back_itself(simulation):
    async def own(ctx):
        if ctx["job"].attempts == 1:
            await ctx["job"].retry("once more")

    simulation.worker([own])
    job = await simulation.queue.enqueue("own", retry_delay=5)
    await simulation.advance(5)
    simulation.assert_completed(job, attempts=2)


async def test_a_finished_job_can_be_run_again_with_a_fresh_budget(simulation):
    flaky = Flaky(2)
    simulation.worker([("flaky", flaky)])
    job = await simulation.queue.enqueue("flaky", retries=2)
    await simulation.run_until_idle()
    simulation.assert_failed(job)
    await job.refresh()
    await job.retry("by hand")
    await simulation.run_until_idle()
    simulation.assert_completed(job, attempts=1)
    assert len(flaky.runs) == 3


async def test_a_late_word_of_a_run_that_lost_its_job_is_refused(simulation):
    simulation.worker([ok])
    job = await simulation.queue.enqueue("ok", key="k")
    await simulation.run_until_idle()
    stale = dataclasses.replace(job, fence=1, claim_id="older", run=None)
    stale.queue = simulation.queue
    for word in (stale.update(progress=0.5), stale.finish(Status.FAILED)):
        with pytest.raises(LeaseLostError):
            await word


def test_a_worker_is_built_without_a_loop_and_refuses_bad_options(simulation):
    queue = simulation.queue
    assert Worker(queue=queue, functions=[ok])
    for bad in (
        {"concurrency": 0},
        {"lease_s": 0.5},
        {"timers": {"nope": 1}},
        {"timers": {"sweep": 0}},
        {"max_burst_jobs": 0},
        {"startup": 5},
    ):
        with pytest.raises((ValueError, TypeError)):
            Worker(queue=queue, functions=[ok], **bad)


def test_job_objects_compare_by_key():
    assert Job("f", key="k") == Job("g", key="k")
    assert hash(Job("f", key="k")) == hash(Job("g", key="k"))


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_a_task_that_exits_ends_its_run_and_not_its_worker(simulation, kind):
    async def leaves(ctx):
        raise SystemExit(3)

    def leaves_too(ctx):
        raise SystemExit(3)

    simulation.worker([("leave", leaves if kind == "async" else leaves_too), ok])
    job = await simulation.queue.enqueue("leave")
    other = await simulation.queue.enqueue("ok")
    await simulation.run_until_idle()
    simulation.assert_failed(job, error="called sys.exit(3)")
    simulation.assert_completed(other)


async def test_a_task_that_cancels_itself_has_failed(simulation):
    async def gives_up(ctx):
        raise asyncio.CancelledError

    simulation.worker([gives_up])
    job = await simulation.queue.enqueue("gives_up", retries=2)
    await simulation.run_until_idle()
    simulation.assert_failed(job, error="cancelled, and not by its worker", attempts=2)


async def test_an_endless_error_is_stored_by_its_end(simulation):
    async def shouts(ctx):
        raise ValueError("x" * 3_000_000 + "\ud800 the end")

    simulation.worker([shouts])
    job = await simulation.queue.enqueue("shouts")
    await simulation.run_until_idle()
    stored = await simulation.queue.job(job.key)
    assert len(stored.error) < 40_000
    assert stored.error.rstrip().endswith("the end")

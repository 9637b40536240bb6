"""The worker as a process: claiming, waiting, recovering, aborting, stopping, ticking."""

from __future__ import annotations

import asyncio
import signal
import time
from datetime import UTC, datetime

import pytest

from queuekit import Status, Worker
from queuekit.errors import JobStateError
from queuekit.simulation import Hold, Hop, Moment, Simulation, SimulationError, Step
from queuekit.store.redis import Move
from queuekit.upkeep import recover


async def ok(ctx, **arguments):
    return arguments


class Gauge:
    """A task that counts how many of it run at one time."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.now = self.most = self.ended = 0

    async def __call__(self, ctx):
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(self.seconds)
            self.ended += 1
        finally:
            self.now -= 1


def starve_leases(simulation):
    """Keep the first worker of the simulation from renewing any lease until the hold is released."""
    hold = Hold()

    def starve(event):
        mine = isinstance(event, Step) and event.task == "leases" and not hold.reached
        return hold if mine else None

    simulation.observe(starve)
    return hold


async def test_no_more_jobs_run_at_one_time_than_concurrency_allows(simulation):
    gauge = Gauge(1)
    simulation.worker([("gauge", gauge)], concurrency=3)
    for _ in range(10):
        await simulation.queue.enqueue("gauge")
    await simulation.advance(4)
    assert (gauge.most, gauge.ended) == (3, 10)


async def test_workers_may_have_one_name_and_keep_it_through_a_restart(simulation):
    gauge = Gauge(5)
    handles = [simulation.worker([("gauge", gauge)], id="mailer", concurrency=3) for _ in range(2)]
    jobs = [await simulation.queue.enqueue("gauge", timeout=None) for _ in range(20)]
    await simulation.advance(1)
    await jobs[0].abort("heard at once by the one of them that runs it")
    await simulation.run_until_idle()
    simulation.assert_aborted(jobs[0])
    assert (await simulation.queue.job(jobs[1].key)).worker_id == "mailer"
    await handles[0].stop()
    simulation.worker([("gauge", gauge)], id="mailer", concurrency=3)
    await simulation.advance(30)
    for job in jobs[1:]:
        simulation.assert_completed(job)
    assert gauge.ended == 19
    assert list((await simulation.queue.info())["workers"]) == ["mailer"]


async def test_a_freed_slot_is_filled_at_once(simulation):
    simulation.worker([("gauge", Gauge(7))], concurrency=1)
    jobs = [await simulation.queue.enqueue("gauge") for _ in range(3)]
    await simulation.advance(21)
    starts = [simulation.record_of(job).last.started_ms for job in jobs]
    assert [start - starts[0] for start in starts] == [0, 7000, 14_000]


async def test_two_workers_share_the_work_and_no_job_runs_twice(simulation):
    gauge = Gauge(1)
    for _ in range(2):
        simulation.worker([("gauge", gauge)], concurrency=2)
    jobs = [await simulation.queue.enqueue("gauge") for _ in range(20)]
    await simulation.advance(5)
    assert (gauge.most, gauge.ended) == (4, 20)
    for job in jobs:
        simulation.assert_completed(job, attempts=1)


async def test_a_scheduled_job_starts_at_its_moment_however_long_the_worker_was_idle(simulation):
    simulation.worker([ok])
    await simulation.advance(3 * 86_400 + 1.234)
    due = datetime(2030, 1, 5, 6, 7, 8, 9000, tzinfo=UTC)
    job = await simulation.queue.enqueue("ok", scheduled=due)
    await simulation.advance_to(due)
    assert simulation.assert_completed(job).last.started_ms == round(due.timestamp() * 1000)


async def test_a_job_that_is_due_before_an_earlier_one_wakes_the_worker_in_time(simulation):
    simulation.worker([ok])
    start = time.time()
    late = await simulation.queue.enqueue("ok", scheduled=start + 500)
    await simulation.advance(1)
    soon = await simulation.queue.enqueue("ok", scheduled=start + 20)
    await simulation.advance(19)
    simulation.assert_completed(soon)
    assert not simulation.record_of(late).finished


async def test_a_lost_job_is_recovered_when_its_lease_ends(simulation):
    await simulation.queue.enqueue("ok", key="orphan", retries=1)
    await simulation.queue.store.claim("dead", "dead.0", 1, 30_000, 60_000)
    simulation.worker([ok])
    await simulation.advance(29.999)
    assert (await simulation.queue.job("orphan")).status is Status.ACTIVE
    await simulation.advance(0.001)
    job = await simulation.queue.job("orphan")
    assert (job.status, job.attempts, job.losses, job.failures) == (Status.COMPLETE, 2, 1, 0)


async def test_a_job_that_is_lost_three_times_fails_and_says_so(simulation):
    queue = simulation.queue
    recoverer = Worker(queue=queue, functions=[ok])
    await queue.enqueue("ok", key="poison")
    for loss in range(3):
        await queue.store.claim("dead", f"dead.{loss}", 1, 1000, 60_000, idle=True)
        await simulation.advance(1)
        assert await recover(recoverer) == 1
    job = await queue.job("poison")
    assert (job.status, job.losses, job.failures, job.attempts) == (Status.FAILED, 3, 0, 3)
    assert "that was loss 3, and 2 are allowed" in job.error


async def test_a_worker_that_claims_its_own_lost_job_again_ends_the_older_run(simulation):
    hold = starve_leases(simulation)
    gauge = Gauge(50)
    simulation.worker([("gauge", gauge)])
    job = await simulation.queue.enqueue("gauge", timeout=None)
    await simulation.advance(31)
    assert gauge.now == 1
    hold.release()
    await simulation.advance(60)
    simulation.assert_completed(job, attempts=2)
    assert gauge.ended == 1


async def test_a_run_whose_job_went_on_without_it_is_ended_and_changes_nothing(simulation, caplog):
    starve_leases(simulation)
    simulation.worker([("gauge", Gauge(50))], concurrency=1)
    job = await simulation.queue.enqueue("gauge", timeout=None)
    await simulation.advance(29)
    other = simulation.worker([("gauge", Gauge(50))])
    await simulation.advance(2)
    assert (await simulation.queue.job(job.key)).worker_id == other.worker.id
    await simulation.advance(60)
    stored = await simulation.queue.job(job.key)
    assert (stored.status, stored.attempts, stored.losses) == (Status.COMPLETE, 2, 1)
    assert stored.worker_id == other.worker.id
    assert "lost: its lease ended before it was renewed" in caplog.text


async def test_a_running_job_keeps_its_lease_for_hours(simulation):
    simulation.worker([("gauge", Gauge(7200))])
    simulation.worker([("gauge", Gauge(7200))])
    job = await simulation.queue.enqueue("gauge", timeout=None)
    await simulation.advance(7200)
    simulation.assert_completed(job, attempts=1)


async def test_a_waiting_job_that_is_aborted_never_starts(simulation):
    job = await simulation.queue.enqueue("ok")
    await job.abort("changed my mind")
    simulation.worker([ok])
    await simulation.advance(60)
    record = simulation.assert_aborted(job, error="changed my mind")
    assert not record.attempts


async def test_a_running_job_hears_of_its_abort_at_once_and_cleans_up(simulation):
    cleaned = []

    async def long(ctx):
        try:
            await asyncio.sleep(3600)
        finally:
            cleaned.append(time.monotonic())

    worker = simulation.worker([long]).worker
    job = await simulation.queue.enqueue("long", timeout=None, retries=5)
    await simulation.advance(100)
    await job.abort("stop it")
    await simulation.run_until_idle()
    simulation.assert_aborted(job, error="stop it")
    assert cleaned == [100]
    assert worker.stats["aborted"] == 1
    await job.refresh()
    assert (job.status, job.error) == (Status.ABORTED, "stop it")


async def test_an_abort_whose_word_is_lost_is_heard_at_the_next_renewal(simulation):
    hold = Hold()

    def lose_the_word(event):
        reply = isinstance(event, Hop) and event.direction == "reply"
        return hold if reply and ":control:" in str(event.words) else None

    simulation.observe(lose_the_word)
    simulation.worker([("gauge", Gauge(1000))])
    job = await simulation.queue.enqueue("gauge", timeout=None)
    await simulation.advance(1)
    await job.abort("lost word")
    await simulation.advance(8.9)
    assert simulation.record_of(job).status is Status.ABORTING
    await simulation.advance(0.1)
    simulation.assert_aborted(job, error="lost word")


async def test_a_run_that_lost_its_lease_is_told_at_its_next_renewal_and_ended(simulation):
    gauge = Gauge(1000)
    worker = simulation.worker([("gauge", gauge)], concurrency=1).worker
    job = await simulation.queue.enqueue("gauge", timeout=None)
    await simulation.advance(1)
    [run] = worker.running.values()
    stolen = Move(job.key, run.job.fence, run.job.claim_id, Status.QUEUED, delay_ms=900_000)
    await simulation.queue.store.commit([stolen])
    await simulation.advance(8.9)
    assert gauge.now == 1
    await simulation.advance(0.1)
    assert gauge.now == 0
    assert (await simulation.queue.job(job.key)).status is Status.QUEUED


async def test_an_abort_is_heard_by_a_worker_whose_slots_are_all_taken(simulation):
    simulation.worker([("gauge", Gauge(1000))], concurrency=1)
    job = await simulation.queue.enqueue("gauge", timeout=None)
    await simulation.advance(5)
    await job.abort("now")
    await simulation.run_until_idle()
    simulation.assert_aborted(job)


async def test_aborting_a_finished_job_is_refused(simulation):
    simulation.worker([ok])
    job = await simulation.queue.enqueue("ok", key="mail:42")
    await simulation.run_until_idle()
    with pytest.raises(JobStateError, match="job 'mail:42' is complete and cannot be aborted"):
        await job.abort("late")
    assert (await simulation.queue.job("mail:42")).status is Status.COMPLETE


async def test_an_abort_while_the_result_is_being_committed_wins_or_is_refused(simulation):
    hold = Hold()

    def at_commit(event):
        return hold if isinstance(event, Moment) and event.name == "committing" else None

    simulation.observe(at_commit)
    simulation.worker([ok])
    job = await simulation.queue.enqueue("ok")
    await simulation.run_until_idle()
    assert hold.reached
    await job.abort("in between")
    hold.release()
    await simulation.run_until_idle()
    simulation.assert_aborted(job, error="in between")


async def test_a_stopped_worker_hands_its_jobs_back_and_charges_nothing(simulation):
    first = simulation.worker([("gauge", Gauge(100))])
    job = await simulation.queue.enqueue("gauge", timeout=None)
    await simulation.advance(10)
    await first.stop()
    assert not first.running
    stored = await simulation.queue.job(job.key)
    assert (stored.status, stored.attempts, stored.failures, stored.losses) == (
        Status.QUEUED,
        1,
        0,
        0,
    )
    simulation.worker([("gauge", Gauge(100))])
    await simulation.advance(100)
    simulation.assert_completed(job, attempts=2)


async def test_a_worker_that_is_cut_off_while_it_claims_hands_those_jobs_back_too(simulation):
    hold = Hold()

    def lose_the_reply(event):
        if isinstance(event, Hop) and event.words[:2] == ("EVALSHA", "claim"):
            lose_the_reply.lane = event.connection
        held = isinstance(event, Hop) and event.direction == "reply" and not hold.reached
        return hold if held and event.connection == lose_the_reply.lane else None

    lose_the_reply.lane = None
    jobs = [await simulation.queue.enqueue("ok", n=n) for n in range(3)]
    handle = simulation.worker([ok])
    await simulation.run_until_idle()
    await handle.stop()
    for job in jobs:
        simulation.assert_completed(job)
    again = [await simulation.queue.enqueue("ok", n=n) for n in range(3)]
    simulation.observe(lose_the_reply)
    cut_off = simulation.worker([ok])
    await simulation.run_until_idle()
    assert hold.reached
    cut_off.cancel()
    await simulation.run_until(lambda: not cut_off.running, limit=60)
    for job in again:
        stored = await simulation.queue.job(job.key)
        assert (stored.status, stored.losses) == (Status.QUEUED, 0)


async def test_running_jobs_may_end_within_the_grace_period(simulation):
    handle = simulation.worker([("gauge", Gauge(10))], shutdown_grace_period_s=15)
    job = await simulation.queue.enqueue("gauge", timeout=None)
    await simulation.advance(1)
    later = await simulation.queue.enqueue("gauge", scheduled=time.time() + 2)
    await handle.stop()
    simulation.assert_completed(job)
    assert simulation.now.timestamp() - simulation.record_of(job).finished_ms / 1000 < 1
    assert not simulation.record_of(later).attempts, "a stopping worker claims nothing"


async def test_a_signal_stops_the_worker_and_a_second_one_hurries_it(simulation):
    handle = simulation.worker([("gauge", Gauge(1000))], shutdown_grace_period_s=500)
    await simulation.queue.enqueue("gauge", timeout=None)
    await simulation.advance(1)
    simulation.loop.deliver_signal(signal.SIGTERM)
    await simulation.advance(100)
    assert handle.running
    simulation.loop.deliver_signal(signal.SIGTERM)
    await simulation.run_until_idle()
    assert not handle.running
    assert (await simulation.queue.count("queued")) == 1
    assert not simulation.loop.signal_handlers


async def test_a_burst_worker_stops_when_nothing_is_left(simulation):
    jobs = [await simulation.queue.enqueue("ok", n=n) for n in range(30)]
    handle = simulation.worker([ok], burst=True, concurrency=4)
    await handle.wait()
    for job in jobs:
        simulation.assert_completed(job)


async def test_a_burst_worker_waits_dequeue_timeout_for_another_job(simulation):
    handle = simulation.worker([ok], burst=True, dequeue_timeout=5)
    await simulation.advance(4)
    job = await simulation.queue.enqueue("ok")
    await simulation.advance(4)
    simulation.assert_completed(job)
    assert handle.running
    await simulation.advance(2)
    assert not handle.running


async def test_a_burst_worker_does_not_ask_over_and_over_while_its_jobs_run(simulation):
    asked = []

    def count(event):
        if isinstance(event, Hop) and event.direction == "request" and event.command == "claim":
            asked.append(event)

    simulation.observe(count)
    await simulation.queue.enqueue("gauge", timeout=None)
    await simulation.worker([("gauge", Gauge(10))], burst=True).wait()
    assert len(asked) < 10, f"{len(asked)} claims in ten seconds, for one job"


async def test_a_burst_worker_stops_after_so_many_jobs(simulation):
    for n in range(10):
        await simulation.queue.enqueue("ok", n=n)
    await simulation.worker([ok], burst=True, max_burst_jobs=3).wait()
    assert await simulation.queue.count("queued") == 7


async def test_a_worker_can_be_started_again_after_it_has_stopped(simulation):
    worker = Worker(queue=simulation.queue, functions=[ok])
    for _ in range(2):
        handle = simulation.worker(worker=worker)
        job = await simulation.queue.enqueue("ok")
        await simulation.run_until_idle()
        simulation.assert_completed(job)
        await handle.stop()


async def test_a_worker_cannot_be_started_twice_at_once(simulation):
    worker = simulation.worker([ok]).worker
    await simulation.run_until_idle()
    with pytest.raises(RuntimeError, match="is running already"):
        await worker.start()


async def test_a_task_may_stop_its_own_worker(simulation):
    async def last(ctx):
        await ctx["worker"].stop()
        return "stopped"

    handle = simulation.worker([last], shutdown_grace_period_s=5)
    job = await simulation.queue.enqueue("last")
    await handle.wait()
    simulation.assert_completed(job, result="stopped")


async def test_workers_tell_what_they_have_done(simulation):
    async def fails(ctx):
        raise ValueError

    handle = simulation.worker([ok, fails], id="w1", metadata={"host": "a"})
    await simulation.queue.enqueue("ok")
    await simulation.queue.enqueue("fails", retries=2)
    await simulation.advance(20)
    info = await simulation.queue.info()
    told = info["workers"]["w1"]
    assert told["metadata"] == {"host": "a"}
    assert {k: v for k, v in told["stats"].items() if k != "uptime"} == {
        "complete": 1,
        "failed": 1,
        "retried": 1,
        "aborted": 0,
    }
    await handle.stop()
    assert (await simulation.queue.info())["workers"] == {}


async def test_an_idle_worker_alone_looks_once_an_hour(simulation):
    simulation.worker([ok])
    await simulation.run_until_idle()
    before = simulation.trace.count
    await simulation.advance(86_400)
    assert simulation.trace.count - before < 24 * 25


def test_an_unknown_jitter_is_refused():
    with pytest.raises(SimulationError, match="jitter='half'"):
        Simulation(jitter="half")


async def test_a_worker_that_was_idle_keeps_the_leases_of_what_comes_later(simulation):
    simulation.worker([("gauge", Gauge(100))])
    for _ in range(2):
        job = await simulation.queue.enqueue("gauge", timeout=None)
        await simulation.advance(200)
        simulation.assert_completed(job, attempts=1)


async def test_a_word_of_work_that_reaches_a_full_worker_is_passed_on(simulation):
    """It still listened for work when its last slot was taken by a job whose moment had come."""
    workers = [simulation.worker([("gauge", Gauge(100))], concurrency=1) for _ in range(2)]
    await simulation.advance(1)
    await simulation.queue.enqueue("gauge", timeout=None, scheduled=time.time() + 10)
    await simulation.advance(15)
    assert [handle.worker.has_room() for handle in workers] == [False, True]
    job = await simulation.queue.enqueue("gauge", timeout=None)
    await simulation.run_until_idle()
    assert (await simulation.queue.job(job.key)).status is Status.ACTIVE

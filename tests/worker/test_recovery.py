"""Recovery: what comes of jobs whose worker died, hung, or could not be heard."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from types import MappingProxyType

import pytest

from queuekit import Job, Status, Worker
from queuekit.errors import LeaseLostError
from queuekit.simulation import Hold, Hop, Moment, Step
from queuekit.simulation.process import Process
from queuekit.store.redis import NewJob
from queuekit.upkeep import recover


async def ok(ctx):
    """A task."""


async def hang(ctx):
    await asyncio.sleep(3600)


def hold_at(simulation, name):
    """Hold the first moment of this name, and keep its worker from renewing leases meanwhile."""
    hold = Hold()

    def observer(event):
        if isinstance(event, Moment) and event.name == name and not observer.caught:
            observer.caught = True
            return hold
        if isinstance(event, Step) and event.task == "leases" and not observer.starved:
            observer.starved = True
            return hold
        return None

    observer.caught = observer.starved = False
    simulation.observe(observer)
    return hold


async def test_a_job_is_not_begun_when_its_lease_ended_between_its_claim_and_its_start(simulation):
    """A machine that slept wakes up with jobs that have gone on without it."""
    for moment in ("claimed", "started"):
        runs = []

        async def noted(ctx, runs=runs):
            runs.append(ctx["worker"].id)

        hold = hold_at(simulation, moment)
        sleeper = simulation.worker([("noted", noted)], concurrency=1)
        job = await simulation.queue.enqueue("noted", timeout=None)
        await simulation.advance(1)
        successor = simulation.worker([("noted", noted)])
        await simulation.advance(30)
        hold.release()
        await simulation.advance(1)
        assert runs == [successor.worker.id]
        shown = simulation.record_of(job).attempts[0].started_ms is not None
        assert shown == (moment == "started")
        assert (await simulation.queue.job(job.key)).status is Status.COMPLETE
        await sleeper.stop()
        await successor.stop()


async def test_a_claim_that_was_answered_late_leaves_as_much_lease_as_the_server_does(simulation):
    """The lease runs from the claim on, however long its answer was on the way."""

    async def long(ctx):
        await asyncio.sleep(50)

    await simulation.queue.enqueue("long", timeout=None)
    await simulation.queue.store.claim("other", "other.0", 0, 30_000, 60_000)
    hold = Hold()

    def late(event):
        if getattr(event, "words", ())[:2] == ("EVALSHA", "claim"):
            late.lane = event.connection
        mine = getattr(event, "direction", "") == "reply" and event.connection == late.lane
        return hold if mine and not hold.reached else None

    late.lane = None
    simulation.observe(late)
    worker = simulation.worker([long]).worker
    await simulation.advance(4)
    assert hold.reached
    hold.release()
    await simulation.run_until_idle()
    [run] = worker.running.values()
    assert run.lease_end == 30
    await simulation.advance(10)
    assert run.lease_end > 30, "it was renewed"


async def test_a_claim_that_was_asked_again_leaves_as_much_lease_as_its_first_answer_did(
    simulation,
):
    """Its first answer was lost, and with it some seconds."""

    async def long(ctx):
        await asyncio.sleep(8)

    await simulation.queue.enqueue("long")
    worker = simulation.worker([long], id="one").worker

    def cut(event):
        if getattr(event, "words", ())[:2] == ("EVALSHA", "claim"):
            cut.lane = event.connection
        mine = getattr(event, "direction", "") == "reply" and event.connection == cut.lane
        if mine and cut.left:
            cut.left -= 1
            [wire] = [w for w in simulation.loop.network.wires if w.number == event.connection]
            wire.cut()

    cut.lane, cut.left = None, 2
    await simulation.queue.store.claim("other", "other.0", 0, 30_000, 60_000)
    simulation.observe(cut)
    await simulation.advance(1)
    assert not cut.left
    [run] = worker.running.values()
    assert run.lease_end == 30


class Commands:
    """The scripts that were sent, by name, and how many jobs each one worked on."""

    SIZES = MappingProxyType({"commit": 13, "renew": 3})
    "Arguments of a job."

    def __init__(self, simulation):
        self.sent = []
        self.most = Counter()
        simulation.observe(self)

    def __call__(self, event):
        if isinstance(event, Hop) and event.words[:1] == ("EVALSHA",):
            name, arguments = event.words[1], event.words[5:]
            self.sent.append(name)
            if size := self.SIZES.get(name):
                jobs = len(arguments) // size
                self.most[name] = max(self.most[name], jobs)


async def orphans(simulation, count, *, lease_s=30, **options):
    """So many jobs whose worker died right after it had claimed them."""
    queue = simulation.queue
    keys = [f"orphan-{n}" for n in range(count)]
    for key in keys:
        await queue.enqueue("ok", key=key, **options)
    claimed = 0
    while claimed < count:
        taken = await queue.store.claim("dead", f"dead.{claimed}", 100, lease_s * 1000, 60_000)
        claimed += len(taken.jobs)
    return keys


async def test_a_killed_workers_job_without_a_timeout_runs_again_when_its_lease_ends(simulation):
    starts = []

    async def long(ctx):
        starts.append(simulation.clock.elapsed_ns / 1e9)
        await asyncio.sleep(100)

    process = Process(simulation.loop, "victim")
    process.run(simulation.worker, [long])
    job = await simulation.queue.enqueue("long", timeout=None)
    await simulation.advance(15)
    process.kill()
    simulation.worker([long])
    await simulation.advance(200)
    assert starts == [0, 40], "renewed at 10 s, so until 40 s"
    assert (await simulation.queue.job(job.key)).losses == 1


async def test_a_worker_without_a_free_slot_recovers_orphans_and_expires_records(simulation):
    short = await simulation.queue.enqueue("ok", ttl=50)
    handle = simulation.worker([ok, hang], concurrency=1)
    await simulation.run_until_idle()
    await simulation.queue.enqueue("hang", timeout=None)
    await simulation.run_until_idle()
    simulation.assert_completed(short)
    queue = simulation.queue
    await queue.enqueue("ok", key="orphan")
    await queue.store.claim("dead", "dead.0", 1, 30_000, 60_000)
    await simulation.advance(31)
    orphan = await queue.job("orphan")
    assert (orphan.status, orphan.losses) == (Status.QUEUED, 1)
    assert not handle.worker.has_room()
    assert await queue.store.page("finished", 0, 10) == [short.key]
    await simulation.advance(20)
    assert await queue.store.page("finished", 0, 10) == []


@pytest.mark.slow
async def test_many_workers_recover_at_once_in_batches_and_each_job_is_lost_once(simulation):
    keys = await orphans(simulation, 250)
    commands = Commands(simulation)
    for _ in range(3):
        simulation.worker([ok], concurrency=50)
    await simulation.advance(29.9)
    assert "expired" not in commands.sent
    await simulation.advance(0.1)
    for key in keys:
        job = await simulation.queue.job(key)
        assert (job.status, job.losses, job.attempts) == (Status.COMPLETE, 1, 2), key
    assert commands.most["commit"] == 100


async def test_recovery_costs_what_has_expired_and_not_what_is_active(simulation):
    await orphans(simulation, 120, lease_s=300)
    await simulation.queue.enqueue("ok", key="gone")
    await simulation.queue.store.claim("dead", "dead.last", 1, 30_000, 60_000)
    commands = Commands(simulation)
    simulation.worker([ok])
    await simulation.advance(31)
    simulation.assert_completed("gone")
    assert commands.sent.count("expired") == 1
    assert len(commands.sent) < 20, "and not a command for each of the 120"
    assert commands.most["commit"] == 1


@pytest.mark.slow
async def test_ten_thousand_orphans_and_two_workers_are_claimable_by_the_lease_and_five_seconds(
    simulation,
):
    queue = simulation.queue
    for first in range(0, 10_000, 1000):
        jobs = [NewJob(f"{n}", f"id{n}", call(queue, n)) for n in range(first, first + 1000)]
        await queue.store.enqueue(jobs)
    for n in range(100):
        await queue.store.claim("dead", f"dead.{n}", 100, 30_000, 600_000)
    commands = Commands(simulation)
    for _ in range(2):
        simulation.worker([ok, hang], concurrency=1)
        await queue.enqueue("hang", timeout=None, priority=-1)
    await simulation.advance(35)
    counts = await queue.store.counts()
    assert counts == {"queued": 10_000, "scheduled": 0, "active": 2}
    assert commands.sent.count("expired") <= 2 * 102
    assert commands.most["commit"] == 100


def call(queue, n):
    return queue.codec.encode_call(Job("ok", key=f"{n}"))


@pytest.mark.parametrize(("backoff", "pauses"), [(False, [20, 20]), (True, [20, 40])])
async def test_a_recovered_job_honours_its_retry_delay_and_backoff(simulation, backoff, pauses):
    queue = simulation.queue
    recoverer = Worker(queue=queue, functions=[ok])
    await queue.enqueue("ok", key="k", retry_delay=20, retry_backoff=backoff)
    for loss, pause in enumerate(pauses):
        taken = await queue.store.claim("dead", f"dead.{loss}", 1, 1000, 60_000, idle=True)
        assert len(taken.jobs) == 1, "it is due"
        await simulation.advance(1)
        assert await recover(recoverer) == 1
        job = await queue.job("k")
        assert (job.status, job.losses, job.failures) == (Status.QUEUED, loss + 1, 0)
        assert job.scheduled - time.time() == pause
        await simulation.advance(pause - 0.001)
        early = await queue.store.claim("dead", f"early.{loss}", 1, 1000, 60_000, idle=True)
        assert not early.jobs
        await simulation.advance(0.001)


@pytest.mark.parametrize(("allowed", "runs"), [(0, 1), (1, 2), (3, 4)])
async def test_a_job_survives_as_many_losses_as_it_allows(simulation, allowed, runs):
    queue = simulation.queue
    recoverer = Worker(queue=queue, functions=[ok])
    await queue.enqueue("ok", key="k", max_lost=allowed, retries=5)
    for loss in range(runs):
        await queue.store.claim("dead", f"dead.{loss}", 1, 1000, 60_000, idle=True)
        await simulation.advance(1)
        assert await recover(recoverer) == 1
    job = await queue.job("k")
    assert (job.status, job.losses, job.failures, job.attempts) == (Status.FAILED, runs, 0, runs)
    assert f"that was loss {runs}, and {allowed} are allowed" in job.error


@pytest.mark.slow
async def test_a_worker_renews_all_its_leases_together_at_a_third_of_the_lease(simulation):
    commands = Commands(simulation)
    simulation.worker([hang], concurrency=120, lease_s=30)
    for _ in range(110):
        await simulation.queue.enqueue("hang", timeout=None)
    await simulation.advance(9.999)
    assert "renew" not in commands.sent
    await simulation.advance(0.001)
    assert commands.sent.count("renew") == 2, "a script works on at most a hundred"
    assert commands.most["renew"] == 100
    await simulation.advance(10)
    assert commands.sent.count("renew") == 4


async def test_a_run_that_lost_its_lease_is_refused_whatever_it_says(simulation, caplog):
    hold = hold_at(simulation, "no such moment")
    refused = []

    async def late(ctx):
        job = ctx["job"]
        if job.attempts == 2:
            return "second"
        with contextlib.suppress(asyncio.CancelledError):  # it does not listen
            await asyncio.sleep(35)
        await asyncio.sleep(5)
        for word in (
            job.update(progress=0.9),
            job.update(),
            job.finish(Status.COMPLETE, result="first"),
            job.retry("first"),
        ):
            with pytest.raises(LeaseLostError) as error:
                await word
            refused.append(str(error.value).splitlines()[0])
        return "first"

    simulation.worker([late], concurrency=1)
    job = await simulation.queue.enqueue("late", timeout=None, ttl=0)
    await simulation.advance(1)
    simulation.worker([late])
    await simulation.advance(30)
    before = await simulation.queue.job(job.key)
    with caplog.at_level("WARNING", "queuekit"):
        await simulation.advance(10)
    after = await simulation.queue.job(job.key)
    assert len(refused) == 4
    assert before.to_dict() == after.to_dict()
    assert (after.status, after.result, after.progress) == (Status.COMPLETE, "second", 1.0)
    assert f"job {job.key!r} (late) lost: its lease ended before it was renewed" in caplog.text
    hold.release()


async def test_a_recovery_goes_on_until_no_orphan_is_left(simulation):
    await orphans(simulation, 210)
    await simulation.advance(30)
    assert await recover(Worker(queue=simulation.queue, functions=[ok])) == 210


class Severed:
    """No command of a process reaches the server, until it is mended: each one costs its connection."""

    def __init__(self, simulation, process):
        self.mend = simulation.observe(self)
        self._simulation, self._process = simulation, process

    def __call__(self, event):
        if not isinstance(event, Hop) or event.process != self._process.id:
            return
        for wire in list(self._simulation.loop.network.wires):
            if wire.number == event.connection:
                wire.cut()


async def test_a_worker_that_cannot_renew_ends_its_runs_when_their_leases_must_be_over(simulation):
    ended = []

    async def long(ctx):
        try:
            await asyncio.sleep(500)
        finally:
            ended.append(simulation.clock.elapsed_ns / 1e9)

    process = Process(simulation.loop, "cut off")
    process.run(simulation.worker, [long])
    await simulation.queue.enqueue("long", timeout=None)
    await simulation.advance(1)
    severed = Severed(simulation, process)
    await simulation.advance(28.9)
    assert not ended
    await simulation.advance(1)
    assert len(ended) == 1
    severed.mend()


async def test_a_result_is_committed_when_redis_is_back_as_long_as_the_lease_holds(simulation):
    async def short(ctx):
        await asyncio.sleep(1)
        return "kept"

    process = Process(simulation.loop, "cut off")
    process.run(simulation.worker, [short])
    job = await simulation.queue.enqueue("short")
    await simulation.run_until_idle()
    severed = Severed(simulation, process)
    await simulation.advance(25)
    assert (await simulation.queue.job(job.key)).status is Status.ACTIVE
    severed.mend()
    await simulation.advance(1)
    stored = await simulation.queue.job(job.key)
    assert (stored.status, stored.result, stored.losses) == (Status.COMPLETE, "kept", 0)


async def test_the_backoff_of_a_failure_counts_the_losses_before_it(simulation):
    queue = simulation.queue

    async def fails(ctx):
        raise ValueError("no")

    await queue.enqueue("fails", key="k", retries=2, retry_delay=10, retry_backoff=True)
    await queue.store.claim("dead", "dead.0", 1, 1000, 60_000)
    await simulation.advance(1)
    await recover(Worker(queue=queue, functions=[ok]))
    simulation.worker([fails])
    await simulation.advance(11)
    assert simulation.record_of("k").retry_delays_ms == [20_000]


@pytest.mark.by_hand
async def test_a_task_that_was_woken_takes_no_step_once_its_lease_is_over(simulation):
    """As when a process that hung goes on: what its tasks waited for has come, and so has the lease's end."""
    woken, steps = asyncio.Event(), []

    async def waits(ctx):
        await woken.wait()
        steps.append(ctx["job"].attempts)

    worker = simulation.worker([waits]).worker
    job = await simulation.queue.enqueue("waits", timeout=None)
    await simulation.advance(1)
    [run] = worker.running.values()
    woken.set()
    run.lose()
    await simulation.advance(28)
    assert steps == []
    await simulation.advance(2)
    assert steps == [2]
    simulation.assert_completed(job)
    assert (await simulation.queue.job(job.key)).losses == 1


async def test_what_has_ended_before_its_lease_is_left_to_the_commit(simulation):
    async def quick(ctx):
        return "done"

    worker = simulation.worker([quick]).worker
    job = await simulation.queue.enqueue("quick")
    hold = hold_at(simulation, "committing")
    await simulation.run_until_idle()
    [run] = worker.running.values()
    run.lose()
    hold.release()
    await simulation.run_until_idle()
    simulation.assert_completed(job, result="done", attempts=1)

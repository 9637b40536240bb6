"""A job that was lost twice runs alone in its process, and takes no neighbour along."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

import pytest

from queuekit import Status
from queuekit.lifecycle import runs_alone
from queuekit.simulation.process import PROCESS, Process
from queuekit.store.redis import Move

pytestmark = pytest.mark.by_hand  # jobs are made suspects by moves that no worker makes


class Census:
    """A task that notes with how many others it ran in its process."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.inside = {}
        self.company = {}
        "Of each job, the keys of those that ran beside it in its last run."

    async def __call__(self, ctx):
        key, here = ctx["job"].key, self.inside.setdefault(ctx["worker"].id, set())
        here.add(key)
        self.company[key] = set(here)
        for other in here:
            self.company[other].add(key)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            here.discard(key)
        return key


async def suspects(simulation, *keys, due_s=0):
    """Jobs that were lost twice, and may start again so much later."""
    queue = simulation.queue
    for key in keys:
        await queue.enqueue("census", key=key, timeout=None)
        for loss, delay_ms in enumerate([0, round(due_s * 1000)]):
            taken = await queue.store.claim("dead", f"{key}.{loss}", 1, 1000, 60_000, idle=True)
            [lost] = taken.jobs
            move = Move(lost.key, lost.fence, lost.claim_id, Status.QUEUED, delay_ms=delay_ms)
            again = dataclasses.replace(move, charge="losses", solo=runs_alone(loss + 1))
            assert await queue.store.commit([again]) == [("ok", "queued")]
        job = await queue.job(key)
        assert (job.losses, job.status) == (2, Status.QUEUED)


def running(handle):
    return {run.job.key for run in handle.worker.running.values()}


@pytest.mark.slow
async def test_nine_innocent_neighbours_of_a_job_that_kills_its_process_all_complete(simulation):
    deaths = []

    async def poison(ctx):
        deaths.append(PROCESS.get().id)
        await PROCESS.get().die()

    async def innocent(ctx):
        await asyncio.sleep(5)
        return ctx["job"].key

    jobs = [await simulation.queue.enqueue("innocent", key=f"i{n}") for n in range(9)]
    await simulation.queue.enqueue("poison", key="poison", timeout=None)
    for n in range(4):
        process = Process(simulation.loop, f"worker-{n}")
        process.run(simulation.worker, [poison, innocent], concurrency=10)
    await simulation.advance(400)
    assert len(set(deaths)) == len(deaths) == 3
    end = await simulation.queue.job("poison")
    assert (end.status, end.losses, end.failures) == (Status.FAILED, 3, 0)
    assert "that was loss 3, and 2 are allowed" in end.error
    for job in jobs:
        await job.refresh()
        assert (job.status, job.result, job.failures) == (Status.COMPLETE, job.key, 0)
        assert job.losses <= 2


async def test_a_job_that_was_lost_twice_waits_until_the_others_of_its_worker_have_ended(
    simulation,
):
    census = Census(10)
    await suspects(simulation, "suspect", due_s=1)
    others = [await simulation.queue.enqueue("census", timeout=None) for _ in range(3)]
    handle = simulation.worker([("census", census)], concurrency=5, solo_wait_s=30)
    await simulation.advance(9)
    assert running(handle) == {job.key for job in others}
    await simulation.advance(1)
    assert running(handle) == {"suspect"}, "it begins as soon as they have ended"
    await simulation.advance(10)
    assert census.company["suspect"] == {"suspect"}
    for job in others:
        simulation.assert_completed(job, attempts=1)
    assert (await simulation.queue.job("suspect")).status is Status.COMPLETE


async def test_a_worker_stops_claiming_for_such_a_job_and_hands_others_back_uncharged(simulation):
    census = Census(100)
    await suspects(simulation, "suspect", due_s=1)
    await simulation.queue.enqueue("census", key="long", timeout=None)
    handle = simulation.worker([("census", census)], concurrency=5, solo_wait_s=30)
    await simulation.advance(1)
    new = await simulation.queue.enqueue("census", key="new", timeout=None)
    await simulation.advance(29.9)
    assert not simulation.record_of(new).attempts, "it claims nothing meanwhile"
    assert running(handle) == {"long"}
    await simulation.advance(0.1)
    assert running(handle) == {"suspect"}
    long = await simulation.queue.job("long")
    assert (long.status, long.attempts, long.failures, long.losses) == (Status.QUEUED, 1, 0, 0)
    await simulation.advance(99.9)
    assert running(handle) == {"suspect"}
    await simulation.advance(0.1)
    assert running(handle) == {"long", "new"}, "it resumes"
    await simulation.advance(100)
    assert census.company["suspect"] == {"suspect"}
    for key in ("long", "new", "suspect"):
        assert (await simulation.queue.job(key)).status is Status.COMPLETE
    assert [attempt.outcome for attempt in await long.history()] == ["released", "completed"]


async def test_one_worker_at_a_time_takes_such_a_job_and_the_other_goes_on(simulation):
    census = Census(50)
    await suspects(simulation, "suspect-0", "suspect-1", due_s=1)
    others = [await simulation.queue.enqueue("census", timeout=None) for _ in range(8)]
    handles = [simulation.worker([("census", census)], concurrency=5) for _ in range(2)]
    await simulation.advance(35)
    assert sorted(len(running(handle)) for handle in handles) == [1, 5]
    await simulation.advance(400)
    for key in ("suspect-0", "suspect-1"):
        assert census.company[key] == {key}
        assert (await simulation.queue.job(key)).status is Status.COMPLETE
    for job in others:
        simulation.assert_completed(job)


async def test_a_worker_that_dies_while_it_makes_room_is_followed_by_another_one(simulation):
    census = Census(50)
    await suspects(simulation, "suspect", due_s=1)
    await simulation.queue.enqueue("census", key="other", timeout=None)
    process = Process(simulation.loop, "victim")
    process.run(simulation.worker, [("census", census)], concurrency=2, solo_wait_s=30)
    await simulation.advance(5)
    process.kill()
    simulation.worker([("census", census)], concurrency=2)
    await simulation.advance(61)
    assert "suspect" not in census.company
    await simulation.advance(1)
    # 1 s, 36 s in which the first one was to make room, and 30 s of the other's.
    assert "suspect" in census.company
    await simulation.advance(160)
    assert census.company["suspect"] == {"suspect"}
    for key in ("suspect", "other"):
        assert (await simulation.queue.job(key)).status is Status.COMPLETE


async def test_a_worker_with_one_slot_takes_such_a_job_like_any_other(simulation):
    census = Census(5)
    await suspects(simulation, "suspect")
    simulation.worker([("census", census)], concurrency=1)
    later = await simulation.queue.enqueue("census", key="later")
    await simulation.advance(10)
    assert (await simulation.queue.job("suspect")).status is Status.COMPLETE
    simulation.assert_completed(later)


async def test_a_worker_that_is_stopped_while_it_makes_room_leaves_the_job_to_another(simulation):
    census = Census(500)
    await suspects(simulation, "suspect", due_s=1)
    await simulation.queue.enqueue("census", key="other", timeout=None)
    handle = simulation.worker([("census", census)], concurrency=2, solo_wait_s=30)
    await simulation.advance(5)
    await handle.stop()
    successor = simulation.worker([("census", census)], concurrency=2)
    await simulation.run_until_idle()
    assert running(successor) == {"suspect"}


async def test_an_abandoned_task_in_a_process_does_not_keep_the_suspect_from_its_turn(simulation):
    """It ignored its cancellation when room was made: its slot is freed, as ever, and that is told."""
    census = Census(5)

    async def stubborn(ctx):
        for _ in range(4):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(100)

    await suspects(simulation, "suspect", due_s=1)
    await simulation.queue.enqueue("stubborn", key="stubborn", timeout=None)
    handle = simulation.worker([("census", census), stubborn], concurrency=2, solo_wait_s=30)
    await simulation.advance(35)
    assert running(handle) == {"suspect"}
    assert (await simulation.queue.job("stubborn")).abandoned == 1


async def test_a_worker_whose_slots_are_full_of_endless_jobs_makes_room_too(simulation):
    census = Census(5)

    async def endless(ctx):
        await asyncio.sleep(100_000)

    queue = simulation.queue
    handle = simulation.worker([("census", census), endless], concurrency=2, solo_wait_s=10)
    for _ in range(2):
        await queue.enqueue("endless", timeout=None)
    await simulation.advance(1)
    await queue.enqueue("census", key="s", timeout=None)
    [lost] = (await queue.store.claim("dead", "s.0", 1, 1000, 60_000, idle=True)).jobs
    move = Move(lost.key, lost.fence, lost.claim_id, Status.QUEUED, charge="losses", solo=True)
    assert await queue.store.commit([move]) == [("ok", "queued")]
    await simulation.advance(30 + 10 + 1)
    assert running(handle) == {"s"}
    await simulation.advance(6)
    assert len(running(handle)) == 2
    assert (await queue.job("s")).status is Status.COMPLETE
    for job in [job async for job in queue.iter_jobs([Status.ACTIVE])]:
        assert (job.losses, job.failures) == (0, 0)

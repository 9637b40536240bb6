"""An abort at every moment of a job's life, from any process."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from queuekit import Job, Status
from queuekit.errors import JobNotFoundError, JobStateError
from queuekit.simulation import Hold, Moment
from queuekit.simulation.process import Process


@dataclass
class Life:
    """A job's way to some moment, and what its task saw."""

    simulation: object
    hold: Hold = field(default_factory=Hold)
    began: list = field(default_factory=list)
    cleaned: list = field(default_factory=list)
    job: Job | None = None
    stop_at: str = ""

    def __call__(self, event):
        if isinstance(event, Moment) and event.name == self.stop_at and not self.hold.reached:
            return self.hold
        return None

    async def task(self, ctx):
        self.began.append(ctx["job"].attempts)
        try:
            await asyncio.sleep(100)
        finally:
            self.cleaned.append(self.simulation.clock.elapsed_ns / 1e9)

    async def before(self, ctx):
        if self.stop_at == "before_process":
            await asyncio.sleep(100)

    async def after(self, ctx):
        if self.stop_at == "after_process":
            await asyncio.sleep(100)

    def start(self, **options):
        self.simulation.observe(self)
        functions = [("task", self.task), ("fails", fails), ("quick", quick)]
        return self.simulation.worker(
            functions, before_process=self.before, after_process=self.after, **options
        )


async def fails(ctx):
    raise ValueError("no")


async def quick(ctx):
    return "done"


async def enqueue(life, function="task", **options):
    life.job = await life.simulation.queue.enqueue(function, key="k", timeout=None, **options)


async def queued(life):
    await enqueue(life)
    await life.simulation.advance(1)


async def scheduled(life):
    life.start()
    await enqueue(life, scheduled=life.simulation.now.timestamp() + 50)
    await life.simulation.advance(1)


async def following_in_its_group(life):
    life.start()
    await life.simulation.queue.enqueue("task", key="first", timeout=None, group_key="g")
    await enqueue(life, group_key="g")
    await life.simulation.advance(1)
    assert life.began == [1], "the first one of its group"
    life.began.clear()


async def between_claim_and_start(life):
    life.stop_at = "claimed"
    life.start()
    await enqueue(life)
    await life.simulation.advance(1)
    assert life.hold.reached


async def about_to_start(life):
    life.stop_at = "started"
    life.start()
    await enqueue(life)
    await life.simulation.advance(1)
    assert life.hold.reached


async def during_before_process(life):
    life.stop_at = "before_process"
    life.start()
    await enqueue(life)
    await life.simulation.advance(1)


async def active(life):
    life.start()
    await enqueue(life)
    await life.simulation.advance(1)
    assert life.began == [1]


async def active_in_a_full_worker(life):
    life.start(concurrency=1)
    await enqueue(life)
    await life.simulation.advance(1)
    assert life.began == [1]


async def at_its_commit(life):
    life.stop_at = "committing"
    life.start()
    await enqueue(life, "quick")
    await life.simulation.advance(1)
    assert life.hold.reached


async def while_retrying(life):
    life.start()
    await enqueue(life, "fails", retries=3, retry_delay=50)
    await life.simulation.advance(1)


async def during_after_process(life):
    life.stop_at = "after_process"
    life.start()
    await enqueue(life, "quick")
    await life.simulation.advance(1)


async def finished(life):
    life.start()
    await enqueue(life, "quick")
    await life.simulation.advance(1)


ABORTED = {
    queued: 0,
    scheduled: 0,
    following_in_its_group: 0,
    between_claim_and_start: 1,
    about_to_start: 1,
    during_before_process: 1,
    active: 1,
    active_in_a_full_worker: 1,
    at_its_commit: 1,
    while_retrying: 0,
}
"When the abort comes, and how many runs of a worker end with it."

RUNNING = {active, active_in_a_full_worker}


def by_name(moment):
    return moment.__name__


async def from_elsewhere(simulation, job, reason):
    """Abort it from a process of its own, which knows the key alone."""

    async def other():
        await (await simulation.queue.job(job.key)).abort(reason)

    process = Process(simulation.loop, "elsewhere")
    await process.run(asyncio.create_task, other())


@pytest.mark.parametrize("moment", ABORTED, ids=by_name)
async def test_a_job_that_is_aborted_before_its_end_is_aborted_once_and_never_runs_again(
    simulation, moment
):
    life = Life(simulation)
    await moment(life)
    await from_elsewhere(simulation, life.job, "no more")
    aborted_at = simulation.clock.elapsed_ns / 1e9
    other = await simulation.queue_named("other").enqueue("quick", key="k")
    assert other is not None, "its key is its own queue's"
    if moment is queued:
        life.start()
    await simulation.run_until_idle()
    life.hold.release()
    await simulation.run_until_idle()
    stored = await simulation.queue.job("k")
    assert (stored.status, stored.error) == (Status.ABORTED, "no more")
    assert life.began == ([1] if moment in RUNNING else [])
    assert life.cleaned == ([aborted_at] if moment in RUNNING else [])
    await simulation.advance(300)
    assert life.began in ([], [1])
    counted = [handle.worker.stats["aborted"] for handle in simulation.workers()]
    assert counted == [ABORTED[moment]]
    assert (await simulation.queue.job("k")).to_dict() == stored.to_dict()
    assert await simulation.queue.enqueue("quick", key="k") is not None, "it is free again"


@pytest.mark.parametrize("moment", [during_after_process, finished], ids=by_name)
async def test_an_abort_of_a_job_that_has_ended_is_refused_and_changes_nothing(simulation, moment):
    life = Life(simulation)
    await moment(life)
    with pytest.raises(JobStateError, match="is complete and cannot be aborted"):
        await from_elsewhere(simulation, life.job, "late")
    await simulation.advance(200)
    stored = await simulation.queue.job("k")
    assert (stored.status, stored.result) == (Status.COMPLETE, "done")
    assert simulation.workers()[0].worker.stats["aborted"] == 0


async def test_an_abort_of_a_job_that_was_never_enqueued_says_so(simulation):
    with pytest.raises(JobNotFoundError):
        await simulation.queue.abort(Job("quick", key="new"), "early")


async def test_an_abort_that_is_asked_for_twice_is_one(simulation):
    life = Life(simulation)
    await active(life)
    await asyncio.gather(*(from_elsewhere(simulation, life.job, f"reason {n}") for n in range(2)))
    await simulation.run_until_idle()
    stored = await simulation.queue.job("k")
    assert stored.status is Status.ABORTED
    assert simulation.workers()[0].worker.stats["aborted"] == 1


async def test_a_running_job_that_is_aborted_ends_aborted_whatever_its_task_does(simulation):
    async def stubborn(ctx):
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            return "it returned all the same"

    async def raising(ctx):
        try:
            await asyncio.sleep(100)
        finally:
            raise ValueError("in its clean-up")

    async def ignoring(ctx):
        for _ in range(3):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                continue

    tasks = [stubborn, raising, ignoring]
    simulation.worker(tasks)
    jobs = [await simulation.queue.enqueue(task, timeout=None, retries=5) for task in tasks]
    await simulation.advance(1)
    for job in jobs:
        await job.abort("no more")
    await simulation.advance(1)
    for job in jobs:
        simulation.assert_aborted(job, error="no more")
    assert [(await simulation.queue.job(job.key)).abandoned for job in jobs] == [0, 0, 1]


async def test_an_aborted_job_whose_worker_died_is_aborted_when_its_lease_ends(simulation):
    life = Life(simulation)
    process = Process(simulation.loop, "victim")
    process.run(life.start)
    await enqueue(life)
    await simulation.advance(1)
    process.kill()
    await life.job.abort("no more")
    assert (await simulation.queue.job("k")).status is Status.ABORTING
    life.start()
    await simulation.advance(30)
    stored = await simulation.queue.job("k")
    assert (stored.status, stored.error, stored.losses) == (Status.ABORTED, "no more", 1)
    assert life.began == [1]


async def test_an_aborted_job_lets_the_next_one_of_its_group_begin(simulation):
    life = Life(simulation)
    life.start()
    await enqueue(life, group_key="g")
    other = await simulation.queue.enqueue("quick", group_key="g")
    await simulation.advance(1)
    await life.job.abort("no more")
    await simulation.run_until_idle()
    simulation.assert_completed(other)

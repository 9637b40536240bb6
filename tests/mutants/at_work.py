"""Stories of a day without much trouble: jobs are done, fail, are waited for, and keep to their limits."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise

from queuekit import JobError
from queuekit.errors import (
    QueueFullError,
    ServerError,
)
from queuekit.job import Status
from tests.mutants.tasks import insist, worker
from tests.mutants.web import bring, calm, ended, job_of


async def errands(simulation):
    """Jobs come, are done, and are waited for."""
    for _ in range(1 + simulation.choose("workers", 3)):
        worker(simulation)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await asyncio.sleep(simulation.choose("before", 3))
        for number in range(2 + simulation.choose("jobs", 5)):
            await bring(
                queue, "slow", key=f"slow {number}", seconds=1 + simulation.choose("long", 9)
            )
        job = await bring(queue, "ok", key="asked", answer=42, meta={"a": 1})
        [job] = await ended(queue, "asked")
        assert (job.status, job.result) == (Status.COMPLETE, 42), f"asked is {job}"
        assert job.kwargs == {"answer": 42}
        assert job.progress == 1.0
        if calm(simulation):
            assert job.attempts == 1

    await web.run(asks)


async def results(simulation):
    """Results are waited for by hints, many at a time, with failures among them."""
    worker(simulation)
    worker(simulation)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        try:
            began = asyncio.get_running_loop().time()
            answer = await queue.apply("slow", key="one", seconds=3)
            took = asyncio.get_running_loop().time() - began
            assert answer == "one"
            assert not calm(simulation) or took < 3.5, f"an answer came after {took} s"
            answers = await queue.map("ok", [{"answer": n} for n in range(5)])
            assert answers == [0, 1, 2, 3, 4]
            with_failure = await queue.map(
                "fails", [{"times": 0}, {"times": 9}], return_exceptions=True
            )
            assert with_failure[0] == "at last"
            assert isinstance(with_failure[1], JobError)
            async with queue.batch():
                batched = await queue.enqueue("slow", key="batched", seconds=2)
            await batched.refresh()
            assert batched.status is not Status.ABORTED, (
                f"a batch without an error aborted {batched}"
            )
            waited = await queue.enqueue("slow", key="waited", seconds=2)
            await waited.refresh(until_complete=30)
            assert waited.result == "waited", f"waited for {waited}"
            told = []
            await queue.enqueue("slow", key="heard", seconds=2)
            await queue.listen(["heard"], lambda key, status: told.append(status))
            assert told[-1] == Status.COMPLETE, f"heard {told}"
        except (ServerError, JobError):
            assert not calm(simulation)

    await web.run(asks)


async def pauses(job):
    """Between its runs, in whole seconds; their jitter is pinned to its upper bound."""
    runs = await job.history()
    return [round((later.started - earlier.ended) / 1000) for earlier, later in pairwise(runs)]


async def retries(simulation):
    """Failures, with pauses that are fixed, or grow, or are bounded."""
    worker(simulation)
    worker(simulation, concurrency=1)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await bring(queue, "fails", key="fixed", retries=3, retry_delay=4)
        await bring(queue, "fails", key="grows", retries=4, retry_delay=1, retry_backoff=True)
        await bring(queue, "fails", key="bounded", retries=4, retry_delay=2, retry_backoff=3)
        await bring(queue, "fails", key="twice", retries=3, times=2)
        await bring(queue, "fails", key="once")
        await bring(queue, "puts_back", key="put back", retries=3, retry_delay=2)
        await bring(queue, "ends_itself", key="by itself")
        await bring(queue, "ends_itself", key="fails itself", end="failed", retries=3)
        if simulation.choose("busy", 2):
            await bring(queue, "slow", key="slow", seconds=5, retries=2, timeout=3, retry_delay=1)
        found = {
            job.key: job for job in await ended(queue, "fixed", "grows", "bounded", "twice", "once")
        }
        assert found["once"].status == Status.FAILED
        assert "failure 1" in (found["once"].error or ""), found["once"].error
        assert "ValueError" in found["fixed"].error or not calm(simulation)
        if calm(simulation):
            spent = {key: (job.failures, job.attempts) for key, job in found.items()}
            assert spent == {
                "fixed": (3, 3), "grows": (4, 4), "bounded": (4, 4), "twice": (2, 3), "once": (1, 1)
            }, spent  # fmt: skip
            assert found["twice"].result == "at last"
            assert await pauses(found["grows"]) == [1, 2, 4]
            assert await pauses(found["bounded"]) == [2, 3, 3]
            history = [(a.number, a.outcome, a.error) for a in await found["twice"].history()]
            assert history == [
                (1, "retried", "ValueError: failure 1"),
                (2, "retried", "ValueError: failure 2"),
                (3, "completed", ""),
            ], history
            [back, itself, failed] = await ended(queue, "put back", "by itself", "fails itself")
            assert (back.result, back.failures) == ("second time", 1)
            assert (itself.status, itself.result) == (Status.COMPLETE, "by itself")
            assert (failed.status, failed.failures) == (Status.FAILED, 1)
        for key in ("fixed", "once"):
            assert not calm(simulation) or found[key].completed >= found[key].started > 0

    await web.run(asks)


async def limits(simulation):
    """Timeouts and heartbeats, kept and missed, and a task that ignores its cancellation."""
    worker(simulation, concurrency=8, cancellation_hard_deadline_s=2)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await bring(queue, "slow", key="late", seconds=50, timeout=3, retries=2)
        await bring(queue, "slow", key="silent", seconds=50, timeout=40, heartbeat=4)
        await bring(queue, "beats", key="beats", beats=8, pause=2, timeout=60, heartbeat=3)
        await bring(queue, "beats", key="both", beats=8, pause=2, timeout=9, heartbeat=3)
        await bring(queue, "stubborn", key="stubborn", seconds=30, timeout=3)
        await bring(queue, "slow", key="long", seconds=20, timeout=0)
        jobs = await ended(queue, "late", "silent", "beats", "both", "stubborn", "long")
        if calm(simulation):
            statuses = [job.status.value for job in jobs]
            assert statuses == ["failed", "failed", "complete", "failed", "failed", "complete"], (
                statuses
            )
            late, silent, beats, both, stubborn, long = jobs
            assert [job.failures for job in jobs] == [2, 1, 0, 1, 1, 0]
            assert "timeout" in both.error, both.error
            assert silent.completed - silent.started < 6000
            assert late.completed - late.queued < 9000
            assert stubborn.abandoned == 1
            assert stubborn.completed - stubborn.started < 6000
            assert beats.meta == {"beat": 7}
            assert beats.result == 8
            assert long.completed - long.started == 20_000

    await web.run(asks)


async def order(simulation):
    """One worker with one slot takes what waits by priority, and what is equal as it came."""
    web, queue = simulation.process("web"), simulation.queue
    priorities = [0, 5, -5, 0, 5, 1, -5, 300]

    async def asks():
        for number, priority in enumerate(priorities):
            await bring(queue, "slow", key=f"{number}", seconds=1, priority=priority)
        await bring(queue, "ok", key="soon", priority=-9, scheduled=timedelta(seconds=2))

    await web.run(asks)
    one = worker(simulation, concurrency=1, shutdown_grace_period_s=None)
    wanted = sorted(map(str, range(len(priorities))), key=lambda key: (priorities[int(key)], key))
    await asyncio.sleep(3.5)
    one.terminate()  # its job goes back, and is first again
    await asyncio.sleep(2)
    worker(simulation, concurrency=1)
    await web.run(ended, queue, *wanted, "soon")
    done = [effect.details["key"] for effect in simulation.effects("done")]
    if calm(simulation):
        assert done == wanted, f"done in the order {done}, wanted {wanted}"
        places = [effect.details["key"] for effect in simulation.effects("ran")]
        assert places.index("soon") == 2, places


async def many(simulation):
    """More jobs than a claim takes at once, with worker's slots far fewer, and a queue that is bounded."""
    worker(simulation, concurrency=20)
    queue = simulation.queue_named("bounded", max_waiting=30)
    bounded = worker(simulation, queue=queue, concurrency=5)
    web = simulation.process("web")

    async def asks():
        taken = full = 0
        bounded.pause(4)
        for number in range(40):
            try:
                await insist(queue.enqueue, job_of("ok", key=f"b{number}"))
                taken += 1
            except QueueFullError:
                full += 1
        if calm(simulation):
            assert (taken, full) == (30, 10), (taken, full)
        jobs = [
            {"key": f"m{n}", "seconds": 0.5, "scheduled": timedelta(seconds=3)} for n in range(130)
        ]
        for options in jobs:
            await bring(simulation.queue, "slow", **options)
        counts = [
            await insist(simulation.queue.count, kind)
            for kind in ("queued", "active", "incomplete")
        ]
        assert sum(counts[:2]) <= 130
        await ended(simulation.queue, *(f"m{n}" for n in range(130)))
        took = asyncio.get_running_loop().time()
        assert took < 25 or not calm(simulation), (
            f"130 jobs of half a second on 20 slots took {took} s"
        )

    await web.run(asks)

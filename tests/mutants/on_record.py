"""Stories of what records say, and of jobs that come many at a time."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from queuekit.errors import JobNotFoundError, JobStateError, QueueFullError
from queuekit.job import Status
from tests.mutants.tasks import fails, insist, ok, slow, worker
from tests.mutants.web import bring, calm, ended, seen

RUNS_KEPT = 20
"Of a job's history, as docs/tasks.md has it."

MONTH_S = 30 * 86_400


async def between_runs(simulation):
    """What a job's record says while the job waits for its next run, and how much of its past it keeps."""

    async def gets_on(ctx):
        await ctx["job"].update(progress=0.5)
        raise ValueError("not yet")

    worker(simulation, tasks=[gets_on, slow, fails, ok], concurrency=1)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        many = RUNS_KEPT + 3
        await bring(queue, "fails", key="many", retries=many)
        await bring(queue, "gets_on", key="rests", retries=2, retry_delay=7)
        await bring(queue, "gets_on", key="behind", retries=2, priority=1)
        await bring(queue, "slow", key="slow", seconds=3, priority=1)
        await asyncio.sleep(1)
        rests, behind = await seen(queue, "rests"), await seen(queue, "behind")
        if calm(simulation):
            for job in (rests, behind):
                assert job.status is Status.QUEUED, job
                assert (job.failures, job.attempts) == (1, 1)
                assert (job.started, job.progress, job.worker_id) == (0, 0, None), job
            assert rests.scheduled == rests.touched / 1000 + 7, rests
            assert behind.scheduled == 0, "it is not due later, but waits for its turn"
        [job, *_] = await ended(queue, "many", "rests", "behind")
        if calm(simulation):
            history = await job.history()
            numbers = [attempt.number for attempt in history]
            assert numbers == list(range(many - RUNS_KEPT + 1, many + 1)), numbers

    await web.run(asks)


async def counters(simulation):
    """Somebody has damaged a counter of a job that runs: it begins anew, and the job goes on."""
    worker(simulation)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        for key in "ab":
            await bring(queue, "ends_itself", key=key, end="failed", after=2, retries=3)
        await asyncio.sleep(1)
        await insist(queue.store._command, "HSET", f"{queue.store.root}:job:a", "failures", "many")
        [a, b] = await ended(queue, "a", "b")
        if calm(simulation):
            assert [a.status, b.status] == [Status.FAILED] * 2
            assert [a.failures, b.failures] == [1, 1], f"{a.failures} is counted beside damage"

    await web.run(asks)


async def bunch(simulation):
    """Jobs come many at once, by one command: as many workers begin as there are jobs."""
    queue = simulation.queue_named("bounded", max_waiting=3)
    for _ in range(3):
        worker(simulation, queue=queue, concurrency=1)
    web = simulation.process("web")

    async def asks():
        await asyncio.sleep(1 + simulation.choose("when", 2))
        began = asyncio.get_running_loop().time()
        if calm(simulation):
            results = await queue.map("slow", [{"seconds": 4}] * 3)
            assert len(results) == 3
        took = asyncio.get_running_loop().time() - began
        assert not calm(simulation) or took < 5, f"three jobs on three workers took {took} s"
        for key, due in (("now", simulation.now.timestamp()), ("soon", timedelta(seconds=5))):
            job = await bring(queue, "ok", key=key, scheduled=due)
            if calm(simulation):
                wanted = job.queued / 1000 + 5 if key == "soon" else 0
                assert job.scheduled == wanted, f"{job.scheduled} is said, and {wanted} was asked"
        await ended(queue, "now", "soon")
        if calm(simulation):
            with contextlib.suppress(QueueFullError):
                await queue.map("slow", [{"seconds": 4, "scheduled": timedelta(seconds=9)}] * 4)
            waiting = await queue.count("scheduled")
            assert waiting == 3, f"{waiting} jobs wait where three may"

    await web.run(asks)


async def set_aside(simulation):
    """Jobs that were set aside are kept for a month, with what lay in their place; then nothing is left."""
    web, queue = simulation.process("web"), simulation.queue
    root = queue.store.root
    one = worker(simulation)

    async def left():
        kept = {name for name, *_ in simulation.loop.network.contents(root)}
        return sorted(each.decode().removeprefix(f"{root}:") for each in kept)

    async def asks():
        for key in ("kept", "gone"):
            await bring(queue, "ok", key=key, scheduled=timedelta(seconds=2))
            await insist(queue.store._command, "SET", f"{root}:job:{key}", "foreign")
        await asyncio.sleep(4)
        try:
            await insist(queue.discard, "gone")
        except JobNotFoundError:
            assert not calm(simulation)
            return
        held = await left()
        assert "foreign:kept" in held or not calm(simulation), held
        assert "foreign:gone" not in held, held
        rows = simulation.loop.network.contents(root)
        finished = [str(row) for row in rows if row[0].endswith(b":finished")]
        assert not calm(simulation) or "gone" not in finished[0], finished
        one.terminate()
        one.restart = lambda: None  # nobody works for so long
        await asyncio.sleep(MONTH_S)
        worker(simulation)
        await asyncio.sleep(10)
        left_aside = await insist(queue.quarantined)
        assert not calm(simulation) or not left_aside, left_aside
        held = set(await left()) - {"fence", "info", "wake", "workers", "stats"}
        assert not calm(simulation) or not held, f"left of what was set aside is {held}"

    await web.run(asks)


async def aborted_before(simulation):
    """A job is aborted, and before its run has ended Redis goes back to what it was before that."""

    async def cleans_up(ctx):
        try:
            await asyncio.sleep(20)
        finally:
            if ctx["job"].attempts == 1:
                await asyncio.sleep(2)

    worker(simulation, tasks=[cleans_up])
    web, queue, server = simulation.process("web"), simulation.queue, simulation.server

    async def asks():
        await bring(queue, "cleans_up", key="a", timeout=60)
        await asyncio.sleep(1 + simulation.choose("when", 2))
        server.checkpoint()
        try:
            await insist((await seen(queue, "a")).abort, "no more")
        except (JobStateError, JobNotFoundError, AttributeError):
            assert not calm(simulation)
            return
        await asyncio.sleep(0.5)
        server.restart(data="stale")
        if not calm(simulation):
            worker(simulation, tasks=[cleans_up])  # the other one may have been told to end
        [job] = await ended(queue, "a")
        if calm(simulation):
            assert (job.status, job.losses) == (Status.COMPLETE, 1), job

    await web.run(asks)


async def abort_resent(simulation):
    """The answer to an abort gets lost, of a job that runs, one that waits and one that is damaged."""
    worker(simulation, concurrency=1)
    web, queue = simulation.process("web"), simulation.queue
    ours = [  # those between are the same ones, sent again
        simulation.inject("lose_reply", command="abort", nth=nth, optional=True)
        for nth in (1, 3, 5)
    ]

    def only_ours():
        return len(simulation.faults.struck) == sum(len(fault.fired) for fault in ours)

    async def asks():
        for key in ("runs", "waits", "damaged"):
            await bring(queue, "slow", key=key, seconds=9, group_key=key)
        job = f"{queue.store.root}:job:damaged"
        await asyncio.sleep(1)
        jobs = await insist(queue.jobs, ("runs", "waits", "damaged"))
        await insist(queue.store._command, "SET", job, "foreign")
        for each in jobs:
            try:
                await insist(each.abort, "no more")
            except (JobStateError, JobNotFoundError):
                assert not only_ours(), f"{each.key} was aborted, and that is told as an error"
        [runs, waits, _] = await ended(queue, "runs", "waits", "damaged")
        if only_ours():
            assert [runs.status, waits.status] == [Status.ABORTED] * 2, [runs, waits]

    await web.run(asks)

"""Stories of workers that die, hang, are starved, or lose Redis."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from queuekit import CronJob
from queuekit.errors import (
    JobStateError,
)
from queuekit.job import TERMINAL_STATUSES, Status
from queuekit.simulation import Hop, busy
from tests.mutants.tasks import fails, insist, ok, slow, worker
from tests.mutants.web import bring, calm, ended, seen


async def killers(simulation):
    """A job kills whoever runs it; those beside it must live."""
    processes = []

    async def kills(ctx):
        await asyncio.sleep(1)
        mine = next(p for p in processes if p.worker.id == ctx["worker"].id and p.alive)
        simulation.loop.call_later(20, mine.restart, context=simulation.loop.server_context())
        mine.kill()
        await asyncio.sleep(1)

    tasks = [kills, ok, slow, fails]
    for number in range(2):
        processes.append(
            worker(simulation, tasks=tasks, concurrency=4, id=f"w{number}", solo_wait_s=4.0)
        )
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await bring(queue, "kills", key="bad", timeout=60)
        await bring(queue, "kills", key="once", max_lost=0, timeout=60)
        if simulation.choose("two", 2):
            await bring(queue, "kills", key="bad too", timeout=60, group_key="g")
            await bring(queue, "ok", key="behind", group_key="g")
        for number in range(12):
            await bring(queue, "slow", key=f"n{number}", seconds=5, timeout=60)
            await asyncio.sleep(4)
        bad, once = await ended(queue, "bad", "once")
        assert bad.status is Status.FAILED
        assert once.status is Status.FAILED
        if calm(simulation):
            assert (bad.losses, bad.failures, bad.attempts) == (3, 0, 3), bad
            assert (once.losses, once.attempts) == (1, 1), once
            assert "lost" in bad.error
            outcomes = [attempt.outcome for attempt in await bad.history()]
            assert outcomes == ["lost", "lost", "lost"], outcomes

    await web.run(asks)


async def hung(simulation):
    """A worker stands still for longer than its lease in the midst of its jobs, and goes on with them."""
    first = worker(simulation, concurrency=5)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await bring(queue, "slow", key="a", seconds=2, timeout=60)
        await bring(queue, "beats", key="b", beats=4, timeout=60)
        await bring(queue, "fails", key="c", retries=3, retry_delay=1)
        await bring(queue, "stubborn", key="d", seconds=4, timeout=60)
        await bring(queue, "slow", key="e", seconds=40, timeout=60)

    await web.run(asks)
    await asyncio.sleep(0.5 + simulation.choose("when", 4))
    first.pause(9 + simulation.choose("long", 20))
    frozen, old = len(simulation.effects), first.id
    worker(simulation, concurrency=3)
    await asyncio.sleep(3)
    await web.run(ended, queue, "a", "b", "c", "d", "e")
    await asyncio.sleep(30)
    held = {effect.key for effect in list(simulation.effects)[:frozen]}
    for effect in list(simulation.effects)[frozen:]:
        if calm(simulation) and effect.process == old and effect.name == "done":
            assert effect.key not in held or effect.attempt > 1, f"behind its lease: {effect}"


async def starved(simulation):
    """A task holds its worker's loop for longer than the lease."""

    async def holds(ctx):
        await asyncio.sleep(1)
        await busy(10)
        await asyncio.sleep(1)
        return ctx["job"].attempts

    tasks = [holds, ok, slow]
    worker(simulation, tasks=tasks)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await bring(queue, "holds", key="holds", timeout=60, max_lost=9)
        await bring(queue, "slow", key="beside", seconds=4, timeout=60)

    await web.run(asks)
    await asyncio.sleep(2)
    worker(simulation, tasks=[ok, slow])
    await asyncio.sleep(40)
    await web.run(ended, queue, "beside")
    for job in (await insist(queue.job, "holds"),):
        if job.status not in TERMINAL_STATUSES:
            await web.run(stop_it, job)


async def stop_it(job):
    try:
        await insist(job.abort, "enough")
    except JobStateError:
        await insist(job.refresh)
        assert job.status in TERMINAL_STATUSES


async def again(simulation):
    """Long jobs with a pause between them, each on a lease that has to be renewed; others look on."""
    worker(simulation, concurrency=1)
    worker(simulation, concurrency=1)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        for number in range(4):
            await bring(queue, "slow", key=f"n{number}", seconds=9, timeout=60)
            await asyncio.sleep(1 + 8 * (number % 2))
        jobs = await ended(queue, *(f"n{number}" for number in range(4)))
        if calm(simulation):
            assert [(job.status.value, job.attempts) for job in jobs] == [("complete", 1)] * 4, jobs

    await web.run(asks)


async def outage(simulation):
    """Redis is away for a while, shorter than a lease: jobs that run or end meanwhile lose nothing by it."""
    worker(simulation, concurrency=5, lease_s=30)
    worker(simulation, concurrency=1, lease_s=30)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await bring(
            queue, "slow", key="ends in it", seconds=2 + simulation.choose("ends", 4), timeout=60
        )
        await bring(queue, "slow", key="outlasts it", seconds=45, timeout=0)
        await bring(queue, "beats", key="tells", beats=9, heartbeat=0, timeout=0)
        await bring(queue, "fails", key="fails", retries=2, retry_delay=3)
        await bring(queue, "ok", key="due in it", scheduled=timedelta(seconds=4))

    await web.run(asks)
    await asyncio.sleep(1)
    simulation.server.outage(10 + simulation.choose("long", 6))
    await asyncio.sleep(30)
    jobs = await web.run(ended, queue, "ends in it", "outlasts it", "tells", "fails", "due in it")
    if calm(simulation):
        wanted = [
            ("complete", 1, 0),
            ("complete", 1, 0),
            ("complete", 1, 0),
            ("failed", 2, 0),
            ("complete", 1, 0),
        ]
        got = [(job.status.value, job.attempts, job.losses) for job in jobs]
        assert got == wanted, f"after an outage shorter than the lease: {got}"


async def clock_steps(simulation):
    """The server's clock is set forward: leases end that their workers still count on."""
    first = worker(simulation, concurrency=4)
    web, queue = simulation.process("web"), simulation.queue
    await web.run(bring, queue, "slow", key="a", seconds=12, timeout=60)
    await web.run(bring, queue, "slow", key="b", seconds=12, timeout=60)
    await web.run(bring, queue, "beats", key="c", beats=9, timeout=60)
    await web.run(bring, queue, "ends_itself", key="d", after=1.3, timeout=60)
    await asyncio.sleep(0.5 + simulation.choose("when", 3))
    simulation.server.step_clock(20)
    worker(simulation, concurrency=4)
    await asyncio.sleep(0.001)  # it takes over what has lost its lease
    before = len(simulation.effects)
    await asyncio.sleep(40)
    await web.run(ended, queue, "a", "b", "c", "d")
    after = list(simulation.effects)[before:]
    for effect in [effect for effect in after if effect.name in ("done", "beat")]:
        assert effect.process != first.id or effect.attempt > 1 or not calm(simulation), (
            f"a run that was told that it had lost its job went on: {effect}"
        )


async def deaf(simulation):
    """The word of an abort gets lost with its reply: the worker learns of it when it renews the lease."""
    worker(simulation, concurrency=2)
    web, queue = simulation.process("web"), simulation.queue
    lost = []

    def lose_the_word(event):
        if lost or not isinstance(event, Hop) or event.direction != "reply":
            return
        if event.process.startswith("worker") and ":control:" in " ".join(event.words):
            wires = simulation.loop.network.wires
            for wire in [each for each in wires if each.number == event.connection]:
                lost.append(event.connection)  # unless misfortune has closed it before
                wire.cut()

    simulation.observe(lose_the_word)

    async def asks():
        await bring(queue, "slow", key="a", seconds=50, timeout=60)
        await asyncio.sleep(1)
        job = await seen(queue, "a")
        try:
            await insist(job.abort, "no more")
        except JobStateError:
            assert not calm(simulation), "a job that runs cannot be aborted"
            return
        [job] = await ended(queue, "a")
        assert job.status is Status.ABORTED, job
        took = (job.completed - job.started) / 1000
        assert took < 8 or not calm(simulation), f"the abort was heard after {took} s"
        assert lost or not calm(simulation), "no word got lost"

    await web.run(asks)


async def set_forward(simulation):
    """The server's clock is set forward by more than a long lease: the worker is given its own job again."""
    worker(simulation, lease_s=30.0)
    web, queue = simulation.process("web"), simulation.queue
    await web.run(bring, queue, "slow", key="a", seconds=50, timeout=90)
    await asyncio.sleep(12 + simulation.choose("when", 4))
    simulation.server.step_clock(40)
    await web.run(bring, queue, "ok", key="b")
    await web.run(ended, queue, "a", "b")


async def renewals(simulation):
    """One renewal of a lease is answered by an error: the next one is in time."""
    worker(simulation, concurrency=2)
    web, queue = simulation.process("web"), simulation.queue
    code = ("MISCONF", "LOADING")[simulation.choose("code", 2)]
    simulation.inject("error", command="renew", error=code, optional=True)

    async def asks():
        await bring(queue, "slow", key="long", seconds=14, timeout=60)
        [long] = await ended(queue, "long")
        if len(simulation.faults.struck) == 1:
            assert (long.attempts, long.losses) == (1, 0), f"was lost: {long}"

    await web.run(asks)


async def full_memory(simulation):
    """No memory is left in Redis when the workers come: what is there is done, and nothing is refused."""
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await bring(queue, "slow", key="stopped", seconds=50, timeout=60)
        await bring(queue, "beats", key="tells", timeout=60)
        await bring(queue, "fails", key="fails", retries=3, retry_delay=2)
        await bring(queue, "ok", key="due", scheduled=timedelta(seconds=4))
        for number in range(5):
            await bring(queue, "slow", key=f"n{number}", seconds=3, timeout=60)

    await web.run(asks)
    full = simulation.inject("error", command="*", error="OOM", times=10**9, optional=True)
    yearly = CronJob(ok, "0 0 1 1 *")
    worker(simulation, concurrency=2, cron_jobs=[yearly])
    last = worker(simulation, concurrency=1)
    await asyncio.sleep(8 + simulation.choose("when", 4))
    with contextlib.suppress(JobStateError):
        await web.run(insist, (await web.run(seen, queue, "stopped")).abort, "no more")
    await last.stop()
    await web.run(ended, queue, "stopped", "tells", "fails", "due", *(f"n{n}" for n in range(5)))
    refused = [str(strike) for strike in full.fired if "cron" not in strike.where]
    simulation.faults.planned.remove(full)
    assert not refused, f"refused, with nothing new to store: {refused}"


async def handover(simulation):
    """Workers come one by one to what is there already, and the first of them goes."""
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        for number in range(5):
            await bring(queue, "slow", key=f"n{number}", seconds=3)

    first = worker(simulation, concurrency=1)
    await asyncio.sleep(1)
    await web.run(asks)
    worker(simulation, concurrency=1)
    worker(simulation, concurrency=1)
    await asyncio.sleep(1 + simulation.choose("when", 3))
    first.kill()
    await web.run(ended, queue, *(f"n{number}" for number in range(5)))
    if calm(simulation):
        took = asyncio.get_running_loop().time()
        assert took < 17, f"a killed worker's job came back late: after {took} s"

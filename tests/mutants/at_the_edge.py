"""Stories of what happens in the same instant: ends and aborts, claims and stops, answers and partitions."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from queuekit.errors import JobStateError
from queuekit.simulation import Hop
from tests.mutants.tasks import insist, worker
from tests.mutants.web import bring, calm, ended, seen


async def abort_races(simulation):
    """Jobs are aborted in the very instant in which they end."""
    worker(simulation, concurrency=9)
    web, queue = simulation.process("web"), simulation.queue
    keys = [f"n{number}" for number in range(8)]

    async def stop(job):
        try:
            await insist(job.abort, "too late?")
        except JobStateError:
            return

    async def asks():
        for key in ("earlier", *keys):
            await bring(queue, "slow", key=key, seconds=2, timeout=60)
        earlier, *jobs = await insist(queue.jobs, ["earlier", *keys])
        await stop(earlier)  # now the server knows the script: an abort is one question
        await asyncio.sleep(2)
        await asyncio.gather(*(stop(job) for job in jobs))
        await ended(queue, *keys)
        took = asyncio.get_running_loop().time()
        assert not calm(simulation) or took < 4, f"an abort was heard after {took - 2} s"

    await web.run(asks)


async def cut_claim(simulation):
    """A worker is stopped while the answers to its claim get lost: what it was given comes back."""
    first = worker(simulation, lease_s=60.0)
    web, queue = simulation.process("web"), simulation.queue
    await asyncio.sleep(1)
    asked = []

    def stop_it(event):
        mine = isinstance(event, Hop) and event.process == first.id and event.command == "claim"
        if mine and event.direction == "request" and not asked:
            asked.append(event)
            first.partition("replies", 17 + simulation.choose("long", 9))
            simulation.loop.call_soon(first.terminate, context=simulation.loop.server_context())

    simulation.observe(stop_it)

    await web.run(bring, queue, "ok", key="a")
    worker(simulation)
    [job] = await web.run(ended, queue, "a")
    if calm(simulation) and asked:  # the other worker may have been the faster one
        took = asyncio.get_running_loop().time()
        assert (job.losses, took < 50) == (0, True), f"it was left with its worker: {job}, {took} s"


async def unanswered_claim(simulation):
    """The answers to a claim get lost for longer than a worker asks: it asks again, for the same jobs."""
    first = worker(simulation, lease_s=60.0)
    web, queue = simulation.process("web"), simulation.queue
    await asyncio.sleep(1)
    asked = []

    def lose_answers(event):
        mine = isinstance(event, Hop) and event.process == first.id and event.command == "claim"
        if mine and event.direction == "request" and not asked:
            asked.append(event)
            first.partition("replies", 25 + simulation.choose("long", 9))

    simulation.observe(lose_answers)

    async def asks():
        await bring(queue, "ok", key="a")
        await asyncio.sleep(0.5)
        await ended(queue, "a")
        job = await seen(queue, "a")
        if calm(simulation):
            assert asked, "nothing was claimed"
            assert (job.losses, job.attempts) == (0, 1), f"it was forgotten: {job}"

    await web.run(asks)


async def handed_back(simulation):
    """What a worker that stops hands back goes before what has waited meanwhile."""
    first = worker(simulation, concurrency=1, shutdown_grace_period_s=0)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await bring(queue, "slow", key="long", seconds=5, timeout=60)
        await asyncio.sleep(1)
        await bring(queue, "ok", key="one")
        await bring(queue, "ok", key="two")

    await web.run(asks)
    first.terminate()
    await asyncio.sleep(1)
    worker(simulation, concurrency=1)
    [long, *_] = await web.run(ended, queue, "long", "one", "two")
    if calm(simulation):
        ran = [effect.key for effect in simulation.effects("ran")]
        assert ran == ["long", "long", "one", "two"], ran
        assert (long.error, long.attempts, long.failures) == (None, 2, 0), long


async def hooks(simulation):
    """What is done around a task does not count for its limits."""

    async def waits(ctx):
        await asyncio.sleep(3)

    worker(simulation, before_process=waits, after_process=waits)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await bring(queue, "slow", key="a", seconds=1, timeout=2)
        [job] = await ended(queue, "a")
        if calm(simulation):
            assert job.status == "complete", job

    await web.run(asks)


async def heard(simulation):
    """An abort is heard at once, and not only when the lease is renewed."""
    worker(simulation, lease_s=60.0)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await bring(queue, "slow", key="a", seconds=50, timeout=90)
        await asyncio.sleep(1)
        job = await seen(queue, "a")
        try:
            await insist(job.abort, "no more")
        except JobStateError:
            assert not calm(simulation), "a job that runs cannot be aborted"
            return
        await ended(queue, "a")
        took = asyncio.get_running_loop().time() - 1
        assert not calm(simulation) or took < 2, f"the abort was heard after {took} s"

    await web.run(asks)


async def lost_late(simulation):
    """A lease ends when all has been calm for long: an idle worker looks in that moment."""
    first = worker(simulation, lease_s=60.0)
    web, queue = simulation.process("web"), simulation.queue
    await web.run(bring, queue, "slow", key="a", seconds=5, timeout=90)
    await asyncio.sleep(1.3 + simulation.choose("when", 3))
    first.kill()
    worker(simulation)
    [job] = await web.run(ended, queue, "a")
    if calm(simulation):
        assert (job.attempts, job.losses) == (2, 1), job
        late = job.started / 1000 - simulation.start.timestamp() - 60
        assert 0 <= late < 0.5, f"it was recovered {late} s after its lease had ended"


async def tokens(simulation):
    """Jobs come in the instants in which others become due: no word of them ends with a full worker."""
    for _ in range(2 + simulation.choose("more", 2)):
        worker(simulation, concurrency=1)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        begin = simulation.now.timestamp()
        keys = []
        for moment in (5, 11, 17, 23):
            await bring(queue, "slow", key=f"due {moment}", seconds=4, scheduled=begin + moment)
            keys.append(f"due {moment}")
        for moment in (5, 11, 17, 23):
            await asyncio.sleep(begin + moment - simulation.now.timestamp())
            await bring(queue, "slow", key=f"now {moment}", seconds=1)
            keys.append(f"now {moment}")
        await ended(queue, *keys)

    await web.run(asks)


async def aborted_unheard(simulation):
    """A job is aborted while the answer of the claim that took it is lost; its worker asks again."""
    worker(simulation, lease_s=60.0)
    web, queue = simulation.process("web"), simulation.queue
    nth = (2, 1, 3)[simulation.choose("nth", 3)]  # the first claim finds nothing yet
    simulation.inject("lose_reply", command="claim", nth=nth, how="silence", optional=True)

    async def asks():
        await asyncio.sleep(1)
        await bring(queue, "slow", key="a", seconds=50, timeout=90)
        await asyncio.sleep(0.5)
        with contextlib.suppress(JobStateError):
            await insist((await seen(queue, "a")).abort, "no more")
        await ended(queue, "a")

    await web.run(asks)


async def full_ears(simulation):
    """A worker became full while it waited for word of new jobs: the word goes on to one that is free."""
    for _ in range(2):
        worker(simulation, concurrency=1)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await asyncio.sleep(1)
        # Whoever hears of a job that comes due waits again, and looks when it has come due. The other one
        # hears of that too, in vain: so now it waits behind the one that is full.
        await bring(queue, "slow", key="due", seconds=9, scheduled=timedelta(seconds=3.5))
        await asyncio.sleep(4)
        await bring(queue, "ok", key="now")
        [job, _] = await ended(queue, "now", "due")
        late = job.started - job.queued
        assert not calm(simulation) or late == 0, f"a free worker learned of it after {late} ms"

    await web.run(asks)


async def resent(simulation):
    """Each kind of command is executed, and its reply gets lost: it is sent again."""
    worker(simulation)
    web, queue = simulation.process("web"), simulation.queue
    scripts = ("commit", "claim", "enqueue", "renew", "abort", "expired")
    for script in scripts:
        nth = 1 + simulation.choose(script, 3)
        simulation.inject("lose_reply", after=script, nth=nth, optional=True)

    async def asks():
        await bring(queue, "fails", key="a", retries=2, retry_delay=1, times=1)
        await bring(queue, "puts_back", key="b", retries=2)
        await bring(queue, "beats", key="c", group_key="g")
        await bring(queue, "slow", key="d", seconds=9, timeout=20, group_key="g")
        await asyncio.sleep(5)
        job = await seen(queue, "d")
        with contextlib.suppress(JobStateError):
            await insist(job.abort, "no more")
        await ended(queue, "a", "b", "c", "d")

    await web.run(asks)

"""The story of damaged records: no checker judges such a queue, so the story says what must hold."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from queuekit.errors import JobNotFoundError, JobStateError
from queuekit.exploration.audit import violations
from queuekit.exploration.leaks import left_behind
from queuekit.job import TERMINAL_STATUSES, Status
from queuekit.simulation.contents import snapshot_of
from tests.mutants.tasks import insist, worker
from tests.mutants.web import ended

DAMAGED = [
    "state",
    "call",
    "gone",
    "newer",
    "later",
    "leader",
    "status",
    "held",
    "attempts",
    "held newer",
]
"Jobs whose records are damaged; the others must not feel it."

SOUND = ["a", "b", "late", "f1", "f2", "f3", "m0", "m1", "z"]


async def damaged(simulation):
    """Some records are overwritten, evicted, or newer than this release; the other jobs go on."""
    web, queue = simulation.process("web"), simulation.queue
    root = queue.store.root

    async def redis(*command):
        return await insist(queue.store._command, *command)

    async def asks():
        enqueue = queue.enqueue
        await insist(enqueue, "slow", key="held", seconds=30, timeout=60)
        await insist(enqueue, "slow", key="held newer", seconds=30, timeout=60)
        await asyncio.sleep(1)
        for key in ("a", "state", "call", "gone", "newer", "status", "attempts"):
            await insist(enqueue, "slow", key=key, seconds=0.1, priority=1)
        await insist(enqueue, "ok", key="later", scheduled=timedelta(seconds=2))
        await insist(enqueue, "ok", key="late", scheduled=timedelta(seconds=2))
        await insist(enqueue, "ok", key="leader", group_key="g", priority=2)
        for key in ("f1", "f2", "f3"):
            await insist(enqueue, "slow", key=key, group_key="g", seconds=0.1, priority=3)
        await redis("DEL", f"{root}:job:f3", f"{root}:call:f3")  # its entry in the group is left
        await insist(enqueue, "ok", key="f3", priority=5)
        for key in ("m0", "m1"):
            await insist(enqueue, "ok", key=key, group_key="m")
        await redis("DEL", f"{root}:job:m0", f"{root}:call:m0")  # it leads, and its turn is left
        await insist(enqueue, "ok", key="m0", scheduled=timedelta(seconds=30))
        await insist(enqueue, "ok", key="b", priority=4)
        for key in ("state", "later", "leader", "held"):
            await redis("DEL", f"{root}:job:{key}")
            await redis("SET", f"{root}:job:{key}", "foreign")
        await redis("DEL", f"{root}:call:call")
        await redis("RPUSH", f"{root}:call:call", "foreign")
        await redis("DEL", f"{root}:call:gone")
        await redis("SET", f"{root}:call:newer", 'id 5\n{"v":99,"function":"ok"}')
        await redis("SET", f"{root}:call:held newer", 'id 5\n{"v":99,"function":"ok"}')
        await redis("HSET", f"{root}:job:status", "status", "nonsense")
        await redis("HSET", f"{root}:job:attempts", "attempts", "many")

    one = worker(simulation, concurrency=2)
    await web.run(asks)
    one.kill()
    worker(simulation, concurrency=2)
    worker(simulation, concurrency=1)
    await asyncio.sleep(20)
    await insist(queue.enqueue, "ok", key="z")
    await asyncio.sleep(20)
    await web.run(_look, simulation, queue)


async def _look(simulation, queue):
    if (
        simulation.faults.struck
    ):  # leases may end later than the story waits, and jobs come due later
        await ended(queue, *SOUND)
    jobs = dict(zip(SOUND, await insist(queue.jobs, SOUND), strict=True))
    for key, job in jobs.items():
        status = job.status if job else None
        assert status is Status.COMPLETE, f"{key} is {status}, beside damaged records"
    if simulation.faults.struck:
        return
    await asyncio.sleep(5)
    late, follower = [await insist(queue.job, key) for key in ("m0", "m1")]
    assert late.started >= late.queued + 30_000, f"it was due after 30 s: {late}"
    assert 0 < follower.started < late.started, f"it waited for one of another life: {follower}"
    aside = {each.key: each for each in await insist(queue.quarantined)}
    assert set(aside) == set(DAMAGED), f"set aside are {sorted(aside)}"
    for key in DAMAGED:
        job = await insist(queue.job, key)
        assert job is not None, f"{key} was set aside and is not there"
        assert job.status is Status.FAILED, f"{key} was damaged and is {job.status}"
        assert "read" in job.error or "gone" in job.error, job.error
    assert aside["newer"].raw == b'{"v":99,"function":"ok"}'
    kept = {name for name, *_ in simulation.loop.network.contents(queue.store.root)}
    for key in ("state", "later", "leader", "held"):
        assert f"{queue.store.root}:foreign:{key}".encode() in kept, (
            f"{key}'s foreign bytes are gone"
        )
    _audit(simulation, queue)
    await insist(queue.restore, "later")
    await insist(queue.discard, "call")
    await insist(queue.discard, "state")
    for key, call in (("gone", queue.restore), ("a", queue.restore), ("a", queue.discard)):
        try:
            await insist(call, key)
        except JobNotFoundError:
            continue
        raise AssertionError(f"{call.__name__} of {key} was answered as if it were there")
    await asyncio.sleep(5)
    later = await insist(queue.job, "later")
    assert later is not None
    assert later.status in TERMINAL_STATUSES
    assert later.status is Status.COMPLETE, f"a restored job is {later.status}"
    assert await insist(queue.job, "call") is None, "a discarded job is still there"
    left = {each.key for each in await insist(queue.quarantined)}
    assert left == set(DAMAGED) - {"later", "call", "state"}, left
    kept = {name for name, *_ in simulation.loop.network.contents(queue.store.root)}
    for key in ("state", "later"):
        assert f"{queue.store.root}:foreign:{key}".encode() not in kept, f"{key}'s bytes outlive it"
    _audit(simulation, queue)


def _audit(simulation, queue):
    root = queue.store.root
    snapshot = snapshot_of(simulation.loop.network.contents(root), root)
    broken = [*violations(snapshot, damaged=DAMAGED), *left_behind(snapshot)]
    assert not broken, broken[0]


async def aborted_damaged(simulation):
    """A job whose state is overwritten is aborted while it waits: it is set aside, and its end is kept."""
    web, queue = simulation.process("web"), simulation.queue
    record = f"{queue.store.root}:job:state"

    async def asks():
        for key in ("state", "sound"):
            await insist(queue.enqueue, "ok", key=key, scheduled=timedelta(seconds=5))
        await insist(queue.store._command, "SET", record, "foreign")
        job = await insist(queue.job, "state")
        try:
            await insist(job.abort, "no more")
        except JobStateError:
            assert simulation.faults.struck, "a job that waits cannot be aborted"

    await web.run(asks)
    worker(simulation)
    await web.run(ended, queue, "sound")
    if simulation.faults.struck:
        return
    job = await web.run(insist, queue.job, "state")
    assert job is not None, "it was aborted, and is not there"
    assert (job.status, job.error) == (Status.ABORTED, "no more"), job
    assert [each.key for each in await web.run(insist, queue.quarantined)] == ["state"]
    _audit(simulation, queue)

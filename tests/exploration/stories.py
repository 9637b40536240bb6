"""Small stories: what a queue goes through, each with what can go wrong in it."""

from __future__ import annotations

import asyncio
import contextlib

from queuekit import CronJob
from queuekit.errors import JobStateError
from queuekit.simulation import Hold, Hop, Moment
from queuekit.simulation.process import Process


async def ok(ctx):
    return "done"


async def fails(ctx):
    raise ValueError("no")


async def long(ctx):
    await asyncio.sleep(20)


async def tick(ctx):
    """Of a schedule."""


TASKS = [ok, fails, long]


def worker(simulation, name="worker", tasks=(*TASKS, tick), **options):
    """A worker in a process of its own."""
    process = Process(simulation.loop, name)
    process.run(simulation.worker, list(tasks), **{"lease_s": 6, **options})
    return process


def strike(simulation, process, moment, blow):
    """Once, at a moment of a process's."""
    struck = []

    def observer(event):
        if isinstance(event, Moment) and event.name == moment and not struck:
            struck.append(event)
            return blow(event)
        return None

    simulation.observe(observer)
    return struck


async def plain(simulation):
    """Some jobs, a retry, a scheduled one, a group; nothing goes wrong."""
    worker(simulation, concurrency=2)
    queue = simulation.queue
    await queue.enqueue("ok", key="a")
    await queue.enqueue("fails", key="b", retries=2, retry_delay=3)
    await queue.enqueue("ok", key="later", scheduled=simulation.now.timestamp() + 9)
    await queue.enqueue("long", key="g1", group_key="g", timeout=60)
    await queue.enqueue("ok", key="g2", group_key="g")
    await simulation.advance(60)


async def idle_first(simulation):
    """Jobs come to a worker that waits."""
    worker(simulation)
    await simulation.advance(2)
    await simulation.queue.enqueue("ok", key="a")
    await simulation.advance(5)
    await simulation.queue.enqueue("ok", key="later", scheduled=simulation.now.timestamp() + 9)
    await simulation.advance(60)


async def killed(simulation):
    """A worker is killed in the midst of a job, and another one takes it up."""
    first = worker(simulation, "first")
    await simulation.queue.enqueue("long", key="a", timeout=60)
    await simulation.advance(3)
    first.kill()
    worker(simulation, "second")
    await simulation.advance(60)


async def hung(simulation, moment="ended", key="a", **options):
    """A worker hangs when its task has ended, another one does its work, then the first wakes up."""
    simulation.environment.idle_wait_s = lambda: 5.0
    first = worker(simulation, "first")
    await simulation.queue.enqueue("ok", key=key, **options)
    hold = Hold()
    struck = strike(simulation, first, moment, lambda _: hold)
    await simulation.run_until(lambda: struck)
    simulation.observe(lambda event: hold if getattr(event, "process", "") == first.id else None)
    worker(simulation, "second")
    await simulation.advance(30)
    hold.release()
    await simulation.advance(30)


async def long_run(simulation):
    """A run that outlasts its lease, and is renewed; another worker looks after leases meanwhile."""
    simulation.environment.idle_wait_s = lambda: 5.0
    worker(simulation, "first")
    await simulation.queue.enqueue("long", key="a", timeout=60)
    await simulation.advance(1)
    worker(simulation, "second")
    await simulation.advance(60)


async def killer(simulation):
    """A job kills each process that runs it."""

    async def kills(ctx):
        await asyncio.sleep(1)
        await simulation.loop.killer()

    for number in range(6):
        process = worker(simulation, f"w{number}", tasks=[kills, *TASKS])
        simulation.loop.killer = process.die
        if number == 0:
            await simulation.queue.enqueue("kills", key="bad", timeout=60)
        await simulation.queue.enqueue("long", key=f"beside {number}", timeout=60)
        await simulation.advance(30)


async def cut(simulation, script, direction="reply"):
    """The first command of a name is executed, and its answer lost with the connection."""
    done = []

    def observer(event):
        if not isinstance(event, Hop) or not event.words:
            return
        if event.direction == "request" and event.words[1:2] == (script,) and not done:
            done.append(event.connection)
        elif event.direction == direction and done == [event.connection]:
            done.append("cut")
            [wire] = [w for w in simulation.loop.network.wires if w.number == event.connection]
            wire.cut()

    await worker_ready(simulation)
    simulation.observe(observer)
    await simulation.queue.enqueue("ok", key="a")
    await simulation.queue.enqueue("ok", key="a")
    await simulation.advance(20)
    assert len(done) == 2


async def worker_ready(simulation):
    worker(simulation)
    await simulation.advance(1)


async def late_abort(simulation):
    """Somebody aborts a job that has ended, and one that runs."""
    worker(simulation)
    job = await simulation.queue.enqueue("ok", key="a")
    running = await simulation.queue.enqueue("long", key="b", timeout=60)
    await simulation.advance(2)
    await running.abort("enough")
    with contextlib.suppress(JobStateError):  # unless a defect lets it pass
        await job.abort("too late")
    await simulation.advance(30)


async def same_key(simulation):
    """A key is enqueued again while its job waits, and when it has ended."""
    await simulation.queue.enqueue("ok", key="a")
    await simulation.queue.enqueue("ok", key="a")
    worker(simulation)
    await simulation.advance(2)
    await simulation.queue.enqueue("ok", key="a")
    await simulation.advance(2)


async def late_tick(simulation):
    """One of two workers is held up on its way to tell of a tick."""
    held = Hold()
    for name in ("first", "second"):
        process = worker(simulation, name, cron_jobs=[CronJob(tick, "* * * * *")])

    def observer(event):
        mine = isinstance(event, Hop) and event.process == process.id
        return held if mine and event.words[1:2] == ("cron",) else None

    simulation.observe(observer)
    await simulation.advance(70)
    held.release()
    await simulation.advance(30)


async def ticking(simulation):
    """A schedule of two workers."""
    for name in ("first", "second"):
        worker(simulation, name, cron_jobs=[CronJob(tick, "* * * * *")])
    await simulation.advance(250)


async def in_line(simulation):
    """Jobs of two priorities, of a group, and some that are due in the same claim, for one slot."""
    queue, begin = simulation.queue, simulation.now.timestamp()
    for key, options in (
        ("a", {}),
        ("b", {}),
        ("urgent", {"priority": -1}),
        ("later 2", {"scheduled": begin + 1.2}),
        ("later 1", {"scheduled": begin + 1.1}),
        ("g1", {"group_key": "g"}),
        ("g2", {"group_key": "g"}),
        ("g3", {"group_key": "g"}),
    ):
        await queue.enqueue("ok", key=key, **options)
    await simulation.advance(3)
    worker(simulation, concurrency=1)
    await simulation.advance(3)


async def gives_back(simulation):
    """A worker stops, and its job goes back before those that have waited meanwhile."""
    handle = simulation.worker(TASKS, concurrency=1, shutdown_grace_period_s=0)
    for key in ("long", "b", "c"):
        await simulation.queue.enqueue("long" if key == "long" else "ok", key=key, timeout=60)
    await simulation.advance(1)
    await handle.stop()
    worker(simulation, concurrency=1)
    await simulation.advance(60)


async def gone(simulation):
    """A worker leaves, one is killed as a word for it is on its way; records end. A third one is there."""
    queue = simulation.queue
    leaves = simulation.worker(TASKS)
    await queue.enqueue("ok", key="a", ttl=5)
    await simulation.advance(1)
    await leaves.stop()
    killed = worker(simulation, "killed")
    job = await queue.enqueue("long", key="b", timeout=60, ttl=5)
    await simulation.advance(1)
    killed.kill()
    await job.abort("no more")
    worker(simulation, "third")
    await simulation.advance(9000)  # for so long the one that was killed counts as alive
    await queue.enqueue("ok", key="c", ttl=5)
    await simulation.advance(9000)


async def midway(simulation):
    """It ends while a job runs that was due later, one waits for it, and one has left a tombstone.

    No tick has come yet.
    """
    worker(simulation, concurrency=1, cron_jobs=[CronJob(tick, "0 0 1 7 *")])
    await simulation.queue.enqueue("fails", key="a", ttl=-1)
    await simulation.queue.enqueue("long", key="b", scheduled=simulation.now.timestamp() + 1)
    await simulation.advance(3)
    await simulation.queue.enqueue("ok", key="c")


async def room(simulation):
    """Two jobs that were lost twice must run alone, and all workers are busy at first."""
    queue = simulation.queue
    for key in ("bad", "worse"):
        await queue.enqueue("long", key=key, timeout=60)
    for number in range(2):
        process = worker(simulation, f"dies {number}", concurrency=2)
        await simulation.advance(7)
        process.kill()
    for key in ("a", "b"):
        await queue.enqueue("long", key=key, timeout=60, priority=-1)
    worker(simulation, "one", concurrency=1)
    worker(simulation, "two", concurrency=1)
    await simulation.advance(100)


async def many_lives(simulation):
    """One key has a dozen jobs, one after the other."""
    worker(simulation)
    for _ in range(12):
        await simulation.queue.enqueue("ok", key="a")
        await simulation.advance(1)

"""Stories of workers that come and go, and of schedules."""

from __future__ import annotations

import asyncio
import contextlib

from queuekit import CronJob
from queuekit.errors import JobStateError
from queuekit.job import Status
from queuekit.simulation import Hop
from tests.mutants.tasks import fails, insist, minutely, ok, slow, ticks, worker
from tests.mutants.web import bring, calm, ended, seen

LEFT_WITH_NOBODY_S = 6
"By then all of it is done, unless a job waits for the end of a lease."


async def leaving(simulation):
    """Workers are stopped, with and without time to end their jobs; others go on with what comes back."""
    first = worker(simulation, concurrency=2, shutdown_grace_period_s=3)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await bring(queue, "slow", key="quick", seconds=2, retries=1)
        await bring(queue, "slow", key="long", seconds=20, retries=1, timeout=60)
        await bring(queue, "slow", key="next", seconds=1, group_key="g")
        await bring(queue, "slow", key="last", seconds=1, group_key="g")

    await web.run(asks)
    await asyncio.sleep(0.5 + simulation.choose("when", 2))
    first.terminate()
    await asyncio.sleep(1)
    if simulation.choose("two", 2):
        worker(simulation, concurrency=1)
    worker(simulation, concurrency=2)
    jobs = await web.run(ended, queue, "quick", "long", "next", "last")
    if calm(simulation):
        assert [job.status.value for job in jobs] == ["complete"] * 4, jobs
        assert [job.failures + job.losses for job in jobs] == [0] * 4
        assert jobs[0].attempts == 1, "it had its time to end"
        assert jobs[1].attempts == 2
        history = [attempt.outcome for attempt in await jobs[1].history()]
        assert history == ["released", "completed"], history
        assert not first.running


async def stopped(simulation):
    """A worker is stopped while it claims, over and over; no job is left with it."""
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        for number in range(6):
            await bring(queue, "slow", key=f"n{number}", seconds=0.5)
            await asyncio.sleep(0.25)

    going = asyncio.create_task(web.run(asks))
    for _ in range(4):
        one = worker(simulation, concurrency=1 + simulation.choose("slots", 2))
        await asyncio.sleep(0.3 + simulation.choose("when", 5) / 10)
        one.terminate()
    worker(simulation)
    await going
    jobs = await web.run(ended, queue, *(f"n{number}" for number in range(6)))
    if calm(simulation):
        took = asyncio.get_running_loop().time()
        assert took < LEFT_WITH_NOBODY_S, f"a job was left with a worker that stopped: {took} s"
        assert [job.losses for job in jobs] == [0] * 6


async def rolling(simulation):
    """A worker of an old release meets jobs whose task only the new one knows."""
    worker(simulation, tasks=[ok])
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await bring(queue, "slow", key="new", seconds=1)
        await bring(queue, "nobody's", key="unknown")
        await bring(queue, "slow", key="misfit", second=1)
        await bring(queue, "ok", key="ok")
        await asyncio.sleep(5)

    await web.run(asks)
    worker(simulation, tasks=[ok, slow, fails])
    jobs = await web.run(ended, queue, "new", "misfit", "ok", "unknown")
    assert jobs[3].status is Status.FAILED, jobs[3]
    assert jobs[1].status is Status.FAILED, jobs[1]
    if calm(simulation):
        assert [jobs[0].status, jobs[2].status] == [Status.COMPLETE] * 2
        assert [job.failures for job in jobs] == [0, 1, 0, 0], jobs
        assert jobs[3].attempts == 11, jobs[3].attempts


async def no_more_ticks(simulation):
    """The schedules end, so that the world can come to an end."""
    for each in simulation.workers():
        each.restart = lambda: None  # it is taken down: nobody starts it anew
        if each.alive:
            each.terminate()
    await asyncio.sleep(1)
    worker(simulation)


async def cron(simulation):
    """Two workers have one schedule; a third comes with another timetable; one is gone for a while."""
    schedules = [
        minutely(name="quick"),
        minutely(70.0, name="slow", timeout=0),
        minutely(70.0, name="beside each other", timeout=0, unique=False),
    ]
    await asyncio.sleep(50)
    one = worker(simulation, cron_jobs=schedules)
    worker(simulation, cron_jobs=schedules)
    await asyncio.sleep(75 + 10 * simulation.choose("until", 3))
    if simulation.choose("gone", 2):
        one.pause(100)
    await asyncio.sleep(130)
    if calm(simulation) and not one.paused:
        ticks = [tick for tick in simulation.journal.ticks if tick.verdict == "enqueued"]
        for name in ("quick", "beside each other"):
            mine = sorted(tick.tick_ms for tick in ticks if name in tick.schedule)
            assert len(mine) == len(set(mine)), f"one tick of {name} was enqueued twice: {mine}"
            assert len(mine) in (4, 5), f"{len(mine)} ticks of {name} in four minutes"
        skipped = [tick for tick in simulation.journal.ticks if tick.verdict == "overlap"]
        assert {tick.schedule for tick in skipped} <= {
            tick.schedule for tick in ticks if "slow" in tick.schedule
        }
    await no_more_ticks(simulation)


async def set_back(simulation):
    """The server's clock is set back shortly before a tick: by that clock it is early."""
    worker(simulation, cron_jobs=[minutely(name="quick")])
    await asyncio.sleep(100)
    simulation.server.step_clock(-40 - simulation.choose("back", 9))
    await asyncio.sleep(150)
    await no_more_ticks(simulation)


async def missed(simulation):
    """Redis is away for some ticks: those are missed, and the next ones come."""
    await asyncio.sleep(30)
    worker(simulation, cron_jobs=[minutely(name="quick")])
    later = simulation.choose("when", 3)
    await asyncio.sleep(60 + later)
    simulation.server.outage(250)
    await asyncio.sleep(449 - later)  # up to the ninth minute
    ticks = sorted(tick.tick_ms // 60_000 for tick in simulation.journal.ticks)
    if calm(simulation):
        first = ticks[0]
        gone = [minute - first for minute in ticks]
        assert gone[:1] == [0], gone
        assert gone[-2:] == [6, 7], f"ticks of these minutes were handled: {gone}"
        assert not {1, 2, 3} & set(gone), f"missed ticks were made up for: {gone}"
    await no_more_ticks(simulation)


async def taken(simulation):
    """Somebody has a job of the very key that a tick's job is to have."""
    await asyncio.sleep(30)
    worker(simulation, cron_jobs=[minutely(name="quick")])
    web, queue = simulation.process("web"), simulation.queue
    minute = int(simulation.now.timestamp()) // 60 + 1
    mine = f"cron:quick:{minute * 60_000}"
    await web.run(
        bring, queue, "slow", key=mine, seconds=45 + simulation.choose("long", 3), timeout=0
    )
    await asyncio.sleep(100)
    [job] = await web.run(ended, queue, mine)
    assert job.function == "slow" or not calm(simulation), job
    await no_more_ticks(simulation)


async def deploy(simulation):
    """A worker with a new timetable takes a schedule over; the old one is refused as long as that is up."""
    await asyncio.sleep(30)
    old = worker(simulation, cron_jobs=[CronJob(ticks, "* * * * *", name="report")])
    await asyncio.sleep(60 + 10 * simulation.choose("first", 2))
    new = worker(simulation, cron_jobs=[CronJob(ticks, "*/3 * * * *", name="report")])
    await asyncio.sleep(240)
    handled = [tick.tick_ms // 60_000 for tick in simulation.journal.ticks]
    if calm(simulation):
        assert handled == sorted(set(handled))
        first = handled[0]
        assert len(handled) in (2, 3), f"minutes {[minute - first for minute in handled]}"
    new.terminate()
    await asyncio.sleep(150)
    if calm(simulation):
        after = len(simulation.journal.ticks)
        assert after > len(handled), "the old worker did not go on when the new one was gone"
    assert old.alive
    await no_more_ticks(simulation)


async def half_a_deploy(simulation):
    """Two workers bring a new timetable, and the last to come is gone: the old one is refused still."""
    await asyncio.sleep(30)
    worker(simulation, cron_jobs=[CronJob(ticks, "* * * * *", name="report")])
    await asyncio.sleep(160)
    new = [CronJob(ticks, "*/3 * * * *", name="report")]
    left = worker(simulation, cron_jobs=new)
    await asyncio.sleep(2)
    gone = worker(simulation, cron_jobs=new)
    await asyncio.sleep(3 + simulation.choose("when", 2))
    gone.kill()
    await asyncio.sleep(175)
    ticked = [tick.tick_ms // 60_000 for tick in simulation.journal.ticks]
    if calm(simulation):
        minutes = [minute - ticked[0] for minute in ticked]
        assert minutes == [0, 1, 2, 5], f"ticked in the minutes {minutes}"
    left.pause(200)  # so long that the old one goes on in its place, and is the one that counts
    await asyncio.sleep(300)
    ticked = [tick.tick_ms // 60_000 for tick in simulation.journal.ticks]
    if calm(simulation):
        minutes = [minute - ticked[0] for minute in ticked][4:]
        assert minutes in ([7, 8, 9], [7, 8, 9, 10]), f"ticked in the minutes {minutes}"
    await no_more_ticks(simulation)


async def forgotten(simulation):
    """What Redis keeps of a schedule that nobody has any more goes after more than a year."""
    root = simulation.queue.store.root
    one = worker(simulation, cron_jobs=[minutely(name="old")])
    await asyncio.sleep(90)
    one.terminate()
    one.restart = lambda: None
    await asyncio.sleep(401 * 86_400)
    worker(simulation, cron_jobs=[minutely(name="new")])
    await asyncio.sleep(150)
    if calm(simulation):
        rows = simulation.loop.network.contents(root)
        told = {name.decode().removeprefix(f"{root}:"): str(row) for name, *row in rows}
        for kept in ("ticked", "timetable", "cronjob"):
            assert "new" in told[kept], told[kept]
            assert "old" not in told[kept], told[kept]
    await no_more_ticks(simulation)


async def memory_lost(simulation):
    """Redis has evicted the moments of all schedules: they begin now, and nothing is made up for."""
    schedules = [minutely(name="quick", catch_up="one")]
    await asyncio.sleep(30)
    one = worker(simulation, cron_jobs=schedules)
    await asyncio.sleep(40)
    one.terminate()
    store = simulation.queue.store
    await simulation.process("web").run(insist, store._command, "DEL", f"{store.root}:ticked")
    await asyncio.sleep(130 + simulation.choose("long", 9))
    worker(simulation, cron_jobs=schedules)
    await asyncio.sleep(60)
    made = [tick.tick_ms % 3_600_000 // 60_000 for tick in simulation.journal.ticks]
    assert made == [1, 4] or not calm(simulation), f"ticks of these minutes were handled: {made}"
    await no_more_ticks(simulation)


async def caught_up(simulation):
    """Nobody is there for some ticks: a schedule that asks for it makes up for the newest of them."""
    schedules = [minutely(name="quick", catch_up="one")]
    await asyncio.sleep(30)
    one = worker(simulation, cron_jobs=schedules)
    await asyncio.sleep(10)
    one.terminate()
    await asyncio.sleep(220 + simulation.choose("long", 9))
    worker(simulation, cron_jobs=schedules)
    await asyncio.sleep(1)
    made = [tick.tick_ms % 3_600_000 // 60_000 for tick in simulation.journal.ticks]
    if calm(simulation):
        assert made == [4], f"ticks of these minutes were made up for: {made}"
    await no_more_ticks(simulation)


async def statistics(simulation):
    """What workers tell of themselves, as long as they are there."""
    one, two = worker(simulation, id="one"), worker(simulation, id="two")
    web, queue = simulation.process("web"), simulation.queue

    async def told():
        return (await insist(queue.info))["workers"]

    async def asks():
        for key in "abc":
            await bring(queue, "ok", key=key)
        await ended(queue, *"abc")
        await asyncio.sleep(30)
        workers = await told()
        if calm(simulation):
            assert sum(each["stats"]["complete"] for each in workers.values()) == 3, workers
        one.terminate()
        two.kill()
        await asyncio.sleep(1)
        workers = await told()
        assert "one" not in workers or not calm(simulation), f"one has gone: {workers}"
        worker(simulation, id="three")
        await asyncio.sleep(200)
        workers = await told()
        if calm(simulation):
            assert list(workers) == ["three"], workers

    await web.run(asks)


async def never_began(simulation):
    """A worker is killed before its first claim; nothing is left of it when it counts as gone."""
    queue = simulation.queue
    root = queue.store.root
    first = worker(simulation)
    gone = []

    def kill_it(event):
        mine = isinstance(event, Hop) and event.process == first.id and event.command == "claim"
        if mine and not gone:
            gone.append(first.worker.address.encode())
            first.restart = lambda: None
            first.kill()

    def what_it_told():
        return simulation.loop.network.look(b"HGET", f"{root}:info".encode(), *gone)

    simulation.observe(kill_it)
    await asyncio.sleep(1)
    if calm(simulation):
        assert what_it_told() is not None
    await asyncio.sleep(90)
    worker(simulation)
    await asyncio.sleep(1)
    if calm(simulation):
        assert what_it_told() is None, f"a worker is gone, and it is left of it: {what_it_told()}"


async def left_behind(simulation):
    """Workers are killed: one has a word for it on its way, one makes room. Of neither anything stays."""
    web, queue = simulation.process("web"), simulation.queue

    async def stop(key):
        job = await seen(queue, key)
        with contextlib.suppress(JobStateError):
            await insist(job.abort, "no more")

    async def one_dies():
        one = worker(simulation, concurrency=1, lease_s=2.0)
        await asyncio.sleep(3)  # by then what the last one held is lost, and held by this one
        one.kill()

    await web.run(bring, queue, "slow", key="lost twice", seconds=30, timeout=60)
    for _ in range(2):
        await one_dies()
    for key in ("busy", "beside"):
        await web.run(bring, queue, "slow", key=key, seconds=9, timeout=60, priority=-1)
    busy = worker(simulation, concurrency=1, solo_wait_s=30.0, lease_s=2.0)
    other = worker(simulation, concurrency=1, shutdown_grace_period_s=0)
    await asyncio.sleep(4)
    other.terminate()
    await asyncio.sleep(1)
    await web.run(stop, "lost twice")
    busy.kill()
    await web.run(stop, "busy")
    await asyncio.sleep(3)
    worker(simulation)
    await web.run(ended, queue, "lost twice", "busy", "beside")
    await asyncio.sleep(90 + simulation.choose("long", 9))
    worker(simulation)
    await asyncio.sleep(2)

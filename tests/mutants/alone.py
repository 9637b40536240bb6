"""Stories of jobs that were lost twice: each runs alone in its process, one of them at a time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from itertools import pairwise

from queuekit.simulation import Hold, Hop
from tests.mutants.tasks import LEASE_S, TASKS, insist, worker
from tests.mutants.web import bring, calm, ended

SOON_S = 0.5
"What is told is done in the same instant; a worker that is not told looks by itself after 5 s."

SOLO_WAIT_S = 2.0
LOST_S = 3.0
"The lease of a worker that dies; it dies before it has renewed one."

CLAIM_S = SOLO_WAIT_S + 1 + 5
"For so long a worker that makes room keeps others from doing so."


def since_start(simulation):
    return simulation.now.timestamp() - simulation.start.timestamp()


async def brings(simulation, *jobs):
    """Jobs of a name each, with the options given; none fails by its losses."""
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        for function, key, options in jobs:
            await bring(queue, function, key=key, timeout=0, max_lost=9, **options)

    await web.run(asks)


async def stumbles(ctx):
    """Fails when it is run alone for the first time."""
    if ctx["job"].losses < 2:
        await asyncio.sleep(60)
    if ctx["job"].failures == 0:
        raise ValueError("it stumbles")


async def lost_twice(simulation, *jobs, pause_s=0.0):
    """The jobs are lost by one worker and by another. Gives the moment at which the second one's lease ends.

    `pause_s` is the pause of the jobs after a loss.
    """
    await brings(simulation, *jobs)
    await loses(simulation, len(jobs), 0.5)
    await asyncio.sleep(LOST_S - 0.5)
    await loses(simulation, len(jobs), pause_s + 0.5)
    return since_start(simulation) + LOST_S - 0.5


async def loses(simulation, jobs, after_s):
    one = a_worker(simulation, concurrency=jobs, lease_s=LOST_S)
    await asyncio.sleep(after_s)
    one.kill()
    one.restart = lambda: None  # nobody starts it anew


def a_worker(simulation, **options):
    return worker(simulation, tasks=[*TASKS, stumbles], solo_wait_s=SOLO_WAIT_S, **options)


async def two_at_work(simulation, *jobs, **options):
    """Jobs are lost twice; in the moment of the second loss two workers have a job each, `a` and `b`."""
    lost_s = await lost_twice(simulation, *jobs)
    both = [a_worker(simulation, **options) for _ in range(2)]
    for key in "ab":
        await asyncio.sleep(0.1)
        await brings(simulation, ("slow", key, {"seconds": 15}))
    return lost_s, both


def spans(simulation, jobs):
    """From when to when each ran at last, in seconds since the world began."""
    start = simulation.start.timestamp()
    return [(job.started / 1000 - start, job.completed / 1000 - start) for job in jobs]


def one_by_one(ordered):
    """Each begins when the one before it ends."""
    for (_, over), (begun, _) in pairwise(ordered):
        assert begun >= over, f"two jobs that must run alone ran at once: {ordered}"
        assert begun - over < SOON_S, f"one waited though the last had ended: {ordered}"


def maker(simulation, workers):
    """Of the workers the one that makes room, by its place in the list; None if there is none."""
    root = simulation.queue.store.root
    told = simulation.loop.network.look(b"HGET", f"{root}:solo".encode(), b"worker")
    addresses = [each.worker.address.encode() for each in workers]
    return addresses.index(told) if told in addresses else None


async def in_line(simulation):
    """Several jobs must run alone; what their workers do behind one holds the next one not up."""

    async def rests(ctx):
        await asyncio.sleep(4)

    jobs = [("slow", f"s{n}", {"seconds": 3}) for n in range(3)]
    await lost_twice(simulation, *jobs)
    await asyncio.sleep(LOST_S)
    workers = [a_worker(simulation, after_process=rests) for _ in range(4)]
    began_s = since_start(simulation)
    await asyncio.sleep(1)
    next(each for each in workers if not each.alive or not each.worker.running).terminate()
    await asyncio.sleep(1)
    found = await simulation.process("web").run(ended, simulation.queue, "s0", "s1", "s2")
    if calm(simulation):
        ran = sorted(spans(simulation, found))
        one_by_one([(began_s, began_s), *ran])


async def room(simulation):
    """Two workers have work; one of them makes room for what must run alone, and only one."""
    first, second = ("slow", "s0", {"seconds": 9}), ("slow", "s1", {"seconds": 1})
    lost_s, _ = await two_at_work(simulation, first, second, concurrency=2)
    *alone, a, b = await simulation.process("web").run(
        ended, simulation.queue, "s0", "s1", "a", "b"
    )
    if calm(simulation):
        ran = sorted(spans(simulation, alone))
        one_by_one([(lost_s, lost_s + SOLO_WAIT_S), *ran])
        assert a.attempts + b.attempts == 3, f"one of them had to make room: {a}, {b}"


async def maker_leaves(simulation):
    """The worker that makes room is stopped: another one does so at once."""
    lost_s, _ = await _without_its_maker(simulation, lambda gone: gone.terminate())
    [job] = await simulation.process("web").run(ended, simulation.queue, "s0")
    if calm(simulation):
        [(begun, _)] = spans(simulation, [job])
        assert begun < lost_s + 0.2 + SOLO_WAIT_S + SOON_S, f"it began at {begun} s"


async def maker_dies(simulation):
    """The worker that makes room is killed: another one does so when its time is over."""
    lost_s, key = await _without_its_maker(simulation, lambda gone: gone.kill())
    job, beside = await simulation.process("web").run(ended, simulation.queue, "s0", key)
    if calm(simulation):
        [(begun, _)] = spans(simulation, [job])
        late = begun - (lost_s + CLAIM_S + SOLO_WAIT_S)
        assert 0 <= late < SOON_S, f"it began {late} s late"
        first, second, *_ = await beside.history()
        assert second.started - first.ended < 1000 * SOON_S, "its other job waited, too"
        lease_end = lost_s + LEASE_S
        assert first.ended / 1000 - simulation.start.timestamp() < lease_end, "it was found late"


async def _without_its_maker(simulation, go):
    """When the job was lost that must run alone, and what the worker ran that made room, and had to go."""
    lost_s, both = await two_at_work(simulation, ("slow", "s0", {"seconds": 1}), concurrency=3)
    await asyncio.sleep(lost_s + 0.2 - since_start(simulation))
    making = maker(simulation, both)
    assert making is not None or not calm(simulation), "nobody makes room"
    key = "a"
    if making is not None:
        gone = both[making]
        key = next((run.key for run in gone.worker.running.values()), key)
        go(gone)
        gone.restart = lambda: None
    await asyncio.sleep(1)
    return lost_s, key


async def not_told(simulation):
    """The answer that tells a worker to make room gets lost: it is given again."""
    asked = []

    def lose_it(event):
        if asked or not isinstance(event, Hop) or event.direction != "reply":
            return
        if event.command == "claim" and maker(simulation, simulation.workers()) is not None:
            asked.append(since_start(simulation))
            for wire in simulation.loop.network.wires:
                if wire.number == event.connection:
                    wire.cut()

    simulation.observe(lose_it)
    await two_at_work(simulation, ("slow", "s0", {"seconds": 1}), concurrency=1)
    [job] = await simulation.process("web").run(ended, simulation.queue, "s0")
    if calm(simulation):
        [(begun, _)] = spans(simulation, [job])
        assert asked, "nobody was asked to make room"
        assert begun - asked[0] < SOLO_WAIT_S + 1, f"asked at {asked[0]} s, it began at {begun} s"


async def reborn(simulation):
    """The key of a job that ran alone is used again: the new job has nothing of that."""
    pause = 4
    one = ("stumbles", "a", {"retries": 2, "retry_delay": pause})
    other = ("slow", "b", {"seconds": 1, "retry_delay": pause})
    lost_s = await lost_twice(simulation, one, other, pause_s=pause)
    a_worker(simulation, concurrency=1)
    a_worker(simulation, concurrency=1)
    web, queue = simulation.process("web"), simulation.queue
    await web.run(ended, queue, "b")
    await web.run(insist, queue.enqueue, "slow", key="b", seconds=20, timeout=0)
    await asyncio.sleep(1)
    a, _ = await web.run(ended, queue, "a", "b")
    if calm(simulation):
        [(begun, _)] = spans(simulation, [a])
        due_s = lost_s + 2 * pause
        assert 0 <= begun - due_s < SOON_S, f"due at {due_s} s, it began at {begun} s"


async def broken_alone(simulation):
    """A job's state is overwritten while it runs alone, and restored: it is one like others then."""
    pause = 12
    one = ("stumbles", "a", {"retries": 2, "retry_delay": pause})
    other = ("slow", "b", {"seconds": 20, "retry_delay": pause})
    await lost_twice(simulation, one, other, pause_s=pause)
    await asyncio.sleep(LOST_S)
    workers = [a_worker(simulation, concurrency=1) for _ in range(3)]
    began_s = since_start(simulation)
    web, queue = simulation.process("web"), simulation.queue
    await asyncio.sleep(pause + 0.5)
    has_it = [each for each in workers if each.alive and each.worker.running]
    for each in has_it:
        each.kill()
        each.restart = lambda: None
    record = f"{queue.store.root}:job:b"
    for command in (("DEL", record), ("SET", record, "foreign")):
        await web.run(insist, queue.store._command, *command)
    await asyncio.sleep(LEASE_S + 1)
    if calm(simulation):
        assert len(has_it) == 1, "b does not run alone"
        await web.run(insist, queue.restore, "b")
        [a] = await web.run(ended, queue, "a")
        [(begun, _)] = spans(simulation, [a])
        due_s = began_s + 2 * pause
        assert 0 <= begun - due_s < SOON_S, f"due at {due_s} s, it began at {begun} s"


async def one_job(simulation):
    """A worker that ends after one job makes no room for another one; the next worker runs that."""
    lost_s = await lost_twice(simulation, ("slow", "s0", {"seconds": 1}))
    later_s = lost_s + CLAIM_S + 4

    async def the_next():
        await asyncio.sleep(later_s - since_start(simulation))
        a_worker(simulation)

    comes = asyncio.create_task(the_next())  # whatever becomes of this story
    a_worker(simulation, burst=True, max_burst_jobs=1, concurrency=2, dequeue_timeout=9)
    await brings(simulation, ("slow", "a", {"seconds": 25}))
    await comes
    job, a = await simulation.process("web").run(ended, simulation.queue, "s0", "a")
    if calm(simulation):
        assert (a.attempts, a.losses) == (1, 0), f"its worker made room: {a}"
        [(begun, _)] = spans(simulation, [job])
        assert 0 <= begun - later_s < SOON_S, (
            f"somebody is there at {later_s} s, it began at {begun} s"
        )


async def told_meanwhile(simulation):
    """A worker hears of a job that must run alone while the answers to its claim get lost."""
    await lost_twice(simulation, ("slow", "s0", {"seconds": 30}))
    await asyncio.sleep(LOST_S)
    runs_it = a_worker(simulation)
    await asyncio.sleep(0.1)
    for _ in range(2):
        a_worker(simulation)
        await asyncio.sleep(0.1)
    deaf = []

    leaves_late = Hold()

    def lose_answers(event):
        if not isinstance(event, Hop):
            return None
        if event.process == runs_it.id and event.command == "register":
            return leaves_late
        if event.direction != "reply" or event.command != "claim":
            return None
        mine = event.process in deaf or (not deaf and "first" in "".join(event.words))
        if mine and since_start(simulation) < until_s:
            deaf.append(event.process)
            for wire in simulation.loop.network.wires:
                if wire.number == event.connection:
                    wire.cut()
        return None

    until_s = since_start(simulation) + 4
    simulation.observe(lose_answers)
    await brings(simulation, ("slow", "first", {"seconds": 9, "scheduled": timedelta(seconds=1)}))
    await asyncio.sleep(1.2)
    assert deaf or not calm(simulation), "nobody was given the first job"
    freed_s = since_start(simulation)
    runs_it.terminate()
    runs_it.restart = lambda: None
    await asyncio.sleep(2)
    leaves_late.release()  # till then nobody is told by its leaving
    [job] = await simulation.process("web").run(ended, simulation.queue, "s0")
    if calm(simulation):
        [(begun, _)] = spans(simulation, [job])
        assert begun - freed_s < 1.5, f"free at {freed_s} s, it began at {begun} s"

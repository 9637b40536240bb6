"""Stories of the word that there is work: who gets it, and what becomes of it when he cannot use it.

Whoever is told looks in the same instant; a worker that is not told looks by itself after 5 s. So what a
lost word costs is seconds.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from queuekit.simulation import Hold, Hop
from tests.mutants.alone import since_start
from tests.mutants.tasks import worker
from tests.mutants.web import bring, calm, ended

SOON_S = 0.5


def holding(simulation, wanted):
    """Hold back the first hop that is wanted. Gives the hold, and a list of the process that it is of."""
    held, caught = Hold(), []

    def observer(event):
        if not caught and isinstance(event, Hop) and wanted(event):
            caught.append(event.process)
            return held
        return None

    simulation.observe(observer)
    return held, caught


async def in_time(simulation, key, since_s, attempts=1):
    """A job begins soon after a moment."""
    [job] = await simulation.process("web").run(ended, simulation.queue, key)
    late = job.started / 1000 - simulation.start.timestamp() - since_s
    assert not calm(simulation) or late < SOON_S, f"{key} began {late} s late"
    assert not calm(simulation) or job.attempts == attempts, job


async def two_workers(simulation, **options):
    """Both wait for the word; the first one has waited for longer, so it is told."""
    both = []
    for _ in range(2):
        both.append(worker(simulation, **options))
        await asyncio.sleep(0.1)
    return both


async def a_claim_under_way(simulation):
    """A worker is given a job, and does not know it yet. Gives what holds it back, and whose it is."""
    web, queue = simulation.process("web"), simulation.queue
    due = timedelta(seconds=1)  # one of them is told, and waits for that moment
    await web.run(bring, queue, "slow", key="first", seconds=9, scheduled=due)
    filled, whose = holding(
        simulation,
        lambda hop: (
            hop.direction == "reply" and hop.command == "claim" and "first" in "".join(hop.words)
        ),
    )
    await asyncio.sleep(1.1)
    assert whose or not calm(simulation), "nobody was given the first job"
    return filled, whose


async def full_by_then(simulation):
    """A worker is told of a job while the answer is under way that fills its last slot."""
    await two_workers(simulation, concurrency=1)
    filled, _ = await a_claim_under_way(simulation)
    told_s = since_start(simulation)
    await simulation.process("web").run(bring, simulation.queue, "ok", key="second")
    await asyncio.sleep(0.1)
    filled.release()
    await asyncio.sleep(1)
    await in_time(simulation, "second", told_s)


async def stops_with_it(simulation):
    """A worker is told of a job while it claims, and then to stop; it has time to end what it runs."""
    workers = await two_workers(simulation, shutdown_grace_period_s=30)
    filled, whose = await a_claim_under_way(simulation)
    told_s = since_start(simulation)
    await simulation.process("web").run(bring, simulation.queue, "ok", key="second")
    for each in workers:
        if each.alive and each.id in whose:
            each.terminate()
    await asyncio.sleep(0.1)
    filled.release()
    await asyncio.sleep(1)
    await in_time(simulation, "second", told_s)


async def stopping_hears(simulation):
    """A worker that stops, and has time to end its job, is still told of others; somebody else takes them."""
    both = await two_workers(simulation, shutdown_grace_period_s=30)
    web, queue = simulation.process("web"), simulation.queue
    await web.run(bring, queue, "slow", key="first", seconds=9)
    await asyncio.sleep(0.1)
    for number in range(2):  # until the other one was told last: now this one has waited for longer
        await web.run(bring, queue, "ok", key=f"quick {number}")
        await asyncio.sleep(0.1)
        ran = {effect.key: effect.process for effect in simulation.effects("ran")}
        if ran.get("first") != ran.get(f"quick {number}"):
            break
    for each in both:
        if each.alive and each.worker.running:
            each.terminate()
    await asyncio.sleep(0.1)
    told_s = since_start(simulation)
    await web.run(bring, queue, "ok", key="second")
    if not calm(simulation):
        worker(simulation)  # both may have been told to stop
    await asyncio.sleep(1)
    await in_time(simulation, "second", told_s)


async def last_word(simulation):
    """A worker is stopped before it hears that it was told of a job."""
    first, _ = await two_workers(simulation)
    told, whose = holding(
        simulation,
        lambda hop: hop.process == first.id and hop.command == "BLPOP" and hop.direction == "reply",
    )
    told_s = since_start(simulation)
    await simulation.process("web").run(bring, simulation.queue, "ok", key="second")
    if not whose:
        return  # the other one was told
    first.terminate()
    await asyncio.sleep(1)
    told.release()
    await in_time(simulation, "second", told_s)


async def short_lease(simulation):
    """A worker takes a job on a short lease and dies: an idle one looks when that is over, and not later."""
    both = await two_workers(simulation, lease_s=3.0)
    await asyncio.sleep(0.8)
    told_s = since_start(simulation)
    await simulation.process("web").run(bring, simulation.queue, "slow", key="first", timeout=0)
    await asyncio.sleep(0.5)
    for each in both:
        if each.alive and each.worker.running:
            each.kill()
            each.restart = lambda: None
    await asyncio.sleep(1)
    await in_time(simulation, "first", told_s + 3, attempts=2)


async def lone(simulation):
    """A worker that has nobody beside it asks once for each job."""
    one = worker(simulation)
    asked = []

    def count(event):
        if isinstance(event, Hop) and event.direction == "request" and event.command == "claim":
            asked.append(event)

    simulation.observe(count)
    web, queue = simulation.process("web"), simulation.queue
    await asyncio.sleep(0.5)
    for number in range(3):
        await web.run(bring, queue, "slow", key=f"n{number}", seconds=0.2)
        await asyncio.sleep(0.5)
    assert len(asked) <= 4 or not calm(simulation), f"{len(asked)} claims for 3 jobs"
    del one


async def due_soon(simulation):
    """Jobs are due before an idle worker would look by itself: it is told of the earliest."""
    await two_workers(simulation)
    web, queue = simulation.process("web"), simulation.queue
    told_s = since_start(simulation)
    for key, seconds in (("late", 2), ("soon", 1)):
        await web.run(bring, queue, "ok", key=key, scheduled=timedelta(seconds=seconds))
    for key, seconds in (("soon", 1), ("late", 2)):
        await in_time(simulation, key, told_s + seconds)

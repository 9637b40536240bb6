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


def holding(simulation, caught):
    """Hold back what comes of the first hop that `caught` tells."""
    held = Hold()

    def observer(event):
        if not held.reached and isinstance(event, Hop) and caught(event):
            return held
        return None

    simulation.observe(observer)
    return held


async def in_time(simulation, key, since_s, attempts=1):
    """A job begins soon after a moment."""
    [job] = await simulation.process("web").run(ended, simulation.queue, key)
    late = job.started / 1000 - simulation.start.timestamp() - since_s
    assert not calm(simulation) or late < SOON_S, f"{key} began {late} s late"
    assert not calm(simulation) or job.attempts == attempts, job


async def full_by_then(simulation):
    """A worker is told of a job while the answer is under way that fills its last slot."""
    for _ in range(2):
        worker(simulation, concurrency=1)
        await asyncio.sleep(0.1)
    web, queue = simulation.process("web"), simulation.queue
    due = timedelta(seconds=1)  # of which one of them is told, and waits for that moment
    await web.run(bring, queue, "slow", key="first", seconds=9, scheduled=due)
    filled = holding(
        simulation,
        lambda hop: (
            hop.direction == "reply" and hop.command == "claim" and "first" in "".join(hop.words)
        ),
    )
    await asyncio.sleep(1.1)
    assert filled.reached or not calm(simulation), "nobody was given the first job"
    told_s = since_start(simulation)
    await web.run(bring, queue, "ok", key="second")
    await asyncio.sleep(0.1)
    filled.release()
    await asyncio.sleep(1)
    await in_time(simulation, "second", told_s)

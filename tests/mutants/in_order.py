"""Stories of places: who goes before whom, in a group and out of it.

Their keys come in falling order, so that jobs of equal places would be taken the wrong way round.
"""

from __future__ import annotations

import asyncio

from queuekit.exploration.audit import violations
from queuekit.simulation.contents import snapshot_of
from tests.mutants.alone import a_worker, loses
from tests.mutants.tasks import worker
from tests.mutants.web import bring, calm, ended


def audited(simulation):
    """The state is whole now, and not only at the end."""
    root = simulation.queue.store.root
    broken = violations(snapshot_of(simulation.loop.network.contents(root), root))
    assert not broken, broken[0]


def ran(simulation):
    """The jobs in the order in which they were done."""
    return list(dict.fromkeys(effect.details["key"] for effect in simulation.effects("done")))


async def falling(simulation):
    """Jobs of a group come while nobody else waits, and a better one while its group has not begun."""
    worker(simulation, concurrency=1)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await bring(queue, "slow", key="g9", group_key="g", seconds=2)
        await asyncio.sleep(1)
        for key in ("g8", "g7"):  # they follow, and nobody waits beside them
            await bring(queue, "slow", key=key, group_key="g", seconds=1)
        await bring(queue, "slow", key="h9", group_key="h", seconds=1)
        await bring(queue, "slow", key="h8", group_key="h", seconds=1, priority=-1)
        audited(simulation)
        await bring(queue, "slow", key="h7", group_key="h", seconds=1, priority=1)
        await ended(queue, "g9", "g8", "g7", "h9", "h8", "h7")
        if calm(simulation):
            mine = {group: [k for k in ran(simulation) if k[0] == group] for group in "gh"}
            assert mine == {"g": ["g9", "g8", "g7"], "h": ["h8", "h9", "h7"]}, mine

    await web.run(asks)


async def back_in_front(simulation):
    """A worker is stopped, and the next one too: what they hand back goes before what waits."""
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await bring(queue, "slow", key="z", seconds=3)
        await asyncio.sleep(0.5)
        for key in ("y", "x"):
            await bring(queue, "slow", key=key, seconds=1)

    going = asyncio.create_task(web.run(asks))
    for _ in range(2):
        one = worker(simulation, concurrency=1, shutdown_grace_period_s=None)
        await asyncio.sleep(1 + simulation.choose("when", 2) / 2)
        one.terminate()
        one.restart = lambda: None
        await asyncio.sleep(0.5)
    worker(simulation, concurrency=1)
    await going
    await web.run(ended, queue, "z", "y", "x")
    assert not calm(simulation) or ran(simulation) == ["z", "y", "x"], ran(simulation)


async def suspects_place(simulation):
    """A job that was lost twice goes behind its group as others do; handed back, it is the first of it."""
    web, queue = simulation.process("web"), simulation.queue

    async def brings(*keys, **options):
        for key in keys:
            await bring(queue, "slow", key=key, timeout=0, max_lost=9, **options)

    await web.run(brings, "g0", group_key="g", seconds=8)
    await loses(simulation, 1, 0.5)
    await asyncio.sleep(2.5)
    await loses(simulation, 1, 0.5)
    busy = a_worker(simulation, concurrency=1, shutdown_grace_period_s=None)
    await web.run(brings, "w3", "w2", "w1", seconds=4)
    await web.run(brings, "g1", group_key="g", seconds=1)
    await asyncio.sleep(18 + simulation.choose("when", 2))
    if calm(simulation):
        alone = [effect.details["key"] for effect in simulation.effects("ran")][-1]
        assert alone == "g0", f"{alone} runs now"
        assert ran(simulation) == ["w3", "w2", "w1", "g1"], ran(simulation)
    await web.run(brings, "g2", group_key="g", seconds=1)
    busy.terminate()
    busy.restart = lambda: None
    await asyncio.sleep(1)
    audited(simulation)
    a_worker(simulation, concurrency=1)
    await web.run(ended, queue, "g0", "g1", "g2", "w1", "w2", "w3")
    if calm(simulation):
        assert ran(simulation)[-2:] == ["g0", "g2"], ran(simulation)

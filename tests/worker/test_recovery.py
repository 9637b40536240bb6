"""Recovery: what comes of jobs whose worker died, hung, or could not be heard."""

from __future__ import annotations

import asyncio

from queuekit import Status
from queuekit.simulation import Hold, Moment, Step


async def ok(ctx):
    """A task."""


def hold_at(simulation, name):
    """Hold the first moment of this name, and keep its worker from renewing leases meanwhile."""
    hold = Hold()

    def observer(event):
        if isinstance(event, Moment) and event.name == name and not observer.caught:
            observer.caught = True
            return hold
        if isinstance(event, Step) and event.task == "leases" and not observer.starved:
            observer.starved = True
            return hold
        return None

    observer.caught = observer.starved = False
    simulation.observe(observer)
    return hold


async def test_a_job_is_not_begun_when_its_lease_ended_between_its_claim_and_its_start(simulation):
    """A machine that slept wakes up with jobs that have gone on without it."""
    for moment in ("claimed", "started"):
        runs = []

        async def noted(ctx, runs=runs):
            runs.append(ctx["worker"].id)

        hold = hold_at(simulation, moment)
        sleeper = simulation.worker([("noted", noted)], concurrency=1)
        job = await simulation.queue.enqueue("noted", timeout=None)
        await simulation.advance(1)
        successor = simulation.worker([("noted", noted)])
        await simulation.advance(30)
        hold.release()
        await simulation.advance(1)
        assert runs == [successor.worker.id]
        assert (await simulation.queue.job(job.key)).status is Status.COMPLETE
        await sleeper.stop()
        await successor.stop()


async def test_a_claim_that_was_answered_late_leaves_as_much_lease_as_the_server_does(simulation):
    """The lease runs from the claim on, however long its answer was on the way."""

    async def long(ctx):
        await asyncio.sleep(50)

    await simulation.queue.enqueue("long", timeout=None)
    await simulation.queue.store.claim("other", "other.0", 0, 30_000, 60_000)
    hold = Hold()

    def late(event):
        if getattr(event, "words", ())[:2] == ("EVALSHA", "claim"):
            late.lane = event.connection
        mine = getattr(event, "direction", "") == "reply" and event.connection == late.lane
        return hold if mine and not hold.reached else None

    late.lane = None
    simulation.observe(late)
    worker = simulation.worker([long]).worker
    await simulation.advance(4)
    assert hold.reached
    hold.release()
    await simulation.run_until_idle()
    [run] = worker.running.values()
    assert run.lease_end == 30
    await simulation.advance(10)
    assert run.lease_end > 30, "it was renewed"


async def test_a_claim_that_was_asked_again_leaves_as_much_lease_as_its_first_answer_did(
    simulation,
):
    """Its first answer was lost, and with it some seconds."""

    async def long(ctx):
        await asyncio.sleep(8)

    await simulation.queue.enqueue("long")
    worker = simulation.worker([long], id="one").worker

    def cut(event):
        if getattr(event, "words", ())[:2] == ("EVALSHA", "claim"):
            cut.lane = event.connection
        mine = getattr(event, "direction", "") == "reply" and event.connection == cut.lane
        if mine and cut.left:
            cut.left -= 1
            [wire] = [w for w in simulation.loop.network.wires if w.number == event.connection]
            wire.cut()

    cut.lane, cut.left = None, 2
    await simulation.queue.store.claim("other", "other.0", 0, 30_000, 60_000)
    simulation.observe(cut)
    await simulation.advance(1)
    assert not cut.left
    [run] = worker.running.values()
    assert run.lease_end == 30

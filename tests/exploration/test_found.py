"""What exploration has found in the simulation, the checkers and cron; each by the tape that showed it."""

from __future__ import annotations

import asyncio
import time

import pytest

from queuekit import CronJob, Status
from queuekit.exploration.failures import plan_of
from queuekit.exploration.living import run_once
from queuekit.exploration.swarm import COMMON_KINDS
from queuekit.simulation import Deviation
from tests.exploration.shop import ship


def relived(story, *tape, seed=4):
    run = run_once(story, plan_of(seed, "fifo", COMMON_KINDS, tape))
    assert run.tape == list(tape)  # each of them has struck
    return run


def test_a_drain_ends_though_no_worker_could_tell_how_its_jobs_ended():
    """Its commit was under way when its lease ended, and was executed after it had given up."""

    async def drained(simulation):
        simulation.worker([ship])
        for order in range(2):
            await simulation.queue.enqueue("ship", key=f"order-{order}", order=order)
        await simulation.drain()

    run = relived(drained, Deviation("swarm.partition:worker-1:commit reply", 1, 2))
    assert run.broken is None


def test_a_claim_that_got_nothing_may_be_sent_again_and_get_something():
    twice = 0
    for steps in range(0, 60, 2):

        async def late(simulation, steps=steps):
            simulation.worker([ship])
            await simulation.queue.count("queued")
            for _ in range(steps):
                await asyncio.sleep(0)
            await simulation.queue.enqueue("ship", order=1)

        run = relived(late, Deviation("swarm.lose_reply:worker-1:claim reply", 1, 1))
        assert run.broken is None
        twice += run.reached["a reply was lost after execution"]
    assert twice


def test_a_worker_that_was_paused_while_it_took_up_its_schedules_is_not_late_for_the_next_tick():
    ticked = []

    async def tick(ctx):
        ticked.append(time.monotonic())

    async def ticking(simulation):
        simulation.worker([ship], cron_jobs=[CronJob(tick, cron="* * * * * */7")])
        await simulation.advance(22)

    run = relived(ticking, Deviation("swarm.pause:worker-1:adopt", 1, 2))
    assert run.broken is None
    assert ticked[:3] == pytest.approx([12, 14, 21], abs=0.1)


def test_a_task_that_returns_as_its_timeout_strikes_may_be_charged_with_it():
    """Its worker hung past both moments; which of them comes first then is nobody's to say."""

    async def parent(ctx):
        await ctx["job"].queue.enqueue("child")

    async def child(ctx):
        pass

    async def hangs(simulation):
        simulation.worker([parent, child])
        await simulation.queue.enqueue("parent", retries=3)

    run = relived(hangs, Deviation("swarm.pause:worker-1:started", 1, 2))
    assert run.broken is None


def test_the_end_of_a_keys_last_life_is_no_end_of_its_next_one():
    """The answer to its commit is long on its way, and its worker runs the key's next life meanwhile."""

    async def works(ctx, *, seconds):
        await asyncio.sleep(seconds)

    async def anew(simulation):
        simulation.worker([works], concurrency=2)
        simulation.inject("delay", after="commit", seconds=1)
        job = await simulation.queue.enqueue("works", key="a", seconds=0)
        while job.status is not Status.COMPLETE:
            await asyncio.sleep(0.1)
            await job.refresh()
        await simulation.queue.enqueue("works", key="a", seconds=5)

    assert relived(anew).broken is None


def test_a_claim_that_is_answered_again_tells_anew_how_long_its_leases_last():
    """The server's clock was set back meanwhile: so the jobs are held for longer, and may be run."""

    async def told_late(simulation):
        simulation.worker([ship], lease_s=6)
        await simulation.queue.enqueue("ship", key="a", order=1)
        simulation.inject("lose_reply", command="claim", how="silence")
        simulation.inject("outage", at=1, seconds=9)
        simulation.inject("step_clock", at=2, seconds=-60)

    run = relived(told_late)
    assert run.reached["a command was sent twice, and answered as once"]
    assert run.broken is None


def test_a_worker_that_has_ended_before_its_question_arrives_owes_no_tick():
    """It was cut off when it asked for its schedules; by the time that Redis hears of it, it is gone."""

    async def tick(ctx):
        pass

    async def ends(simulation):
        worker = simulation.worker([ship], cron_jobs=[CronJob(tick, cron="* * * * *")])
        simulation.inject("partition", after="claim", seconds=45, direction="requests")
        await simulation.advance(10)
        worker.terminate()
        worker.restart = lambda: None
        await simulation.advance(300)

    assert relived(ends).broken is None


@pytest.mark.parametrize("ttl", [600, -1])
@pytest.mark.parametrize("runs", [False, True])
def test_an_abort_whose_answer_is_lost_is_no_error(ttl, runs):
    async def aborted(simulation):
        if runs:
            simulation.worker([ship, waits])
        job = await simulation.queue.enqueue("waits", timeout=0, ttl=ttl)
        await simulation.advance(1)
        simulation.inject("lose_reply", command="abort")
        await job.abort("no more")

    async def waits(ctx):
        await asyncio.sleep(50)

    assert relived(aborted).broken is None


def test_a_worker_that_stands_still_before_it_has_claimed_owes_no_tick():
    async def tick(ctx):
        pass

    async def stands(simulation):
        simulation.worker([ship], cron_jobs=[CronJob(tick, cron="* * * * *")])
        simulation.inject("delay", command="claim", seconds=20)
        simulation.inject("pause", after="adopt", seconds=150)
        await simulation.advance(400)

    assert relived(stands).broken is None

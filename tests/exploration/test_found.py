"""What exploration has found in the simulation, the checkers and cron; each by the tape that showed it."""

from __future__ import annotations

import asyncio
import time

import pytest

from queuekit import CronJob
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

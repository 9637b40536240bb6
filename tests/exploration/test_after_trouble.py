"""What is promised holds after a misfortune, too, as soon as all is calm: P6 and P8 are judged again then."""

from __future__ import annotations

import asyncio
import functools

import pytest

from queuekit import CronJob, environment, ticks
from queuekit.exploration import run_once
from queuekit.simulation import Simulation
from queuekit.simulation.ambient import IDLE_WAIT_S, TROUBLE_S
from tests.exploration import stories
from tests.exploration.planting import live

CALM_AGAIN_S = 60


async def cut_off(simulation, worker):
    worker.partition(seconds=8)


async def paused(simulation, worker):
    worker.pause(8)


async def another_killed(simulation, worker):
    other = simulation.worker(stories.TASKS)
    await asyncio.sleep(1)
    other.kill()


async def away(simulation, worker):
    simulation.server.outage(8)


async def reset(simulation, worker):
    simulation.server.restart()


async def lost(simulation, worker):
    simulation.server.restart("lost")


MISFORTUNES = [cut_off, paused, another_killed, away, reset, lost]


async def idle_afterwards(simulation, misfortune):
    """A misfortune, then calm, and then a job for a worker that waits."""
    worker = simulation.worker(stories.TASKS)
    await asyncio.sleep(2)
    await misfortune(simulation, worker)
    await asyncio.sleep(CALM_AGAIN_S + 0.5)
    await simulation.queue.enqueue("ok", key="a")
    await asyncio.sleep(20)


@pytest.mark.parametrize("misfortune", MISFORTUNES, ids=lambda each: each.__name__)
def test_a_worker_that_is_not_woken_is_found_after_a_misfortune_too(misfortune, plant):
    story = functools.partial(idle_afterwards, misfortune=misfortune)
    assert run_once(story).broken is None
    plant(
        "(set, priority, group), group)\n  wake()",
        "(set, priority, group), group)",
        script="enqueue",
    )
    assert run_once(story).broken.promise == "P6"


def ticking_worker(simulation, cron="* * * * *"):
    return simulation.worker(
        [*stories.TASKS, stories.tick], cron_jobs=[CronJob(stories.tick, cron)]
    )


async def ticking_afterwards(simulation, misfortune):
    """A misfortune that outlasts a tick; then more of them."""
    worker = ticking_worker(simulation)
    await asyncio.sleep(55)
    await misfortune(simulation, worker)
    await asyncio.sleep(200)


@pytest.mark.parametrize("misfortune", [cut_off, away, lost], ids=lambda each: each.__name__)
def test_a_worker_that_ticks_no_more_is_found_after_a_misfortune_too(misfortune, monkeypatch):
    story = functools.partial(ticking_afterwards, misfortune=misfortune)
    assert run_once(story).broken is None
    handle, struck = ticks._handle_passed, []

    async def asleep(worker, course, server):
        if struck:
            await asyncio.sleep(1e9)
        await handle(worker, course, server)

    async def strike(simulation, worker):
        struck.append(worker)
        await misfortune(simulation, worker)

    monkeypatch.setattr(ticks, "_handle_passed", asleep)
    broken = run_once(functools.partial(ticking_afterwards, misfortune=strike)).broken
    assert (broken.promise, "tick" in broken.what) == ("P8", True)


def test_a_tick_is_expected_by_the_servers_clock_only_when_its_worker_has_heard_of_a_step():
    """The worker waits for the end of what it knew as five minutes; the server is 20 s ahead."""

    async def story(simulation):
        ticking_worker(simulation, "*/5 * * * *")
        await asyncio.sleep(10)
        simulation.server.step_clock(20)
        await asyncio.sleep(280)

    assert run_once(story).broken is None


def test_ticks_that_the_server_forgot_with_its_data_are_not_missed():
    async def story(simulation):
        await stories.ticking(simulation)
        simulation.server.restart("lost")
        await simulation.advance(1)

    assert live(story)[1] == []


def test_an_idle_worker_looks_as_often_as_in_production_until_all_is_calm():
    async def story(simulation):
        simulation.environment.expect_trouble()
        found = []
        for seconds in (0, TROUBLE_S - 1, 1):
            await asyncio.sleep(seconds)
            found.append(simulation.environment.idle_wait_s())
        simulation.worker([]).kill()
        return [*found, simulation.environment.idle_wait_s()]

    production = environment.IDLE_WAIT_S
    with Simulation() as simulation:
        assert simulation.run(story(simulation)) == [
            production,
            production,
            IDLE_WAIT_S,
            production,
        ]
    with Simulation() as simulation:
        assert simulation.environment.idle_wait_s() == IDLE_WAIT_S


def test_a_job_that_comes_due_in_an_outage_is_not_late_before_it_is_over():
    async def story(simulation):
        simulation.worker(stories.TASKS)
        await simulation.queue.enqueue("ok", scheduled=simulation.now.timestamp() + 45)
        await asyncio.sleep(1)
        simulation.server.outage(50)
        await asyncio.sleep(120)

    assert run_once(story).broken is None


def test_a_claim_of_a_worker_that_counted_as_gone_is_not_known_again_and_breaks_nothing():
    """It stood still for longer than that, its answer was lost, and another one has noticed meanwhile."""

    async def story(simulation):
        simulation.inject("lose_reply", command="claim", nth=2, how="silence")
        worker = simulation.worker(stories.TASKS, lease_s=300)
        await asyncio.sleep(1)
        await simulation.queue.enqueue("ok")
        await asyncio.sleep(1)
        worker.pause(100)
        await asyncio.sleep(90)
        simulation.worker([])  # it tells of itself
        await asyncio.sleep(300)

    assert run_once(story).broken is None

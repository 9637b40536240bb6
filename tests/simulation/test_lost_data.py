"""What a test is told of jobs when the server has lost its data."""

import asyncio

import pytest

from queuekit.job import Status
from queuekit.simulation import Simulation, SimulationError, diagnosis


async def work(ctx):
    await asyncio.sleep(2)
    return 1


async def main_of_a_lost_job(simulation, running, queue):
    if running:
        simulation.worker([work], queue=queue)
    job = await queue.enqueue("work")
    await simulation.advance(1)
    simulation.server.restart("lost")
    if not running:
        simulation.worker([work], queue=queue)
    began = simulation.now
    counts = await simulation.drain()
    assert not counts
    assert (simulation.now - began).total_seconds() < 60
    with pytest.raises(SimulationError) as raised:
        await simulation.run_until(lambda: job.finished, limit=5)
    words = "lost with the server's data: nobody can run it, unless it is enqueued again"
    assert f"{job.key!r} work: {words}" in str(raised.value)
    assert simulation.all_enqueued() == []
    with pytest.raises(AssertionError, match="why not yet: lost with the server's data"):
        simulation.assert_completed(job)


@pytest.mark.parametrize("running", [True, False])
def test_drain_does_not_wait_for_what_was_lost(on_each_backend, running):
    with Simulation(**on_each_backend) as simulation:
        simulation.run(main_of_a_lost_job(simulation, running, simulation.queue))


async def main_of_a_stale_restart(simulation, killed):
    worker = simulation.worker([work])
    kept = await simulation.queue.enqueue(
        "work", key="kept", scheduled=simulation.now.timestamp() + 3
    )
    simulation.server.checkpoint()
    await simulation.advance(1)
    await simulation.queue.enqueue("work", key="gone")
    await simulation.advance(1)
    if killed:
        worker.kill()
    simulation.server.restart("stale")
    if killed:
        worker.restart()
    await simulation.advance(2)
    assert await simulation.drain() == {"complete": 1}
    simulation.assert_completed(kept)
    assert simulation.record_of("gone").lost


@pytest.mark.parametrize("killed", [True, False])
def test_drain_waits_for_what_a_stale_server_still_has(on_each_backend, killed):
    with Simulation(**on_each_backend) as simulation:
        simulation.run(main_of_a_stale_restart(simulation, killed))


async def main_of_a_job_that_comes_back(simulation):
    simulation.worker([work])
    job = await simulation.queue.enqueue("work")
    await simulation.advance(1)
    simulation.server.checkpoint()
    await simulation.advance(5)
    simulation.assert_completed(job)
    assert await simulation.drain() == {"complete": 1}
    simulation.server.restart("stale")
    assert simulation.record_of(job).status is Status.ACTIVE
    assert await simulation.drain() == {"complete": 1}
    simulation.assert_completed(job)
    again = simulation.journal.find("default", job.key)
    told = diagnosis.timeline(simulation, again)
    assert "active again, by the server's data" in told


def test_drain_waits_for_a_finished_job_that_the_server_takes_for_unfinished(on_each_backend):
    with Simulation(**on_each_backend) as simulation:
        simulation.run(main_of_a_job_that_comes_back(simulation))


async def test_an_enqueue_that_was_told_of_after_the_loss_is_lost(simulation):
    simulation.inject("restart_server", after="enqueue", data="stale")
    simulation.worker([work])
    job = await simulation.queue.enqueue("work")
    assert not await simulation.drain()
    assert simulation.record_of(job).lost


async def test_a_key_that_was_lost_may_be_enqueued_again(simulation):
    await simulation.queue.enqueue("work", key="a")
    simulation.server.restart("lost")
    simulation.worker([work])
    job = await simulation.queue.enqueue("work", key="a")
    assert await simulation.drain() == {"complete": 1}
    simulation.assert_completed(job)


async def test_a_lost_key_of_another_database_is_told_apart_from_one_that_is_kept(simulation):
    queue = type(simulation.queue).from_url("redis://simulated/3", name="third")
    worker = simulation.worker([work], queue=queue)
    worker.pause()
    await queue.enqueue("work", key="kept")
    simulation.server.checkpoint()
    await queue.enqueue("work", key="gone")
    simulation.server.restart("stale")
    worker.resume()
    assert await simulation.drain() == {"complete": 1}
    assert [record.lost for record in simulation.journal] == [False, True]


async def test_the_last_life_of_a_key_is_lost_though_an_earlier_one_is_kept(simulation):
    worker = simulation.worker([work])
    await simulation.queue.enqueue("work", key="a")
    await simulation.drain()
    simulation.server.checkpoint()
    await simulation.advance(10)
    await simulation.queue.enqueue("work", key="a")
    await simulation.advance(1)
    worker.kill()
    simulation.server.restart("stale")
    assert not await simulation.drain()
    assert [record.lost for record in simulation.journal] == [False, True]


async def test_a_key_that_was_lost_and_is_claimed_before_it_is_known_to_be_there_has_a_new_life(
    simulation,
):
    await simulation.queue.enqueue("work", key="a")
    simulation.server.restart("lost")
    simulation.worker([work])
    await simulation.advance(1)
    # The first one is told that the server has forgotten the script, too.
    simulation.inject("delay", after="enqueue", nth=2, seconds=2.5)
    await simulation.queue.enqueue("work", key="a")
    assert await simulation.drain() == {"complete": 1}
    assert [record.lost for record in simulation.journal] == [True, False]


async def take(ctx, *, n):
    await asyncio.sleep(2)


async def test_an_enqueue_that_is_sent_again_after_its_job_was_lost_is_a_new_life(simulation):
    simulation.worker([take])
    await simulation.advance(1)
    simulation.inject("delay", after="enqueue", seconds=1.5)
    simulation.inject("restart_server", at=1, data="lost")
    await simulation.queue.enqueue("take", n=1)
    assert await simulation.drain() == {"complete": 1}
    lives = [(record.lost, dict(record.kwargs)) for record in simulation.journal]
    assert lives == [(True, {}), (False, {"n": 1})]

"""When a wait is in vain, and when it is not: misfortune ends, and what it broke is mended."""

from __future__ import annotations

import asyncio

import pytest

from queuekit.exploration import explore
from queuekit.simulation import Simulation, SimulationDeadlock


async def work(ctx):
    await asyncio.sleep(1)
    return "done"


def seconds_of(simulation):
    return simulation.loop.now_us() / 1e6


@pytest.mark.parametrize("command", ["BLPOP", "register", "commit"])
def test_who_was_paused_at_its_upkeep_goes_on(on_each_backend, command):
    """The pause ends, so waiting for the process is no deadlock, wherever the pause has begun."""

    async def main(simulation):
        worker = simulation.worker([work])
        simulation.inject("pause", command=command, process=worker, seconds=12)
        await simulation.queue.enqueue("work")
        await simulation.advance(1)
        await worker.run(asyncio.sleep, 2)
        return seconds_of(simulation)

    with Simulation(**on_each_backend) as simulation:
        assert 12 < simulation.run(main(simulation)) < 16


@pytest.mark.parametrize("command", ["BLPOP", "register", "claim"])
def test_a_worker_that_was_killed_at_its_upkeep_and_restarted_works(on_each_backend, command):
    """Its second start is not all upkeep because its death came in some."""

    async def main(simulation):
        simulation.worker([work])
        simulation.inject("kill", before=command, restart_after=3)
        await simulation.advance(60)
        assert await simulation.queue.apply("work", timeout=0) == "done"
        return seconds_of(simulation)

    with Simulation(**on_each_backend) as simulation:
        assert simulation.run(main(simulation)) == 61


def test_a_word_of_work_that_comes_late_is_waited_for(on_each_backend):
    async def main(simulation):
        simulation.worker([work])
        simulation.inject("delay", after="BLPOP", seconds=20)
        await simulation.run_until_idle()
        assert await simulation.queue.apply("work", timeout=0) == "done"
        return seconds_of(simulation)

    with Simulation(**on_each_backend) as simulation:
        assert simulation.run(main(simulation)) == 21


@pytest.mark.parametrize("who", ["itself", "another"])
def test_a_lost_job_is_waited_for_while_somebody_lives_who_takes_it_up(on_each_backend, who):
    async def main(simulation):
        simulation.inject("kill", after="started", restart_after=1 if who == "itself" else 0)
        simulation.worker([work])
        if who == "another":
            simulation.worker([work])
        assert await simulation.queue.apply("work", timeout=0) == "done"
        return seconds_of(simulation)

    with Simulation(**on_each_backend) as simulation:
        assert simulation.run(main(simulation)) == pytest.approx(31, abs=0.01)


@pytest.mark.slow
def test_leases_longer_than_that_are_waited_for_too():
    async def main(simulation):
        for _ in range(2):
            simulation.worker([work], lease_s=6 * 3600)
        simulation.inject("kill", after="started")
        assert await simulation.queue.apply("work", timeout=0) == "done"
        return seconds_of(simulation)

    with Simulation() as simulation:
        assert simulation.run(main(simulation)) == pytest.approx(6 * 3600 + 1, abs=0.01)


@pytest.mark.slow
def test_a_wait_for_the_dead_is_a_deadlock_when_all_had_their_time():
    async def main(simulation):
        worker = simulation.worker([work])
        simulation.worker([work], queue=simulation.queue_named("other"))
        simulation.inject("kill", after="started", process=worker)
        await simulation.queue.apply("work", timeout=0)

    with (
        Simulation() as simulation,
        pytest.raises(SimulationDeadlock, match="nothing can ever happen again"),
    ):
        simulation.run(main(simulation))
    assert seconds_of(simulation) < 3 * 3600


def test_a_wait_that_was_in_vain_all_along_is_one_at_once():
    async def main(simulation):
        simulation.worker([work])
        await simulation.advance(5)
        await asyncio.Event().wait()

    with Simulation() as simulation, pytest.raises(SimulationDeadlock, match="At 5 s"):
        simulation.run(main(simulation))


@pytest.mark.slow
def test_a_story_that_waits_for_its_job_is_right_under_every_misfortune():
    async def story(simulation):
        simulation.worker([work])
        assert await simulation.queue.apply("work", retries=5, timeout=0) == "done"

    assert explore(story, seeds=60, kept=None).runs == 60

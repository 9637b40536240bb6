"""Explorations in which nothing happened prove nothing, and say so."""

from __future__ import annotations

import pytest

from queuekit.exploration import ExplorationFailed, Vacuous, explore
from queuekit.exploration.exhaustive import MAX_ALTERNATIVES
from tests.exploration.shop import ship

pytestmark = pytest.mark.slow


def vacuous(story, **options):
    with pytest.raises(Vacuous) as told:
        explore(story, seeds=3, kept=None, **options)
    return str(told.value)


async def no_jobs(simulation):
    simulation.worker([ship])
    await simulation.advance(1)


def test_a_job_whose_arguments_do_not_fit_is_no_run_of_its_task():
    async def story(simulation):
        simulation.worker([ship])
        await simulation.queue.enqueue("ship", key="one", oder=1)

    told = vacuous(story, faults=())
    assert "in 3 run(s) not one job ran: no task was ever entered." in told
    assert "job 'one' (ship): queuekit.errors.TaskArgumentsError: " in told
    assert "missing a required argument: 'order'" in told


def test_nor_is_one_of_a_function_that_no_worker_has():
    async def story(simulation):
        simulation.worker([ship])
        await simulation.queue.enqueue("shipp", key="one")

    assert "job 'one' (shipp): there is no function 'shipp' in worker" in vacuous(story, faults=())


def test_one_job_that_runs_is_enough():
    async def story(simulation):
        simulation.worker([ship])
        await simulation.queue.enqueue("shipp")
        await simulation.queue.enqueue("ship", order=1)

    assert explore(story, seeds=3, faults=(), kept=None).runs_of_jobs == 3


def test_a_checker_does_not_make_it_a_proof():
    assert "not one job ran" in vacuous(no_jobs, checkers=[lambda simulation: []])


def test_a_checker_that_knows_of_runs_does():
    class Checker:
        def __call__(self, simulation):
            return []

        def runs(self, simulation):
            return 2

    explored = explore(no_jobs, seeds=3, kept=None, checkers=[Checker()])
    assert explored.runs_of_jobs == 6


@pytest.mark.parametrize("options", [{"deviations": 1}, {"redeliver": True}])
def test_it_is_asked_of_every_way_of_looking(options):
    assert "not one job ran" in vacuous(no_jobs, faults=["kill"], schedules=["fifo"], **options)


def test_a_story_s_own_choice_is_tried_however_many_there_are():
    many = MAX_ALTERNATIVES + 36

    async def story(simulation):
        simulation.worker([ship])
        number = simulation.choose("orders", many)
        await simulation.queue.enqueue("ship", order=number)
        assert number != many - 1

    options = {"deviations": 1, "schedules": ["fifo"], "faults": (), "kept": None}
    with pytest.raises(ExplorationFailed) as told:
        explore(story, **options)
    assert [deviation.value for deviation in told.value.failure.tape] == [many - 1]
    explored = explore(story, seeds=10, **options)
    assert not explored.exhausted
    assert "; no runs were left for 90 choices, most of them at choose:orders;" in str(explored)

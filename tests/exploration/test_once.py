"""`once=`: what may happen once is found when it happens again, and a name that never happens is told."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings

from queuekit import effect
from queuekit.exploration import ExplorationFailed, Vacuous, explore, simulations
from queuekit.simulation import SimulationError
from tests.exploration.shop import charged

pytestmark = pytest.mark.slow

TWICE = {"kept": None, "seeds": 1, "faults": ()}


class Order:
    """Written by its address."""


async def charge_twice(ctx, order):
    await effect("charged", order=order)
    await effect("charged", order=order)


async def charge_objects(ctx):
    await effect("charged", order=Order())
    await effect("charged", order=Order())


async def twice(simulation):
    simulation.worker([charge_twice])
    await simulation.queue.enqueue("charge_twice", order=42)


async def objects(simulation):
    simulation.worker([charge_objects])
    await simulation.queue.enqueue("charge_objects")


@pytest.mark.parametrize("once", ["charged", ["charged"], {"charged"}, ("refunded", "charged")])
def test_a_name_alone_is_as_good_as_a_list_of_it(once):
    with pytest.raises(ExplorationFailed) as caught:
        explore(twice, once=once, **TWICE)
    assert caught.value.failure.promise == "effect:charged"


def test_a_name_alone_is_taken_by_simulations_too():
    @settings(max_examples=1, deadline=None, database=None, phases=[Phase.generate])
    @given(simulations(twice, once="charged", faults=()))
    def every_run(simulated):
        simulated.check()

    with pytest.raises(AssertionError, match="happened twice"):
        every_run()


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_name_that_never_happens_is_told_with_those_that_did(jobs):
    with pytest.raises(Vacuous, match=r"no effect 'chraged' of once=") as caught:
        explore(charged, once=["charged", "chraged"], **{**TWICE, "seeds": 2}, jobs=jobs)
    assert "Effects were: charged (2)" in str(caught.value)


def test_details_that_are_never_the_same_are_refused_instead_of_passed():
    with pytest.raises(SimulationError, match=r"cannot be compared") as caught:
        explore(objects, once=["charged"], **TWICE)
    assert "order.id" in str(caught.value)


@pytest.mark.parametrize("argument", ["once", "reach"])
@pytest.mark.parametrize("given", [5, [5], [""], None])
def test_names_that_are_no_names_are_refused(argument, given):
    with pytest.raises(SimulationError, match=f"{argument} is a name"):
        explore(charged, **{argument: given}, **TWICE)

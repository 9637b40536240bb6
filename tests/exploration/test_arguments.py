"""Arguments of an exploration that make no sense are refused before anything is run."""

from __future__ import annotations

import math

import pytest
from hypothesis import Phase, given, settings

from queuekit.exploration import ExplorationFailed, Terms, Vacuous, explore, run_once, simulations
from queuekit.simulation import SimulationError
from tests.exploration.shop import charge, charged, ship

NAN, INF = math.nan, math.inf


async def never_lived(simulation):
    pytest.fail("a run was lived")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": "x"}, "seeds is a whole number, 1 or more"),
        ({"seeds": 1.5}, "seeds is a whole number"),
        ({"seeds": True}, "seeds is a whole number"),
        ({"minutes": NAN}, "minutes is a finite number, 0 or more"),
        ({"minutes": INF}, "minutes is a finite number"),
        ({"minutes": -1}, "minutes is a finite number"),
        ({"minutes": "x"}, "minutes is a finite number"),
        ({"first_seed": None}, "first_seed is a whole number"),
        ({"deviations": -1}, "deviations is a whole number, 0 or more"),
        ({"deviations": "x"}, "deviations is a whole number"),
        ({"limit": -1}, "limit is a finite number, 0 or more"),
        ({"limit": "x"}, "limit is a finite number"),
        ({"limit": INF}, "limit is a finite number"),
        ({"steps": 0}, "steps is a whole number, 1 or more"),
        ({"guard": "x"}, "guard is a finite number"),
        ({"guard": NAN}, "guard is a finite number"),
        ({"guard": 2}, "a share is between 0 and 1"),
        ({"jobs": "x"}, "jobs is a whole number, 1 or more"),
        ({"jobs": 0}, "jobs is a whole number, 1 or more"),
        ({"backend": None}, "a name, or an address"),
        ({"faults": 5}, "kinds of misfortune, in a list"),
        ({"faults": [["kill"]]}, "kinds of misfortune, in a list"),
        ({"schedules": 5}, "one of 'fifo'"),
        ({"schedules": [5]}, "one of 'fifo'"),
        ({"checkers": lambda simulation: []}, "checkers are functions in a list"),
        ({"invariants": lambda: True}, "invariants are functions in a list"),
        ({"invariants": [5]}, "invariants are functions in a list"),
        ({"kept": 5}, "it is a folder, or None"),
        ({"kept": ""}, "it is a folder, or None"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_run(options, words):
    with pytest.raises(SimulationError, match=words) as caught:
        explore(never_lived, **{"kept": None, **options})
    assert not isinstance(caught.value, ExplorationFailed)
    assert len(str(caught.value).splitlines()) > 1  # what to do instead


@pytest.mark.parametrize("story", [5, None, never_lived(None), lambda: None])
def test_what_is_no_story_is_refused(story):
    for use in (lambda: explore(story, kept=None), lambda: simulations(story)):
        with pytest.raises(SimulationError, match="a story is an async function") as caught:
            use()
        assert not isinstance(caught.value, ExplorationFailed)


def lived(story, runs=50, **options):
    @settings(max_examples=runs, deadline=None, database=None, phases=[Phase.generate])
    @given(simulations(story, **options))
    def every_run(simulated):
        simulated.check()

    every_run()


class Charges:
    """A checker."""

    promise = "mine"

    def __call__(self, simulation):
        return [self] if simulation.effects("charged").count else []


@pytest.mark.slow
def test_simulations_ask_checkers_those_of_the_story_too():
    async def story(simulation):
        await charged(simulation)

    with pytest.raises(AssertionError, match="mine is broken"):
        lived(story, faults=(), checkers=[Charges()])
    story.checkers = [Charges()]
    with pytest.raises(AssertionError, match="mine is broken"):
        lived(story, faults=())


def test_a_run_asks_the_checkers_of_its_story_each_once():
    async def story(simulation):
        await charged(simulation)

    own = Charges()
    story.checkers = [own]
    assert [each.promise for each in run_once(story).breaches] == ["mine"]
    assert [each.promise for each in run_once(story, terms=Terms(checkers=(own,))).breaches] == [
        "mine"
    ]


@pytest.mark.slow
def test_simulations_in_which_no_job_ever_runs_are_vacuous():
    async def nobody_enqueues(simulation):
        simulation.worker([ship])

    async def sometimes(simulation):
        simulation.worker([charge])
        for order in range(simulation.choose("orders", 4)):
            await simulation.queue.enqueue("charge", order=order)

    with pytest.raises(Vacuous, match=r"in 2\d runs not one job ran"):
        lived(nobody_enqueues)
    lived(sometimes)

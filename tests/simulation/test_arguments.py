"""Arguments of a simulation that make no sense are refused where they are written, in words."""

from __future__ import annotations

import asyncio
import math

import pytest

from queuekit.simulation import Simulation, SimulationError

NAN, INF = math.nan, math.inf


async def nothing():
    """A main function."""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": "x"}, "seed is a whole number"),
        ({"seed": [1]}, "seed is a whole number"),
        ({"seed": None}, "seed is a whole number"),
        ({"start": INF}, "inf is no moment"),
        ({"start": 1e18}, "is no moment.*\n.*years 1 to 9999"),
        ({"start": -1e12}, "is no moment"),
        ({"start": True}, "True is no moment"),
        ({"backend": None}, "backend=None is no backend"),
        ({"backend": 5}, "backend=5 is no backend"),
        ({"backend": "redis://h:99999/0"}, "is no backend"),
        ({"backend": "redis://h/abc"}, "is no backend"),
        ({"choices": [1]}, "choices are the decisions of an earlier run"),
        ({"choices": 5}, "choices are the decisions of an earlier run"),
        ({"steps_per_instant": 0}, "steps_per_instant is a whole number, 1 or more"),
        ({"steps_per_instant": "x"}, "steps_per_instant is a whole number"),
        ({"loop": 5}, "the loop of an earlier simulation"),
    ],
)
def test_a_world_that_cannot_be_set_up_is_refused(options, words):
    with pytest.raises(SimulationError, match=words), Simulation(**options):
        pass


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda s: s.process(5), "process.5.: its name is a text"),
        (lambda s: s.process(""), "its name is a text"),
        (lambda s: s.process("x", 5), "main is a function"),
        (lambda s: s.process("x", lambda: 5), "main gave 5, and no coroutine"),
        (lambda s: s.process("x").run(5), "function is a function"),
        (lambda s: s.run_until(5), "condition is a function"),
        (lambda s: s.run_until(lambda: False, limit="x"), "limit is a finite number"),
        (lambda s: s.run_until(lambda: False, limit=NAN), "limit is a finite number"),
        (lambda s: s.run_until(lambda: False, limit=-1), "limit is a finite number, 0 or more"),
        (lambda s: s.drain(limit=INF), "limit is a finite number"),
        (lambda s: s.choose("a", "x"), "n is a whole number"),
        (lambda s: s.choose("a", NAN), "n is a whole number"),
        (lambda s: s.observe(5), "observer is a function"),
    ],
)
async def test_what_cannot_be_done_is_refused(simulation, use, words):
    async def used():
        result = use(simulation)
        return await result if asyncio.iscoroutine(result) else result

    with pytest.raises(SimulationError, match=words):
        await used()


@pytest.mark.parametrize("main", [5, nothing, None])
def test_what_is_no_coroutine_is_not_run(main):
    with (
        Simulation() as simulation,
        pytest.raises(SimulationError, match="Call the async function"),
    ):
        simulation.run(main)


def test_a_world_that_is_over_runs_nothing():
    with Simulation() as simulation:
        simulation.run(nothing())
    with pytest.raises(SimulationError, match="the simulation is over"):
        simulation.run(nothing())


def test_a_world_is_not_run_inside_of_a_loop():
    async def inside(simulation):
        simulation.run(nothing())

    with Simulation() as simulation, pytest.raises(SimulationError, match="runs already"):
        simulation.run(inside(simulation))

"""Ctrl-C ends a world at once and without noise; what a simulated process raises ends only that."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from queuekit.simulation import ProcessFailed, Simulation, SimulationError

WHERE = [
    "in a task that takes it in",
    "in a callback",
    "in a process",
    "in the test",
    "in a thread",
    "at the end",
    "explored",
    "explored by two",
    "in a race",
]


def seen_after_ctrl_c(where, backend):
    done = subprocess.run(
        [sys.executable, "-W", "default", "-m", "tests.simulation.interrupted", where, backend],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("where", WHERE)
def test_ctrl_c_ends_the_world_and_another_one_works(where):
    seen = seen_after_ctrl_c(where, "fakeredis")
    assert seen[-2:] == ["interrupted", "hello"]
    if where.startswith("in a "):
        assert not [word for word in seen if "reached" in word]
    if where.startswith(("in a t", "in a c", "in a p")):
        assert seen.count("cleaned up") == 2
        assert seen.count("a thread was ended") == 1


@pytest.mark.slow
def test_so_on_a_real_server():
    seen = seen_after_ctrl_c("in a task that takes it in", "server")
    assert seen[-2:] == ["interrupted", "hello"]
    assert not [word for word in seen if "reached" in word]


def test_a_keyboard_interrupt_that_a_process_raises_by_itself_ends_that_alone():
    cleaned = []

    async def main():
        try:
            await asyncio.sleep(1)
            raise KeyboardInterrupt  # as a program does at a simulated SIGINT
        finally:
            cleaned.append(1)

    async def story(simulation):
        script = simulation.process("script", main)
        await simulation.advance(5)
        assert (script.alive, script.process.status, cleaned) == (False, 130, [1])
        with pytest.raises(ProcessFailed, match="script#1 ended by KeyboardInterrupt, and nobody"):
            await script.wait()

    with Simulation() as simulation:
        simulation.run(story(simulation))


def test_a_ctrl_c_between_two_runs_of_a_world_ends_it_at_once():
    reached = []

    async def main():
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(100)
            reached.append(1)

    def live():
        with Simulation() as simulation:
            processes.append(simulation.process("web", main))
            simulation.run(simulation.advance(1))
            raise KeyboardInterrupt

    processes = []
    with pytest.raises(KeyboardInterrupt):
        live()
    assert (processes[0].alive, reached) == (False, [])


# -- one world inside of another


def test_a_simulation_inside_of_another_one_is_refused():
    async def story():
        with Simulation(seed=3):
            pass

    words = r"Simulation<seed=3, .* is entered inside of a coroutine, which another simulation runs"
    with Simulation() as simulation, pytest.raises(SimulationError, match=words) as refused:
        simulation.run(story())
    assert "Enter it in a plain function, def test_...()" in str(refused.value)


def test_so_it_is_in_any_event_loop_and_in_a_sync_task():
    def enter():
        with Simulation():
            pass

    async def story():
        enter()

    async def in_a_thread():
        await asyncio.to_thread(enter)

    with pytest.raises(SimulationError, match="inside of a coroutine, which an event loop runs"):
        asyncio.run(story())
    with Simulation() as simulation, pytest.raises(SimulationError, match="in a sync task of"):
        simulation.run(in_a_thread())


def test_a_simulation_is_entered_once_at_a_time():
    with Simulation() as simulation:
        with pytest.raises(SimulationError, match="is entered already"), simulation:
            pass
        simulation.run(simulation.advance(5))
    with simulation:  # and again when it has ended, as ever
        simulation.run(simulation.advance(5))


def test_worlds_may_stand_beside_each_other_in_plain_code():
    with Simulation(seed=1) as one, Simulation(seed=2) as other:
        one.run(one.advance(5))
        other.run(other.advance(7))
        assert (one.loop.time(), other.loop.time()) == (5, 7)

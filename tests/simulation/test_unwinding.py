"""What a killed process left behind is taken down without noise, and without a word to anybody."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys

import pytest
import redis.asyncio

from queuekit.simulation import Simulation
from queuekit.simulation.ending import CANCEL_ROUNDS

WORLDS = "tests.simulation.killed_quietly"


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "step"), [("fakeredis", 11), ("server", 43)])
def test_wherever_processes_are_killed_nothing_is_printed(backend, step):
    done = subprocess.run(
        [sys.executable, "-W", "default", "-m", WORLDS, backend, "1", "2000", str(step)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    assert seen["at"] > 300, "the kills ended before the processes had done much"
    assert seen["taken_down"] == ["generator", "sync", "thread"]
    assert seen["reached"] == []


def test_who_is_killed_before_it_learns_of_a_reset_connection_says_nothing_of_it(caplog):
    async def listens():
        await redis.asyncio.Redis.from_url("redis://redis.internal").blpop("never")

    async def story(simulation):
        web = simulation.process("web", listens)
        await simulation.advance(1)
        simulation.server.stop()
        await asyncio.sleep(0)
        [task] = [task for task in web.process.tasks if not task.done()]
        assert task._fut_waiter.done()  # it has come, and the task has not seen it
        web.kill()

    def live():
        with Simulation() as simulation:
            simulation.run(story(simulation))

    live()
    live()  # then nothing holds the first world any more
    gc.collect()
    assert not caplog.records


def test_who_ignores_the_end_of_its_world_is_taken_down_as_quietly(caplog):
    ended = []

    async def stays():
        while True:
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                ended.append("ignored")

    def live():
        with Simulation() as simulation:
            simulation.process("stays", stays)
            simulation.run(simulation.advance(2))

    live()
    live()
    gc.collect()
    assert ended == ["ignored"] * 2 * CANCEL_ROUNDS
    assert not caplog.records

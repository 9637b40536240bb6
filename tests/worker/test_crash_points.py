"""The worker is struck at every point of a story, one after the other, and each time the promises hold.

`make test` takes a part of the points: on the embedded Redis each command and reply and some of the steps
between them, on a real server fewer. `make sweep` takes all of them on both.
"""

from __future__ import annotations

import os

import pytest

from queuekit.simulation import Hop, Simulation
from tests.worker import misfortune

pytestmark = pytest.mark.slow

FULL = os.environ.get("QUEUEKIT_SWEEP") == "full"
"Set by `make sweep`."

STRIDES = {
    "fakeredis": {"hops": 1, "steps": 5, "hung": 16, "cut": 1},
    "server": {"hops": 12, "steps": 30, "hung": 60, "cut": 8},
}
"Of how many points `make test` takes one."

CUTS = [("first", "request"), ("first", "reply"), ("client", "request"), ("client", "reply")]


@pytest.fixture
def live(on_each_backend):
    """Live through the story once: `live(misfortune.killed, 17)`."""

    def once(life, *arguments):
        with Simulation(seed=1, start=misfortune.START, **on_each_backend) as simulation:
            return simulation.run(life(simulation, *arguments))

    return once


@pytest.fixture
def strides(on_each_backend):
    given = STRIDES["fakeredis" if on_each_backend["backend"] == "fakeredis" else "server"]
    return dict.fromkeys(given, 1) if FULL else given


def survive(live, life, points, chosen, *arguments):
    """Strike at each chosen point; all that break a promise are named, each with its event."""
    broken = []
    for at in chosen:
        try:
            live(life, at, *arguments)
        except Exception as error:
            broken.append(f"point {at}, {points[at]}: {type(error).__name__}: {error}")
    assert not broken, f"{len(broken)} of {len(chosen)} points:\n" + "\n".join(broken[:5])


def some(points, strides):
    """Numbers of the points to take: of hops and of steps one in so many each."""
    hops = [at for at, point in enumerate(points) if isinstance(point, Hop)]
    steps = [at for at, point in enumerate(points) if not isinstance(point, Hop)]
    return sorted([*hops[:: strides["hops"]], *steps[:: strides["steps"]]])


def test_a_worker_killed_at_any_step_breaks_no_promise(live, strides):
    points = live(misfortune.undisturbed)
    assert len(points) > 200, "the story has become short"
    survive(live, misfortune.killed, points, some(points, strides))


def test_a_worker_that_hangs_at_any_step_changes_nothing_when_it_wakes_up_late(live, strides):
    points = live(misfortune.undisturbed)
    survive(live, misfortune.hung, points, range(0, len(points), strides["hung"]))


@pytest.mark.parametrize(("of", "what"), CUTS)
def test_any_command_or_reply_may_be_lost_with_its_connection(live, strides, of, what):
    wanted = getattr(misfortune, what)
    points = live(misfortune.undisturbed, of, wanted)
    assert len(points) > 12
    chosen = range(0, len(points), strides["cut"])
    survive(live, misfortune.cut_off, points, chosen, of, wanted)

"""Places at which a worker can be killed: those that the boring run came by, each once.

No chance is in them. A crash between a charge and its mark is the simplest that a queue brings about, and a
strike by chance finds it late: that kind is in half of the runs, at a rate, at one place in many.
"""

from __future__ import annotations

import random

from queuekit.exploration.living import Plan, Run
from queuekit.exploration.swarm import anything
from queuekit.simulation.chooser import Deviation

EVERY = 4
"Of the runs of an exploration every fourth is killed at one place, while there are places left."

SECOND = 2
"Which of four: no other than the one that the guard lives through twice."

_KILL = "swarm.kill:"


def boring(seed: int) -> Plan:
    """The boring run, which says at which places a worker can be killed."""
    return Plan(seed, "fifo", anything(["kill"]), ())


def points_of(run: Run) -> list[Deviation]:
    """The places of a boring run that was lived with all that it was asked, in the order of happening."""
    return [
        Deviation(asked.site, asked.nth, 1) for asked in run.asked if asked.site.startswith(_KILL)
    ]


def struck(seed: int, point: Deviation) -> Plan:
    """The boring run, killed at one place."""
    return Plan(seed, "fifo", anything(["kill"]), (point,))


def in_turn(run: Run, seed: int) -> list[Deviation]:
    """The places in the order in which seeds come by them: behind effects first, then in any order."""
    points = points_of(run)
    random.Random(f"queuekit points {seed}").shuffle(points)  # noqa: S311 (replayable)
    return sorted(points, key=lambda point: point.site.rpartition(":")[2] not in run.effects)

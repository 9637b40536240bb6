"""Places at which a worker can be struck: those that the boring run came by, each once.

No chance is in them. A crash between a charge and its mark is the simplest that a queue brings about, and a
worker that stalls between a read and a write until another one has its job is the next; a strike by chance
finds either late: each kind is in half of the runs, at a rate, at one place in many.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from itertools import zip_longest

from queuekit.exploration.living import Plan, Run
from queuekit.exploration.swarm import KINDS, anything
from queuekit.simulation.chooser import Deviation
from queuekit.store import scripts

EVERY = 4
"Of the runs of an exploration every fourth is struck at one place, while there are places left."

SECOND = 2
"Which of four: no other than the one that the guard lives through twice."

STALLS = ("pause", "partition")
"A process that stands still, and one that is cut off: another worker takes its job meanwhile."

STRIKES = ("kill", *STALLS)
"What strikes at one place."

LONGER = 1.5
"So many leases a worker stalls at least: its own has ended then, and another worker has taken the job."

_PLAIN = ("BLPOP", "SUBSCRIBE", "UNSUBSCRIBE")
"Commands that a worker sends by itself, beside scripts."

_ASKED_FOR = frozenset({"enqueue", "abort", "update"})
"Scripts that no worker sends by itself, but a task of the application's."


def boring(seed: int, kinds: Collection[str] = ("kill",)) -> Plan:
    """The boring run, which says at which places a worker can be struck."""
    return Plan(seed, "fifo", anything(kinds), ())


def points_of(run: Run, kind: str = "kill") -> list[Deviation]:
    """The places of a boring run that was lived with all that it was asked, in the order of happening."""
    value = _late(kind, run.lease_s) if kind in STALLS else 1
    return [
        Deviation(asked.site, asked.nth, value)
        for asked in run.asked
        if asked.site.startswith(f"swarm.{kind}:")
    ]


def struck(seed: int, point: Deviation) -> Plan:
    """The boring run, struck at one place."""
    kind = point.site.partition(":")[0].removeprefix("swarm.")
    return Plan(seed, "fifo", anything([kind]), (point,))


def in_turn(run: Run, seed: int, kinds: Collection[str] = ("kill",)) -> list[Deviation]:
    """The places in the order in which seeds come by them, and what strikes there.

    Every second one is a kill, and the first is; those between are a pause and a partition by turns. Each of
    the three goes through all its places: behind effects first, then behind the application's own commands,
    then the others in any order.
    """
    stalls = _by_turns(*(_ordered(run, seed, kind) for kind in STALLS if kind in kinds))
    kills = _ordered(run, seed, "kill") if "kill" in kinds else []
    return list(_by_turns(kills, stalls))


def _by_turns(*ways: Iterable[Deviation]) -> Iterator[Deviation]:
    for turn in zip_longest(*ways):
        yield from (point for point in turn if point is not None)


def _ordered(run: Run, seed: int, kind: str) -> list[Deviation]:
    points = points_of(run, kind)
    random.Random(f"queuekit points {seed}").shuffle(points)  # noqa: S311 (replayable)
    return sorted(points, key=lambda point: _rank(point.site.rpartition(":")[2], run))


def _rank(place: str, run: Run) -> int:
    """How soon a place has its turn.

    Before a command is as good as behind the one before it for a kill, and for a pause it is too late: what
    was sent arrives, and only who has sent it stalls.
    """
    if place in run.effects:
        return 0
    command, _, reply = place.partition(" ")
    return 1 if reply and command not in _of_the_worker() else 2


@cache
def _of_the_worker() -> frozenset[str]:
    names = [*(script.name for script in scripts.every()), *_PLAIN]
    return frozenset(names) - _ASKED_FOR


def _late(kind: str, lease_s: float) -> int:
    """The value of the mildest stall after which a worker is late; of the longest, if none surely is."""
    seconds = [each["seconds"] for each in KINDS[kind].arguments]
    enough = (n for n, each in enumerate(seconds, 1) if each >= LONGER * lease_s > 0)
    return next(enough, 1 + seconds.index(max(seconds)))

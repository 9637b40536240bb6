"""Which of the ready steps is next, when it is not the oldest: adversaries of the code under test.

The steps of tasks and the arrivals of commands and replies are in one pool. A step of it may be passed
over many times; steps of one actor (a task, or one direction of a connection) keep their order. Plain
callbacks run at once, first in first out, as they would in any loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, Protocol

from queuekit.simulation.chooser import Chooser
from queuekit.simulation.errors import SimulationError
from queuekit.simulation.observe import Hop

SCHEDULES = ("fifo", "random", "pct")

PCT_LEVELS = 1_000
"Priorities that an actor may be given under PCT: so many that hardly two are equal."

PCT_DEPTH = 3
"Of the bugs that PCT looks for: as many ordered steps as are needed, here two changes of priority."

EXPECTED_CHOICES = 300
"Choices that a small run has, between which PCT's changes of priority are spread."

FAIR_AFTER = 2_000
"Choices at one instant after which PCT gives everybody a turn: who turns in a circle would hold it for ever."

SENDING = "AbstractConnection._send_packed_command"
"""A task of redis-py's on Python 3.11, in which it writes one command. It is no actor: what may be held back
is the command on its way."""

_ANY = 1 << 30


class Schedule(Protocol):
    """Chooses among actors that are ready."""

    def choose(self, actors: list[str]) -> int:
        """The place in the list of the one that goes on; they are in the order in which they got ready."""

    def instant(self) -> None:
        """Time has moved."""


class RandomWalk:
    """Each of the ready ones alike."""

    def __init__(self, chooser: Chooser) -> None:
        self._chooser = chooser
        chooser.draw(["schedule"])

    def choose(self, actors: list[str]) -> int:
        if len(actors) == 1:
            return 0
        return self._chooser.pick("schedule", len(actors), quiet=True)

    def instant(self) -> None:
        """It has no memory."""


class PCT:
    """Probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010).

    Every actor has a priority, and the ready one of the highest goes on until it waits; at a few steps
    whoever is about to go on falls behind all others. A bug that needs d steps in one order is found with
    a probability of at least 1 / (n * k ** (d - 1)), for n actors and k steps.

    The boring priority is the highest, and equal ones take turns as they got ready: so without any deviation
    this is first in first out, and an actor that is held back is one deviation.
    """

    def __init__(self, chooser: Chooser, *, expected_choices: int = EXPECTED_CHOICES) -> None:
        self._chooser = chooser
        chooser.draw(["pct.priority", "pct.change"])
        steps = _ANY if chooser.replays else expected_choices + 1
        drawn = [chooser.pick("pct.change", steps, quiet=True) for _ in range(PCT_DEPTH - 1)]
        self._changes = {step: place for place, step in enumerate(drawn) if step}
        self._levels: dict[str, int] = {}
        "Of the actors; 0 goes first."
        self.choices = 0
        "That there were so far."
        self.on_change: Callable[[str], None] | None = None
        "Told who falls behind all others."
        self._choices_now = 0

    def choose(self, actors: list[str]) -> int:
        levels = self._levels
        for actor in actors:
            if actor not in levels:
                levels[actor] = self._chooser.pick(f"pct.priority:{actor}", PCT_LEVELS, quiet=True)
        if len(actors) == 1:
            return 0
        self.choices += 1
        self._choices_now += 1
        if self._choices_now > FAIR_AFTER:
            return 0
        first = min(range(len(actors)), key=lambda place: levels[actors[place]])
        change = self._changes.get(self.choices)
        if change is not None:
            if self.on_change is not None:
                self.on_change(actors[first])
            levels[actors[first]] = PCT_LEVELS + change
            first = min(range(len(actors)), key=lambda place: levels[actors[place]])
        return first

    def instant(self) -> None:
        self._choices_now = 0


def schedule_of(
    name: str, chooser: Chooser, *, expected_choices: int = EXPECTED_CHOICES
) -> Schedule | None:
    """A schedule by its name; None is first in first out.

    Args:
        name: one of `SCHEDULES`.
        chooser: decides.
        expected_choices: between which PCT spreads its changes of priority; best as many as a run has.

    Raises:
        SimulationError: there is none of that name.
    """
    if name == "fifo":
        return None
    if name == "random":
        return RandomWalk(chooser)
    if name == "pct":
        return PCT(chooser, expected_choices=expected_choices)
    raise SimulationError(
        f"schedule={name!r} is unknown; it is one of {', '.join(map(repr, SCHEDULES))}."
    )


def schedules_of(given: Collection[str]) -> tuple[str, ...]:
    """The names of some schedules, or of one.

    Raises:
        SimulationError: there is none of that name, or no name.
    """
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, Collection) or not names or any(n not in SCHEDULES for n in names):
        raise SimulationError(
            f"schedules={given!r}: each is one of {', '.join(map(repr, SCHEDULES))}, and there is one.\n"
            "  schedules=['fifo'] looks at misfortunes alone."
        )
    return tuple(names)


def actor_of(handle: asyncio.Handle) -> str | None:
    """Whose step this is: a task's name, or a lane of the network; None for a plain callback."""
    callback: Any = handle._callback  # type: ignore[attr-defined]
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        name = owner.get_name()
        return None if name.startswith(SENDING) else name
    arguments: Any = handle._args
    if arguments and isinstance(arguments[0], Hop):
        return f"{arguments[0].direction} {arguments[0].connection}"
    return None


class Pool:
    """Steps that are ready and may be taken in any order, but for those of one actor."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.on_overtaking: Callable[[list[asyncio.Handle]], None] | None = None
        "Told of each step that is taken ahead of older ones: those, and it as the last."
        self._waiting: dict[str, deque[asyncio.Handle]] = {}
        "By actor, in the order in which they got ready."

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, actor: str, handle: asyncio.Handle) -> None:
        """One more step of an actor."""
        if actor in self._waiting:
            self._waiting[actor].append(handle)
        else:
            self._waiting[actor] = deque((handle,))

    def take(self) -> asyncio.Handle:
        """The next step. There is one."""
        actors = list(self._waiting)
        place = self.schedule.choose(actors)
        if place and self.on_overtaking is not None:
            self.on_overtaking([self._waiting[actor][0] for actor in actors[: place + 1]])
        actor = actors[place]
        steps = self._waiting.pop(actor)
        step = steps.popleft()
        if steps:  # its next one got ready now, behind the others
            self._waiting[actor] = steps
        return step

    def take_all(self) -> list[asyncio.Handle]:
        """All steps, by actor."""
        steps = [step for each in self._waiting.values() for step in each]
        self._waiting.clear()
        return steps

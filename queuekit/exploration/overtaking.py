"""Who went ahead of whom, with the lines of source where they stood."""

from __future__ import annotations

import asyncio
import inspect
import linecache
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from queuekit.simulation import turn
from queuekit.simulation.observe import Hop
from queuekit.simulation.schedule import actor_of

LIBRARIES = tuple(
    f"{folder}{os.sep}"
    for folder in (
        Path(asyncio.__file__).parent,
        Path(__file__).parent,
        Path(turn.__file__).parent,
    )
)
"Folders whose lines tell nobody what went wrong."

SHOWN_OTHERS = 3
"Of more than these, only their number is told."


@dataclass(slots=True)
class Overtaking:
    """One actor went on, or several did, although another had been ready for longer."""

    actor: str
    "The first of them: a task's name, or a direction and connection of the network."
    at: str
    "Where it stood before that: `file:line  source`, or a command."
    ahead_of: str
    stood_at: str
    steps: int = 1
    "So many, one after another."
    others: list[str] = field(default_factory=list)
    "Who else, in the order in which they came."

    def __str__(self) -> str:
        took = "went on" if self.steps == 1 else f"took {self.steps} steps"
        first, other = _short(self.actor), _short(self.ahead_of)
        if len(self.others) > SHOWN_OTHERS:
            first += f" and {len(self.others)} others"
        elif self.others:
            first += f" and {', '.join(map(_short, self.others))}"
        return f"{first} {took}\n      {self.at}\n    ahead of {other}\n      {self.stood_at}"


def _short(name: str) -> str:
    return name.rpartition("<locals>.")[2]


class Overtakings(list[Overtaking]):
    """Those of a loop from now on; steps ahead of one who stays where he is are one entry."""

    def __init__(self, loop: turn.TurningLoop) -> None:
        super().__init__()
        self._latest: tuple[str, str] | None = None
        if loop.pool is not None:
            loop.pool.on_overtaking = self._overtaken

    def _overtaken(self, steps: list[asyncio.Handle]) -> None:
        first, taken = steps[0], steps[-1]
        actor, other = actor_of(taken) or "?", actor_of(first) or "?"
        stood_at = place(first)
        if self and self._latest == (other, stood_at):
            latest = self[-1]
            latest.steps += 1
            if actor != latest.actor and actor not in latest.others:
                latest.others.append(actor)
            return
        self._latest = (other, stood_at)
        self.append(Overtaking(actor, place(taken), other, stood_at))


def place(step: asyncio.Handle) -> str:
    """Where the task of a step stands, or which command or reply is on its way."""
    callback: Any = step._callback  # type: ignore[attr-defined]
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return _innermost(owner)
    arguments: Any = step._args
    if arguments and isinstance(arguments[0], Hop):
        hop: Hop = arguments[0]
        words = " ".join(hop.words) or "(handshake)"
        return f"the {hop.direction} {words[:80]}" + (f" of {hop.process}" if hop.process else "")
    return getattr(callback, "__qualname__", "a callback")


def _innermost(task: asyncio.Task[Any]) -> str:
    """The innermost line of a task that is not asyncio's."""
    found = "(not known)"
    if inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_CREATED:  # type: ignore[arg-type]
        code = task.get_coro().cr_code  # type: ignore[union-attr]
        return f"{line_of(code.co_filename, code.co_firstlineno)}  (not begun)"
    awaited: Any = task.get_coro()
    while awaited is not None and (frame := getattr(awaited, "cr_frame", None)) is not None:
        if not frame.f_code.co_filename.startswith(LIBRARIES):
            found = line_of(frame.f_code.co_filename, frame.f_lineno)
        awaited = awaited.cr_await
    return found


def line_of(file: str, line: int) -> str:
    """`file:line  source`, the file seen from the working directory if it is in it."""
    path, here = Path(file), Path.cwd()
    shown = path.relative_to(here) if path.is_relative_to(here) else path
    return f"{shown}:{line}  {linecache.getline(file, line).strip()}".rstrip()

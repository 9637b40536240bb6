"""Who waits for what in a simulated loop, in words."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType

    from queuekit.simulation.turn import TurningLoop

SHOWN_TASKS = 20

_places: dict[tuple[CodeType, int], str] = {}


def where(task: asyncio.Task[Any]) -> str:
    """Qualified name of a task's own coroutine, and how many lines into it the task stands."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    if frame is None:
        return "?"
    place = (frame.f_code, frame.f_lineno)
    text = _places.get(place)
    if text is None:
        # Counted from the function's first line: edits above it leave the trace as it was.
        line = frame.f_lineno - frame.f_code.co_firstlineno
        text = _places[place] = f"{frame.f_code.co_qualname}+{line}"
    return text


def chain(task: asyncio.Task[Any]) -> str:
    """The coroutines of a task from its own to the innermost, each with its line."""
    links = []
    awaited: Any = task.get_coro()
    while awaited is not None and getattr(awaited, "cr_frame", None) is not None:
        links.append(f"{awaited.cr_frame.f_code.co_qualname}:{awaited.cr_frame.f_lineno}")
        awaited = awaited.cr_await
    if awaited is not None:
        links.append(type(awaited).__name__)
    return " > ".join(links[:8]) or "(not started)"


def tasks(loop: TurningLoop) -> str:
    """All unfinished tasks of a loop, a line each."""
    waiting = sorted(loop.unfinished(), key=lambda task: task.get_name())
    lines = [f"    {task.get_name()}: {chain(task)}" for task in waiting[:SHOWN_TASKS]]
    if len(waiting) > SHOWN_TASKS:
        lines.append(f"    ... and {len(waiting) - SHOWN_TASKS} more")
    return "\n".join(lines)


def deadlock(loop: TurningLoop, held: bool) -> str:
    hint = "  An observer holds something back that was not released.\n" if held else ""
    return (
        "nothing can ever happen again: no step is ready, and no timer is left but upkeep.\n"
        f"{hint}"
        f"  At {loop.time():g} s these wait:\n{tasks(loop)}\n"
        "  Let what they wait for happen (is there a worker? does it have the function?), or do not\n"
        "  wait for it: simulation.run_until_idle() and advance() return by themselves."
    )


def livelock(loop: TurningLoop, turning: Counter[str]) -> str:
    most = "\n".join(f"    {name}: {count} steps" for name, count in turning.most_common(5))
    return (
        f"{loop.steps_per_instant:,} steps were taken at {loop.time():g} s without time moving.\n"
        f"  In the last of them these turned:\n{most}\n"
        "  Something asks again and again without waiting; or, if there is that much to do at one\n"
        "  instant, raise the limit: steps_per_instant=."
    )


def limit(loop: TurningLoop, seconds: float) -> str:
    return (
        f"one wait took more than {seconds / 86_400:g} days of virtual time; it is {loop.time():g} s.\n"
        f"  These wait:\n{tasks(loop)}\n"
        "  What is waited for probably never comes. To live through more, advance() in parts."
    )

"""The tasks of one owner, a process or the test, for as long as somebody may want to know of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

PRUNE_AT = 64
"Tasks, beside twice those that go on, before it is looked which have ended."


class Tasks:
    """Those that go on, and those whose exception nobody has asked for.

    They are held, so that no collector decides when something of them is seen: when a coroutine of a dead
    process is unwound, or when asyncio tells of an exception that nobody awaited.
    """

    def __init__(self) -> None:
        self._held: dict[asyncio.Task[Any], None] = {}
        self._prune_at = PRUNE_AT

    def add(self, task: asyncio.Task[Any]) -> None:
        """Called by the loop: a task was made."""
        if len(self._held) >= self._prune_at:
            held = (task for task in self._held if not task.done() or task._log_traceback)
            self._held = dict.fromkeys(held)
            self._prune_at = 2 * len(self._held) + PRUNE_AT
        self._held[task] = None

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        """All that are held, some of which may have ended; others may be added meanwhile."""
        return iter(list(self._held))

    def unasked(self) -> list[tuple[asyncio.Task[Any], BaseException]]:
        """Those that have ended by an exception that nobody has asked for: from now on, somebody has."""
        found = []
        for task in self._held:
            if task.done() and not task.cancelled() and task._log_traceback:
                error = task.exception()
                assert error is not None
                found.append((task, error))
        return found

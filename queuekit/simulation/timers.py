"""Timers of a simulated loop: stable, exact, and told apart into work and upkeep."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from contextvars import Context
from typing import Any

from queuekit.environment import BACKGROUND
from queuekit.simulation.clock import NS

GRAIN_NS = 1_000
"""Timers fall on whole microseconds. A float that counts seconds through a virtual year carries no
more, so that 5 s and 10 s after each other and 15 s at once meet at one instant."""


def grains_after(seconds: float) -> int:
    """Nanoseconds for a delay: whole microseconds, never less than asked, never zero for a delay."""
    if seconds <= 0:
        return 0
    micros = seconds * 1e6
    whole = int(micros)
    if whole == micros:
        return whole * GRAIN_NS
    return max(1, math.ceil(round(micros, 3))) * GRAIN_NS


def grains_at(when: float) -> int:
    """Nanoseconds for a moment of the loop's clock: the nearest microsecond."""
    return round(when * 1e6) * GRAIN_NS


class Timer(asyncio.TimerHandle):
    """A timer that knows whether it is upkeep (see `queuekit.environment.BACKGROUND`)."""

    def __init__(
        self,
        when_ns: int,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        super().__init__(when_ns / NS, callback, args, loop, context)
        self.when_ns = when_ns
        self.background = self._context.get(BACKGROUND, False)  # type: ignore[attr-defined]


class Timers:
    """A heap of timers by moment, and by age among those of one moment."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Timer]] = []
        self._added = 0
        self._foreground = 0

    def add(self, timer: Timer) -> None:
        self._added += 1
        self._foreground += not timer.background
        timer._scheduled = True  # type: ignore[attr-defined]
        heapq.heappush(self._heap, (timer.when_ns, self._added, timer))

    def cancelled(self, timer: Timer) -> None:
        """A timer was cancelled; one in the heap is dropped when it comes to the top."""
        if timer._scheduled:  # type: ignore[attr-defined]
            self._foreground -= not timer.background

    @property
    def has_work(self) -> bool:
        """Whether a timer is left that is not upkeep."""
        return self._foreground > 0

    def next_ns(self) -> int | None:
        """The moment of the first timer."""
        heap = self._heap
        while heap and heap[0][2]._cancelled:
            heapq.heappop(heap)[2]._scheduled = False  # type: ignore[attr-defined]
        return heap[0][0] if heap else None

    def next_work_ns(self) -> int | None:
        """The moment of the first timer that is not upkeep."""
        moments = (
            (when, number)
            for when, number, timer in self._heap
            if not timer.background and not timer.cancelled()
        )
        first = min(moments, default=None)
        return first[0] if first is not None else None

    def pop_due(self, now_ns: int) -> list[Timer]:
        """Take out the timers whose moment has come, oldest first."""
        due = []
        heap = self._heap
        while heap and (heap[0][0] <= now_ns or heap[0][2]._cancelled):
            timer = heapq.heappop(heap)[2]
            timer._scheduled = False  # type: ignore[attr-defined]
            if not timer._cancelled:
                self._foreground -= not timer.background
                due.append(timer)
        return due

    def take(self, wanted: Callable[[Timer], bool]) -> list[Timer]:
        """Take out those that are wanted; they never fire."""
        taken = [timer for _, _, timer in self._heap if wanted(timer)]
        self._heap = [entry for entry in self._heap if not wanted(entry[2])]
        heapq.heapify(self._heap)
        for timer in taken:
            timer._scheduled = False  # type: ignore[attr-defined]
            self._foreground -= not (timer.background or timer.cancelled())
        return taken

    def clear(self) -> None:
        self._heap.clear()
        self._foreground = 0

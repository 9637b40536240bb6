"""P11: what waits is claimed by priority, and what is equal as it came.

Judged are jobs that were never claimed before, since retried and recovered ones go to the end. Of a group
they are held against their own group only: whoever follows in one has no place among the
others before it leads.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from queuekit.exploration.ledger import Ledger, Life


def check(ledger: Ledger, life: Life, worker: str) -> None:
    """Called with a job that is claimed, before that is entered."""
    first = ledger.order.passed_over(life)
    if first is not None:
        urgent = "is more urgent" if first.priority < life.priority else "came before"
        if first.in_front:
            urgent = "was handed back"
        what = f"was given to {worker} while {first.key!r} could be run, which {urgent}"
        ledger.breach("P11", life.key, what)


def _is_new(life: Life) -> bool:
    """Whether it waits for its first run."""
    return life.status == "queued" and not life.attempts and not life.inherited


class Order:
    """Who waits in a queue, in the order in which they must be claimed."""

    def __init__(self) -> None:
        self._lines: dict[str, dict[int, deque[Life]]] = {}
        "By group and priority: jobs that could run at once when they were enqueued, as they came."
        self._due: dict[str, dict[int, list[tuple[int, int, Life]]]] = {}
        "Likewise those that were due later: heaps by that moment."
        self._front: list[Life] = []
        "Handed back, so that they go first again; they are of no group."
        self._came = 0

    def came(self, life: Life, now_ms: int) -> None:
        """It was enqueued."""
        life.came_due = life.due_ms > now_ms
        if not life.came_due:
            line = self._lines.setdefault(life.group, {}).setdefault(life.priority, deque())
            line.append(life)
            return
        self._came += 1
        heap = self._due.setdefault(life.group, {}).setdefault(life.priority, [])
        heapq.heappush(heap, (life.due_ms, self._came, life))

    def handed_back(self, life: Life) -> None:
        """Its worker had no time for it: it goes before all others of its priority."""
        life.in_front = True
        if not life.group and not life.solo:
            self._front.append(life)

    def clock_set_back(self) -> None:
        """Some that are due later may have been due before: nobody knows any more who comes first."""
        self._due.clear()

    def passed_over(self, life: Life) -> Life | None:
        """Somebody who must go before this one, which is claimed now."""
        if life.solo:  # those stand elsewhere, and wait until a process is free
            return None
        return self._of_the_front(life) or self._in_line(life) or self._of_those_due(life)

    def _of_the_front(self, life: Life) -> Life | None:
        if not self._front:
            return None
        self._front = [each for each in self._front if each.status == "queued" and each.in_front]
        if life.in_front:
            return None
        # One that follows in a group has had its place for longer: the others' may be behind it.
        less = life.priority + (not life.group)
        return next((each for each in self._front if each.priority < less), None)

    def _in_line(self, life: Life) -> Life | None:
        """Of those that could run at once: whoever is more urgent, or came before."""
        for group in {"", life.group}:
            lines = self._lines.get(group, {})
            mine = group == life.group and _is_new(life)
            for priority in sorted(lines):
                if priority > life.priority or (priority == life.priority and not mine):
                    break
                line = lines[priority]
                while line and not _is_new(line[0]):
                    line.popleft()
                if not line:
                    del lines[priority]
                elif priority < life.priority or self._came_before(line[0], life):
                    return line[0]
        return None

    @staticmethod
    def _came_before(first: Life, life: Life) -> bool:
        if life.came_due:  # it took its place when it was due, or later
            return first.entered_ms < life.due_ms
        return first is not life

    def _of_those_due(self, life: Life) -> Life | None:
        """Of those that were due later, as this one: whoever was due before."""
        if not (life.came_due and _is_new(life)):
            return None
        heaps = self._due.get(life.group, {})
        for priority, heap in heaps.items():
            while heap and not _is_new(heap[0][2]):
                heapq.heappop(heap)
            if not heap or priority > life.priority:
                continue
            due_ms = heap[0][0]
            if due_ms < life.due_ms or (due_ms == life.due_ms and priority < life.priority):
                return heap[0][2]
        return None

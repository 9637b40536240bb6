"""P8: of each tick one job, however many workers there are; none is forgotten while one is up.

Which moments a schedule ticks at is asked of `queuekit.cron`, whose own rules are held against an oracle by
the tests of cron; here it is asked whether what it says happens.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from queuekit.exploration.ledger import Ledger

if TYPE_CHECKING:
    from queuekit.cron import Schedule
    from queuekit.simulation.world import Simulation

GRACE_MS = 1_000
"So long after a tick its job may be enqueued, when nothing is disturbed."

MAX_TICKS = 10_000
"Of one worker and schedule that are looked at; the rest of a longer run is not."


@dataclass
class Span:
    """A time in which a worker was up and nothing disturbed it, by the server's clock."""

    worker: str
    begin_ms: int
    end_ms: int | None = None


class Ticking:
    """The spans of workers with schedules, and at the end the ticks in them."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._spans: dict[str, list[Span]] = {}
        self._open: dict[tuple[str, str], Span] = {}

    def begin(self, ledger: Ledger, worker: str) -> None:
        """It has taken up its schedules."""
        self.end(ledger, worker)
        span = Span(worker, ledger.now_ms)
        self._spans.setdefault(ledger.root, []).append(span)
        self._open[ledger.root, worker] = span

    def end(self, ledger: Ledger, worker: str) -> None:
        """It is gone, or leaves."""
        span = self._open.pop((ledger.root, worker), None)
        if span is not None:
            span.end_ms = ledger.now_ms

    def disturbed(self, ledgers: list[Ledger]) -> None:
        """What follows is held against nobody: a worker that cannot reach Redis makes up for it later."""
        for ledger in ledgers:
            for (root, worker), span in list(self._open.items()):
                if root == ledger.root:
                    span.end_ms = ledger.now_ms
                    del self._open[root, worker]

    def check(self, ledger: Ledger) -> None:
        """Report ticks that nobody has handled."""
        spans = self._spans.get(ledger.root, ())
        if not spans:
            return
        owners: dict[str, list[Schedule]] = {}
        for handle in self._simulation.workers():
            owners.setdefault(handle.worker.address, list(handle.worker.schedules))
        timetables = Counter(
            schedule.id
            for schedule in {(s.id, s.timetable): s for o in owners.values() for s in o}.values()
        )
        missing: dict[tuple[str, int], None] = {}
        for span in spans:
            for schedule in owners.get(span.worker, ()):
                if timetables[schedule.id] == 1:
                    missing.update(self._missing(ledger, span, schedule))
        for schedule_id, tick_ms in missing:
            ledger.breach(
                "P8", "", f"tick {tick_ms} of {schedule_id!r} passed, and no job came of it"
            )

    def _missing(
        self, ledger: Ledger, span: Span, schedule: Schedule
    ) -> dict[tuple[str, int], None]:
        end_ms = ledger.now_ms if span.end_ms is None else span.end_ms
        missing: dict[tuple[str, int], None] = {}
        tick_ms = schedule.next_tick_ms(span.begin_ms)
        for _ in range(MAX_TICKS):
            if tick_ms + GRACE_MS > end_ms:
                break
            at = schedule.id, tick_ms
            if at not in ledger.tick_jobs and at not in ledger.passed_ticks:
                missing[at] = None
            tick_ms = schedule.next_tick_ms(tick_ms)
        return missing

"""P8: of each tick one job, however many workers there are; none is forgotten while one is up.

Which moments a schedule ticks at is asked of `queuekit.cron`, whose own rules are held against an oracle by
the tests of cron; here it is asked whether what it says happens.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from queuekit.exploration.ledger import FOR_EVER, Ledger
from queuekit.exploration.punctual import is_fit

if TYPE_CHECKING:
    from queuekit.cron import Schedule
    from queuekit.simulation.process import Process
    from queuekit.simulation.world import Simulation

GRACE_MS = 500
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
        self._excused: dict[tuple[str, str], None] = {}
        "Workers that were disturbed, until all is calm again."
        self._steps_known: dict[tuple[str, str], int] = {}
        "How far the server's clock was set when each of them heard of its time."

    def begin(self, ledger: Ledger, worker: str, *, fit: bool) -> None:
        """It has taken up its schedules."""
        self.end(ledger, worker)
        self.heard(ledger, worker)
        if fit:
            self._begin(ledger, worker, ledger.now_ms)
        else:
            self._excused[ledger.root, worker] = None

    def _begin(self, ledger: Ledger, worker: str, begin_ms: int) -> None:
        # What ticked before the server's clock was set back has ticked.
        span = Span(worker, max(begin_ms, ledger.latest_ms))
        self._open[ledger.root, worker] = span
        self._spans.setdefault(ledger.root, []).append(span)

    def end(self, ledger: Ledger, worker: str) -> None:
        """It is gone, or leaves."""
        self._excused.pop((ledger.root, worker), None)
        span = self._open.pop((ledger.root, worker), None)
        if span is not None:
            span.end_ms = ledger.now_ms

    def heard(self, ledger: Ledger, worker: str) -> None:
        """The server has told it the time."""
        self._steps_known[ledger.root, worker] = self._simulation.loop.server_clock.skew_ns

    def disturbed(self, ledgers: list[Ledger]) -> None:
        """What follows is held against nobody, until all is calm: what was missed is made up for later."""
        for ledger in ledgers:
            for (root, worker), span in list(self._open.items()):
                if root == ledger.root:
                    span.end_ms = ledger.now_ms
                    del self._open[root, worker]
                    self._excused[root, worker] = None

    def forget(self, ledger: Ledger) -> None:
        """The server has forgotten which ticks were handled: what came before is judged now, or never."""
        self.disturbed([ledger])
        self.check(ledger)
        self._spans.pop(ledger.root, None)

    def calm(self, ledger: Ledger, begin_ms: int) -> None:
        """From that moment on nobody is behind; so ticks are expected again of whoever is fit."""
        for root, worker in list(self._excused):
            known = self._steps_known[root, worker] == self._simulation.loop.server_clock.skew_ns
            process = ledger.present.get(worker)
            if root == ledger.root and known and self._goes_on(worker, process):
                del self._excused[root, worker]
                self._begin(ledger, worker, begin_ms)

    def _goes_on(self, worker: str, process: Process | None) -> bool:
        if process is not None and not is_fit(process):
            return False
        for handle in self._simulation.workers():
            if handle.running and handle.worker.address == worker:
                session = handle.worker._session
                return session is not None and not session.stopping
        return False

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
                "P8", "", f"tick {tick_ms} of {schedule_id!r} passed, and no job came of it in time"
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
            if ledger.handled_ms.get(at, FOR_EVER) > tick_ms + GRACE_MS:
                missing[at] = None
            tick_ms = schedule.next_tick_ms(tick_ms)
        return missing

"""What happened to every job of a simulation, kept for assertions, timelines and diagnoses.

The journal is fed by the named steps of the product (`environment().step`), in the order in which
they happen, so it still knows jobs whose records have expired.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from queuekit.job import TERMINAL_STATUSES, Status
from queuekit.lifecycle import Event

_AFTER = {
    Event.COMPLETED: Status.COMPLETE,
    Event.FAILED: Status.FAILED,
    Event.RETRIED: Status.QUEUED,
    Event.RELEASED: Status.QUEUED,
    Event.UNKNOWN: Status.QUEUED,
    Event.ABORTED: Status.ABORTED,
}


_BY_STATUS = {
    Status.COMPLETE: Event.COMPLETED,
    Status.FAILED: Event.FAILED,
    Status.ABORTED: Event.ABORTED,
}

BEGINNINGS = frozenset({"claimed", "abort requested", "aborted"})
"Moments that can be the first to be seen of a job."


@dataclass
class Attempt:
    """One run of a job. Times are epoch milliseconds of the simulation's clock."""

    number: int
    worker: str
    claimed_ms: int
    started_ms: int | None = None
    "None: its task was never called."
    ended_ms: int | None = None
    outcome: Event | None = None
    error: str = ""
    exception: str = ""
    "The name of the exception's class."
    delay_ms: int = 0
    "The pause until the next run, after a failure or a loss."


@dataclass
class JobRecord:
    """One life of a job: a key that is enqueued again after its end has another record."""

    key: str
    queue: str
    function: str
    kwargs: Mapping[str, Any]
    enqueued_ms: int
    due_ms: int
    "When it may start: its `scheduled`, the end of a retry's delay, or the moment it was enqueued."
    options: Mapping[str, Any] = field(default_factory=dict)
    status: Status = Status.QUEUED
    attempts: list[Attempt] = field(default_factory=list)
    updates: list[tuple[int, float]] = field(default_factory=list)
    "Heartbeats: (epoch ms, progress)."
    result: Any = None
    error: str | None = None
    finished_ms: int | None = None
    schedule: str | None = None
    "The id of the cron schedule that enqueued it."
    lost: bool = False
    "Whether the server has lost it with its data: nobody can finish it any more."
    compared: int = 0
    "With which loss of data it was last compared; see `lost_data.py`."

    @property
    def finished(self) -> bool:
        """Whether its status is final."""
        return self.status in TERMINAL_STATUSES

    @property
    def over(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.finished or self.lost

    @property
    def last(self) -> Attempt | None:
        """The latest run, if there was one."""
        return self.attempts[-1] if self.attempts else None

    @property
    def retry_delays_ms(self) -> list[int]:
        """The pauses after each run that was retried."""
        return [attempt.delay_ms for attempt in self.attempts if attempt.outcome is Event.RETRIED]


@dataclass(frozen=True)
class Entry:
    """One line of the journal."""

    at_ms: int
    moment: str
    key: str
    queue: str
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Tick:
    """A tick of a cron schedule that a worker handled."""

    schedule: str
    tick_ms: int
    at_ms: int
    function: str
    verdict: str
    key: str


class Journal:
    """Records of all jobs, in the order in which they were enqueued."""

    MAX_ENTRIES = 1_000_000
    "Lines kept; a run of more is still followed, but its early lines are gone from timelines."

    def __init__(self) -> None:
        self.records: list[JobRecord] = []
        self.entries: list[Entry] = []
        self.ticks: list[Tick] = []
        self._current: dict[tuple[str, str], JobRecord] = {}
        self._unannounced: dict[tuple[str, str], list[JobRecord]] = {}
        "Jobs that were taken before whoever enqueued them knew that they were."

    def __iter__(self) -> Iterator[JobRecord]:
        return iter(self.records)

    def find(self, queue: str, key: str) -> JobRecord | None:
        """The latest life of a key."""
        return self._current.get((queue, key))

    def note(self, at_ms: int, moment: str, details: Mapping[str, Any]) -> None:
        """Take in a named step."""
        queue, key = str(details.get("queue", "")), str(details.get("key", ""))
        self.add(at_ms, moment, key, queue, details)
        if moment == "enqueued":
            self._enqueued(at_ms, queue, key, details)
        elif moment == "ticked":
            self._ticked(at_ms, queue, key, details)
        elif record := self._life_of(queue, key, moment, at_ms, details):
            handler = getattr(self, f"_{moment.replace(' ', '_')}", None)
            if handler is not None:
                handler(record, at_ms, details)

    def add(
        self, at_ms: int, moment: str, key: str, queue: str, details: Mapping[str, Any]
    ) -> None:
        """One more line, of which nothing follows."""
        if len(self.entries) < self.MAX_ENTRIES:
            self.entries.append(Entry(at_ms, moment, key, queue, details))

    def _life_of(
        self, queue: str, key: str, moment: str, at_ms: int, details: Mapping[str, Any]
    ) -> JobRecord | None:
        """The record that a moment belongs to.

        A job may be claimed, and even end, before whoever enqueued it has heard that it was: then its
        record begins here, and is completed when he has.
        """
        record = self.find(queue, key)
        if moment not in BEGINNINGS or (record is not None and not record.over):
            return record
        record = JobRecord(key, queue, details.get("function", "?"), {}, at_ms, at_ms)
        self.records.append(record)
        self._current[queue, key] = record
        self._unannounced.setdefault((queue, key), []).append(record)
        return record

    def _enqueued(self, at_ms: int, queue: str, key: str, details: Mapping[str, Any]) -> None:
        early = self._unannounced.get((queue, key))
        if early:
            record = early.pop(0)
            record.kwargs = details.get("kwargs") or {}
            record.options = details.get("options") or {}
            return
        record = JobRecord(
            key=key,
            queue=queue,
            function=details["function"],
            kwargs=details.get("kwargs") or {},
            enqueued_ms=at_ms,
            due_ms=details.get("due_ms") or at_ms,
            options=details.get("options") or {},
        )
        self.records.append(record)
        self._current[queue, key] = record

    def _ticked(self, at_ms: int, queue: str, key: str, details: Mapping[str, Any]) -> None:
        tick = Tick(
            details["schedule"],
            details["tick_ms"],
            at_ms,
            details["function"],
            details["verdict"],
            key,
        )
        self.ticks.append(tick)
        if tick.verdict == "enqueued":
            self._enqueued(at_ms, queue, key, details)
            self._current[queue, key].schedule = tick.schedule

    def _claimed(self, record: JobRecord, at_ms: int, details: Mapping[str, Any]) -> None:
        record.status = Status.ACTIVE
        record.attempts.append(Attempt(details["attempt"], details["worker"], at_ms))

    def _started(self, record: JobRecord, at_ms: int, details: Mapping[str, Any]) -> None:
        for attempt in record.attempts:
            if attempt.number == details["attempt"]:
                attempt.started_ms = at_ms

    def _committed(self, record: JobRecord, at_ms: int, details: Mapping[str, Any]) -> None:
        event = Event(details["event"])
        for attempt in record.attempts:
            if attempt.number == details["attempt"]:
                attempt.ended_ms, attempt.outcome = at_ms, event
                attempt.error = details.get("error", "")
                attempt.exception = details.get("exception", "")
                attempt.delay_ms = details.get("delay_ms", 0)
        if event not in _AFTER:  # lost: whoever recovers the job tells where it goes
            return
        record.status = _AFTER[event]
        record.due_ms = at_ms + details.get("delay_ms", 0)
        if event in (Event.FAILED, Event.RETRIED, Event.ABORTED):
            record.error = details.get("error", "")
        if record.finished:
            record.result = details.get("result")
            record.finished_ms = at_ms

    def _lost(self, record: JobRecord, at_ms: int, details: Mapping[str, Any]) -> None:
        record.status = Status(details["target"])
        record.due_ms = at_ms + details["delay_ms"]
        if record.last is not None and record.last.outcome is None:
            record.last.ended_ms, record.last.outcome = at_ms, Event.LOST
            record.last.delay_ms = details["delay_ms"]
        if record.finished:
            record.finished_ms = at_ms

    def _aborted(self, record: JobRecord, at_ms: int, details: Mapping[str, Any]) -> None:
        record.status = Status.ABORTED
        record.finished_ms = at_ms
        record.error = details.get("reason", "")

    def _abort_requested(self, record: JobRecord, at_ms: int, details: Mapping[str, Any]) -> None:
        del at_ms, details
        record.status = Status.ABORTING

    def found(
        self, record: JobRecord, at_ms: int, status: Status, result: Any, error: str | None
    ) -> None:
        """A job has ended, and whoever ended it could not tell any more."""
        record.status, record.result, record.error = status, result, error
        record.finished_ms = at_ms
        if record.last is not None and record.last.outcome in (None, Event.LOST):
            record.last.ended_ms, record.last.outcome = at_ms, _BY_STATUS[status]
            record.last.error = error or ""

    def lose(self, record: JobRecord, at_ms: int) -> None:
        """The server does not have it any more."""
        record.lost = True
        # Whoever has yet to hear that it was enqueued does so again, and that is another life.
        early = self._unannounced.get((record.queue, record.key), [])
        if record in early:
            early.remove(record)
        self.add(at_ms, "lost with the server's data", record.key, record.queue, {})

    def bring_back(self, record: JobRecord, at_ms: int, status: Status) -> JobRecord:
        """The server does not know any more that it has ended: that is another life of it."""
        again = JobRecord(
            key=record.key,
            queue=record.queue,
            function=record.function,
            kwargs=record.kwargs,
            enqueued_ms=at_ms,
            due_ms=min(at_ms, record.due_ms),
            options=record.options,
            status=status,
            schedule=record.schedule,
        )
        self.records.append(again)
        self._current[record.queue, record.key] = again
        self.add(at_ms, f"{status.value} again, by the server's data", record.key, record.queue, {})
        return again

    def _updated(self, record: JobRecord, at_ms: int, details: Mapping[str, Any]) -> None:
        record.updates.append((at_ms, details["progress"]))

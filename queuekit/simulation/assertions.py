"""Assertions on the jobs of a simulation. Each shows what was found instead, nearest match first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

from queuekit.job import Job, Status
from queuekit.options import function_name
from queuekit.simulation import diagnosis
from queuekit.simulation.clock import epoch_ns
from queuekit.simulation.errors import JobsFailed, SimulationError
from queuekit.simulation.journal import JobRecord
from queuekit.text import gist

if TYPE_CHECKING:
    from queuekit.simulation.world import Simulation


class _Word:
    """A value that stands for itself."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


ANY: Any = _Word("ANY")
"Whatever it is: `simulation.assert_enqueued('mail', to=ANY)`."

_MISSING: Any = _Word("(missing)")

_NO_RECORD: Any = None
"What `assert_enqueued(count=0)` has to return."

Named = str | Callable[..., Any]


class Assertions:
    """The part of a `Simulation` that states what must have happened.

    A value that is asked for may be a predicate: `order=lambda n: n > 40`.
    """

    def all_enqueued(
        self, function: Named | None = None, *, queue: str | None = None, **arguments: Any
    ) -> list[JobRecord]:
        """The jobs that will run or are running, no finished or lost ones, in the order of their enqueue."""
        return [
            record
            for record in self._simulation.journal
            if not record.over
            and (function is None or _is_called(record, function))
            and (queue is None or record.queue == queue)
            and not _differences(record.kwargs, arguments)
        ]

    def assert_enqueued(
        self,
        function: Named | None = None,
        *,
        count: int | None = None,
        key: str | None = None,
        queue: str | None = None,
        scheduled_in: float | timedelta | None = None,
        scheduled_at: datetime | float | str | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> JobRecord:
        """There is a job that will run or is running, of this task and with these arguments.

        Args:
            function: its task, or the task's name.
            count: exactly so many; without it one or more, and the first is returned.
            key, queue: of that key, in that queue.
            scheduled_in: due in exactly so many seconds from now.
            scheduled_at: due at exactly this moment.
            kwargs, arguments: what its arguments must contain; others may be there.

        Returns:
            The job, as the journal knows it.
        """
        wanted = {**(kwargs or {}), **arguments}
        due_ms = self._due_ms(scheduled_in, scheduled_at)
        found = [
            record
            for record in self.all_enqueued(function, queue=queue, **wanted)
            if (key is None or record.key == key) and (due_ms is None or record.due_ms == due_ms)
        ]
        if (count is None and found) or (count is not None and len(found) == count):
            return found[0] if found else _NO_RECORD
        expected = _sentence(function, wanted, key=key, queue=queue, due=self._moment(due_ms))
        number = "a job" if count is None else f"{count} job(s)"
        raise AssertionError(
            f"expected {number} to be enqueued: {expected}\n"
            f"found {len(found)}."
            f"{self._candidates(function, wanted)}{self._where()}"
        )

    def refute_enqueued(
        self, function: Named | None = None, *, queue: str | None = None, **arguments: Any
    ) -> None:
        """There is no job that will run or is running, of this task and with these arguments."""
        found = self.all_enqueued(function, queue=queue, **arguments)
        if found:
            lines = "\n".join(f"  {self._line(record)}" for record in found[:10])
            raise AssertionError(
                f"expected no job to be enqueued: {_sentence(function, arguments, queue=queue)}\n"
                f"found {len(found)}:\n{lines}{self._where()}"
            )

    def assert_completed(
        self,
        job: Job | JobRecord | str,
        *,
        result: Any = ANY,
        attempts: int | None = None,
    ) -> JobRecord:
        """The job is complete, with this result, after so many attempts."""
        record = self._record(job)
        self._expect(
            record,
            f"to be complete{'' if result is ANY else f' with result {result!r}'}",
            record.status is Status.COMPLETE
            and _matches(record.result, result)
            and attempts in (None, len(record.attempts)),
            attempts,
        )
        return record

    def assert_failed(
        self,
        job: Job | JobRecord | str,
        *,
        error: str | type[BaseException] | None = None,
        attempts: int | None = None,
    ) -> JobRecord:
        """The job has failed for good.

        Args:
            error: a class: the last attempt raised exactly that; text: its traceback contains it.
            attempts: after so many attempts.
        """
        record = self._record(job)
        wanted = (
            "" if error is None else f" with {error if isinstance(error, str) else error.__name__}"
        )
        self._expect(
            record,
            f"to have failed{wanted}",
            record.status is Status.FAILED
            and _has_error(record, error)
            and attempts in (None, len(record.attempts)),
            attempts,
        )
        return record

    def assert_retried(
        self,
        job: Job | JobRecord | str,
        *,
        times: int | None = None,
        delays: Sequence[float] | None = None,
    ) -> JobRecord:
        """The job was run again after failures.

        Args:
            times: so often (without `times` and `delays`: at least once).
            delays: after exactly these pauses, in seconds.
        """
        record = self._record(job)
        found = [delay / 1000 for delay in record.retry_delays_ms]
        ok = bool(found) if times is None and delays is None else True
        ok = ok and times in (None, len(found))
        ok = ok and (delays is None or found == [float(delay) for delay in delays])
        wanted = f" with delays {_seconds(delays)}" if delays is not None else ""
        wanted = f" {times} time(s){wanted}" if times is not None else wanted
        self._expect(
            record,
            f"to have been retried{wanted}",
            ok,
            None,
            f"its retries came after {_seconds(found)}",
        )
        return record

    def assert_timed_out(
        self, job: Job | JobRecord | str, *, attempt: int | None = None
    ) -> JobRecord:
        """An attempt of the job (any, or the one of that number) ran into its timeout."""
        record = self._record(job)
        hit = [run.number for run in record.attempts if run.exception == "TaskTimeoutError"]
        which = "an attempt" if attempt is None else f"attempt {attempt}"
        self._expect(
            record,
            f"to have timed out in {which}",
            bool(hit) if attempt is None else attempt in hit,
            None,
            f"attempts that timed out: {hit or 'none'}",
        )
        return record

    def assert_aborted(self, job: Job | JobRecord | str, *, error: str | None = None) -> JobRecord:
        """The job was aborted, for a reason that contains `error`."""
        record = self._record(job)
        self._expect(
            record,
            f"to be aborted{'' if error is None else f' with {error!r}'}",
            record.status is Status.ABORTED and (error is None or error in (record.error or "")),
        )
        return record

    def assert_cron_ran(
        self,
        function: Named,
        *,
        times: int | None = None,
        at: Sequence[datetime | str | float] | None = None,
    ) -> list[JobRecord]:
        """Jobs of this task that cron enqueued have completed.

        Args:
            times: exactly so many (without `times` and `at`: at least one).
            at: exactly those of these ticks.
        """
        ran = [
            record
            for record in self._simulation.journal
            if record.schedule is not None
            and _is_called(record, function)
            and record.status is Status.COMPLETE
        ]
        ticks = [int(record.key.rpartition(":")[2]) for record in ran]
        wanted = [epoch_ns(moment) // 1_000_000 for moment in at or ()]
        ok = bool(ran) if times is None and at is None else times in (None, len(ran))
        if ok and (at is None or ticks == wanted):
            return ran
        expected = f"{times} time(s)" if times is not None else "at least once"
        if at is not None:
            expected = "at " + ", ".join(self._moment(moment) or "" for moment in wanted)
        found = "\n".join(f"  {self._moment(tick)}" for tick in ticks[:20]) or "  (never)"
        handled = [
            tick for tick in self._simulation.journal.ticks if _same_name(tick.function, function)
        ]
        skipped = sum(tick.verdict == "overlap" for tick in handled)
        raise AssertionError(
            f"expected cron to have run {_name(function)} {expected}.\n"
            f"it completed {len(ran)} time(s), of {len(handled)} tick(s), {skipped} skipped:\n"
            f"{found}{self._where()}"
        )

    # -- how a failure reads

    @property
    def _simulation(self) -> Simulation:
        return cast("Simulation", self)

    def _record(self, job: Job | JobRecord | str) -> JobRecord:
        if isinstance(job, JobRecord):
            return job
        if job is None:
            raise AssertionError(
                "there is no job to look at: None was given.\n"
                "  enqueue() returns None when an unfinished job has the same key."
            )
        return self._simulation.record_of(job)

    def _expect(
        self,
        record: JobRecord,
        what: str,
        holds: bool,
        attempts: int | None = None,
        found: str = "",
    ) -> None:
        __tracebackhide__ = True  # pytest shows the test's own line
        if holds:
            return
        if attempts is not None:
            what += f" after {attempts} attempt(s)"
        found = f"\n  {found}." if found else ""
        error = AssertionError(
            f"expected job {record.key!r} ({record.function}) {what}.\n"
            f"found: {self._line(record)}{found}\n"
            f"{diagnosis.why_not_finished(self._simulation, record)}"
            f"its last events:\n{diagnosis.timeline(self._simulation, record)}{self._where()}"
        )
        error.record = record  # type: ignore[attr-defined]  # for whoever asks why that job is so
        raise error

    def _line(self, record: JobRecord) -> str:
        text = f"{record.key!r} {record.function}({_shown(record.kwargs)}) is {record.status.value}"
        if not record.finished and not record.attempts and record.due_ms > record.enqueued_ms:
            text += f", due {self._moment(record.due_ms)}"
        text += f" after {len(record.attempts)} attempt(s)"
        if record.status is Status.COMPLETE:
            text += f", result {record.result!r}"
        if record.error:
            text += f", error {gist(record.error)}"
        return text

    def _candidates(self, function: Named | None, wanted: Mapping[str, Any]) -> str:
        """Jobs that nearly match, nearest first, with what differs."""
        scored = []
        for index, record in enumerate(self._simulation.journal):
            differing = _differences(record.kwargs, wanted)
            other = function is not None and not _is_called(record, function)
            scored.append((other, len(differing), record.finished, index, record, differing))
        if not scored:
            return "\nno job was enqueued in this simulation."
        scored.sort(key=lambda entry: entry[:4])
        lines = []
        for other, _, _, _, record, differing in scored[:5]:
            marks = ["another task"] if other else []
            marks += [f"{name}: {value!r}" for name, value in differing.items()]
            marks += [f"finished: {record.status.value}"] if record.finished else []
            lines.append(f"  {self._line(record)}" + (f"   <- {'; '.join(marks)}" if marks else ""))
        return "\nnearest:\n" + "\n".join(lines)

    def _due_ms(
        self,
        scheduled_in: float | timedelta | None,
        scheduled_at: datetime | float | str | None,
    ) -> int | None:
        if scheduled_in is not None and scheduled_at is not None:
            raise SimulationError("give scheduled_in or scheduled_at, not both.")
        if scheduled_at is not None:
            return epoch_ns(scheduled_at) // 1_000_000
        if scheduled_in is None:
            return None
        if isinstance(scheduled_in, timedelta):
            scheduled_in = scheduled_in.total_seconds()
        return self._simulation.clock.time_ns() // 1_000_000 + round(scheduled_in * 1000)

    def _moment(self, epoch_ms: int | None) -> str | None:
        return None if epoch_ms is None else diagnosis.moment(epoch_ms)

    def _where(self) -> str:
        simulation = self._simulation
        return f"\nit is {simulation.now.isoformat()} in {simulation!r}"

    def _raise_failure(self, ended: list[JobRecord]) -> None:
        failed = [record for record in ended if record.status is Status.FAILED]
        if failed:
            first = failed[0]
            raise JobsFailed(
                f"{len(failed)} job(s) failed; the first is {self._line(first)}\n{first.error}\n"
                "  drain(raise_on_failure=False) goes on and counts.",
                first.queue,
                first.key,
            )


def _is_called(record: JobRecord, function: Named) -> bool:
    return _same_name(record.function, function)


def _same_name(name: str, function: Named) -> bool:
    if isinstance(function, str):
        return name == function or name.endswith(f".{function}")
    short = function_name(function)
    return name in (short, f"{getattr(function, '__module__', '')}.{short}")


def _name(function: Named | None) -> str:
    if function is None:
        return "(any task)"
    return function if isinstance(function, str) else function_name(function)


def _matches(value: Any, wanted: Any) -> bool:
    if wanted is ANY:
        return True
    if callable(wanted) and not isinstance(wanted, type):
        return bool(wanted(value))
    return bool(value == wanted)


def _differences(kwargs: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: kwargs.get(name, _MISSING)
        for name, value in wanted.items()
        if name not in kwargs or not _matches(kwargs[name], value)
    }


def _has_error(record: JobRecord, error: str | type[BaseException] | None) -> bool:
    if error is None:
        return True
    if isinstance(error, str):
        return error in (record.error or "")
    return record.last is not None and record.last.exception == error.__name__


def _sentence(function: Named | None, arguments: Mapping[str, Any], **others: Any) -> str:
    text = f"{_name(function)}({_shown(arguments)})"
    for name, value in others.items():
        if value is not None:
            text += f", {name} {value}"
    return text


def _shown(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())


def _seconds(delays: Sequence[float] | None) -> str:
    return "[" + ", ".join(f"{delay:g}" for delay in delays or ()) + "]"


__all__ = ["ANY", "Assertions"]

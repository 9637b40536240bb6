"""Why nothing happens, in words; and what happened to one job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from queuekit.job import Status
from queuekit.text import gist

if TYPE_CHECKING:
    from queuekit.simulation.journal import Entry, JobRecord
    from queuekit.simulation.world import Simulation

PASSING = frozenset({"ended", "committing"})
"Moments on the way to another one that tells more."

SHOWN_EVENTS = 20
"Of a job's events, the last so many."


def moment(epoch_ms: int) -> str:
    """A moment of the wall clock as text."""
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=epoch_ms)
    text = when.strftime("%Y-%m-%d %H:%M:%S")
    return f"{text}.{epoch_ms % 1000:03d}" if epoch_ms % 1000 else text


def idle(simulation: Simulation) -> str:
    """What is unfinished, and for each why it does not run."""
    unfinished = [record for record in simulation.journal if not record.finished]
    if not unfinished:
        return "  Every job that was enqueued is finished."
    lines = [f"  {len(unfinished)} job(s) unfinished:"]
    for record in unfinished[:10]:
        lines.append(f"    {record.key!r} {record.function}: {reason(simulation, record)}")
    return "\n".join(lines)


def why_not_finished(simulation: Simulation, record: JobRecord) -> str:
    """One line for a job that could have been expected to be finished, or nothing."""
    if record.finished:
        return ""
    return f"why not yet: {reason(simulation, record)}.\n"


def reason(simulation: Simulation, record: JobRecord) -> str:
    """Why a job is not finished."""
    now_ms = simulation.clock.time_ns() // 1_000_000
    if record.lost:
        return "lost with the server's data: nobody can run it, unless it is enqueued again"
    if record.status in (Status.ACTIVE, Status.ABORTING):
        worker = record.last.worker if record.last else "?"
        return f"{record.status.value} in worker {worker}, attempt {len(record.attempts)}"
    if record.due_ms > now_ms:
        wait = (record.due_ms - now_ms) / 1000
        return f"due {moment(record.due_ms)}, in {_span(wait)}: advance({wait:g})"
    running = [handle.worker for handle in simulation.workers() if handle.running]
    here = [worker for worker in running if worker.queue.name == record.queue]
    if not here:
        return f"no worker runs for queue {record.queue!r}: simulation.worker(functions=[...])"
    if not any(record.function in worker.functions for worker in here):
        known = sorted({name for worker in here for name in worker.names})
        return f"no worker has a function of that name; they have {', '.join(known) or 'none'}"
    return "it could start now: await simulation.run_until_idle() lets it, or all slots are taken"


def timeline(simulation: Simulation, record: JobRecord) -> str:
    """The last events of a job, a line each."""
    events = [
        entry
        for entry in simulation.journal.entries
        if entry.key == record.key and entry.queue == record.queue and entry.moment not in PASSING
    ]
    lines = [f"  {describe(entry)}" for entry in events[-SHOWN_EVENTS:]]
    if len(events) > SHOWN_EVENTS:
        lines.insert(0, f"  ... {len(events) - SHOWN_EVENTS} earlier")
    return "\n".join(lines) or "  (none)"


def describe(entry: Entry) -> str:
    """An event of the journal in one line."""
    details = entry.details
    words = entry.moment
    if entry.moment == "claimed":
        words = f"claimed by {details['worker']}, attempt {details['attempt']}"
    elif entry.moment == "committed":
        words = str(details["event"])
        if details.get("delay_ms"):
            words += f", again in {_span(details['delay_ms'] / 1000)}"
        if details.get("error"):
            words += f": {gist(str(details['error']))}"
    elif entry.moment == "updated":
        words = f"updated, progress {details['progress']:g}"
    elif entry.moment == "lost":
        words = f"lost by its worker, {details['target']} now"
    return f"{moment(entry.at_ms)}  {words}"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:g} s"
    minutes = seconds / 60
    return f"{minutes:g} min" if minutes < 120 else f"{minutes / 60:g} h"

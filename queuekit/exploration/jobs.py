"""The jobs of a run: which have still to end, and how often a task was entered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from queuekit.errors import TaskArgumentsError

if TYPE_CHECKING:
    from queuekit.exploration.checkers import Watch
    from queuekit.simulation.process import Process
    from queuekit.simulation.world import Simulation


def unfinished(simulation: Simulation, watch: Watch, end_ms: int) -> list[str]:
    """Jobs that have not ended, in queues that have a worker, and which are due before the limit."""
    workers = simulation.workers()
    served = {each.worker.queue.name for each in workers if each.running or not each.alive}
    served |= {
        ledger.name
        for ledger in watch.ledgers()
        if any(_works(simulation, process) for process in ledger.present.values())
    }
    return [
        life.key
        for ledger in watch.ledgers()
        if not ledger.tampered and ledger.name in served
        for life in ledger.lives.values()
        if not life.over and life.due_ms <= end_ms
    ]


def foreign(simulation: Simulation, checkers: Sequence[object]) -> list[str]:
    """Jobs of other queues that have not ended, if their checkers can tell."""
    found: list[str] = []
    for checker in checkers:
        unfinished = getattr(checker, "unfinished", None)
        if unfinished is not None:
            found += unfinished(simulation)
    return found


def runs_of_jobs(simulation: Simulation, checkers: Sequence[object]) -> tuple[int, str]:
    """How often a task was entered, and why one was not."""
    count, why = 0, ""
    for record in simulation.journal:
        for attempt in record.attempts:
            if attempt.started_ms is not None and attempt.exception != TaskArgumentsError.__name__:
                count += 1
            elif attempt.error:
                # The first part of a message, which may stand behind a traceback.
                told = [line for line in attempt.error.splitlines() if line and line[0] != " "]
                why = why or f"job {record.key!r} ({record.function}): {told[-1] if told else ''}"
    for checker in checkers:
        runs = getattr(checker, "runs", None)
        count += runs(simulation) if runs is not None else 0
    return count, why


def _works(simulation: Simulation, process: Process | None) -> bool:
    """Whether a worker that was started by hand is there, or will be again when all is healed."""
    if process is None:
        return True
    handles = [each for each in simulation.processes() if each.name == process.name]
    if process.alive:
        handle = next((each for each in handles if each.process is process), None)
        return handle is None or handle.running or not handle.has_main
    # It may have begun anew, and have had no answer yet.
    return any(each.restarts and (each.running or not each.alive) for each in handles)

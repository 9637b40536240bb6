"""What became of each attempt of a job, as its record tells.

An attempt that did not end the job has a line in its log, written by the move that ended the attempt.
The last one can be told from the job's state, so it is not written down twice.
"""

from __future__ import annotations

from dataclasses import dataclass

from queuekit.job import Job, Status
from queuekit.text import clip, gist

MAX_ATTEMPTS = 20
"Of a job's history: the last ones. commit.lua keeps no more."

MAX_NOTE_CHARACTERS = 200
"Of the error's line in it; the whole traceback of the last failure is `job.error`."

_OUTCOMES = {
    Status.COMPLETE: "completed",
    Status.FAILED: "failed",
    Status.ABORTED: "aborted",
    Status.ABORTING: "aborting",
    Status.ACTIVE: "running",
}


@dataclass(frozen=True)
class Attempt:
    """One run of a job. Times are milliseconds since the epoch, by the server's clock."""

    number: int
    "1 for the first."
    started: int
    ended: int | None
    "None: it still runs, or its worker died and nobody has noticed yet."
    worker: str
    outcome: str
    "completed, failed, retried, lost, released, aborted; running or aborting while it has not ended."
    error: str = ""
    "The first line of what went wrong."


def note_of(error: str) -> str:
    """An error in one line that fits into a log of lines and tabs."""
    line = clip(gist(error), MAX_NOTE_CHARACTERS)
    return "".join(character if character.isprintable() else " " for character in line)


def attempts_of(job: Job, log: str, worker: str) -> list[Attempt]:
    """The attempts of a job, oldest first: those in its log, and the one that its state tells of."""
    attempts = [attempt for line in log.split("\n") if (attempt := _logged(line))]
    if job.started and job.attempts:
        outcome = _OUTCOMES.get(job.status, "running")
        if job.status is Status.FAILED and job.losses > job.max_lost:
            outcome = "lost"
        # A success keeps the error of the failure before it, which was another attempt's.
        failed = job.status not in (Status.ACTIVE, Status.COMPLETE)
        error = note_of(job.error) if job.error and failed else ""
        ended = job.completed or None
        attempts.append(Attempt(job.attempts, job.started, ended, worker, outcome, error))
    return attempts[-MAX_ATTEMPTS:]


def _logged(line: str) -> Attempt | None:
    """The attempt that a line tells of; None for a line that is not queuekit's."""
    try:
        number, started, ended, outcome, worker, note = line.split("\t", 5)
        return Attempt(int(number), int(started or 0), int(ended), worker, outcome, note)
    except ValueError:
        return None

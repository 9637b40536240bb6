"""What really happened: each run of a task writes when it begins and ends, where no fault reaches.

A line is one write of some hundred bytes to a file that is open for appending: it is whole or not
there, and a process that is killed right after it takes nothing of it along.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

wall_time = time.time
"The machine's own clock, before a worker program shifts `time.time`."


class Evidence:
    """The writing side, in a worker process."""

    def __init__(self, path: Path, worker: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._worker = worker
        self._runs = 0

    @contextlib.contextmanager
    def run(self, job: Any) -> Iterator[str]:
        """Around a task's body; what it yields is the run's name, and the task's result."""
        self._runs += 1
        name = f"{self._worker}.{self._runs}"
        self._write("begin", job, name)
        try:
            yield name
        except BaseException as error:
            self._write("raised" if isinstance(error, Exception) else "cancelled", job, name)
            raise
        self._write("end", job, name)

    def _write(self, event: str, job: Any, name: str) -> None:
        words = (
            event,
            job.key,
            name,
            self._worker,
            os.getpid(),
            job.attempts,
            # A queue that does not count them has none to show.
            getattr(job, "losses", 0),
            job.queued,
            job.started,
            time.monotonic_ns() // 1_000_000,
            round(wall_time() * 1000),
        )
        os.write(self._file, (" ".join(map(str, words)) + "\n").encode())


@dataclass
class Run:
    """One run of a task, as its lines tell."""

    key: str
    name: str
    worker: str
    attempt: int
    losses: int
    "How often the job had been lost when this run was claimed."
    queued_ms: int
    "When the job was enqueued: a second enqueue of its key is a life of its own."
    claimed_ms: int
    "By the clock of the queue: the server's, or a worker's if the queue takes that one."
    began_ms: int
    "On the machine's monotonic clock."
    began_wall_ms: int
    "On the machine's wall clock, which is its server's too."
    outcome: str = ""
    "end, raised, cancelled, or nothing: its process was killed."
    ended_ms: int = 0


class Reader:
    """The reading side, in the battery."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()
        self._offset = 0
        self._rest = b""
        self.runs: dict[str, Run] = {}
        self.by_key: dict[str, list[Run]] = {}
        self.ended: dict[str, None] = {}
        "Keys of which a run has come to its end, in that order."
        self.open: dict[str, dict[str, None]] = {}
        "Of each worker, the runs that have begun and not ended."

    def read(self) -> None:
        """Take in what was written since the last time."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line.decode().split())

    def _take(self, words: list[str]) -> None:
        event, key, name, worker = words[:4]
        attempt, losses, queued, claimed, moment, wall = map(int, words[5:11])
        if event == "begin":
            run = Run(key, name, worker, attempt, losses, queued, claimed, moment, wall)
            self.runs[name] = run
            self.by_key.setdefault(key, []).append(run)
            self.open.setdefault(worker, {})[name] = None
            return
        self.runs[name].outcome, self.runs[name].ended_ms = event, moment
        self.open[worker].pop(name, None)
        if event == "end":
            self.ended[key] = None

"""SAQ in a simulation: its jobs, read beside its workers, and what must hold of them.

    queue = saq.SaqQueue()
    exploration = explore(story, checkers=[queue])

The story uses SAQ as it comes; nothing of it is imported here. What it keeps of a job, a JSON text at the key
`saq:job:<queue>:<key>`, is read on its way and, from beside, in Redis.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from queuekit.foreign.following import Following, name_of
from queuekit.foreign.hearing import Executed
from queuekit.foreign.jobs import ForeignJob

if TYPE_CHECKING:
    from queuekit.simulation.process import Process
    from queuekit.simulation.world import Simulation

TERMINAL = frozenset({"complete", "failed", "aborted"})
"Statuses of SAQ's that end a job."

SCRIPTS = frozenset({b"EVALSHA", b"EVAL"})

WRITES = {b"SET": 2, b"SETEX": 3}
"Commands by which SAQ writes a record, and where in them it stands."


@dataclass
class _Run:
    """A run of a job, from the write that says so to the next word of whoever runs it."""

    process: str
    attempt: int
    began_s: float


@dataclass
class _Life:
    """What was written of a job."""

    status: str = "new"
    result: Any = None
    ended_by: str = ""
    runs: list[_Run] = field(default_factory=list)
    "Those that nobody has ended yet."
    count: int = 0


class SaqQueue(Following):
    """A queue of SAQ's in a simulation: to be asked for its jobs, and a checker for `explore`.

    It finds a job that never ends, though all misfortune is over (P1); one that runs twice at once, in
    processes that are both alive (P2); and one whose end is changed (P3).

    Args:
        name: of the queue.
        database: its number.
        load: the inverse of the queue's own `dump`.
    """

    def __init__(
        self,
        name: str = "default",
        *,
        database: int = 0,
        load: Callable[[bytes | str], Any] = json.loads,
    ) -> None:
        super().__init__(name)
        self._prefix = f"saq:job:{name}:".encode()
        self._database = database
        self._load = load
        self._lives: dict[str, _Life] = {}

    # -- asking

    def jobs(self, simulation: Simulation) -> dict[str, ForeignJob]:
        """All jobs that Redis holds now, by key; from beside, so that nothing of it is in the trace."""
        network = simulation.loop.network
        assert network is not None
        found = {}
        for place in sorted(network.look(b"KEYS", self._prefix + b"*", database=self._database)):
            record = network.look(b"GET", place, database=self._database)
            if record is not None:
                job = self._job(self._key(place), record)
                found[job.key] = job
        return found

    def _job(self, key: str, record: bytes | str) -> ForeignJob:
        told = self._load(record)
        return ForeignJob(
            key=key,
            function=told["function"],
            status=told.get("status", "new"),
            kwargs=told.get("kwargs") or {},
            attempts=told.get("attempts", 0),
            result=told.get("result"),
            error=told.get("error"),
            queued=told.get("queued", 0),
            started=told.get("started", 0),
            completed=told.get("completed", 0),
            worker=told.get("worker_id") or "",
        )

    # -- checking

    def forget(self) -> None:
        self._lives = {}

    def unfinished(self, simulation: Simulation) -> list[str]:
        """Jobs that were enqueued and have not ended."""
        del simulation
        return [key for key, life in self._lives.items() if life.status not in TERMINAL]

    def runs(self, simulation: Simulation) -> int:
        """How many runs have begun."""
        del simulation
        return sum(life.count for life in self._lives.values())

    def heard(self, process: Process | None, done: list[Executed]) -> None:
        for words, reply in done:
            name = words[0].upper()
            if name in WRITES and words[1].startswith(self._prefix):
                self._written(name_of(process), self._key(words[1]), words[WRITES[name]])
            elif name in SCRIPTS and reply and any(word.startswith(b"{") for word in words):
                for word in words:  # its enqueue, which is a script
                    if word.startswith(self._prefix):
                        self._lives.setdefault(self._key(word), _Life()).status = "queued"

    def _key(self, place: bytes) -> str:
        return place.removeprefix(self._prefix).decode()

    def _written(self, process: str, key: str, record: bytes) -> None:
        job = self._job(key, record)
        life = self._lives.setdefault(key, _Life())
        if life.status in TERMINAL and (job.status, job.result) != (life.status, life.result):
            self.breaks(
                "P3",
                key,
                f"it was {life.status} by {life.ended_by}, and {process} makes it {job.status}",
            )
        if job.status == "active":
            self._runs(life, process, key, job)
        else:
            life.runs = [run for run in life.runs if run.process != process]
        if job.status in TERMINAL:
            life.ended_by = process
        if job.status != life.status:
            self.tell(key, f"{job.status} (attempt {job.attempts}), says {process}")
        life.status, life.result = job.status, job.result

    def _runs(self, life: _Life, process: str, key: str, job: ForeignJob) -> None:
        """Somebody says that he runs it. A second word of the same run is a heartbeat."""
        if any((run.process, run.attempt) == (process, job.attempts) for run in life.runs):
            return
        others = [run for run in life.runs if self.goes_on(run.process)]
        if others:
            first = others[0]
            self.breaks(
                "P2",
                key,
                f"it runs twice at once: {first.process} runs it since {first.began_s:g} s "
                f"(attempt {first.attempt}), and {process} begins (attempt {job.attempts})",
            )
        life.runs.append(_Run(process, job.attempts, self.elapsed_s()))
        life.count += 1

"""arq in a simulation: its jobs, read beside its workers, and what must hold of them.

    queue = arq.ArqQueue()
    exploration = explore(story, checkers=[queue])

The story uses arq as it comes; nothing of it is imported here. What it keeps of a job is spread over keys
(`arq:job:<id>`, `arq:in-progress:<id>`, `arq:retry:<id>`, `arq:result:<id>`) and the sorted set of its queue.
Records are pickles by default. They are read as data: see `pickled.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from queuekit.foreign import pickled
from queuekit.foreign.following import Following, name_of
from queuekit.foreign.hearing import Executed
from queuekit.foreign.jobs import ForeignJob

if TYPE_CHECKING:
    from queuekit.simulation.process import Process
    from queuekit.simulation.world import Simulation

JOB, IN_PROGRESS, RETRY, RESULT = b"arq:job:", b"arq:in-progress:", b"arq:retry:", b"arq:result:"
"How arq's keys begin; the id of the job follows."

BEYOND_TIMEOUT_MS = 10_000
"arq keeps a job in progress for so much longer than it lets any function run."


@dataclass
class _Run:
    """A run of a job: from where a worker counts it to where that worker lets go of it."""

    process: str
    attempt: int
    began_s: float
    ends_ms: int
    "When arq itself has ended it, whatever else happens: its time-out."


@dataclass
class _Life:
    """What was done with a job."""

    outcome: str = ""
    "In words, when it has ended."
    ended_by: str = ""
    held_ms: int = 0
    "For how long its latest claim is kept."
    runs: list[_Run] = field(default_factory=list)
    "Those that nobody has ended yet."
    count: int = 0


class ArqQueue(Following):
    """A queue of arq's in a simulation: to be asked for its jobs, and a checker for `explore`.

    It finds a job that never ends, though all misfortune is over (P1); one that runs twice at once, in
    processes that are both alive (P2); and one whose end is changed, or which is queued again behind
    it (P3).

    Args:
        name: of the queue: arq's `queue_name`.
        database: its number.
        load: the application's own `job_deserializer`. By default records are read as pickles, without
            making their objects: what is no plain value is told by its name (`Unread`).
    """

    def __init__(
        self,
        name: str = "arq:queue",
        *,
        database: int = 0,
        load: Callable[[bytes], Any] = pickled.read,
    ) -> None:
        super().__init__(name)
        self._queue = name.encode()
        self._database = database
        self._load = load
        self._lives: dict[str, _Life] = {}

    # -- asking

    def jobs(self, simulation: Simulation) -> dict[str, ForeignJob]:
        """All jobs that Redis holds now, by id; from beside, so that nothing of it is in the trace.

        The status is the one that arq's own `Job.status()` would tell: `deferred`, `queued`, `in_progress`
        or `complete`. Of one that has failed it says `complete`, too; then there is an `error`.
        """
        network = simulation.loop.network
        assert network is not None

        def ask(*command: bytes) -> Any:
            return network.look(*command, database=self._database)

        found: dict[str, ForeignJob] = {}
        for name in sorted(ask(b"ZRANGE", self._queue, b"0", b"-1")):
            if (record := ask(b"GET", JOB + name)) is not None:
                score = float(ask(b"ZSCORE", self._queue, name))
                status = "deferred" if score > simulation.clock.time_ns() / 1e6 else "queued"
                if ask(b"EXISTS", IN_PROGRESS + name):
                    status = "in_progress"
                tries = int(ask(b"GET", RETRY + name) or 0)
                found[name.decode()] = self._waiting(name.decode(), record, status, tries)
        for place in sorted(ask(b"KEYS", RESULT + b"*")):
            told = self._load(ask(b"GET", place))
            if told.get("q", self.name) == self.name:
                key = place.removeprefix(RESULT).decode()
                found[key] = _ended(key, told)
        return found

    def _waiting(self, key: str, record: bytes, status: str, tries: int) -> ForeignJob:
        told = self._load(record)
        return ForeignJob(
            key=key,
            function=told["f"],
            status=status,
            args=tuple(told["a"]),
            kwargs=told["k"],
            attempts=tries,
            queued=told["et"],
        )

    # -- checking

    def forget(self) -> None:
        self._lives = {}

    def unfinished(self, simulation: Simulation) -> list[str]:
        """Jobs that were enqueued and have not ended."""
        del simulation
        return [key for key, life in self._lives.items() if not life.outcome]

    def runs(self, simulation: Simulation) -> int:
        """How many runs have begun."""
        del simulation
        return sum(life.count for life in self._lives.values())

    def heard(self, process: Process | None, done: list[Executed]) -> None:
        commands = [([words[0].upper(), *words[1:]], reply) for words, reply in done]
        queued = [w[3].decode() for w, _ in commands if w[:2] == [b"ZADD", self._queue]]
        for words, reply in commands:
            if words[0] == b"PSETEX" and words[1].startswith(JOB):
                key = words[1].removeprefix(JOB).decode()
                if key in queued:
                    self._lives[key] = _Life()
                    self.tell(key, "queued")
            elif words[0] == b"PSETEX" and words[1].startswith(IN_PROGRESS):
                key = words[1].removeprefix(IN_PROGRESS).decode()
                if key in self._lives:
                    self._lives[key].held_ms = int(words[2])
                    self.tell(key, f"claimed by {name_of(process)}")
            elif words[0] in (b"INCR", b"INCRBY") and words[1].startswith(RETRY):
                key = words[1].removeprefix(RETRY).decode()
                there = any(
                    w == [b"GET", JOB + key.encode()] and r is not None for w, r in commands
                )
                if there and key in self._lives:
                    self._begins(name_of(process), key, int(reply))
            elif words[0] in (b"ZINCRBY", b"ZADD") and words[1] == self._queue:
                self._queued_again(name_of(process), words[3].decode())
            elif words[0] == b"DEL":
                self._let_go(name_of(process), words[1:], [w for w, _ in commands])

    def _begins(self, process: str, key: str, attempt: int) -> None:
        """Somebody has counted a run, and begins it with the reply."""
        life = self._lives[key]
        others = [
            run
            for run in life.runs
            if run.process != process and run.ends_ms > self.now_ms() and self.goes_on(run.process)
        ]
        if others:
            first = others[0]
            self.breaks(
                "P2",
                key,
                f"it runs twice at once: {first.process} runs it since {first.began_s:g} s "
                f"(attempt {first.attempt}), and {process} begins (attempt {attempt})",
            )
        ends_ms = self.now_ms() + life.held_ms - BEYOND_TIMEOUT_MS
        life.runs.append(_Run(process, attempt, self.elapsed_s(), ends_ms))
        life.count += 1
        self.tell(key, f"begun by {process}, attempt {attempt}")

    def _queued_again(self, process: str, key: str) -> None:
        life = self._lives.get(key)
        if life is not None and life.outcome:
            self.breaks(
                "P3",
                key,
                f"it {life.outcome} by {life.ended_by}, and {process} puts it back into the queue",
            )

    def _let_go(self, process: str, keys: list[bytes], commands: list[list[bytes]]) -> None:
        """A worker has ended a run: with the job, or for another one to come."""
        for place in keys:
            if place.startswith(IN_PROGRESS):
                key = place.removeprefix(IN_PROGRESS).decode()
                if (life := self._lives.get(key)) is not None:
                    life.runs = [run for run in life.runs if run.process != process]
        for place in keys:
            key = place.removeprefix(JOB).decode()
            if place.startswith(JOB) and key in self._lives:
                self._ends(process, key, commands)

    def _ends(self, process: str, key: str, commands: list[list[bytes]]) -> None:
        life = self._lives[key]
        record = next((w[2] for w in commands if w[:2] == [b"SET", RESULT + key.encode()]), None)
        outcome = "was ended without a result" if record is None else _words(self._load(record))
        if life.outcome not in ("", outcome):
            self.breaks(
                "P3",
                key,
                f"it {life.outcome} by {life.ended_by}; now it {outcome} by {process}",
            )
        life.runs = [run for run in life.runs if run.process != process]
        life.outcome, life.ended_by = outcome, process
        self.tell(key, f"{outcome} by {process}")


def _words(told: dict[str, Any]) -> str:
    if told["s"]:
        return f"was completed with {told['r']!r}"
    return f"was failed with {told['r']!r}"


def _ended(key: str, told: dict[str, Any]) -> ForeignJob:
    worked = told["s"]
    return ForeignJob(
        key=key,
        function=told["f"],
        status="complete",
        args=tuple(told["a"]),
        kwargs=told["k"],
        attempts=told["t"],
        result=told["r"] if worked else None,
        error=None if worked else repr(told["r"]),
        queued=told["et"],
        started=told["st"],
        completed=told["ft"],
    )

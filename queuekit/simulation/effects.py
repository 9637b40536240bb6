"""Effects: what tasks did to the world outside, counted; and the labels that a run has reached.

effect("charged", order=42)                                        # in the task
simulation.effects("charged", order=42).happened(times=1)          # in the test
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from queuekit.simulation import diagnosis
from queuekit.simulation.errors import SimulationError
from queuekit.simulation.observe import Hold, Moment
from queuekit.simulation.process import PROCESS, Process, is_dead
from queuekit.simulation.scope import STATE
from queuekit.simulation.threads import Wait

if TYPE_CHECKING:
    from queuekit.job import Job
    from queuekit.simulation.loop import SimulatedLoop
    from queuekit.simulation.world import Simulation

RUN: ContextVar[Job | None] = ContextVar("queuekit_run", default=None)
"The job whose task this code is."

MOMENTS = frozenset(
    {
        "enqueued", "ticked", "claimed", "started", "ended", "committing", "committed", "updated",
        "abandoned", "abort requested", "aborted", "lost",
    }
)  # fmt: skip
"The named points in a job's life, which queuekit tells of by itself."

SHOWN_EFFECTS = 20
"In a failure, the last so many."


@dataclass(frozen=True)
class Effect:
    """Something that has happened once."""

    name: str
    details: Mapping[str, object]
    at_ms: int
    "Of the wall clock."
    process: str
    "The id of the process that did it; empty outside of any."
    key: str = ""
    "Of the job whose run did it, with its queue and the run's number."
    queue: str = ""
    attempt: int = 0

    @property
    def named(self) -> str:
        """Name and details, as they were written."""
        return _call(self.name, self.details)

    def __str__(self) -> str:
        by = f" by job {self.key!r}, attempt {self.attempt}" if self.key else ""
        where = f" in {self.process}" if self.process else ""
        return f"{diagnosis.moment(self.at_ms)} {self.named}{by}{where}"


class Effects:
    """All effects of a simulation, in the order in which they happened."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._made: list[Effect] = []

    def record(self, name: str, /, **details: object) -> Awaitable[None]:
        """Something has happened; see `queuekit.effect`, which calls this in a simulation.

        What a process did before it was killed counts; a dead one does nothing.
        """
        if not isinstance(name, str) or not name or name in MOMENTS:
            raise SimulationError(
                f"an effect cannot be called {name!r}.\n"
                "  Its name is a word for what your code has done; queuekit's own moments are "
                f"{', '.join(sorted(MOMENTS))}.\n"
                "  effect('charged', order=42)"
            )
        simulation, process, job = self._simulation, PROCESS.get(), RUN.get()
        passing = _Passing(simulation.loop)
        if is_dead(process):
            return passing
        made = Effect(
            name,
            details,
            simulation.environment.time_ms(),
            process.id if process is not None else "",
            key=job.key if job else "",
            queue=job.queue.name if job and job.queue else "",
            attempt=job.attempts if job else 0,
        )
        self._made.append(made)
        simulation.journal.add(made.at_ms, f"effect {made.named}", made.key, made.queue, details)
        passing.show(Moment(name, {**_told_of(job), **details}))
        return passing

    def __call__(self, name: str, /, **details: object) -> Made:
        """Those of a name, with these details; a detail that is not asked for may be any."""
        return Made(self._simulation, self._made, name, details)

    def __iter__(self) -> Iterator[Effect]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


class Made:
    """The effects that somebody asks after, and what must hold of them."""

    def __init__(
        self,
        simulation: Simulation,
        made: list[Effect],
        name: str,
        details: Mapping[str, object],
    ) -> None:
        self._simulation = simulation
        self._made = made
        self._name = name
        self._details = details

    def __iter__(self) -> Iterator[Effect]:
        wanted = self._details.items()
        for effect in self._made:
            if effect.name == self._name and all(
                key in effect.details and effect.details[key] == value for key, value in wanted
            ):
                yield effect

    @property
    def count(self) -> int:
        """How often it has happened."""
        return sum(1 for _ in self)

    def happened(self, *, times: int = 1) -> None:
        """It has happened so often, neither more nor less.

        Raises:
            AssertionError: it has not; the message tells each time, and of the jobs that did it.
        """
        self._expect(self.count == times, f"exactly {times} time(s)")

    def at_most(self, times: int) -> None:
        """It has happened so often or less; for what may be left out, and not be done again."""
        self._expect(self.count <= times, f"at most {times} time(s)")

    def at_least(self, times: int) -> None:
        """It has happened so often or more; for what may be done again."""
        self._expect(self.count >= times, f"at least {times} time(s)")

    def _expect(self, holds: bool, wanted: str) -> None:
        if not holds:
            raise AssertionError(
                f"expected {self} to have happened {wanted}.\n"
                f"it happened {self.count} time(s):\n{self._story()}\n"
                f"it is {self._simulation.now.isoformat()} in {self._simulation!r}"
            )

    def _story(self) -> str:
        found = list(self)
        lines = [f"  {effect}" for effect in found[-SHOWN_EFFECTS:]]
        if not found:
            others = [effect for effect in self._made if effect.name == self._name]
            named = "others of that name" if others else "what did happen"
            lines = [f"  (never); {named}:"]
            lines += [f"    {effect}" for effect in (others or self._made)[-SHOWN_EFFECTS:]]
        for queue, key in dict.fromkeys((e.queue, e.key) for e in found if e.key):
            record = self._simulation.journal.find(queue, key)
            if record is not None:
                lines += [
                    f"  job {key!r}, its last events:",
                    diagnosis.timeline(self._simulation, record),
                ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return _call(self._name, self._details)


class _Passing:
    """An effect is a moment that code passes; code that awaits it can be held, or end, right there.

    In a thread there is nothing to be awaited: there it is held on the spot.
    """

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self._hold: Hold | None = None

    def show(self, moment: Moment) -> None:
        """Let observers see it. Those who kill the process or hold the moment have their way."""
        loop = self._loop
        self._hold = loop.show_moment(moment)
        baton = STATE.baton
        if baton is not None and is_dead(PROCESS.get()):
            baton.wait_for(Wait())  # what never comes
        elif baton is not None and self._hold is not None:
            wait = Wait()
            self._hold.catch(lambda: _soon(loop, partial(baton.end_wait, wait)))
            baton.wait_for(wait)

    def __await__(self) -> Generator[Any, None, None]:
        if STATE.baton is None and self._hold is not None and not self._hold.released:
            released = self._loop.create_future()
            self._hold.catch(partial(_resolve, released))
            yield from released.__await__()
        if is_dead(PROCESS.get()):
            yield from self._loop.create_future().__await__()


def _call(name: str, details: Mapping[str, object]) -> str:
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in details.items())})"


def _soon(loop: SimulatedLoop, callback: Callable[[], None]) -> None:
    loop.call_soon(callback)


def _resolve(future: Any) -> None:
    if not future.done():
        future.set_result(None)


def _told_of(job: Job | None) -> dict[str, object]:
    """What a moment tells of the job that passes it."""
    if job is None:
        return {}
    queue = job.queue.name if job.queue else ""
    return {"key": job.key, "function": job.function, "queue": queue}


class Running:
    """Brackets the call of a task."""

    __slots__ = ("_job", "_loop", "_process", "_token")

    def __init__(self, loop: SimulatedLoop, job: Job) -> None:
        self._loop, self._job = loop, job
        self._process: Process | None = PROCESS.get()

    def __enter__(self) -> None:
        self._token = RUN.set(self._job)
        if self._loop.tap is not None:
            self._loop.tap.began(self._job)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # What a dead process leaves is taken down at the end of the world; it ended long before.
        if is_dead(self._process):
            return
        RUN.reset(self._token)
        if self._loop.tap is not None:
            self._loop.tap.ended(self._job, error)

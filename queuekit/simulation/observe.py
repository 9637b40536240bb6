"""What an observer of a simulation sees, and how it holds something back.

def hold_the_commit(event):
    if isinstance(event, Moment) and event.name == "committing":
        return hold

hold = Hold()
simulation.observe(hold_the_commit)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a task, about to run."""

    task: str
    where: str
    "Qualified name of the task's own coroutine, and how many lines into it the task stands."
    process: str = ""
    "The id of the process whose task it is; empty outside of any."


class Hop:
    """A command on its way to the server, or a reply on its way back, about to be delivered."""

    __slots__ = ("_say", "_words", "command", "connection", "direction", "process", "raw")

    def __init__(
        self,
        connection: int,
        direction: str,
        say: Callable[[], tuple[str, ...]],
        *,
        process: str = "",
        command: str = "",
        raw: Sequence[bytes] = (),
    ) -> None:
        self.connection = connection
        self.direction = direction
        "`request` or `reply`."
        self.process = process
        "The id of the process whose connection it is."
        self.command = command
        "The script or the command (in capitals) that this is, or answers; empty for a message."
        self.raw = raw
        "Of a request, its words as they were sent; those of `words` are shortened."
        self._say = say
        self._words: tuple[str, ...] | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The command and its arguments, or the reply, as text; scripts by their names.

        Put together when somebody asks: most runs of an exploration are lived without.
        """
        return self._words or self.put_into_words()

    @property
    def in_words(self) -> bool:
        """Whether they are put together."""
        return self._words is not None

    def put_into_words(self) -> tuple[str, ...]:
        """Do it now: what they are made from is kept no longer."""
        self._words = self._say()
        self._say = tuple
        return self._words

    def __repr__(self) -> str:
        return (
            f"Hop({self.connection}, {self.direction!r}, {self.words!r}, process={self.process!r})"
        )


@dataclass(frozen=True, slots=True)
class Draw:
    """A decision: `value` out of `n`, at a named place."""

    site: str
    n: int
    value: int


@dataclass(frozen=True, slots=True)
class Moment:
    """A named point in a job's life, about to be passed."""

    name: str
    details: Mapping[str, object]


Event = Step | Hop | Draw | Moment


class Hold:
    """Keeps what an observer has caught until `release()`.

    A held step keeps its task from running on, a held moment its job, a held hop all that follows it
    on its connection in that direction. Everything else goes on, and so does time.
    """

    def __init__(self) -> None:
        self.released = False
        self._caught: list[Callable[[], None]] = []

    @property
    def reached(self) -> bool:
        """Whether it has caught something."""
        return self.released or bool(self._caught)

    def release(self) -> None:
        """Let go of everything caught so far, and catch nothing more."""
        self.released = True
        caught, self._caught = self._caught, []
        for resume in caught:
            resume()

    def catch(self, resume: Callable[[], None]) -> None:
        """Called by the simulation: keep something; `resume` lets it go."""
        self._caught.append(resume)


Observer = Callable[[Event], "Hold | None"]
"Called with every event; what it returns holds that event back (draws cannot be held)."

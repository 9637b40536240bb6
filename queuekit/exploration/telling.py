"""A run in words: what happened, when, to whom, and what was not as it usually is."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from queuekit.simulation import diagnosis
from queuekit.simulation.effects import MOMENTS
from queuekit.simulation.journal import Entry
from queuekit.simulation.observe import Draw, Event, Hold, Hop, Moment, Step
from queuekit.simulation.process import PROCESS
from queuekit.simulation.schedule import PCT

if TYPE_CHECKING:
    from queuekit.exploration.checkers import Watch
    from queuekit.exploration.living import Breach
    from queuekit.simulation.wire import Wire
    from queuekit.simulation.world import Simulation

PROMISES = {
    "P1": "nothing is lost",
    "P2": "a second run only by rule",
    "P3": "fenced, and an end is final",
    "P4": "two budgets",
    "P5": "never early",
    "P6": "on time",
    "P7": "unique",
    "P8": "cron",
    "P11": "in order",
    "P12": "nothing stays behind",
}
"What docs/promises.md calls them."

MAX_TOLD = 60
"Lines of a story; of a longer one the first and the last are told."


class Teller:
    """Watches a run and tells it afterwards. Of a shrunk run, which is short."""

    def __init__(self, simulation: Simulation, watch: Watch) -> None:
        self._simulation = simulation
        self._watch = watch
        self._found_at: int | None = None
        "How many lines there were when the first promise was broken."
        self._unanswered: dict[int, deque[Hop]] = {}
        "By connection: commands whose answers have not come yet."
        self._answered: int | None = None
        "The connection on which a reply was about to come, when something was last seen."
        self._lines: list[tuple[float, str, str]] = []
        "Seconds, the job that is concerned or nothing, words."
        self._deviated: str | None = None
        self._struck = 0
        simulation.observe(self._see)
        pool = simulation.loop.pool
        if pool is not None and isinstance(pool.schedule, PCT):
            pool.schedule.on_change = self._fell_behind

    def _see(self, event: Event) -> Hold | None:
        # What strikes behind an effect has struck before anybody is shown the effect.
        name = event.name if isinstance(event, Moment) else None
        self._hear(self._note_faults(behind=None if name in MOMENTS else name))
        if self._found_at is None and self._watch.found:
            self._found_at = len(self._lines)
        if isinstance(event, Hop) and event.command:
            self._follow(event)
        if isinstance(event, Moment):
            self._see_moment(event)
        elif isinstance(event, Draw):
            self._see_draw(event)
        elif self._deviated is not None and isinstance(event, Step):
            self._add("", f"{self._deviated}: {event.task} goes on first, at {event.where}")
            self._deviated = None
        elif self._deviated is not None and isinstance(event, Hop):
            what = f"{event.direction} {event.command}" if event.command else "message"
            self._add("", f"{self._deviated}: the {what} of {_owner(event)} arrives first")
            self._deviated = None
        return None

    def _follow(self, hop: Hop) -> None:
        """Tell of commands that are sent again, since no answer came."""
        if hop.direction == "reply":
            self._answered = hop.connection
            return
        for connection, waiting in self._unanswered.items():
            if connection == hop.connection:
                continue
            closed = self._wire(connection) is None
            lost = next((w for w in waiting if _is_again(hop, w, closed=closed)), None)
            if lost is not None:
                waiting.remove(lost)
                self._add("", f"{_owner(hop)} sends its {hop.command} again: no answer had come")
                break
        self._unanswered.setdefault(hop.connection, deque()).append(hop)

    def _hear(self, struck: list[str]) -> None:
        """The latest reply has come, unless it was lost on the way, or met a connection that is closed."""
        connection, self._answered = self._answered, None
        if connection is None or any(each.startswith("lose_reply") for each in struck):
            return
        waiting = self._unanswered.get(connection)
        if waiting and self._wire(connection) is not None:
            waiting.popleft()

    def _see_moment(self, moment: Moment) -> None:
        if moment.name in diagnosis.PASSING:
            return
        details = moment.details
        key, queue = str(details.get("key", "")), str(details.get("queue", ""))
        if moment.name in MOMENTS:
            entry = Entry(0, moment.name, key, queue, details)
            words = diagnosis.describe(entry).partition("  ")[2]
        else:
            shown = ", ".join(
                f"{n}={v!r}" for n, v in details.items() if n not in ("key", "queue", "function")
            )
            words = f"effect {moment.name}({shown})"
        process = PROCESS.get()
        by = f"  ({process.id})" if process is not None else ""
        self._add(key, f"{key or queue}: {words}{by}")

    def _see_draw(self, draw: Draw) -> None:
        if not draw.value:
            return
        kind, _, name = draw.site.partition(":")
        if kind == "schedule":
            self._deviated = f"not the oldest of {draw.n} ready steps"
        elif kind == "pct.priority":
            self._add("", f"{self._named(name)} is held back, until all others wait")
        elif kind == "choose":
            self._add("", f"the story chooses {name} = {draw.value}")

    def _fell_behind(self, actor: str) -> None:
        self._add("", f"{self._named(actor)} is held back from here on, until all others wait")

    def _named(self, actor: str) -> str:
        """An actor of a schedule, in words."""
        direction, _, number = actor.partition(" ")
        if direction in ("request", "reply") and number.isdigit():
            wire = self._wire(int(number))
            who = wire.process.id if wire is not None and wire.process is not None else "the test"
            if direction == "request":
                return f"what {who} sends on connection {number}"
            return f"what Redis answers {who} on connection {number}"
        return "the story itself" if actor.startswith("_Living.") else actor

    def _wire(self, number: int) -> Wire | None:
        """A connection that is open."""
        network = self._simulation.loop.network
        return next((w for w in network.wires if w.number == number), None) if network else None

    def _note_faults(self, behind: str | None = None) -> list[str]:
        """What has struck since; up to what struck behind the moment that is about to be told."""
        noted = []
        for strike, told in self._simulation.faults.struck[self._struck :]:
            if behind is not None and strike.where.endswith(f": {behind}"):
                break
            self._lines.append((strike.at, "", f"FAULT {told} ({strike.where})"))
            self._struck += 1
            noted.append(str(told))
        return noted

    def _add(self, key: str, words: str) -> None:
        self._lines.append((self._simulation.loop.now_us() / 1e6, key, words))

    def told(self, broken: Breach | None) -> str:
        """The story up to its end; of a breach that is one job's matter without the other jobs."""
        self._note_faults()
        job = broken.job if broken is not None else ""
        if broken is not None and broken.promise in PROMISES:
            place = self._found_at if self._found_at is not None else len(self._lines)
            self._lines.insert(place, (broken.at_s, job, f">>> {broken.promise} IS BROKEN"))
        lines = [
            f"  {at:>9.3f} s  {words}"
            for at, key, words in self._lines
            if not job or not key or key == job
        ]
        if len(lines) > MAX_TOLD:
            half = MAX_TOLD // 2
            left_out = len(lines) - 2 * half
            lines = [*lines[:half], f"        ... {left_out} lines more", *lines[-half:]]
        return "\n".join(lines)


def _owner(hop: Hop) -> str:
    return hop.process or "the test"


def _is_again(hop: Hop, earlier: Hop, *, closed: bool) -> bool:
    """Whether a command is sent with the same words once more.

    Of a script the first word is another one if the server has forgotten it, and the fifth is the time. Other
    commands carry no id: two tasks may send the same one, so the earlier one's connection must be closed.
    """
    if (hop.process, hop.command) != (earlier.process, earlier.command):
        return False
    words, before = hop.words, earlier.words
    if hop.command.isupper():
        return closed and words == before
    return len(words) > 5 and (words[3:4], words[5:]) == (before[3:4], before[5:])

"""A run in words: what happened, when, to whom, and what was not as it usually is."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from queuekit.simulation import diagnosis
from queuekit.simulation.effects import MOMENTS
from queuekit.simulation.journal import Entry
from queuekit.simulation.observe import Draw, Event, Hold, Hop, Moment, Step
from queuekit.simulation.process import PROCESS
from queuekit.simulation.schedule import PCT

if TYPE_CHECKING:
    from queuekit.simulation.world import Simulation

MAX_TOLD = 60
"Lines of a story; of a longer one the first and the last are told."


class Teller:
    """Watches a run and tells it afterwards. Of a shrunk run, which is short."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
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
        self._note_faults(behind=None if name in MOMENTS else name)
        if isinstance(event, Moment):
            self._see_moment(event)
        elif isinstance(event, Draw):
            self._see_draw(event)
        elif self._deviated is not None and isinstance(event, Step):
            self._add("", f"{self._deviated}: {event.task} goes on first, at {event.where}")
            self._deviated = None
        elif self._deviated is not None and isinstance(event, Hop):
            what = event.command or "a message"
            of = f" of {event.process}" if event.process else " of the test"
            self._add("", f"{self._deviated}: the {event.direction} {what}{of} arrives first")
            self._deviated = None
        return None

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
            self._add("", f"{name} is held back, until all others wait")
        elif kind == "choose":
            self._add("", f"the story chooses {name} = {draw.value}")

    def _fell_behind(self, actor: str) -> None:
        self._add("", f"{actor} is held back from here on, until all others wait")

    def _note_faults(self, behind: str | None = None) -> None:
        """What has struck since; up to what struck behind the moment that is about to be told."""
        for strike, told in self._simulation.faults.struck[self._struck :]:
            if behind is not None and strike.where.endswith(f": {behind}"):
                return
            self._lines.append((strike.at, "", f"FAULT {told} ({strike.where})"))
            self._struck += 1

    def _add(self, key: str, words: str) -> None:
        self._lines.append((self._simulation.loop.now_us() / 1e6, key, words))

    def told(self, concerned: Collection[str]) -> str:
        """The story; of jobs, those that are concerned, or all if nobody says which."""
        self._note_faults()
        wanted = {key for key in concerned if key}
        lines = [
            f"  {at:>9.3f} s  {words}"
            for at, key, words in self._lines
            if not wanted or not key or key in wanted
        ]
        if len(lines) > MAX_TOLD:
            half = MAX_TOLD // 2
            left_out = len(lines) - 2 * half
            lines = [*lines[:half], f"        ... {left_out} lines more", *lines[-half:]]
        return "\n".join(lines)

"""Whether a run is the same when it is run again, and where it parts if it is not."""

from __future__ import annotations

from collections.abc import Callable

from queuekit.exploration.errors import NotRepeatable
from queuekit.simulation.trace import Trace, first_difference

Sink = Callable[[str], None]

CONTEXT = 5
"Lines before the first difference that are shown with it."


def first_divergence(live: Callable[[Sink], Trace]) -> str | None:
    """Run twice and compare line by line; where the two part, with both sides, or None.

    Args:
        live: one run from beginning to end, in a world of its own. It sets `trace.sink` to what it is given
            before anything happens, and returns the trace.
    """
    lines: list[str] = []
    first = live(lines.append).digest()
    comparison = _Comparison(lines)
    second = live(comparison.add)
    if comparison.parted is None and len(lines) == comparison.count and second.digest() == first:
        return None
    return comparison.told()


def assert_repeatable(live: Callable[[Sink], Trace]) -> None:
    """Run twice.

    Args:
        live: as for `first_divergence`.

    Raises:
        NotRepeatable: the two runs differ; its message has the first difference.
    """
    divergence = first_divergence(live)
    if divergence is not None:
        raise NotRepeatable(
            f"the same run, lived through twice, was not the same: {divergence}\n"
            "  It is to follow its seed alone. Something in it follows a real clock, a thread, the order of\n"
            "  a set, an address in memory, or what the first run has left behind (a cache, a global).\n"
            "  Look at the code that runs at the line shown; begin each run with new objects."
        )


class _Comparison:
    """Of lines that come, with those of an earlier run."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines
        self.count = 0
        self.parted: tuple[int, str] | None = None
        "The first line of the new run that differs: its place, and it."

    def add(self, line: str) -> None:
        place = self.count
        self.count += 1
        if self.parted is None and (place >= len(self._lines) or self._lines[place] != line):
            self.parted = (place, line)

    def told(self) -> str | None:
        place, line = self.parted or (self.count, "(end)")
        before = self._lines[max(0, place - CONTEXT) : place]
        old = self._lines[place] if place < len(self._lines) else "(end)"
        told = first_difference([*before, old], [*before, line])
        return told and told.replace(f"line {len(before) + 1}:", f"line {place + 1}:", 1)

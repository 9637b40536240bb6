"""The trace: one line for everything that happened, and a hash over all of them.

A line begins with the virtual time in microseconds since the world began, and a letter:

    12000000 s worker-1 Worker.start+18         a step of a task, and where the task stands
    12000000 > 3 EVALSHA claim 1 qk:{default}   a command arrives at the server, on connection 3
    12000000 < 3 [...]                          its reply arrives
    12000000 m committed key='a' event='...'    a named point in a job's life
    12000000 d jitter 1001 0                    a decision: place, number of choices, choice
    12000000 f lose_reply ...                   a misfortune, and where it struck
    12000000 t                                  time moved here

Nothing in it depends on addresses in memory, the hash seed, the machine or its folders, nor on the
server: handshakes are left out and scripts go by their names.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from queuekit.simulation.observe import Hop

MAX_LINES = 20_000
"Lines kept in memory; the hash is over all."

CHECKPOINT = 1_000
"Lines between two checkpoints: where two long runs part is known to within so many lines."

MAX_UNWRITTEN = 2_000
"Things that are noted, and put into words and hashed later: never, if nobody asks for a short run's trace."

MAX_WORD = 200
"Characters of one value in a line; the rest is replaced by a hash of the whole."


Entry = str | tuple[int, "Hop"]
"A line, or what it will be put together from: the moment in microseconds, and what arrived."


class Trace:
    """What happens, as it comes: put into words, and hashed, in batches, or when somebody asks.

    Args:
        keeps: whether anything is written down at all; a tenth to a fifth of a small run is that.
    """

    def __init__(self, *, keeps: bool = True) -> None:
        self.keeps = keeps
        self.count = 0
        self.sink: Callable[[str], None] | None = None
        "Called with each line, to keep all of a long run."
        self._unwritten: list[Entry] = []
        self._kept: deque[str] = deque(maxlen=MAX_LINES)
        self._checkpoints: list[str] = []
        self._hash = hashlib.sha256()

    def add(self, entry: Entry) -> None:
        """One more line."""
        if not self.keeps:
            return
        self.count += 1
        self._unwritten.append(entry)
        if self.sink is not None:
            self.sink(_line(entry))
        if len(self._unwritten) >= MAX_UNWRITTEN:
            self._write()

    def _write(self) -> None:
        lines = [_line(entry) for entry in self._unwritten]
        self._unwritten.clear()
        self._kept.extend(lines)
        written = self.count - len(lines)
        while lines:
            room = CHECKPOINT - written % CHECKPOINT
            part, lines = lines[:room], lines[room:]
            self._hash.update("".join(f"{line}\n" for line in part).encode())
            written += len(part)
            if written % CHECKPOINT == 0:
                self._checkpoints.append(self._hash.hexdigest()[:16])

    def step(self, now_us: int, task: str, where: str) -> None:
        self.add(f"{now_us} s {task} {where}")

    def time(self, now_us: int) -> None:
        self.add(f"{now_us} t")

    def hop(self, now_us: int, hop: Hop) -> None:
        entry = (now_us, hop)
        self.add(_line(entry) if hop.in_words else entry)  # what was in a hurry is not to be kept

    def draw(self, now_us: int, site: str, n: int, value: int) -> None:
        self.add(f"{now_us} d {site} {n} {value}")

    def fault(self, now_us: int, what: str, where: str) -> None:
        self.add(f"{now_us} f {what} {where}")

    def moment(self, now_us: int, name: str, details: Mapping[str, object]) -> None:
        if not self.keeps:
            return
        words = " ".join(
            f"{key}={value!r}"
            for key, value in details.items()
            if isinstance(value, str | int | float) and key != "error"
        )
        self.add(f"{now_us} m {name} {shorten(words)}")

    def digest(self) -> str:
        """SHA-256 over all lines so far, in hexadecimal."""
        self._write()
        return self._hash.hexdigest()

    @property
    def checkpoints(self) -> list[str]:
        """The hash after each `CHECKPOINT` lines, shortened."""
        self._write()
        return list(self._checkpoints)

    def lines(self) -> list[str]:
        """The latest lines."""
        self._write()
        return list(self._kept)


def _line(entry: Entry) -> str:
    if isinstance(entry, str):
        return entry
    now_us, hop = entry
    arrow = ">" if hop.direction == "request" else "<"
    return f"{now_us} {arrow} {hop.connection} {' '.join(hop.words)}"


def shorten(word: str) -> str:
    """The word, or its beginning and a hash of the whole."""
    if len(word) <= MAX_WORD:
        return word
    digest = hashlib.sha256(word.encode()).hexdigest()[:8]
    return f"{word[:MAX_WORD]}...#{digest}"


def first_difference(one: list[str], other: list[str]) -> str | None:
    """Where two traces part, with both sides and what went before; None when they are equal."""
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return _difference(one, index, left, right)
    if len(one) != len(other):
        index = min(len(one), len(other))
        left = one[index] if index < len(one) else "(end)"
        right = other[index] if index < len(other) else "(end)"
        return _difference(one, index, left, right)
    return None


def _difference(lines: list[str], index: int, left: str, right: str) -> str:
    before = "\n".join(f"    {line}" for line in lines[max(0, index - 5) : index])
    return f"the traces part at line {index + 1}:\n{before}\n  - {left}\n  + {right}"

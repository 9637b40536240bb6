"""A failing tape made as small as it gets: fewer decisions, lower ones, earlier ones.

It knows nothing of what runs. Each tape it thinks of is tried by a real run, so what it gives back has
failed in the end exactly as what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from queuekit.exploration.errors import NotRepeatable
from queuekit.simulation.chooser import Deviation

SHRINK_RUNS = 500
"Runs that a reduction may take; most are done with some twenty."

Tape = Sequence[Deviation]

Fails = Callable[[list[Deviation]], "Tape | None"]
"""Runs with a tape. None if it does not fail as the first one did; else the tape as that run took it
(`chooser.tape`), in which decisions that never came are missing."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What is left of a tape."""

    tape: list[Deviation]
    runs: int
    "That it took."
    minimal: bool
    "Whether it passes without any one of its decisions; False if the runs were used up before."


def shrink(tape: Tape, fails: Fails, *, runs: int = SHRINK_RUNS) -> Shrunk:
    """The smallest tape in reach that still fails.

    The same tape and the same `fails` give the same result.

    Args:
        tape: of a run that failed.
        fails: tries a tape.
        runs: how often it may be called.

    Raises:
        NotRepeatable: the given tape, or the result when it was tried once more, did not fail.
    """
    return _Reduction(list(tape), fails, runs).result()


class _Spent(Exception):  # noqa: N818 (says what happened)
    """The runs are used up."""


class _Reduction:
    def __init__(self, tape: list[Deviation], fails: Fails, runs: int) -> None:
        self._fails = fails
        self._limit = runs
        self._runs = 0
        self._passed: set[tuple[Deviation, ...]] = set()
        "Tapes that are known not to fail."
        self._best = tape

    def result(self) -> Shrunk:
        self._best = self._confirmed("the tape that was to be reduced")
        minimal = True
        try:
            self._reduce()
        except _Spent:
            minimal = False
        self._confirmed("the reduced tape")
        return Shrunk(self._best, self._runs, minimal)

    def _confirmed(self, which: str) -> list[Deviation]:
        self._runs += 1
        taken = self._fails(list(self._best))
        if taken is None:
            raise NotRepeatable(
                f"{which} ({len(self._best)} decisions) did not fail when it was run again.\n"
                "  The same decisions must give the same run: something in it follows a real clock, a\n"
                "  thread, the order of a set, or what an earlier run has left behind.\n"
                "  Run it twice with queuekit.exploration.guard, which shows the first difference."
            )
        return list(taken)

    def _reduce(self) -> None:
        self._try([])
        while self._best:
            before = self._best
            self._delete()
            self._lower()
            self._advance()
            if self._best == before:
                return

    def _try(self, tape: list[Deviation]) -> bool:
        """Whether it fails and is smaller; then it is the best."""
        known = tuple(tape)
        if known in self._passed or _size(tape) >= _size(self._best):
            return False
        if self._runs >= self._limit:
            raise _Spent
        self._runs += 1
        taken = self._fails(list(tape))
        if taken is None:
            self._passed.add(known)
            return False
        # What the run took may be less than it was offered; more, only if the run is not its tape's.
        self._best = list(taken) if _size(taken) <= _size(tape) else tape
        return True

    def _delete(self) -> None:
        """Halves, then less and less, from the end: what comes before a decision does not depend on it."""
        size = max(1, len(self._best) // 2)
        while True:
            end = len(self._best)
            while end > 0:
                start = max(0, end - size)
                self._try(self._best[:start] + self._best[end:])
                end = min(start, len(self._best))
            if size == 1:
                return
            size //= 2

    def _lower(self) -> None:
        for at in reversed(range(len(self._best))):
            self._least(at, "value")

    def _advance(self) -> None:
        for at in reversed(range(len(self._best))):
            self._least(at, "nth")

    def _least(self, at: int, field: str) -> None:
        """The lowest number in a field of the decision `at`, as bisecting finds it; 1 is tried first."""
        if at >= len(self._best):  # the last attempt took more away than it was to
            return
        low, guess = 0, 1  # no tape has a 0
        high = getattr(self._best[at], field)
        while guess < high:
            if self._offer(at, field, guess):
                if at >= len(self._best):
                    return
                high = getattr(self._best[at], field)
            else:
                low = guess
            guess = (low + high) // 2 if high - low > 1 else high

    def _offer(self, at: int, field: str, number: int) -> bool:
        old = self._best[at]
        changed = replace(old, value=number) if field == "value" else replace(old, nth=number)
        rest = self._best[:at] + self._best[at + 1 :]
        if any((d.site, d.nth) == (changed.site, changed.nth) for d in rest):
            return False
        return self._try([*self._best[:at], changed, *self._best[at + 1 :]])


def _size(tape: Tape) -> tuple[int, int, int]:
    """By what one tape is smaller than another."""
    return len(tape), sum(d.value for d in tape), sum(d.nth for d in tape)

"""A failing tape made as small as it gets: fewer decisions, lower ones, earlier ones.

It knows nothing of what runs. Each tape it thinks of is tried by a real run, so what it gives back has
failed in the end exactly as what it was given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from queuekit.exploration.errors import NotRepeatable
from queuekit.simulation.chooser import Deviation

SHRINK_RUNS = 500
"Runs that a reduction may take; most are done with some twenty."

TRADED = 4
"Decisions of a tape in which one is tried to be given up for another one changed: some hundred runs."

PAIR = 2
"Decisions that are few enough: a place to stop somebody, and one to let him go on."

SEVERAL = 20
"Decisions of a given tape of which each is tried alone."

ALONE = (*range(1, 18), 24, 25, 32, 33, 48, 49, 64, 65, 96, 97, 128, 129)
"Values that are tried for a decision alone: small ones, then even and odd ones ever further apart."

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
        self._best = self._given = tape
        self._sites: dict[str, dict[str, None]] = {}
        "Those of the given tape, by their kind."
        for decision in tape:
            self._sites.setdefault(_kind(decision.site), {})[decision.site] = None

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
                "  queuekit.exploration.assert_repeatable shows the first difference between two runs."
            )
        return list(taken)

    def _reduce(self) -> None:
        self._try([])
        self._without_kinds()
        while self._best:
            before = self._best
            self._delete()
            self._lower()
            self._advance()
            if self._best == before and not (self._trade() or self._alone()):
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

    def _without_kinds(self) -> None:
        """All decisions of one kind at once: most failures of a queue need no order of steps, or no fault."""
        for kind, _ in Counter(_kind(d.site) for d in self._best).most_common():
            rest = [d for d in self._best if _kind(d.site) != kind]
            if rest:  # none at all was tried
                self._try(rest)

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

    def _trade(self) -> bool:
        """One decision less for another one changed: when the orders that fail lie apart."""
        if len(self._best) > TRADED:
            return False
        for at in reversed(range(len(self._best))):
            rest = self._best[:at] + self._best[at + 1 :]
            for place, decision in enumerate(rest):
                others = rest[:place] + rest[place + 1 :]
                taken = {(d.site, d.nth) for d in others}
                for near in self._near(decision):
                    if (near.site, near.nth) in taken:
                        continue
                    if self._try([*rest[:place], near, *rest[place + 1 :]]):
                        return True
        return False

    def _alone(self) -> bool:
        """Another value of any single decision of the given tape, instead of more than two."""
        if not PAIR < len(self._best) <= TRADED or len(self._given) > SEVERAL:
            return False
        return any(
            self._try([replace(decision, value=value)])
            for decision in self._given
            for value in ALONE
            if value <= 4 * decision.value
        )

    def _near(self, decision: Deviation) -> Iterator[Deviation]:
        for step in (1, -1, 2, -2):
            if decision.nth + step > 0:
                yield replace(decision, nth=decision.nth + step)
            if decision.value + step > 0:
                yield replace(decision, value=decision.value + step)
        for more in (2, 4):
            yield replace(decision, value=decision.value * more)
        for site in self._sites.get(_kind(decision.site), ()):
            if site != decision.site:
                yield Deviation(site, 1, decision.value)

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


def _kind(site: str) -> str:
    return site.partition(":")[0]


def _size(tape: Tape) -> tuple[int, int, int]:
    """By what one tape is smaller than another."""
    return len(tape), sum(d.value for d in tape), sum(d.nth for d in tape)

"""Every decision of a simulation goes through one place, where it can be recorded and replayed."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, slots=True)
class Deviation:
    """A decision that was not the boring one."""

    site: str
    "Where it was taken; what stands before a colon is the site's kind."
    nth: int
    "Of the decisions at this site, from 1."
    value: int
    "Not 0."


@dataclass(frozen=True, slots=True)
class Asked:
    """A decision that there was to take: one of `n`."""

    site: str
    nth: int
    n: int


class Chooser:
    """Decides by the seed, or as a tape says. 0 is always the boring choice, and the default everywhere.

    The tape holds only what was not boring: an empty one is the run without any adversary, and what is
    taken out of one leaves the rest as it was, since each decision is known by its site and its number there.

    Args:
        seed: of the draws.
        tape: decisions to take again; everywhere else the choice is 0, and nothing is drawn.
    """

    def __init__(self, seed: int, tape: Iterable[Deviation] | None = None) -> None:
        self._seed = seed
        self.drawn_kinds: set[str] = set()
        "Of the sites where chance decides; at all others the choice is 0."
        self.on_draw: Callable[[str, int, int], None] | None = None
        self.tape: list[Deviation] = []
        "What was decided so far, without the boring choices, in the order of happening."
        self.asked: list[Asked] | None = None
        "All decisions that there were, if somebody has put a list here."
        self._counts: dict[str, int] = {}
        self._given = None if tape is None else {(d.site, d.nth): d for d in tape}
        self._used: set[tuple[str, int]] = set()

    @cached_property
    def _random(
        self,
    ) -> random.Random:  # seeding takes a tenth of a small run, and most draw nothing
        return random.Random(f"queuekit choices {self._seed}")  # noqa: S311 (replayable)

    @property
    def replays(self) -> bool:
        """Whether it takes decisions from a tape."""
        return self._given is not None

    @property
    def unused(self) -> list[Deviation]:
        """What the given tape has for decisions that never came."""
        return [d for place, d in (self._given or {}).items() if place not in self._used]

    def draw(self, kinds: Collection[str]) -> None:
        """Let chance decide at the sites of these kinds."""
        self.drawn_kinds.update(kinds)

    def pick(self, site: str, n: int, chance: float | None = None, *, quiet: bool = False) -> int:
        """One of 0 to n - 1, for the decision named `site`.

        Args:
            site: its name; what stands before a colon is its kind.
            n: of how many; above 0.
            chance: where it is drawn, how probable it is that the choice is not 0 (default: all alike).
            quiet: do not tell observers, nor write into the trace, that the boring one was chosen.
        """
        nth = self._counts[site] = self._counts.get(site, 0) + 1
        if self.asked is not None and n > 1:
            self.asked.append(Asked(site, nth, n))
        value = self._decide(site, nth, n, chance)
        if value:
            self.tape.append(Deviation(site, nth, value))
        if self.on_draw is not None and (value or not quiet):
            self.on_draw(site, n, value)
        return value

    def _decide(self, site: str, nth: int, n: int, chance: float | None) -> int:
        if self._given is not None:
            place = (site, nth)
            deviation = self._given.get(place)
            if deviation is None:
                return 0
            self._used.add(place)
            return min(deviation.value, n - 1)
        if n < 2 or not self.drawn_kinds or site.partition(":")[0] not in self.drawn_kinds:
            return 0
        if chance is None:
            return self._random.randrange(n)
        if self._random.random() >= chance:
            return 0
        return self._random.randrange(1, n)

"""Every decision of a simulation goes through one place, where it can be recorded and replayed."""

from __future__ import annotations

import random
from collections.abc import Callable


class Chooser:
    """Decides by the seed. 0 is always the boring choice, and the default everywhere."""

    def __init__(self, seed: int, on_draw: Callable[[str, int, int], None] | None = None) -> None:
        self._random = random.Random(f"queuekit choices {seed}")  # noqa: S311 (replayable)
        self.drawn_sites: set[str] = set()
        "Where chance decides; everywhere else the choice is 0."
        self.on_draw = on_draw

    def pick(self, site: str, n: int) -> int:
        """One of 0 to n - 1, for the decision named `site`."""
        value = self._random.randrange(n) if site in self.drawn_sites else 0
        if self.on_draw is not None:
            self.on_draw(site, n, value)
        return value

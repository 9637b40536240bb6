"""One run of a story, as `explore` with its default settings lives through it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from zlib import crc32

from queuekit.exploration import Breach, Terms, run_once
from queuekit.exploration.explore import Portfolio
from queuekit.exploration.living import Story
from queuekit.exploration.swarm import checked
from queuekit.simulation.schedule import SCHEDULES

STEPS = 30_000
"Six times what the longest story takes."

SEEDS_OF_ITS_OWN = 1_000_000
"Each story begins at another seed, or all would meet the same misfortunes."


def live(story: Story, number: int, *, backend: str = "fakeredis") -> Breach | None:
    """What a run of an exploration breaks first; number 0 is first in first out, without misfortune."""
    first_seed = crc32(getattr(story, "__name__", "").encode()) % SEEDS_OF_ITS_OWN
    plan = Portfolio(SCHEDULES, checked(None), first_seed).plan(number)
    with _quiet():
        return run_once(story, plan, Terms(backend=backend, steps=STEPS)).broken


@contextmanager
def _quiet() -> Iterator[None]:
    """What workers log about misfortunes that are meant is for nobody."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)

"""Looks at jobs past all faults: what is finished must never change again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Iterable

from tests.chaos.evidence import Reader
from tests.chaos.peers import ERRORS, Peer, Record

PAUSE_S = 0.5
SAMPLE = 200
"Finished jobs that are looked at again each time, drawn anew; at the end all are."

PAGE = 500


class Sampler:
    """The first terminal record of each job, and every later one that differs."""

    def __init__(self, peer: Peer, reader: Reader, seed: int) -> None:
        self._peer, self._reader = peer, reader
        self._chance = random.Random(seed)
        self.first: dict[str, Record] = {}
        self.latest: dict[str, Record | None] = {}
        self.changed: dict[str, tuple[Record, Record | None]] = {}
        self._turn = asyncio.Lock()
        self.last_new = 0.0
        "When a job was last found to be terminal that was not before (monotonic seconds)."

    async def watch(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(PAUSE_S)
            ended = [key for key in self._reader.ended if key not in self.first]
            known = list(self.first)
            again = self._chance.sample(known, min(SAMPLE, len(known)))
            with contextlib.suppress(*ERRORS):
                await self.look([*ended, *again])

    async def look(self, keys: Iterable[str]) -> None:
        """Read these jobs, and compare them with what was known of them."""
        wanted = list(keys)
        for start in range(0, len(wanted), PAGE):
            page = wanted[start : start + PAGE]
            # One page at a time: of two that are under way, the older could be noted last, and what
            # it says of a job would look like a change.
            async with self._turn:
                for key, record in zip(page, await self._peer.look(page), strict=True):
                    self._note(key, record)

    def _note(self, key: str, record: Record | None) -> None:
        self.latest[key] = record
        first = self.first.get(key)
        if first is not None:
            if record != first:
                self.changed.setdefault(key, (first, record))
        elif record is not None and record.terminal:
            self.first[key] = record
            self.last_new = time.monotonic()

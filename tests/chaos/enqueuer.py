"""The clients: they enqueue each job under a key of its own, and again when they do not know the outcome."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Sequence

from tests.chaos.form import Form
from tests.chaos.peers import ERRORS, Peer
from tests.chaos.tasks import MIXTURE

CLIENTS = 4

AHEAD = 300
"Jobs that are enqueued before they are needed: workers must never be idle while faults are to come."

RETRY_S = 0.1


class Enqueuer:
    """Enqueues all jobs of a form, as fast as the faults go on."""

    def __init__(self, peer: Peer, form: Form, tasks: Sequence[str] = ()) -> None:
        self._peer = peer
        chance = random.Random(form.seed)
        drawn = tasks or [chance.choice(MIXTURE) for _ in range(form.jobs)]
        self.attempted = {f"{number}-{task}": task for number, task in enumerate(drawn)}
        self.acknowledged: dict[str, None] = {}
        self.recovered: dict[str, None] = {}
        "The answer got lost, or was an error; but the job was there when the client looked."
        self.tries = 0
        self.refused: dict[str, None] = {}
        "Told that the key is taken, at the first try: no other job ever had it."
        self._allowed = AHEAD
        self._more = asyncio.Event()

    def allow(self, ended: int) -> None:
        """Let so many jobs be enqueued, and some ahead."""
        self._allowed = max(self._allowed, ended + AHEAD)
        self._more.set()

    async def run(self) -> None:
        """Until each job was acknowledged."""
        numbered = iter(list(enumerate(self.attempted.items())))
        await asyncio.gather(*(self._client(numbered) for _ in range(CLIENTS)))

    async def _client(self, numbered: Iterator[tuple[int, tuple[str, str]]]) -> None:
        for number, (key, task) in numbered:
            while number >= self._allowed:
                self._more.clear()
                await self._more.wait()
            await self._enqueue(key, task)

    async def _enqueue(self, key: str, task: str) -> None:
        for unknown in itertools.chain([False], itertools.repeat(True)):
            try:
                # A job that was stored may be finished by now, and its key free for another life.
                if unknown and (await self._peer.look([key]))[0] is not None:
                    self.recovered[key] = None
                    break
                self.tries += 1
                if await self._peer.enqueue(key, task):
                    break
                if not unknown:
                    self.refused[key] = None
                    return
            except ERRORS:
                await asyncio.sleep(RETRY_S)
        self.acknowledged[key] = None

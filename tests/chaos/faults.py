"""The misfortunes: a seeded plan by progress, and how each of them is done."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.crew import Crew
from tests.chaos.form import FAULTS, Form
from tests.chaos.proxy import MODES, Proxy
from tests.chaos.server import LOOK_AGAIN_S, Server, promote

STOPPED_LEASES = 1.5
"How long a worker stands still, in leases: past the end of what it holds, and past its recovery."

WINDOW_LEASES = (0.1, 0.5)
"How long a window without writes lasts, in leases: renewals that are refused in it have time to be repeated."

HALF_OPEN_LEASES = 2.0
"Past the limit after which a client gives up by itself, if it has one; then the connection is reset."

NOWHERE = ("127.0.0.1", 1)


@dataclass
class Fired:
    """What was done, and when (monotonic milliseconds)."""

    kind: str
    at_ms: int
    word: str = ""
    until_ms: int = 0


@dataclass
class Stage:
    """All that faults are done to."""

    form: Form
    crew: Crew
    server: Server
    proxies: list[Proxy]
    "The first is the one whose connections are cut."
    folder: Path
    chance: random.Random
    fired: list[Fired] = field(default_factory=list)
    pending: dict[asyncio.Task[None], None] = field(default_factory=dict)

    def later(self, what: Coroutine[Any, Any, None]) -> None:
        """Let a fault end by itself while others are done."""
        task = asyncio.create_task(what)
        self.pending[task] = None
        task.add_done_callback(self.pending.pop)

    async def healed(self) -> None:
        """When the last fault that ends by itself has ended."""
        while self.pending:
            await asyncio.wait(list(self.pending))

    async def close(self) -> None:
        """End the server: after a promotion it is another one than at the start."""
        await self.server.close()

    def write_down(self) -> None:
        """Leave a list of what was done beside the evidence."""
        lines = [f"{one.kind} {one.at_ms} {one.until_ms} {one.word}\n" for one in self.fired]
        (self.folder / "faults").write_text("".join(lines), "utf-8")


def plan(form: Form) -> list[tuple[int, str]]:
    """After how many ended jobs which fault comes: evenly spread, in an order of chance."""
    kinds = [kind for kind in FAULTS for _ in range(getattr(form, kind))]
    random.Random(form.seed).shuffle(kinds)
    step = form.jobs * 0.95 / (len(kinds) + 1)
    return [(round((number + 1) * step), kind) for number, kind in enumerate(kinds)]


async def do(kind: str, stage: Stage) -> None:
    """One fault; returns when the next may come."""
    fired = Fired(kind, _now_ms())
    stage.fired.append(fired)
    await _DEEDS[kind](stage, fired)
    fired.until_ms = max(fired.until_ms, _now_ms())


async def _kill(stage: Stage, fired: Fired) -> None:
    name = stage.crew.choose(stage.chance)
    assert name is not None, "not all workers are ever stopped"
    fired.word = name
    stage.crew.kill(name)


async def _stop(stage: Stage, fired: Fired) -> None:
    # A process sets no event when it goes on.
    while len(stage.crew.stopped) >= stage.form.workers // 2:  # noqa: ASYNC110
        await asyncio.sleep(LOOK_AGAIN_S)
    name = stage.crew.choose(stage.chance)
    assert name is not None, "half of the workers at least are never stopped"
    fired.word = name
    stage.crew.stop(name)

    async def go_on() -> None:
        await asyncio.sleep(STOPPED_LEASES * stage.form.lease_s)
        stage.crew.go_on(name)
        fired.until_ms = _now_ms()

    stage.later(go_on())


async def _cut(stage: Stage, fired: Fired) -> None:
    mode = fired.word = stage.chance.choice(MODES)
    open_now = [pair for pair in stage.proxies[0].pairs if not pair.mode]
    struck = stage.chance.sample(open_now, (len(open_now) + 1) // 2)
    for pair in struck:
        pair.mode = mode

    async def reset() -> None:
        await asyncio.sleep(HALF_OPEN_LEASES * stage.form.lease_s)
        for pair in struck:
            pair.end(reset=True)
        fired.until_ms = _now_ms()

    if mode == "half-open":
        stage.later(reset())


async def _restart(stage: Stage, fired: Fired) -> None:
    stage.server.kill()
    await asyncio.sleep(_window_s(stage))
    await stage.server.start()


async def _flush(stage: Stage, fired: Fired) -> None:
    await stage.server.ask("SCRIPT", "FLUSH")


async def _memory(stage: Stage, fired: Fired) -> None:
    used = int(str((await stage.server.info("memory"))["used_memory"]))
    await stage.server.ask("CONFIG", "SET", "maxmemory", used // 2)
    await asyncio.sleep(_window_s(stage))
    await stage.server.ask("CONFIG", "SET", "maxmemory", 0)


async def _readonly(stage: Stage, fired: Fired) -> None:
    before = sum(one.kind == "readonly" for one in stage.fired)
    fired.word = "replica of nobody" if before % 2 else "too few replicas"
    begin, end = {
        "replica of nobody": (("REPLICAOF", *NOWHERE), ("REPLICAOF", "NO", "ONE")),
        "too few replicas": (
            ("CONFIG", "SET", "min-replicas-to-write", 1),
            ("CONFIG", "SET", "min-replicas-to-write", 0),
        ),
    }[fired.word]
    await stage.server.ask(*begin)
    await asyncio.sleep(_window_s(stage))
    await stage.server.ask(*end)


async def _promote(stage: Stage, fired: Fired) -> None:
    number = sum(one.kind == "promote" for one in stage.fired)
    stage.server = await promote(stage.server, stage.folder / f"replica-{number}")
    for proxy in stage.proxies:
        proxy.target = stage.server.port


_DEEDS: dict[str, Callable[[Stage, Fired], Coroutine[Any, Any, None]]] = {
    "kills": _kill,
    "stops": _stop,
    "cuts": _cut,
    "restarts": _restart,
    "flushes": _flush,
    "memory": _memory,
    "readonly": _readonly,
    "promote": _promote,
}


def _window_s(stage: Stage) -> float:
    return stage.chance.uniform(*WINDOW_LEASES) * stage.form.lease_s


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000

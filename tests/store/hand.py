"""A client and its workers in one hand: each of its moves is followed by a look at the invariants."""

from __future__ import annotations

import itertools
from typing import Any

from queuekit.environment import environment
from queuekit.job import Status
from queuekit.store.codec import STATE_FIELDS
from queuekit.store.redis import Claimed, Held, Move, NewJob
from tests.store.invariants import (
    READER,
    Snapshot,
    check_invariants,
    snapshot_of,
    violations,
)

LEASE_MS = 30_000
ALIVE_MS = 60_000
ROOM_MS = 40_000
PAYLOAD = b'{"v":1,"function":"f"}'


class Hand:
    """Acts on a queue through its store."""

    def __init__(self, simulation: Any) -> None:
        self.simulation = simulation
        self.store = simulation.queue.store
        self.damaged: set[str] = set()
        "Jobs that a test has damaged; of those only the places are looked at."
        self._ids = itertools.count(1)

    @property
    def now_ms(self) -> int:
        return self.simulation.environment.time_ms()

    async def look(self) -> Snapshot:
        """All of the queue, which breaks no rule."""
        if not self.damaged:
            return await check_invariants(self.simulation.queue)
        reply = await self.command("EVAL", READER, 1, self.store.root)
        found = snapshot_of(reply, self.store.root)
        assert violations(found, damaged=self.damaged) == []
        return found

    async def command(self, *words: Any) -> Any:
        return await self.store._command(*words)

    def new(self, key: str, **options: Any) -> NewJob:
        return NewJob(key, f"e{next(self._ids)}", PAYLOAD, **options)

    async def enqueue(self, *keys: str, **options: Any) -> list[str]:
        """The verdicts on new jobs of those keys, in one batch."""
        accepted = await self.store.enqueue([self.new(key, **options) for key in keys])
        await self.look()
        return [each.verdict for each in accepted]

    async def ask(
        self,
        limit: int = 10,
        *,
        worker: str = "w",
        idle: bool = False,
        claim_id: str = "",
        room_ms: int = ROOM_MS,
    ) -> Claimed:
        claim_id = claim_id or f"c{next(self._ids)}"
        claimed = await self.store.claim(
            worker, claim_id, limit, LEASE_MS, ALIVE_MS, idle=idle, room_ms=room_ms
        )
        await self.look()
        return claimed

    async def claim(self, limit: int = 10, **options: Any) -> list[Held]:
        return (await self.ask(limit, **options)).jobs

    async def claim_keys(self, limit: int = 10, **options: Any) -> list[str]:
        return [held.key for held in await self.claim(limit, **options)]

    async def end(self, held: Held, target: Status = Status.COMPLETE, **options: Any) -> str:
        """Commit the end of a run; the verdict."""
        options.setdefault("ttl_ms", 600_000)
        move = Move(held.key, held.fence, held.claim_id, target, **options)
        [(verdict, _)] = await self.store.commit([move])
        await self.look()
        return verdict

    async def release(self, held: Held) -> str:
        return await self.end(held, Status.QUEUED, front=True, outcome="released")

    async def retry(self, held: Held, **options: Any) -> str:
        options = {"charge": "failures", "outcome": "retried", **options}
        return await self.end(held, Status.QUEUED, **options)

    async def lose(self, held: Held, **options: Any) -> str:
        """Its lease has ended: another worker puts it back."""
        options = {"charge": "losses", "outcome": "lost", "expired_only": True, **options}
        return await self.end(held, Status.QUEUED, **options)

    async def suspects(self, *keys: str, **options: Any) -> None:
        """Jobs that were lost twice, each waiting to run alone; nothing else could start yet."""
        await self.enqueue(*keys, **options)
        for held in await self.claim(len(keys)):
            assert await self.end(held, Status.QUEUED, charge="losses", solo=True) == "ok"

    async def abort(self, key: str, ttl_ms: int = 600_000, abort_id: str = "") -> str:
        abort_id = abort_id or environment().new_id()
        verdict = await self.store.abort(key, b"because", ttl_ms, abort_id)
        await self.look()
        return verdict

    async def state(self, key: str) -> dict[str, str | None]:
        """What is stored of a job; nothing if there is none."""
        [stored] = await self.store.read([key])
        if stored is None or stored.state is None:
            return {}
        return {
            name: None if raw is None else raw.decode()
            for name, raw in zip(STATE_FIELDS, stored.state, strict=True)
        }

    async def status(self, key: str) -> str | None:
        [stored] = await self.store.read([key])
        if stored is None:
            return None
        return (await self.state(key)).get("status") or "queued"

    async def token(self) -> bool:
        """Whether somebody would be woken; the token is taken."""
        return await self.store.wait("sleeper", for_work=True, timeout_s=0.01) == ""

    async def damage(self, key: str, how: str) -> None:
        """Somebody else writes to its keys, or a server evicts them."""
        self.damaged.add(key)
        part, _, what = how.partition(" ")
        stored_at = f"{self.store.root}:{'call' if part == 'call' else 'job'}:{key}"
        if what == "deleted":
            await self.command("DEL", stored_at)
        else:
            await self.command("SET", stored_at, b"\x00foreign\xff")

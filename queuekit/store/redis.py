"""A queue as Redis holds it: each method is one move, atomic and safe to be sent twice."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from queuekit.environment import environment
from queuekit.errors import ServerError
from queuekit.job import Status
from queuekit.store import keys
from queuekit.store.codec import State, claim_of
from queuekit.store.connection import Connections
from queuekit.store.server import Server

T = TypeVar("T")

STORE_ERRORS = (ServerError,)
"What a call of the store raises when Redis is away or refuses."

BATCH = 100
"Jobs that one script works on at most: Redis serves nobody else meanwhile."

BATCH_BYTES = 4 * 1024 * 1024
"Bytes that one script is sent at most, for the same reason (a single larger job is sent alone)."

MAX_PAGE = 10_000
"Jobs on one page of a listing at most: it is held in memory whole."

CONTAINERS = ("scheduled", "followers", "ready", "suspect", "lease")
"Where an unfinished job can be, each job in one of them, in the order in which jobs travel."


@dataclass(frozen=True)
class NewJob:
    """A job to be put into the queue."""

    key: str
    id: str
    "Made by the client, so that the same enqueue sent twice is one."
    call: bytes
    due_ms: int = 0
    delay_ms: int = 0
    priority: int = 0
    group: str = ""

    def arguments(self) -> tuple[Any, ...]:
        """As enqueue.lua expects them."""
        return (
            self.key,
            self.id,
            self.call,
            self.due_ms,
            self.delay_ms,
            self.priority,
            self.group,
        )


@dataclass(frozen=True)
class Stored:
    """A job as it lies in Redis; what of it is None is not there, or no record of ours."""

    call: bytes | None
    state: State | None
    log: bytes = b""


@dataclass(frozen=True)
class Accepted:
    """What became of an enqueue: new, same, taken or full. Times are epoch milliseconds of the server."""

    verdict: str
    queued_ms: int
    due_ms: int
    holder: Stored | None = None
    "The job that has the key, if it is taken."


@dataclass(frozen=True)
class Held:
    """A job under a lease: what was stored, and the proof of the claim."""

    key: str
    fence: int
    claim_id: str
    call: bytes | None
    state: State


@dataclass(frozen=True)
class Claimed:
    """The answer to a claim. Moments are epoch milliseconds of the server; None: nothing of the kind."""

    now_ms: int
    due_ms: int | None
    "The next scheduled job."
    lease_end_ms: int | None
    "The next lease that ends unless it is renewed."
    record_end_ms: int | None
    "The next record of a finished job to be removed."
    make_room: bool
    "Whether this worker is to let its jobs end, since one waits that must run alone."
    jobs: list[Held]


@dataclass(frozen=True)
class Move:
    """The end of a run, to be committed."""

    key: str
    fence: int
    claim_id: str
    target: Status
    delay_ms: int = 0
    ttl_ms: int = 0
    charge: str = ""
    "The counter to raise: failures, losses, unknown or none."
    front: bool = False
    expired_only: bool = False
    solo: bool = False
    "Run alone from now on."
    quarantine: bool = False
    abandoned: bool = False
    outcome: str = ""
    "For the log of attempts, like the note."
    note: str = ""
    result: bytes = b""
    error: bytes = b""
    exception: bytes = b""

    def arguments(self) -> tuple[Any, ...]:
        """As commit.lua expects them."""
        flags = {
            "f": self.front,
            "e": self.expired_only,
            "s": self.solo,
            "q": self.quarantine,
            "a": self.abandoned,
        }
        return (
            self.key,
            self.fence,
            self.claim_id,
            self.target.value,
            self.delay_ms,
            self.ttl_ms,
            self.charge,
            "".join(letter for letter, wanted in flags.items() if wanted),
            self.outcome,
            self.note,
            self.result,
            self.error,
            self.exception,
        )


class Store:
    """One queue in Redis."""

    def __init__(
        self,
        url: str,
        name: str,
        options: dict[str, Any] | None = None,
        durability: str = "primary",
    ) -> None:
        self.name = name
        self.root = keys.root(name)
        self.connections = Connections(url, options or {}, self.root)
        self.server = Server(self.connections, durability)

    async def run(self, name: str, *arguments: Any) -> Any:
        """Run a script on this queue."""
        return await self.server.run(name, self.root, *map(_written, arguments))

    async def enqueue(
        self, jobs: Sequence[NewJob], max_waiting: int | None = None
    ) -> list[Accepted]:
        """Put jobs into the queue, unless their keys are taken or so many wait already."""
        accepted = []
        most = "" if max_waiting is None else max_waiting
        for batch in _batches(jobs, lambda job: len(job.call)):
            flat = [argument for job in batch for argument in job.arguments()]
            for verdict, queued, due, *holder in await self.run("enqueue", most, *flat):
                stored = Stored(*holder) if holder else None
                accepted.append(Accepted(verdict.decode(), queued, due, stored))
        return accepted

    async def claim(
        self,
        worker: str,
        claim_id: str,
        limit: int,
        lease_ms: int,
        alive_ms: int,
        *,
        idle: bool = False,
        room_ms: int = 0,
    ) -> Claimed:
        """Take up to `limit` jobs. The same `claim_id` again is answered with the same jobs.

        An `idle` worker runs nothing, and asks for a job: it may be given one that must run alone. Another
        worker may be asked to make room for that, and has `room_ms` to do so.
        """
        limit = min(limit, BATCH)
        now, due, lease, record, make_room, jobs = await self.run(
            "claim", worker, claim_id, limit, lease_ms, alive_ms, "1" if idle else "", room_ms
        )
        return Claimed(
            now_ms=now,
            due_ms=_moment(due),
            lease_end_ms=_moment(lease),
            record_end_ms=_moment(record),
            make_room=bool(make_room),
            jobs=[_held(job) for job in jobs],
        )

    async def commit(self, moves: Sequence[Move]) -> list[tuple[str, str]]:
        """End runs. For each a verdict (ok, done, aborting, lost) and a word about it."""
        verdicts: list[tuple[str, str]] = []
        for batch in _batches(moves, lambda move: len(move.result) + len(move.error)):
            flat = [argument for move in batch for argument in move.arguments()]
            for verdict, word in await self.run("commit", *flat):
                verdicts.append((verdict.decode(), word.decode("utf-8", "replace")))
        return verdicts

    async def renew(
        self, runs: Sequence[tuple[str, int, str]], lease_ms: int
    ) -> list[tuple[int, str, str]]:
        """Prolong leases of (key, fence, claim id).

        Tells of each run that does not simply go on: its fence, lost or aborting, and why.
        """
        news = []
        for batch in _batches(runs):
            flat = [argument for run in batch for argument in run]
            for fence, what, reason in await self.run("renew", lease_ms, *flat):
                news.append((fence, what.decode(), reason.decode("utf-8", "replace")))
        return news

    async def expired(self, limit: int = BATCH) -> list[Held]:
        """Jobs whose lease has ended. Nothing is moved: `commit` with `expired_only` does."""
        return [_held(job) for job in await self.run("expired", limit)]

    async def update(
        self, key: str, fence: int, claim_id: str, progress: str, meta: bytes
    ) -> tuple[str, str, int]:
        """Store progress and meta (empty: unchanged): verdict, status, touched."""
        proof = fence or ""
        verdict, status, touched = await self.run("update", key, proof, claim_id, progress, meta)
        return verdict.decode(), status.decode(), touched

    async def abort(self, key: str, reason: bytes, ttl_ms: int, abort_id: str) -> str:
        """Stop a job: aborted, aborting, missing, or "final" and the status that refuses it.

        Sent twice under one id, it is answered with what it has come to.
        """
        verdict: bytes = await self.run("abort", key, reason, ttl_ms, abort_id)
        return verdict.decode()

    async def read(self, job_keys: Sequence[str]) -> list[Stored | None]:
        """What is stored of each job, or None where there is none."""
        found: list[Stored | None] = []
        for batch in _batches(job_keys):
            for job in await self.run("read", *batch):
                found.append(None if job is None else Stored(job[0], job[1], job[2] or b""))
        return found

    async def quarantined(self, offset: int, limit: int) -> list[tuple[str, int]]:
        """Jobs that were set aside, newest first, with the moments (epoch ms)."""
        last = offset + limit - 1
        found = await self._command(
            "ZREVRANGE", f"{self.root}:quarantine", offset, last, "WITHSCORES"
        )
        return [
            (_key(key), int(float(at))) for key, at in zip(found[::2], found[1::2], strict=True)
        ]

    async def restore(self, key: str, enqueue_id: str) -> str:
        """Queue a job that was set aside anew: restored, gone or missing."""
        verdict: bytes = await self.run("restore", key, enqueue_id)
        return verdict.decode()

    async def discard(self, key: str) -> bool:
        """Remove the record of a job that was set aside; whether it was there."""
        return bool(await self.run("discard", key))

    async def expire(self, limit: int = BATCH) -> int:
        """Remove the records of finished jobs whose time is over; how many."""
        removed: int = await self.run("expire", limit)
        return removed

    async def register(self, worker: str, alive_ms: int, info: bytes = b"") -> None:
        """Tell that a worker is there."""
        await self.run("register", worker, alive_ms, info)

    async def deregister(self, worker: str) -> None:
        """Tell that a worker leaves."""
        await self.run("register", worker, 0, "")

    async def cron(
        self,
        schedule: str,
        tick_ms: int,
        *,
        unique: bool,
        job: NewJob,
        timetable: str = "",
        worker: str = "",
    ) -> tuple[str, int]:
        """Handle a tick once: (the verdict, see cron.lua; the server's time in ms)."""
        flag = "1" if unique else ""
        verdict, now = await self.run(
            "cron", schedule, tick_ms, flag, job.key, job.id, job.call, timetable, worker
        )
        return verdict.decode(), now

    async def wait(self, worker: str, *, for_work: bool, timeout_s: float) -> str | None:
        """Wait for a message to this worker ("" is the token: look for work), or None.

        Cancelling it can lose the token, never a job: whoever cancels looks for itself or passes
        the token on.
        """
        sources = [f"{self.root}:control:{worker}"]
        if for_work:
            sources.append(f"{self.root}:wake")
        got = await self.server.wait("BLPOP", *sources, _seconds(timeout_s), seconds=timeout_s)
        if got is None:
            return None
        return "" if got[0].decode() == f"{self.root}:wake" else got[1].decode()

    async def nudge(self, worker: str) -> None:
        """End this worker's own wait."""
        await self.run("pass_on", worker)

    async def pass_on(self) -> None:
        """Give the token back: it was taken by a worker that has no slot for the work."""
        await self.run("pass_on", "")

    async def _command(self, *command: Any) -> Any:
        return await self.server.command(*command)

    async def counts(self) -> dict[str, int]:
        """How many jobs are queued, scheduled and active."""
        sizes = await self._pipeline(
            *(("ZCARD", f"{self.root}:{container}") for container in CONTAINERS)
        )
        size = dict(zip(CONTAINERS, sizes, strict=True))
        queued = size["ready"] + size["suspect"] + size["followers"]
        return {"queued": queued, "scheduled": size["scheduled"], "active": size["lease"]}

    async def workers(self, now_ms: int) -> dict[str, bytes]:
        """What the workers that count as alive told about themselves, by id."""
        alive, told = await self._pipeline(
            ("ZRANGEBYSCORE", f"{self.root}:workers", now_ms, "+inf"),
            ("HGETALL", f"{self.root}:info"),
        )
        info = (
            dict(told) if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
        )
        return {worker.decode(): info[worker] for worker in alive if worker in info}

    async def server_time_ms(self) -> int:
        """The clock that decides."""
        if now := environment().script_now():
            return int(now)
        seconds, microseconds = await self._command("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    async def page(self, container: str, offset: int, limit: int) -> list[str]:
        """Job keys of one of `CONTAINERS`, or `finished`."""
        last = offset + limit - 1
        found = await self._command("ZRANGE", f"{self.root}:{container}", offset, last)
        return [_key(key).rpartition("\1")[2] for key in found]

    async def pages(self, container: str, size: int) -> AsyncGenerator[list[str], None]:
        """All job keys of one of `CONTAINERS`, or `finished`, by pages.

        Each that keeps its place meanwhile is given once, whoever comes or leaves. A page begins with the
        last one of the page before; when that is further in front by now, it is looked for there.
        """
        passed = (-math.inf, b"")
        start, back = 0, size
        while True:
            found = await self._command(
                "ZRANGE", f"{self.root}:{container}", start, start + size, "WITHSCORES"
            )
            # As Redis orders them: by score, and by bytes where scores are equal.
            places = [(float(at), key) for key, at in zip(found[::2], found[1::2], strict=True)]
            if start and (not places or places[0] > passed):
                start, back = max(0, start - back), back * 2
                continue
            if ahead := [place for place in places if place > passed]:
                passed = ahead[-1]
                yield [_key(key).rpartition("\1")[2] for _, key in ahead]
            if len(places) <= size:
                return
            start, back = start + size, size

    async def _pipeline(self, *commands: tuple[Any, ...]) -> list[Any]:
        return await self.server.pipeline(*commands)

    def channel(self, key: str) -> str:
        """Where hints about a job are published."""
        return f"{self.root}:event:{key}"


def _key(raw: bytes) -> str:
    """A job's key. One that is no UTF-8 is not ours, but is shown, and can be discarded."""
    return raw.decode("utf-8", "surrogateescape")


def _written(argument: Any) -> Any:
    return argument.encode("utf-8", "surrogateescape") if isinstance(argument, str) else argument


def _held(job: Sequence[Any]) -> Held:
    key, fence, call, state = job
    return Held(_key(key), fence, claim_of(state), call, state)


def _moment(milliseconds: int) -> int | None:
    return None if milliseconds < 0 else milliseconds


def _seconds(seconds: float) -> str:
    # Plain notation: Redis reads no "1e-05". Zero would mean: for ever.
    return f"{max(seconds, 0.001):.6f}"


def _batches(items: Iterable[T], size: Callable[[T], int] = lambda _: 0) -> Iterable[list[T]]:
    batch: list[T] = []
    total = 0
    for item in items:
        if batch and (len(batch) == BATCH or total + size(item) > BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size(item)
    if batch:
        yield batch

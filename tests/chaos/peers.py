"""queuekit and SAQ behind one small interface: enqueue, look, work."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Protocol

from redis.exceptions import RedisError

from queuekit.errors import ServerError
from tests.chaos.form import DEFAULT_LEASE_S
from tests.chaos.tasks import FUNCTIONS, POISONED

ERRORS = (ServerError, RedisError, OSError, TimeoutError)
"What a call raises while the server is away or refuses."

TERMINAL = ("complete", "failed", "aborted")

Startup = Callable[[Any], Coroutine[Any, Any, None]]

NAME = "chaos"

PATIENCE = 3
"""A lease is so many times as long as a client waits for an answer (6 by default). The battery's leases
are a tenth of the default; a client that waited for the whole of one could not keep it over a half-open
connection."""

JOB = {"ttl": 0, "retries": 10, "retry_delay": 0.2}
"""For both. A task that talks to the server fails while that is away; a job that is to survive this
comes again a little later, and more than a few times."""

POISONED_RETRIES = 3
"For both: enough to see what a queue does about a job that kills its worker each time."

ALLOWED_LOSSES = 2
"queuekit's promise P4: a job that is lost once more fails, and says so."


@dataclass(frozen=True)
class Record:
    """A job as its queue shows it."""

    status: str
    attempts: int
    losses: int
    completed_ms: int
    result: str | None
    error: str

    @property
    def terminal(self) -> bool:
        return self.status in TERMINAL


class Peer(Protocol):
    """A queue, as the battery uses it."""

    async def enqueue(self, key: str, task: str) -> bool:
        """Whether it was accepted; False: an unfinished job has the key."""
        ...

    async def look(self, keys: list[str]) -> list[Record | None]: ...

    async def work(self, name: str, concurrency: int, startup: Startup) -> None:
        """Run a worker until the process is told to end."""
        ...

    async def close(self) -> None: ...


class Queuekit:
    """Recovery rests on the lease. `retries` counts failures alone; losses are bounded apart."""

    def __init__(self, url: str, lease_s: float) -> None:
        from queuekit import Queue  # noqa: PLC0415 (one side a process; SAQ is not everywhere)

        self._lease_s = lease_s
        # With the default lease, the default too.
        short = lease_s < DEFAULT_LEASE_S
        options = {"socket_timeout": lease_s / PATIENCE} if short else {}
        self._queue = Queue.from_url(url, name=NAME, **options)

    async def enqueue(self, key: str, task: str) -> bool:
        return await self._queue.enqueue(task, timeout=60, **_options(key, task)) is not None

    async def look(self, keys: list[str]) -> list[Record | None]:
        return [_record(job) for job in await self._queue.jobs(keys)]

    async def work(self, name: str, concurrency: int, startup: Startup) -> None:
        from queuekit import Worker  # noqa: PLC0415 (as above)

        worker = Worker(
            self._queue,
            FUNCTIONS,
            id=name,
            concurrency=concurrency,
            startup=startup,
            lease_s=self._lease_s,
        )
        await worker.start()

    async def close(self) -> None:
        await self._queue.disconnect()


class Saq:
    """Recovery rests on the job's timeout (10 s by default), found by a sweep (each 60 s). With a short
    lease it gets a timeout as long, and a sweep each second; else its defaults. Each run spends
    `retries`, lost ones too."""

    def __init__(self, url: str, lease_s: float) -> None:
        from saq import Queue  # noqa: PLC0415 (as above)

        short = lease_s < DEFAULT_LEASE_S
        self._options: dict[str, Any] = {"timeout": max(1, round(lease_s))} if short else {}
        self._timers: dict[str, Any] = {"timers": {"sweep": 1}} if short else {}
        self._queue = Queue.from_url(url, name=NAME)

    async def enqueue(self, key: str, task: str) -> bool:
        options = {**_options(key, task), **self._options}
        return await self._queue.enqueue(task, **options) is not None

    async def look(self, keys: list[str]) -> list[Record | None]:
        return [_record(job) for job in await self._queue.jobs(keys)]

    async def work(self, name: str, concurrency: int, startup: Startup) -> None:
        from saq import Worker  # noqa: PLC0415 (as above)

        worker = Worker(
            self._queue,
            FUNCTIONS,
            id=name,
            concurrency=concurrency,
            startup=startup,
            **self._timers,
        )
        await worker.start()

    async def close(self) -> None:
        await self._queue.disconnect()


PEERS: dict[str, type[Queuekit | Saq]] = {"queuekit": Queuekit, "saq": Saq}


def version(peer: str) -> str:
    return f"{peer} {metadata.version(peer)}"


def _options(key: str, task: str) -> dict[str, Any]:
    poisoned = {"retries": POISONED_RETRIES} if task in POISONED else {}
    return {**JOB, **poisoned, "key": key}


def _record(job: Any) -> Record | None:
    if job is None:
        return None
    return Record(
        status=str(job.status.value),
        attempts=job.attempts,
        losses=getattr(job, "losses", 0),
        completed_ms=job.completed,
        result=job.result,
        error=(job.error or "").strip().rpartition("\n")[2],
    )

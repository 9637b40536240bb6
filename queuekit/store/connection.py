"""Connections to Redis: which client an address leads to, and one set of clients for each loop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary, WeakSet

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from queuekit.environment import environment
from queuekit.errors import InvalidUrlError, MissingDependencyError
from queuekit.store.hints import Hints

SOCKET_TIMEOUT_S = 5.0
"""A half-open connection costs at most this. Set on every connection by ourselves, since redis-py's
own default differs between its majors (none before 8)."""

MAX_CONCURRENT_COMMANDS = 20
"""Commands of one queue under way at one time on one loop; more wait their turn here. redis-py opens a
connection for each, and refuses from some number on."""

REDIS_SCHEMES = ("redis", "rediss", "unix")
BACKEND_GROUP = "queuekit.backends"
"Entry points of this group give clients for other schemes; the testing extra brings `fakeredis`."

Client = redis.asyncio.Redis


def redact(url: str) -> str:
    """The address without what is secret in it: user, password and query stay out of logs."""
    bare = re.sub(r"//[^/@]*@", "//***@", url)
    return re.sub(r"\?.*$", "?***", bare)


def client_factory(url: str, options: dict[str, Any]) -> Callable[..., Client]:
    """A function that makes clients for this address.

    Raises:
        InvalidUrlError: no scheme that queuekit knows.
        MissingDependencyError: the scheme needs an extra that is not installed.
    """
    if not isinstance(url, str):
        raise InvalidUrlError(f"the address of a queue must be text, got {type(url).__name__}.")
    scheme = urlsplit(url).scheme.lower()
    if scheme in REDIS_SCHEMES:
        return lambda **extra: Client.from_url(url, **{**_options(scheme), **options, **extra})
    for point in metadata.entry_points(group=BACKEND_GROUP):
        if point.name == scheme:
            return _backend(point, url, options)
    known = ", ".join(f"{known}://" for known in (*REDIS_SCHEMES, "fakeredis"))
    raise InvalidUrlError(
        f"{redact(url)!r} is no address of a queue: there is no scheme {scheme!r}.\n"
        f"  Known are {known}.\n"
        "  For a Redis on this machine: redis://localhost"
    )


def _backend(
    point: metadata.EntryPoint, url: str, options: dict[str, Any]
) -> Callable[..., Client]:
    try:
        make: Callable[..., Client] = point.load()
    except ImportError as error:
        raise MissingDependencyError(
            f"{point.name}:// needs a package that is not installed: {error.name}.\n"
            "  Install the testing extra: pip install 'queuekit[testing]'"
        ) from error
    return lambda **extra: make(url, **{**_options(point.name), **options, **extra})


def _options(scheme: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "protocol": 2,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": SOCKET_TIMEOUT_S,
        # What is sent again is decided here, where a script answers "already done".
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "decode_responses": False,
    }
    if scheme in ("redis", "rediss"):
        options["socket_keepalive"] = True
    return options


@dataclass
class LoopClients:
    """The clients of one queue on one loop, in one process (simulated or real)."""

    commands: Client
    waiting: Client
    "For blocking reads: its deadline is the read's own."
    hints: Hints = field(init=False)
    turn: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.hints = Hints(self.waiting)
        self.turn = asyncio.Semaphore(MAX_CONCURRENT_COMMANDS)

    async def close(self) -> None:
        await self.hints.close()
        await self.commands.aclose()
        await self.waiting.aclose()

    async def drop(self) -> None:
        """Let go of the connections of a process that is dead: nobody of it does anything any more."""
        for client in (self.commands, self.waiting):
            await client.connection_pool.disconnect(inuse_connections=True)


_all: WeakSet[Connections] = WeakSet()


async def close_all(dead: Collection[str] = ()) -> None:
    """Close the connections of every queue on the running loop, of all its processes.

    For the end of a simulated world; `dead` are the processes that were killed in it.
    """
    for connections in list(_all):
        await connections.close_all(dead)


class Connections:
    """Clients made when they are first needed, never when the queue is built.

    A queue that is made at import time has no loop yet, and may be used on several, one after the
    other; asyncio objects belong to one.
    """

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self._make = client_factory(url, options)
        self.url = url
        _all.add(self)
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, LoopClients]] = (
            WeakKeyDictionary()
        )

    def __repr__(self) -> str:
        return redact(self.url)

    def current(self) -> LoopClients:
        """The clients of the running loop and process."""
        processes = self._by_loop.setdefault(asyncio.get_running_loop(), {})
        process = environment().process
        clients = processes.get(process)
        if clients is None:
            clients = LoopClients(self._make(), self._make(socket_timeout=None))
            processes[process] = clients
        return clients

    async def close(self) -> None:
        """Close those of the running loop and process."""
        processes = self._by_loop.get(asyncio.get_running_loop(), {})
        clients = processes.pop(environment().process, None)
        if clients is not None:
            await clients.close()

    async def close_all(self, dead: Collection[str]) -> None:
        """Close those of the running loop, of every process."""
        processes = self._by_loop.get(asyncio.get_running_loop(), {})
        while processes:
            process, clients = processes.popitem()
            await (clients.drop() if process in dead else clients.close())

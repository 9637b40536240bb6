"""`fakeredis://` addresses: a Redis inside this process, for development and for tests."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import redis.asyncio
from redis.asyncio.connection import Connection

from queuekit.simulation.server import EmbeddedNetwork

_networks: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, EmbeddedNetwork]] = (
    WeakKeyDictionary()
)


class EmbeddedConnection(Connection):
    """A connection of redis-py's whose other end is in this process."""

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport: asyncio.Transport
        if hasattr(loop, "simulated_clock"):
            transport, _ = await loop.create_connection(lambda: protocol, self.host, self.port)
        else:
            servers = _networks.setdefault(loop, {})
            network = servers.setdefault(self.host, EmbeddedNetwork(loop))
            transport = network.connect(protocol, self.host)
            protocol.connection_made(transport)
        self._reader = reader
        self._writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        await self.on_connect()


def client(url: str, **options: Any) -> redis.asyncio.Redis:
    """A client for `fakeredis://name`: one server a name and event loop, gone with the loop."""
    parts = urlsplit(url)
    pool = redis.asyncio.ConnectionPool(
        connection_class=EmbeddedConnection,
        host=parts.hostname or "fakeredis",
        port=6379,
        **options,
    )
    return redis.asyncio.Redis.from_pool(pool)

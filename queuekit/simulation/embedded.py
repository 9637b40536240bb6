"""`fakeredis://` addresses: a Redis inside this process, for development and for tests."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio
from redis.asyncio.connection import Connection

from queuekit.simulation.network import EmbeddedNetwork

_ATTRIBUTE = "queuekit_embedded_networks"
"""On a loop: its networks by name. A table of ours, weak or not, would keep every loop for ever, since
a network's connections know their loop."""


def _network(loop: asyncio.AbstractEventLoop, name: str) -> EmbeddedNetwork:
    networks: dict[str, EmbeddedNetwork] = loop.__dict__.setdefault(_ATTRIBUTE, {})
    if name not in networks:
        networks[name] = EmbeddedNetwork(loop)
    return networks[name]


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
            transport = _network(loop, self.host).connect(protocol, self.host)
            protocol.connection_made(transport)
        self._reader = reader
        self._writer = asyncio.StreamWriter(transport, protocol, reader, loop)


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

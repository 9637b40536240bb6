"""What stands between the workers and their server, and can fail: connections are cut here.

before       the next command never reaches the server, and the connection ends
after        the server has done it, but the next reply gets lost, and the connection ends
half-open    nothing passes any more, and nobody is told
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import cast

MODES = ("before", "after", "half-open")


class _End(asyncio.Protocol):
    """One end of a pair."""

    def __init__(self, pair: Pair, *, from_client: bool) -> None:
        self._pair, self._from_client = pair, from_client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pair.joined(cast("asyncio.Transport", transport), client=self._from_client)

    def data_received(self, data: bytes) -> None:
        self._pair.pass_on(data, from_client=self._from_client)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pair.end()


class Pair:
    """A client's connection and the one to the server that goes with it."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._client: asyncio.Transport | None = None
        self._server: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._connecting: asyncio.Task[None] | None = None
        self.mode = ""

    def joined(self, transport: asyncio.Transport, *, client: bool) -> None:
        if client:
            self._client = transport
            self._proxy.pairs[self] = None
            self._connecting = asyncio.create_task(self._connect())
            return
        self._server = transport
        for data in self._early:
            transport.write(data)
        self._early.clear()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(
                lambda: _End(self, from_client=False), "127.0.0.1", self._proxy.target
            )
        except OSError:  # the server is away
            self.end()

    def pass_on(self, data: bytes, *, from_client: bool) -> None:
        if self.mode == "half-open":
            return
        if self.mode == ("before" if from_client else "after"):
            self.end(reset=True)
        elif not from_client:
            if self._client is not None:
                self._client.write(data)
        elif self._server is None:
            self._early.append(data)
        else:
            self._server.write(data)

    def end(self, *, reset: bool = False) -> None:
        """Close both sides; with `reset` as a machine does that knows nothing of the connection."""
        self._proxy.pairs.pop(self, None)
        for transport in (self._client, self._server):
            if transport is None or transport.is_closing():
                continue
            if reset and transport is self._client:
                transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            transport.abort()


class Proxy:
    """Listens on a port of its own, and hands over to whichever server is the primary."""

    def __init__(self, target: int) -> None:
        self.target = target
        "The port of the server."
        self.pairs: dict[Pair, None] = {}
        self.port = 0
        self._listener: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: _End(Pair(self), from_client=True), "127.0.0.1", self.port
        )
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._listener is not None
        self._listener.close()
        for pair in list(self.pairs):
            pair.end()
        # A transport that was aborted closes its socket in the loop's next turn.
        await asyncio.sleep(0)

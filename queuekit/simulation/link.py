"""A synchronous connection to a real server: a relay's way out of the simulation."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from queuekit.simulation.errors import SimulationError
from queuekit.simulation.resp import Error, Frame, Splitter, encode_command
from queuekit.simulation.scope import STATE

REAL_LIMIT_S = 10.0
"A server that does not answer for so long is dead, or its script never ends."

SOCKET_ROOM = 32_768
"Bytes that any socket holds; a server with more to say waits until its client reads."


@contextlib.contextmanager
def real_network() -> Iterator[None]:
    """Sockets that are opened here are meant to leave the simulation."""
    before, STATE.bypass = STATE.bypass, True
    try:
        yield
    finally:
        STATE.bypass = before


def open_socket(address: str) -> socket.socket:
    """A connection to a real server; for `host:port` or the path of a unix socket."""
    with real_network():
        try:
            if address.startswith("/"):
                link = _open_unix_socket(address)
            else:
                host, _, port = address.rpartition(":")
                link = socket.create_connection((host, int(port)), timeout=REAL_LIMIT_S)
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            raise SimulationError(
                f"no Redis answers at {address}: {error}.\n"
                "  Start one there, or use backend 'server' (a private one) or 'fakeredis'."
            ) from error
    return link


def _open_unix_socket(path: str) -> socket.socket:
    link = socket.socket(socket.AF_UNIX)
    try:
        link.settimeout(REAL_LIMIT_S)
        link.connect(path)
    except OSError:
        link.close()
        raise
    return link


class Link:
    """A synchronous connection to the real server.

    Its methods raise ConnectionError when the server is gone, and SimulationError when it is there
    and does not answer.
    """

    def __init__(self, address: str, database: int) -> None:
        self.is_local = address.startswith("/")
        "What the server has written to a unix socket is there at once; a network delivers late."
        self.was_full = False
        "Whether so much was waiting that the server may hold more, until there was room for it."
        self._socket = open_socket(address)
        self._splitter = Splitter()
        self._address = address
        self._asking = False
        self._aside: list[tuple[bytes, ...]] = []
        if database:
            self.ask(b"SELECT", b"%d" % database)

    def send(self, data: bytes) -> None:
        with real_network():
            self._socket.sendall(data)

    def frames(self) -> list[Frame]:
        """The next whole replies, at least one, within the real limit."""
        frames: list[Frame] = []
        while not frames:
            frames = self._splitter.frames(self._receive())
        return frames

    def frames_waiting(self) -> list[Frame]:
        """All that the server has sent without being asked; none if it has not."""
        frames: list[Frame] = []
        size = 0
        self._socket.setblocking(False)
        try:
            while True:
                data = self._socket.recv(65536)
                if not data:
                    raise self._lost()
                size += len(data)
                frames += self._splitter.frames(data)
        except BlockingIOError:
            pass
        finally:
            self._socket.settimeout(REAL_LIMIT_S)
        if self._splitter.is_cut:  # larger than the socket holds: the rest comes as we read
            frames += self.frames()
        self.was_full = size > SOCKET_ROOM
        return frames

    def _receive(self) -> bytes:
        try:
            data = self._socket.recv(65536)
        except TimeoutError as error:
            raise SimulationError(
                f"the server at {self._address} did not answer within {REAL_LIMIT_S:g} s of real time.\n"
                "  A command is answered at once, unless the server hangs or runs a script without end.\n"
                "  Look at the last command of the trace; restart the server."
            ) from error
        if not data:
            raise self._lost()
        return data

    def _lost(self) -> ConnectionResetError:
        return ConnectionResetError(f"the server at {self._address} closed the connection")

    def ask(self, *words: bytes) -> Any:
        """One command and its reply.

        Raises:
            SimulationError: the server refused it.
        """
        self._asking = True
        try:
            self.send(encode_command(list(words)))
            reply = self.frames()[0][1]
        finally:
            self._asking = False
        while self._aside:
            self.tell(*self._aside.pop(0))
        if isinstance(reply, Error):
            raise SimulationError(
                f"the server at {self._address} refused {b' '.join(words).decode()}: {reply}.\n"
                "  A simulation needs a server that lets it select, flush, and list and end clients.\n"
                "  Give it such a user, or use backend 'server' (a private one)."
            )
        return reply

    def tell(self, *words: bytes) -> None:
        """One command of which nobody needs the reply, or hears that it failed.

        The collector may end a connection at any line, also within `ask()`: then it waits for that.
        """
        if self._asking:
            self._aside.append(words)
            return
        with contextlib.suppress(SimulationError, ConnectionError):
            self.ask(*words)

    def close(self) -> None:
        self._socket.close()

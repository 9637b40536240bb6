"""The client's end of a connection that sync code holds: what has arrived, and who waits for more."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Coroutine
from typing import Any, cast
from weakref import WeakValueDictionary

from queuekit.simulation.blocking import holds_loop, loop_here, wait
from queuekit.simulation.errors import RefusedInSimulation, SimulationError, ThreadEnded
from queuekit.simulation.loop import SimulatedLoop
from queuekit.simulation.process import PROCESS, Process, is_dead
from queuekit.simulation.scope import STATE
from queuekit.simulation.threads import Wait
from queuekit.simulation.wire import Wire

BY_DESCRIPTOR: WeakValueDictionary[int, ClientEnd] = WeakValueDictionary()
"The ends that somebody asks for by a descriptor."


class ClientEnd(asyncio.Protocol):
    """A connection of a simulation, for blocking calls.

    Args:
        loop: that of the simulation.
        address: where the client meant to connect: host and port, or the path of a unix socket.
    """

    def __init__(self, loop: SimulatedLoop, address: Any) -> None:
        self.address = address
        self._loop = loop
        self._network = loop.network
        self._wire: Wire | None = None
        self._received = bytearray()
        self._hung_up = False
        self._spoken = False
        "Whether the client has sent anything."
        self._waiting: list[asyncio.Future[None]] = []
        self._descriptors: tuple[socket.socket, socket.socket] | None = None
        self._marked = False
        "Whether the descriptor shows that there is something to read."

    # -- connecting

    def connect(self, timeout: float | None) -> None:
        """Reach the simulated Redis.

        Raises:
            ConnectionRefusedError: it is down.
            TimeoutError: the network did not carry it in time.
        """
        if holds_loop():
            self._connect_at_once()
        else:
            wait(self._connect(timeout))

    async def _connect(self, timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                if isinstance(self.address, tuple):
                    await self._loop.create_connection(lambda: self, *self.address[:2])
                else:
                    path = os.fsdecode(self.address)
                    await self._loop.create_unix_connection(lambda: self, path)
        except TimeoutError as error:
            raise TimeoutError("timed out") from error

    def _connect_at_once(self) -> None:
        process = PROCESS.get()
        self._end_with(process)
        if process is not None and process.cut_off:
            raise _would_wait("connect", self.address)
        self.connection_made(self._loop.connect_now(self, self._name))

    @property
    def _name(self) -> str:
        if isinstance(self.address, tuple):
            return ":".join(map(str, self.address[:2]))
        return os.fsdecode(self.address)

    # -- what the network calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast("Wire", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._changed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._changed()

    def _changed(self) -> None:
        self._mark()
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    # -- what the client calls

    def send(self, data: bytes) -> None:
        """Hand bytes to the network, which takes any number of them.

        Raises:
            OSError: the connection is closed.
            RefusedInSimulation: they are not Redis's protocol.
        """
        wire = self._open_wire()
        if self._at_end:
            raise self._why_closed() or BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        self._spoken = True
        if holds_loop():
            wire.write_now(data)
        else:
            wire.write(data)
        if isinstance(wire.ended_by, RefusedInSimulation):
            raise wire.ended_by

    def receive(self, size: int, timeout: float | None, *, keep: bool = False) -> bytes:
        """What has arrived, at most so much; nothing at the connection's end.

        Args:
            size: in bytes.
            timeout: seconds to wait for the first of them; None is without end, 0 not at all.
            keep: leave it there to be read again.

        Raises:
            TimeoutError: nothing arrived in time.
            BlockingIOError: nothing is there, and `timeout` is 0.
            ConnectionResetError: the connection was reset.
        """
        self._open_wire()
        if self._is_over:
            return b""
        if not self.readable:
            if timeout == 0:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            if not self._spoken:
                raise RefusedInSimulation(
                    f"the client connected to {self._name} waits for the server to speak first.\n"
                    "  In a simulation every address leads to a simulated Redis, which only answers.\n"
                    "  Replace the service by a stand-in in the test."
                )
            if not wait_for_any([self], timeout):
                raise TimeoutError("timed out")
        data = bytes(self._received[:size])
        if not data and (why := self._why_closed()) is not None:
            raise why
        if not keep:
            del self._received[:size]
            self._mark()
        return data

    def close(self) -> None:
        """Hang up: the server hears of it a step later. Harmless at any time, in any thread.

        A collector may call it in the midst of anything, so that here nothing is changed at once.
        """
        if self._hung_up or self._wire is None or self._is_over:
            return
        self._hung_up = True
        nobodys = (
            self._loop.server_context()
        )  # what was closed is closed, though its process is paused
        self._loop.call_soon_threadsafe(self._wire.close, context=nobodys)

    @property
    def readable(self) -> bool:
        """Whether reading gives something at once, be it the end."""
        assert self._wire is not None
        return bool(self._received) or self._at_end

    @property
    def _at_end(self) -> bool:
        assert self._wire is not None
        return self._hung_up or self._is_over or self._wire.is_closing()

    @property
    def _is_over(self) -> bool:
        """Whether its simulation has ended. What a pool still holds of it is found closed."""
        return self._loop.network is not self._network

    def _open_wire(self) -> Wire:
        """The connection, for code that may use it: nothing that a dead process does is seen."""
        assert self._wire is not None
        if not self._is_over:
            if loop_here() is not self._loop:
                raise RefusedInSimulation(
                    f"a connection to {self._name} that was made in a simulation is used outside of it, in "
                    f"thread {threading.current_thread().name!r}.\n"
                    "  Its other end is the simulated Redis, which lives in virtual time.\n"
                    "  Use it in the test, in its processes and in sync tasks; or connect anew."
                )
            self._end_with(PROCESS.get())
        return self._wire

    def _end_with(self, process: Process | None) -> None:
        """Go no further in a process that was killed while this code ran."""
        if not is_dead(process):
            return
        if holds_loop():
            raise ThreadEnded  # a step cannot be left where it stands; its `finally` reach nobody
        assert STATE.baton is not None
        STATE.baton.wait_for(Wait())  # what never comes

    def _why_closed(self) -> Exception | None:
        assert self._wire is not None
        if self._is_over:
            return ConnectionResetError(
                errno.ECONNRESET, "the simulation of this connection is over"
            )
        error = self._wire.ended_by
        if isinstance(error, ConnectionResetError):
            return ConnectionResetError(errno.ECONNRESET, str(error))
        return error

    # -- waiting

    async def arrival(self) -> None:
        """Wait until it can be read."""
        while not self.readable:
            future = self._loop.create_future()
            self._waiting.append(future)
            try:
                await future
            finally:
                self._waiting.remove(future)

    # -- a descriptor to ask with `select`

    def descriptor(self) -> int:
        """A real one that can be read from exactly while this connection can."""
        if self._descriptors is None:
            self._descriptors = socket.socketpair()
            BY_DESCRIPTOR[self._descriptors[0].fileno()] = self
        self._mark()
        return self._descriptors[0].fileno()

    def _mark(self) -> None:
        if self._descriptors is None or self._marked == self.readable:
            return
        ours, other = self._descriptors
        self._marked = not self._marked
        if self._marked:
            other.send(b"!")
        else:
            ours.recv(1)

    def abandon(self) -> None:
        """Hang up for good: nobody holds the socket any more. Gives real descriptors back."""
        self.close()
        if self._descriptors is not None:
            del BY_DESCRIPTOR[self._descriptors[0].fileno()]
            for descriptor in self._descriptors:
                descriptor.close()
            self._descriptors = None


def _would_wait(what: str, address: Any) -> SimulationError:
    where = ":".join(map(str, address[:2])) if isinstance(address, tuple) else os.fsdecode(address)
    return SimulationError(
        f"a sync client would have to {what} {where} on the event loop's own thread.\n"
        "  Only what the server answers at once can be had there: the world stands still meanwhile, as in\n"
        "  production every other job of the worker does.\n"
        "  Call it in a sync task or by asyncio.to_thread(), or use the asyncio client."
    )


def wait_for_any(ends: list[ClientEnd], timeout: float | None) -> bool:
    """Wait until one of the connections can be read; whether one can.

    Raises:
        SimulationError: the caller holds the event loop.
    """
    if any(end.readable for end in ends):
        return True
    if holds_loop():
        raise _would_wait("wait for", ends[0].address)
    return wait(_first_of(ends, timeout))


async def _first_of(ends: list[ClientEnd], timeout: float | None) -> bool:
    arrivals: list[Coroutine[Any, Any, None]] = [end.arrival() for end in ends]
    try:
        async with asyncio.timeout(timeout):
            if len(arrivals) == 1:
                await arrivals[0]
            else:
                tasks = [asyncio.ensure_future(arrival) for arrival in arrivals]
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in tasks:
                        task.cancel()
    except TimeoutError:
        return any(end.readable for end in ends)
    return True

"""Sockets of sync clients: one that connects in a simulation leads to the simulated Redis.

It stays the object that the client made, and becomes a `SimulatedSocket` when it connects; so do only
those that do. Its connection is a `Wire` like that of an asyncio client: it belongs to the process
whose code connects, and all that happens to processes and connections happens to it. How the client
waits for what arrives there says `blocking.py`.

Under TLS there is nothing to encrypt: `wrap_socket` gives such a socket back as it is.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary, finalize

from queuekit.simulation.blocking import loop_here
from queuekit.simulation.client_end import BY_DESCRIPTOR, ClientEnd
from queuekit.simulation.errors import RefusedInSimulation
from queuekit.simulation.scope import STATE

_ADDRESSED = (socket.AF_INET, socket.AF_INET6)
_FAMILIES = (*_ADDRESSED, socket.AF_UNIX)
_COMMAND = re.compile(rb"\*\d+\r\n\$\d+\r\n")
"How each command of a Redis client begins."

_ends: WeakKeyDictionary[socket.socket, ClientEnd] = WeakKeyDictionary()


def end_of(sock: object) -> ClientEnd | None:
    """The client's end that a socket or its descriptor stands for, if it is connected in a simulation."""
    if isinstance(sock, int):
        return BY_DESCRIPTOR.get(sock)
    return _ends.get(sock) if isinstance(sock, socket.socket) else None


class _Connected:
    """What a simulated socket does itself; the rest is done by the real one, which leads nowhere."""

    __slots__ = ()

    def _end(self) -> ClientEnd:
        end = _ends.get(self)  # type: ignore[call-overload]
        if end is None:  # a duplicate of a descriptor, which nobody has connected
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return end  # type: ignore[no-any-return]

    # -- to the server

    def send(self, data: Any, flags: int = 0) -> int:
        whole = memoryview(data).tobytes()
        self._end().send(whole)
        return len(whole)

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.send(data)

    def sendmsg(self, buffers: Iterable[Any], *rest: Any) -> int:
        return self.send(b"".join(memoryview(part).tobytes() for part in buffers))

    # -- from the server

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        timeout: float | None = self.gettimeout()  # type: ignore[attr-defined]
        if flags & socket.MSG_DONTWAIT:
            timeout = 0.0
        return self._end().receive(bufsize, timeout, keep=bool(flags & socket.MSG_PEEK))

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        room = memoryview(buffer).cast("B")
        data = self.recv(nbytes or len(room), flags)
        room[: len(data)] = data
        return len(data)

    # -- the rest

    def getpeername(self) -> Any:
        return self._end().address

    def fileno(self) -> int:
        """A descriptor that can be read when this socket can; nothing else can be done with it."""
        end = _ends.get(self)  # type: ignore[call-overload]
        return -1 if end is None else end.descriptor()

    def shutdown(self, how: int) -> None:
        if how != socket.SHUT_RD:  # the server closes when it hears that nothing more will come
            self._end().close()

    def _real_close(self, *rest: Any) -> None:
        end = _ends.pop(self, None)  # type: ignore[call-overload]
        if end is not None:
            end.abandon()
        super()._real_close(*rest)  # type: ignore[misc]  # of Python's own `socket.socket`


@functools.cache
def _simulated(kind: type[socket.socket]) -> type[socket.socket]:
    """The class that a socket of this one becomes."""
    return type(f"Simulated{kind.__name__}", (_Connected, kind), {"__slots__": ()})


# -- what stands in for functions of Python's library while there are simulations

_real_connect = socket.socket.connect
_real_connect_ex = socket.socket.connect_ex
_real_send = socket.socket.send
_real_sendall = socket.socket.sendall
_real_getaddrinfo = socket.getaddrinfo
_real_wrap_socket = ssl.SSLContext.wrap_socket


def _connect(self: socket.socket, address: Any) -> None:
    loop = loop_here()
    if loop is None:
        _keep_strangers_out(address)
        _real_connect(self, address)
        return
    simulatable = self.family in _FAMILIES and self.type == socket.SOCK_STREAM
    if not simulatable or isinstance(self, ssl.SSLSocket) or self.gettimeout() == 0:
        raise RefusedInSimulation(
            f"a connection to {address!r} would leave the simulation for the real network.\n"
            "  Simulated are blocking connections to Redis by TCP or a unix socket, and those of asyncio.\n"
            "  Replace what connects there by a stand-in in the test."
        )
    if self in _ends:
        raise OSError(errno.EISCONN, os.strerror(errno.EISCONN))
    end = ClientEnd(loop, address)
    try:
        end.connect(self.gettimeout())
    except OSError:
        raise
    except (
        BaseException
    ):  # the end of the world, a call that is refused: clients do not close after it
        self.close()
        raise
    self.__class__ = _simulated(type(self))  # type: ignore[arg-type]  # classes hash
    _ends[self] = end
    # A socket that a collector finds in a cycle is not in the dictionary any more when it is closed.
    finalize(self, end.abandon).atexit = False


def _keep_strangers_out(address: Any) -> None:
    """Refuse a connection of a thread that was started in a simulation, and does not live in it."""
    if STATE.left is None or STATE.bypass:
        return
    loop, network = STATE.left
    if network is not None and loop.network is network:
        raise RefusedInSimulation(
            f"thread {threading.current_thread().name!r} was started by hand in a simulation, lives in real "
            f"time, and connects to {address!r}.\n"
            "  Threads that sync tasks start live in the simulation, as those of asyncio.to_thread() do.\n"
            "  Start it there, instead of on the event loop, in a plain test or by an executor of Python's."
        )


def _connect_ex(self: socket.socket, address: Any) -> int:
    if loop_here() is None:
        _keep_strangers_out(address)
        return _real_connect_ex(self, address)
    try:
        _connect(self, address)
    except RefusedInSimulation:
        raise
    except TimeoutError:
        return errno.EAGAIN
    except OSError as error:
        return error.errno or errno.ECONNREFUSED
    return 0


def _send(self: socket.socket, data: Any, *flags: int) -> int:
    _keep_in(self, data)
    return _real_send(self, data, *flags)


def _sendall(self: socket.socket, data: Any, *flags: int) -> None:
    _keep_in(self, data)
    _real_sendall(self, data, *flags)


def _keep_in(sock: socket.socket, data: Any) -> None:
    """Refuse a Redis client's connection that was made before the simulation, and leads to a real server."""
    if loop_here() is None or not _COMMAND.match(data):
        return
    raise RefusedInSimulation(
        f"a connection to {sock.getpeername()!r} that was made outside of this simulation is used in it.\n"
        "  Its other end is a real Redis; those that are made in the simulation lead to the simulated one.\n"
        "  Let the client connect anew: close() it, or its pool, before the simulation begins."
    )


def _getaddrinfo(
    host: Any,
    port: Any,
    family: int = 0,
    type: int = 0,  # noqa: A002 (the name that Python's own has)
    proto: int = 0,
    flags: int = 0,
) -> list[Any]:
    """In a simulation a name is its own address: nobody is asked for it, and errors show it."""
    streams = type in (0, socket.SOCK_STREAM)
    if host is None or not streams or not str(port).isdigit():
        return _real_getaddrinfo(host, port, family, type, proto, flags)
    if loop_here() is None:
        _keep_strangers_out((host, port))
        return _real_getaddrinfo(host, port, family, type, proto, flags)
    name = host.decode() if isinstance(host, bytes) else host
    if family == socket.AF_INET6:
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (name, int(port), 0, 0))]
    return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (name, int(port)))]


def _wrap_socket(self: ssl.SSLContext, sock: socket.socket, *rest: Any, **options: Any) -> Any:
    if end_of(sock) is not None:
        return sock
    return _real_wrap_socket(self, sock, *rest, **options)


_REPLACED: list[tuple[Any, str, Any, Any]] = [
    (socket.socket, "connect", _real_connect, _connect),
    (socket.socket, "connect_ex", _real_connect_ex, _connect_ex),
    (socket.socket, "send", _real_send, _send),
    (socket.socket, "sendall", _real_sendall, _sendall),
    (socket, "getaddrinfo", _real_getaddrinfo, _getaddrinfo),
    (ssl.SSLContext, "wrap_socket", _real_wrap_socket, _wrap_socket),
]


def install() -> None:
    """Let sockets that connect in a simulation lead to its Redis."""
    for owner, name, _, ours in _REPLACED:
        setattr(owner, name, ours)


def uninstall() -> None:
    """Put back what Python's library has there."""
    for owner, name, real, _ in _REPLACED:
        setattr(owner, name, real)

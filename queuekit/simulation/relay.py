"""A real Redis in virtual time: each command is one synchronous round trip.

Nothing is ever owed by the server while the loop turns, so time can jump as with the embedded one,
and the order of everything is the same there and here. Three mechanisms do it, each measured:

- a command is sent, and its reply read, in one go;
- a blocking read goes out without its timeout, behind a PING on the same connection: when the PONG is
  here the server has looked at it, so either its reply is here too, or the client is parked. A virtual
  timer and CLIENT UNBLOCK end it;
- after each command those who are parked or subscribed are looked at, in the order of their
  connections, behind a PING on the control connection: what the server had to tell is there by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

from queuekit.simulation.errors import SimulationError
from queuekit.simulation.expiry import Expiry
from queuekit.simulation.resp import Error, Splitter, encode_command
from queuekit.simulation.scope import STATE, current_clock
from queuekit.simulation.wire import HANDSHAKES, Scripts, Wire

REAL_LIMIT_S = 10.0
"A server that does not answer for so long is dead, or its script never ends."

BLOCKING = {
    b"BLPOP": -1,
    b"BRPOP": -1,
    b"BLMOVE": -1,
    b"BRPOPLPUSH": -1,
    b"BZPOPMIN": -1,
    b"BZPOPMAX": -1,
    b"BLMPOP": 1,
    b"BZMPOP": 1,
}
"Blocking commands, and where their timeout stands."

_SUBSCRIBING = {b"SUBSCRIBE": 0, b"UNSUBSCRIBE": 0, b"PSUBSCRIBE": 0, b"PUNSUBSCRIBE": 0}
_UNKNOWN_BLOCKING = frozenset({b"WAIT", b"WAITAOF", b"MONITOR", b"SYNC", b"PSYNC", b"SSUBSCRIBE"})
_PONG = b"+PONG\r\n"


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
    """A synchronous connection to the real server."""

    def __init__(self, address: str, database: int) -> None:
        self._socket = open_socket(address)
        self._splitter = Splitter()
        self._address = address
        if database:
            self.ask(b"SELECT", b"%d" % database)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> bytes:
        """Bytes, within the real limit."""
        try:
            data = self._socket.recv(65536)
        except TimeoutError as error:
            raise SimulationError(
                f"the server at {self._address} did not answer within {REAL_LIMIT_S:g} s of real time.\n"
                "  It hangs, or runs a script that does not end."
            ) from error
        if not data:
            raise ConnectionResetError(f"the server at {self._address} closed the connection")
        return data

    def waiting(self) -> bytes:
        """What the server has sent without being asked."""
        self._socket.setblocking(False)
        try:
            return self._socket.recv(65536)
        except BlockingIOError:
            return b""
        finally:
            self._socket.settimeout(REAL_LIMIT_S)

    def replies(self, data: bytes) -> list[Any]:
        """The whole replies in these bytes and what was left before."""
        return self._splitter.replies(data)

    def ask(self, *words: bytes) -> Any:
        """One command and its reply; an error reply raises."""
        self.send(encode_command(list(words)))
        replies: list[Any] = []
        while not replies:
            replies = self.replies(self.receive())
        if isinstance(replies[0], Error):
            raise SimulationError(f"{words[0].decode()} was refused: {replies[0]}")
        return replies[0]

    def close(self) -> None:
        self._socket.close()


class Relay:
    """The server's end of one simulated connection, on a real server."""

    def __init__(self, network: RelayNetwork, wire: Wire) -> None:
        self.wire = wire
        self.number = wire.number
        self.parked: asyncio.TimerHandle | bool = False
        self.subscribed = False
        self._network = network
        self._link = Link(network.address, network.database)
        self._id: int = self._link.ask(b"CLIENT", b"ID")
        self._protocol = 2
        self._backlog: list[list[bytes]] = []

    def execute(self, command: list[bytes]) -> None:
        if self.parked or self._backlog:
            self._backlog.append(command)
            return
        self._run(command)

    def _run(self, command: list[bytes]) -> None:
        name = command[0].upper()
        self._network.expire_keys()
        refusal = self._network.refusal(command)
        if refusal is not None:
            self._answer(Error(f"ERR queuekit: {refusal}"))
        elif name in BLOCKING and not self._network.in_transaction(self):
            self._block(command, name)
        elif name in _SUBSCRIBING:
            self.subscribed = True
            self._link.send(encode_command(command))
            self._read(max(1, len(command) - 1))
        else:
            self._relay(command, name)
        self._network.settle(self)

    def _relay(self, command: list[bytes], name: bytes) -> None:
        if name == b"SELECT":
            database = self._network.map_database(int(command[1]))
            if isinstance(database, str):
                self._answer(Error(f"ERR queuekit: {database}"))
                return
            command = [b"SELECT", b"%d" % database]
        if name == b"HELLO" and len(command) > 1:
            self._protocol = int(command[1])
        self._network.track_transaction(self, name)
        rewritten = self._network.expiry.rewrite(command)
        if isinstance(rewritten, str):
            self._answer(Error(f"ERR queuekit: {rewritten}"))
            return
        changed, read = rewritten
        self._link.send(encode_command(changed))
        self._read(1, read, traced=name not in HANDSHAKES)

    def _answer(self, value: Any) -> None:
        """A reply of our own making."""
        self.wire.reply(_encode(value), value, traced=True)

    def _read(
        self, count: int, read: Callable[[Any], Any] | None = None, *, traced: bool = True
    ) -> None:
        while count > 0:
            data = self._link.receive()
            replies = self._link.replies(data)
            count -= len(replies)
            self._pass_on(data, replies, read, traced)

    def _pass_on(
        self, data: bytes, replies: list[Any], read: Callable[[Any], Any] | None, traced: bool
    ) -> None:
        """Bytes as they came; the last reply of them stands for them in the trace."""
        if not replies:
            self.wire.reply(data, None, traced=False)
            return
        value = replies[0] if len(replies) == 1 else replies
        if read is not None and not isinstance(value, Error):
            changed = read(value)
            if changed is not value:
                self._answer(changed)
                return
        self.wire.reply(data, value, traced=traced)

    # -- blocking

    def _block(self, command: list[bytes], name: bytes) -> None:
        at = BLOCKING[name] % len(command)
        try:
            timeout = float(command[at])
        except ValueError:
            self._link.send(encode_command(command))  # the server says what is wrong
            self._read(1)
            return
        endless = [*command[:at], b"0", *command[at + 1 :]]
        self.parked = True
        if timeout:
            self.parked = asyncio.get_running_loop().call_later(timeout, self._unblock)
        self._link.send(encode_command([b"PING"]) + encode_command(endless))
        data = b""
        while len(data) < len(_PONG):
            data += self._link.receive()
        if len(data) > len(_PONG):
            self._pushed(data[len(_PONG) :])

    def _unblock(self) -> None:
        if not self.parked:
            return
        self._network.control.ask(b"CLIENT", b"UNBLOCK", b"%d" % self._id)
        self._network.fence()
        self.poll()

    def poll(self) -> None:
        """Pass on what the server sent unasked: the end of a blocking read, a message."""
        data = self._link.waiting()
        if data:
            self._pushed(data)

    def _pushed(self, data: bytes) -> None:
        replies = self._link.replies(data)
        while not replies:
            data += (more := self._link.receive())
            replies = self._link.replies(more)
        if self.parked:
            if isinstance(self.parked, asyncio.TimerHandle):
                self.parked.cancel()
            self.parked = False
            if self._backlog:
                asyncio.get_running_loop().call_soon(self._go_on)
        for reply in replies:
            self.wire.reply(_encode(reply, self._protocol), reply, traced=True)

    def _go_on(self) -> None:
        backlog, self._backlog = self._backlog, []
        for index, command in enumerate(backlog):
            if self.parked:
                self._backlog = backlog[index:]
                return
            self._run(command)

    def close(self) -> None:
        if isinstance(self.parked, asyncio.TimerHandle):
            self.parked.cancel()
        self.parked = False
        self.subscribed = False
        self._link.close()
        self._network.forget(self)


class RelayNetwork:
    """A network whose one Redis is a real server.

    Args:
        loop: the simulated loop.
        address: of the real server: `host:port` or the path of a unix socket.
        database: the one that is ours.
        owns_server: whether all of it is ours: then all 16 databases are, and scripts are flushed.
        flush: empty the database first, instead of refusing one that has keys.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: str,
        database: int,
        *,
        owns_server: bool,
        flush: bool,
    ) -> None:
        self.address = address
        self.database = database
        self.scripts = Scripts()
        self.control = Link(address, database)
        self.wires: list[Wire] = []
        self.expiry = Expiry(_now_ms)
        self._loop = loop
        self._owns_server = owns_server
        self._relays: list[Relay] = []
        self._transactions: set[int] = set()
        self._loaded: set[bytes] = set()
        self._client_database: int | None = None
        self._prepare(flush)

    def _prepare(self, flush: bool) -> None:
        if self._owns_server:
            self.control.ask(b"FLUSHALL")
            self.control.ask(b"SCRIPT", b"FLUSH")
            return
        keys = self.control.ask(b"DBSIZE")
        if keys and not flush:
            self.control.close()
            raise SimulationError(
                f"database {self.database} at {self.address} holds {keys} keys, and a simulation "
                "needs an empty one.\n"
                "  It would mix with them, and remove everything at its end.\n"
                "  Name another database (redis://host:port/15), or let it be emptied with\n"
                "  --queuekit-flush or flush=True."
            )
        if keys:
            self.control.ask(b"FLUSHDB")

    def connect(self, protocol: asyncio.BaseProtocol, address: str) -> asyncio.Transport:
        """A connection; whatever address it means, there is one server."""
        wire = Wire(self._loop, protocol, address, len(self.wires) + 1, self.scripts)
        relay = Relay(self, wire)
        wire.peer = relay
        self.wires.append(wire)
        self._relays.append(relay)
        return wire

    def refusal(self, command: list[bytes]) -> str | None:
        """Why a command cannot be relayed, or None."""
        name = command[0].upper()
        if name in _UNKNOWN_BLOCKING or (
            name in (b"XREAD", b"XREADGROUP") and b"BLOCK" in map(bytes.upper, command)
        ):
            return f"{name.decode()} would wait in the server's own time; it is not relayed"
        if name in (b"EVAL", b"SCRIPT"):
            sha = self.scripts.learn(command)
            if sha is not None:
                self._loaded.add(sha)
        if name == b"SCRIPT" and len(command) > 1 and command[1].upper() == b"FLUSH":
            self._loaded.clear()
        # A script of an earlier run may still be there; to a new world every script is unknown.
        if name == b"EVALSHA" and not self._owns_server and command[1].lower() not in self._loaded:
            command[1] = b"0" * 40
        return None

    def map_database(self, number: int) -> int | str:
        """The real database for the one that clients mean, or why there is none."""
        if self._owns_server:
            return number
        if self._client_database is None:
            self._client_database = number
        if number == self._client_database:
            return self.database
        return (
            f"clients use databases {self._client_database} and {number}, but one is given; "
            "a private server has all 16"
        )

    def track_transaction(self, relay: Relay, name: bytes) -> None:
        """Inside MULTI blocking commands do not block."""
        if name == b"MULTI":
            self._transactions.add(relay.number)
        elif name in (b"EXEC", b"DISCARD"):
            self._transactions.discard(relay.number)

    def in_transaction(self, relay: Relay) -> bool:
        return relay.number in self._transactions

    def expire_keys(self) -> None:
        """Remove the keys whose virtual time is over."""
        over = self.expiry.due()
        if over:
            self.control.ask(b"DEL", *over)

    def fence(self) -> None:
        """What the server had to tell others before this is in their sockets after it."""
        self.control.ask(b"PING")

    def settle(self, sender: Relay) -> None:
        """After a command: pass on what it caused for others, oldest connection first."""
        others = [r for r in self._relays if r is not sender and (r.parked or r.subscribed)]
        if others or sender.subscribed:
            self.fence()
            if sender.subscribed:
                sender.poll()
            for relay in others:
                relay.poll()

    def forget(self, relay: Relay) -> None:
        """A connection is closed; a blocked one must be gone before anything else happens."""
        if relay in self._relays:
            self._relays.remove(relay)
            with contextlib.suppress(SimulationError):  # the server may have seen it go already
                self.control.ask(b"CLIENT", b"KILL", b"ID", b"%d" % relay._id)

    def close(self) -> None:
        for wire in self.wires:
            wire.abort()
        self.control.ask(b"FLUSHALL" if self._owns_server else b"FLUSHDB")
        self.control.close()


def _now_ms() -> int:
    clock = current_clock()
    assert clock is not None, "a relay works inside its simulation only"
    return clock.time_ns() // 1_000_000


def _encode(value: Any, protocol: int = 2) -> bytes:
    """A reply in RESP."""
    if isinstance(value, Exception):
        return f"-{value}\r\n".encode()
    if value is None:
        return b"_\r\n" if protocol == 3 else b"*-1\r\n"
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, list):
        push = protocol == 3 and value and value[0] in (b"message", b"pmessage")
        header = b">%d\r\n" if push else b"*%d\r\n"
        return header % len(value) + b"".join(_encode(item, protocol) for item in value)
    data = cast("bytes", value)
    return b"$%d\r\n%s\r\n" % (len(data), data)

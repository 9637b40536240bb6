"""A real Redis in virtual time: each command is one synchronous round trip.

Nothing is ever owed by the server while the loop turns, so time can jump as with the embedded one,
and the order of everything is the same there and here. Three mechanisms do it, each measured:

- a command is sent, and its reply read, in one go;
- a blocking read goes out without its timeout, behind a PING on the same connection: when the PONG is
  here the server has looked at it, so after another PING, on the control connection, either its reply
  is here too, or the client is parked. A virtual timer and CLIENT UNBLOCK end it;
- after each command those who are parked or subscribed are looked at, in the order of their
  connections, behind a PING on the control connection: what the server had to tell is there by then.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

from queuekit.simulation.contents import READER
from queuekit.simulation.errors import SimulationError
from queuekit.simulation.expiry import Expiry
from queuekit.simulation.expiry import refusal as expiry_refusal
from queuekit.simulation.link import REAL_LIMIT_S, Link, open_socket, real_network
from queuekit.simulation.resp import (
    Error,
    Frame,
    encode_command,
    encode_error,
    in_order,
    is_push,
    items,
)
from queuekit.simulation.rewritten_scripts import Reader
from queuekit.simulation.scope import current_clock
from queuekit.simulation.wire import HANDSHAKES, Scripts, Wire
from queuekit.store.scripts import Script

__all__ = ["REAL_LIMIT_S", "Link", "Relay", "RelayNetwork", "open_socket", "real_network"]

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

_SUBSCRIBING = frozenset({b"SUBSCRIBE", b"UNSUBSCRIBE", b"PSUBSCRIBE", b"PUNSUBSCRIBE"})
_UNKNOWN_BLOCKING = frozenset({b"WAIT", b"WAITAOF", b"MONITOR", b"SYNC", b"PSYNC", b"SSUBSCRIBE"})
_OUT_OF_BOUNDS = frozenset({b"SHUTDOWN", b"SWAPDB", b"MOVE", b"REPLICAOF", b"SLAVEOF", b"FAILOVER"})
"They reach beyond the databases of the simulation, or end its server."

DATABASES = 16
"Of a server that is ours alone."

_MARK = b"queuekit-fence"
_DIRTY = encode_command([b"QUEUEKIT-REFUSED"])
"No command of any server's: sent inside MULTI, it makes EXEC refuse the whole, as it must be."


class Relay:
    """The server's end of one simulated connection, on a real server."""

    def __init__(self, network: RelayNetwork, wire: Wire) -> None:
        self.wire = wire
        self.parked: asyncio.TimerHandle | bool = False
        self.subscribed = False
        self._network = network
        self._link = Link(network.address, network.database)
        self._id: int = self._link.ask(b"CLIENT", b"ID")
        self.database = network.database
        self._selected = False
        self._queued: list[Reader | None] | None = None
        "Inside MULTI: how the replies that EXEC will bring are to be read."
        self._backlog: list[list[bytes]] = []
        self._closed = False

    def execute(self, command: list[bytes]) -> None:
        if self.parked or self._backlog:
            self._backlog.append(command)
            return
        with self._reset_on_loss():
            self._run(command)

    @contextlib.contextmanager
    def _reset_on_loss(self) -> Iterator[None]:
        """A lost server is a reset connection to the client; one that hangs ends the world."""
        try:
            yield
        except ConnectionError as error:
            self.wire.cut(error)
        except SimulationError as error:
            self._network.fail(error)

    def _run(self, command: list[bytes]) -> None:
        name = command[0].upper()
        self._network.expire_keys()
        refusal = self._network.refusal(command)
        if refusal is None:
            refusal = self._use_database(command, name)
        if refusal is not None:
            self._refuse(refusal)
        elif self._queued is None and name in BLOCKING and _seconds(command) is not None:
            self._block(command)
        else:
            self._relay(command, name)
        self._network.settle(self)

    def _refuse(self, why: str) -> None:
        error = Error(f"ERR queuekit: {why}")
        if self._queued is not None:
            self._link.send(_DIRTY)
            self._link.frames()
        self.wire.reply(encode_error(str(error)), error, traced=True)

    def _use_database(self, command: list[bytes], name: bytes) -> str | None:
        """Put the real database's number into a SELECT; or why there is none.

        A client of database 0 never selects it, so its first command that is no handshake tells.
        """
        if name == b"SELECT" and len(command) == 2 and command[1].isdigit():
            asked = int(command[1])
        elif self._selected or name in HANDSHAKES or name == b"SELECT":
            return None
        else:
            asked = 0
        number = self._network.map_database(asked)
        if isinstance(number, str):
            return number
        self._selected = True
        self.database = number
        if name == b"SELECT":
            command[1] = b"%d" % number
        return None

    # -- a command and its reply

    def _relay(self, command: list[bytes], name: bytes) -> None:
        if self._network.only_ours and name == b"FLUSHALL":
            command = [b"FLUSHDB"]
        sent, read = self._network.expiry.rewrite(command, self.database)
        self._link.send(encode_command(sent))
        frames = self._read(max(1, len(command) - 1) if name in _SUBSCRIBING else 0)
        self.subscribed = self.subscribed or name in _SUBSCRIBING
        reply = in_order(name, self._track_transaction(name, frames[0], read))
        self._pass_on([reply, *frames[1:]], traced=name not in HANDSHAKES)

    def _read(self, confirmations: int) -> list[Frame]:
        """The reply, then the messages that the command has sent to its own connection.

        A command of SUBSCRIBE's family has a confirmation for each channel instead; one for none is
        an error, or put off by MULTI.
        """
        frames: list[Frame] = []
        while not frames or (confirmations == 0 and all(is_push(raw) for raw, _ in frames)):
            frames += self._link.frames()
        while isinstance(frames[0][1], list) and len(frames) < confirmations:
            frames += self._link.frames()
        if confirmations:
            return frames
        return sorted(frames, key=lambda frame: is_push(frame[0]))

    def _track_transaction(self, name: bytes, frame: Frame, read: Reader | None) -> Frame:
        raw, value = frame
        if name == b"MULTI" and not isinstance(value, Error):
            self._queued = []
        elif name == b"EXEC":
            readers, self._queued = self._queued or [], None
            if isinstance(value, list):
                frames = [_read_with(*pair) for pair in zip(items(raw), readers, strict=True)]
                header = raw[: raw.index(b"\r\n") + 2]
                return header + b"".join(part for part, _ in frames), [each for _, each in frames]
        elif name in (b"DISCARD", b"RESET"):
            self._queued = None
        elif self._queued is not None and value == b"QUEUED":
            self._queued.append(read)
        elif self._queued is None or name == b"WATCH":
            return _read_with(frame, read)
        return frame

    def _pass_on(self, frames: list[Frame], *, traced: bool = True) -> None:
        for raw, value in frames:
            self.wire.reply(raw, value, traced=traced)

    # -- waiting

    def _block(self, command: list[bytes]) -> None:
        at = BLOCKING[command[0].upper()] % len(command)
        timeout = _seconds(command)
        endless = [*command[:at], b"0", *command[at + 1 :]]
        self.parked = True
        if timeout:
            # The timer is upkeep exactly when the client's wait is: it inherits the client's context.
            self.parked = asyncio.get_running_loop().call_later(timeout, self._unblock)
        self._link.send(encode_command([b"PING"]) + encode_command(endless))
        frames = self._link.frames()[1:]  # the first is the PONG
        if frames:
            self._pushed(frames)
            return
        # Not parked for certain: a server may write PONG and answer in two goes, and we were between.
        self._network.control.ask(b"PING")
        self.poll()

    def _unblock(self) -> None:
        if not self.parked:
            return
        with self._reset_on_loss():
            self._network.control.ask(b"CLIENT", b"UNBLOCK", b"%d" % self._id)
            self._pushed(self._link.frames())

    def poll(self) -> None:
        """Pass on what the server sent unasked: the end of a blocking read, messages."""
        with self._reset_on_loss():
            # Inside MULTI nothing of ours may be sent on this connection: it would join the transaction.
            at_hand = self._link.is_local or self._queued is not None
            self._pushed(self._frames_at_hand() if at_hand else self._late_frames())

    def _frames_at_hand(self) -> list[Frame]:
        """All that the server has to say, behind a fence on the control connection."""
        frames = self._link.frames_waiting()
        while self._link.was_full:
            self._network.control.ask(b"PING")
            frames += self._link.frames_waiting()
        return frames

    def _late_frames(self) -> list[Frame]:
        """The same from a server across a network, where a fence elsewhere proves nothing."""
        if self.parked:
            clients: bytes = self._network.control.ask(b"CLIENT", b"LIST", b"ID", b"%d" % self._id)
            flags = clients.partition(b" flags=")[2].partition(b" ")[0]
            return [] if b"b" in flags else self._link.frames()
        self._link.send(encode_command([b"PING", _MARK]))
        frames: list[Frame] = []
        while not frames or frames[-1][1] not in (_MARK, [b"pong", _MARK]):
            frames += self._link.frames()
        return frames[:-1]

    def _pushed(self, frames: list[Frame]) -> None:
        if not frames:
            return
        if self.parked:
            self._stop_timer()
            if self._backlog:
                asyncio.get_running_loop().call_soon(self._go_on)
        self._pass_on(frames)

    def _stop_timer(self) -> None:
        if isinstance(self.parked, asyncio.TimerHandle):
            self.parked.cancel()
        self.parked = False

    def _go_on(self) -> None:
        """Commands that came behind a blocking one."""
        backlog, self._backlog = self._backlog, []
        for index, command in enumerate(backlog):
            if self.parked:
                self._backlog = backlog[index:]
                return
            if self._closed:
                return
            with self._reset_on_loss():
                self._run(command)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._stop_timer()
        self._backlog.clear()
        self.subscribed = False
        self._link.close()
        self._network.forget(self, self._id)


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
        self.half_open: list[Wire] = []
        self.numbers: Iterator[int] = itertools.count(1)
        self.expiry = Expiry(_now_us)
        self.only_ours = not owns_server
        "Whether the server has databases that are somebody else's."
        self._loop = loop
        self._relays: list[Relay] = []
        self._loaded: dict[bytes, bytes] = {}
        "The scripts that it knows, by hash."
        self._client_database: int | None = None
        self._prepare(flush)

    def _prepare(self, flush: bool) -> None:
        if not self.only_ours:
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
        wire = Wire(self._loop, protocol, address, self)
        wire.peer = self.relay(wire)
        return wire

    def relay(self, wire: Wire) -> Relay:
        """The server's end of a connection."""
        relay = Relay(self, wire)
        self._relays.append(relay)
        return relay

    def fail(self, error: SimulationError) -> None:
        """End the world at its next step: what is wrong is no matter of one client's."""
        self._loop.fatal = error  # type: ignore[attr-defined]  # of a SimulatedLoop

    def refusal(self, command: list[bytes]) -> str | None:
        """Why a command cannot be relayed, or None."""
        name = command[0].upper()
        if name in _UNKNOWN_BLOCKING or (
            name in (b"XREAD", b"XREADGROUP") and b"BLOCK" in map(bytes.upper, command)
        ):
            return f"{name.decode()} would wait in the server's own time; it is not relayed"
        if name in _OUT_OF_BOUNDS:
            return f"{name.decode()} reaches beyond the simulation; it is not relayed"
        why = expiry_refusal(command)
        if why is None:
            self._track_scripts(command, name)
        return why

    def _track_scripts(self, command: list[bytes], name: bytes) -> None:
        sha = self.scripts.learn(command)
        if sha is not None:
            self._loaded[sha] = command[2 if name == b"SCRIPT" else 1]
        if name == b"SCRIPT" and len(command) > 1 and command[1].upper() == b"FLUSH":
            self._loaded.clear()
        # A script of an earlier run may still be there; to a new world every script is unknown.
        if name in (b"EVALSHA", b"EVALSHA_RO") and self.only_ours and len(command) > 1:
            known = command[1].lower() in self._loaded
            command[1] = command[1] if known else b"0" * 40

    def map_database(self, number: int) -> int | str:
        """The real database for the one that clients mean, or why there is none."""
        if not self.only_ours:
            return number
        if self._client_database is None:
            self._client_database = number
        if number == self._client_database:
            return self.database
        return (
            f"clients use databases {self._client_database} and {number}, but one is given; "
            "a private server has all 16"
        )

    def expire_keys(self) -> None:
        """Remove the keys whose virtual time is over."""
        for database, key in self.expiry.due():
            if database != self.database:
                self.control.ask(b"SELECT", b"%d" % database)
            if self.control.ask(b"PTTL", key) > 0:  # nobody has written it anew, without an end
                self.control.ask(b"DEL", key)
            if database != self.database:
                self.control.ask(b"SELECT", b"%d" % self.database)

    def settle(self, sender: Relay) -> None:
        """After a command: pass on what it caused for others, oldest connection first."""
        others = [r for r in self._relays if r is not sender and (r.parked or r.subscribed)]
        if others or sender.subscribed:
            self.control.ask(b"PING")  # what the server had to tell others is in their sockets now
            if sender.subscribed and not sender.parked:
                sender.poll()
            for relay in others:
                relay.poll()

    def forget(self, relay: Relay, client: int) -> None:
        """A connection is closed; a blocked one must be gone before anything else happens."""
        if relay in self._relays:
            self._relays.remove(relay)
            # The server may have seen it go already, or be gone itself.
            self.control.tell(b"CLIENT", b"KILL", b"ID", b"%d" % client)

    def contents(self, root: str, database: int = 0) -> list[Any]:
        where = self.database if self.only_ours else database
        found: list[Any] = self.look(b"EVAL", READER.encode(), b"1", root.encode(), database=where)
        return found

    def look(self, *command: bytes, database: int | None = None) -> Any:
        if database in (None, self.database):
            return self.control.ask(*command)
        self.control.ask(b"SELECT", b"%d" % database)
        reply = self.control.ask(*command)
        self.control.ask(b"SELECT", b"%d" % self.database)
        return reply

    def script(self, sha: bytes) -> bytes | None:
        return self._loaded.get(sha)

    def save(self) -> object:
        held: dict[int, list[tuple[bytes, int, bytes]]] = {}
        for database in self._databases():
            held[database] = [
                (key, self.control.ask(b"PTTL", key), self.control.ask(b"DUMP", key))
                for key in sorted(self.control.ask(b"KEYS", b"*"))
            ]
        self.control.ask(b"SELECT", b"%d" % self.database)
        return held, self.expiry.save()

    def load(self, saved: Any) -> None:
        held: dict[int, list[tuple[bytes, int, bytes]]]
        held, ends = ({}, None) if saved is None else saved
        for database in self._databases():
            self.control.ask(b"FLUSHDB")
            for key, left_ms, dump in held.get(database, ()):
                # Its own end is a thousand years off (see `Expiry`): what counts is that it has one.
                self.control.ask(b"RESTORE", key, b"%d" % max(0, left_ms), dump)
        self.control.ask(b"SELECT", b"%d" % self.database)
        self.expiry.load(ends)

    def _databases(self) -> Iterator[int]:
        """Select each of ours in turn."""
        for database in (self.database,) if self.only_ours else range(DATABASES):
            self.control.ask(b"SELECT", b"%d" % database)
            yield database

    def load_scripts(self, scripts: Iterable[Script]) -> None:
        for script in scripts:
            self.control.ask(b"SCRIPT", b"LOAD", script.raw)
            self.scripts.know(script)
            self._loaded[script.sha.encode()] = script.raw

    def flush_scripts(self) -> None:
        self._loaded.clear()
        if not self.only_ours:
            self.control.ask(b"SCRIPT", b"FLUSH")

    def close(self) -> None:
        for wire in list(self.wires):
            wire.abort()
        for wire in list(self.half_open):
            wire.hang_up()
        with contextlib.suppress(ConnectionError):  # a server that is gone has nothing of ours left
            self.control.ask(b"FLUSHDB" if self.only_ours else b"FLUSHALL")
        self.control.close()


def _now_us() -> int:
    clock = current_clock()
    assert clock is not None, "a relay works inside its simulation only"
    return clock.time_ns() // 1_000


def _seconds(command: list[bytes]) -> float | None:
    """The timeout of a blocking command; None if it is none, and the server will say so."""
    try:
        seconds = float(command[BLOCKING[command[0].upper()] % len(command)])
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None


def _read_with(frame: Frame, read: Reader | None) -> Frame:
    return frame if read is None else read(frame)

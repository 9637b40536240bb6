"""The embedded Redis: fakeredis's server, made to wait, wake and order as a real one does.

With `commands.py` and `beside.py` the only module that knows fakeredis's internals, so its version is
pinned. What differs from
fakeredis as it comes:

- BLMOVE waits (its own answers nil at once on an empty list);
- blocked clients are served oldest first (its own order is that of addresses in memory), and one that
  is gone takes nothing with it;
- replies reach clients in one order: first whoever sent the command, then the others by the age of
  their connections;
- messages are pushes under RESP3, and a subscriber may send any command there;
- COPY copies, SETEX and PSETEX keep what is below a second, UNSUBSCRIBE always answers, and a blocking pop
  that takes the last element removes the key;
- an error keeps its code and stays on one line;
- INFO answers; a command's signature is read once, and a script compiled once (`commands.py`).
"""

from __future__ import annotations

import asyncio
import copy
import functools
import importlib.metadata
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, cast

from queuekit.errors import MissingDependencyError

# Before anything of fakeredis's is imported: another version may lack the names below.
if not importlib.metadata.version("fakeredis").startswith("2.40."):
    raise MissingDependencyError(
        f"fakeredis {importlib.metadata.version('fakeredis')} is installed, and the embedded Redis "
        "needs fakeredis>=2.40,<2.41.\n"
        "  It builds on fakeredis's inner classes, which change from one minor version to the next.\n"
        "  pip install 'queuekit[testing]', or use backend 'server' (a real one)."
    )

import fakeredis
from fakeredis import _msgs as msgs
from fakeredis._clients._tcp_server import encode_reply
from fakeredis._command_args_parsing import Timeout
from fakeredis._commands import Signature
from fakeredis._core import CommandItem
from fakeredis._core._database import Database
from fakeredis._helpers import NoResponse, SimpleError, SimpleString, casematch
from fakeredis.model import XStream, ZSet

from queuekit.simulation.commands import OURS, VERSION, CommandRunner, Lua, PlainDatabase, is_plain
from queuekit.simulation.resp import Error, Splitter, encode_error, in_order
from queuekit.simulation.wire import HANDSHAKES, Wire

OURS["blmove"] = Signature("blmove", "_blmove", cast("Any", (bytes, bytes, bytes, bytes, Timeout)))

_INFO = (
    b"# Server\r\nredis_version:7.4.0\r\nredis_mode:standalone\r\nos:simulated\r\n"
    b"# Clients\r\nconnected_clients:1\r\n"
    b"# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n"
    b"# Persistence\r\nloading:0\r\naof_enabled:0\r\n"
    b"# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"
)


_WAITS_FOR: dict[bytes, type] = {b"BZ": ZSet, b"XR": XStream}
"What a blocking command waits for, by how its name begins; all others wait for lists."

_spare_lua: list[tuple[dict[str, Any], Lua]] = []
"Of servers that are no more: what fakeredis keeps on one, and the scripts that were compiled in it."


@dataclass
class _Parked:
    """A blocked command: where it waits, how to try it again, and how its answer is shaped."""

    database: Database
    keys: frozenset[bytes]
    kind: type
    "What a key must hold to serve it."
    attempt: Callable[[bool], Any]
    shape: Callable[[Any], Any] | None
    timer: asyncio.TimerHandle | None

    def may_be_served(self, database: Database, key: bytes | None) -> bool:
        """Whether to try again after a write there.

        Redis tries a wait only while the written key holds something for it. One that would have to
        turn to another of its keys has no right to it yet: somebody may have waited longer there.
        """
        if self.database is not database:
            return False
        if key is None:
            return True
        item = database.get(key) if key in self.keys else None
        return item is not None and isinstance(item.value, self.kind)


class _Database(PlainDatabase):
    """Tells which keys came into being, in that order, as Redis does; fakeredis wakes all, in none."""

    def __init__(self, server: EmbeddedServer) -> None:
        super().__init__(server.fake.lock)
        self._embedded = server

    def notify_watch(self, key: bytes) -> None:
        for connection in self._watches.get(key, ()):
            connection.notify_watch()
        # Called before the write. What is a list now was one before: nobody waits on it, and to empty
        # it serves nobody. A stream can be waited on while it is there.
        item = self._dict.get(key)
        if item is not None and not isinstance(item.value, list | ZSet):
            self._embedded.written[self, key] = None

    def __setitem__(self, key: bytes, value: Any) -> None:
        if key not in self._dict:
            self._embedded.written[self, key] = None
        super().__setitem__(key, value)

    def wake_all(self) -> None:
        """Called for CLIENT UNBLOCK."""
        self._embedded.written[self, None] = None

    def __hash__(self) -> int:
        return id(self)  # of a mapping that is a place; no order follows from it

    def __eq__(self, other: object) -> bool:
        return self is other


class EmbeddedServer:
    """One Redis, and its connections in the order of their age."""

    def __init__(self) -> None:
        self.fake = fakeredis.FakeServer(version=VERSION)
        databases: Any = self.fake.dbs
        databases.default_factory = functools.partial(_Database, self)
        self.written: dict[tuple[_Database, bytes | None], None] = {}
        "Keys that came into being since waits were last tried; None stands for all of a database."
        self.connections: list[Connection] = []
        self.talking: set[Connection] = set()
        "Those that have something to send."
        self.parked: dict[Connection, _Parked] = {}
        "Oldest first: whoever waits longest is served first."
        self.lua = Lua()
        self._take_lua()

    def _take_lua(self) -> None:
        """Go on with an earlier server's Lua, if there is one: a new one costs a third of a small world."""
        if _spare_lua:
            attributes, self.lua = _spare_lua.pop()
            self.fake.__dict__.update(attributes)
            attributes["_lua_runtime"].execute("math.randomseed(0)")

    def close(self) -> None:
        """Leave the Lua to the next server, unless a script has left something in it."""
        attributes = {
            name: value for name, value in vars(self.fake).items() if name.startswith("_lua_")
        }
        if attributes and not _spare_lua and self.lua.is_clean:
            attributes["_lua_current_socket"][0] = None
            _spare_lua.append((attributes, self.lua))

    def after_command(self, sender: Connection) -> None:
        """Serve those who wait, then send what the command has brought, the sender's own first."""
        if self.written:
            self._serve_parked()
        sender.flush()
        if self.talking:
            for connection in [each for each in self.connections if each in self.talking]:
                connection.flush()

    def _serve_parked(self) -> None:
        """As Redis: key by key as they came into being, and at each the oldest wait first."""
        while self.written:
            written, self.written = self.written, {}
            for database, key in written:
                for connection, parked in list(self.parked.items()):
                    if parked.may_be_served(database, key):
                        connection.try_again(parked)


class Connection(CommandRunner):
    """The server's end of one connection."""

    def __init__(self, server: EmbeddedServer, wire: Wire) -> None:
        self.embedded = server
        self.lua = server.lua
        self.wire = wire
        self.number = wire.number
        self._outbox: list[tuple[bytes, Any, bool]] = []
        self._backlog: list[list[bytes]] = []
        self._traced = True
        self._answer: Any = None
        "The latest answer to a command; what else is sent is a push."
        self._fields: list[bytes] = []
        self._name = b""
        info = {"protocol_version": 2, "addr": f"simulated:{wire.number}", "laddr": "simulated:0"}
        super().__init__(server.fake, info)
        server.connections.append(self)

    @property
    def database(self) -> int:
        """The number of the one that it uses."""
        number: int = self._db_num
        return number

    # -- commands

    def execute(self, command: list[bytes]) -> None:
        if self in self.embedded.parked or self._backlog:
            self._backlog.append(command)
            return
        self._run(command)

    def _run(self, fields: list[bytes]) -> None:
        self._fields = fields
        self._name = fields[0].upper()
        self._traced = self._name not in HANDSHAKES
        if self._name == b"INFO":
            self.put_response(_INFO)
        else:
            try:
                self._process_command(fields)
            except Exception as error:  # a bug of fakeredis's must not look like silence
                self.put_response(
                    SimpleError(f"ERR fakeredis failed: {type(error).__name__}: {error}")
                )
        self._traced = True
        self.embedded.after_command(self)

    def _decode_error(self, error: SimpleError) -> Any:
        """As it is; fakeredis makes an exception of redis-py's of it, which has lost its code."""
        return error

    def _decode_result(self, result: Any) -> Any:
        if isinstance(result, SimpleString):
            self._answer = _Status(result.value)
        else:
            self._answer = result if is_plain(result) else super()._decode_result(result)
        return self._answer

    def put_response(self, msg: Any) -> None:
        protocol = self._client_info.protocol_version
        data = _encoded(msg, protocol)
        if protocol == 3 and isinstance(msg, list) and msg is not self._answer:
            data = b">" + data[1:]
        data, value = in_order(self._name, (data, _meaning(msg, data)))
        self._outbox.append((data, value, self._traced))
        self.embedded.talking.add(self)

    def flush(self) -> None:
        """Send what there is: an answer, then messages that the command sent to its own connection."""
        outbox, self._outbox = self._outbox, []
        self.embedded.talking.discard(self)
        if len(outbox) == 1:  # nearly always
            [(data, value, traced)] = outbox
            self.wire.reply(data, value, traced=traced)
            return
        for data, value, traced in sorted(outbox, key=lambda reply: reply[0].startswith(b">")):
            self.wire.reply(data, value, traced=traced)

    # -- blocking

    def _blocking(
        self,
        timeout: float | None,
        func: Callable[[bool], Any],
        shape: Callable[[Any], Any] | None = None,
    ) -> Any:
        result = func(True)
        self._drop_empty(self._db, _awaited(self._fields))
        if result is not None or self._in_transaction:
            return result if shape is None else shape(result)
        # The timer is upkeep exactly when the client's wait is: it inherits the client's context.
        timer = asyncio.get_running_loop().call_later(timeout, self._expire) if timeout else None
        kind = _WAITS_FOR.get(self._fields[0][:2].upper(), list)
        keys = frozenset(_awaited(self._fields))
        self.embedded.parked[self] = _Parked(self._db, keys, kind, func, shape, timer)
        self._blocked = True
        return NoResponse()

    def try_again(self, parked: _Parked) -> None:
        """A key that it may wait on was written, or CLIENT UNBLOCK was sent."""
        try:
            ended = self._unblock_reason is not None
            if ended:
                self._take_unblock_reason()
            with self.embedded.fake.lock:
                result = None if ended else parked.attempt(False)
            self._drop_empty(parked.database, parked.keys)
            if result is None and not ended:
                return
            self.unpark(result if parked.shape is None else parked.shape(result))
        except SimpleError as error:  # the target of a move is no list, or UNBLOCK with ERROR
            self.unpark(error)

    def _drop_empty(self, database: Database, keys: Collection[bytes]) -> None:
        """fakeredis's BLMPOP and BZMPOP leave a key whose last element they have taken."""
        for key in keys:
            item = database.get(key)
            if item is not None and isinstance(item.value, list | ZSet) and not item.value:
                del database[key]

    def _expire(self) -> None:
        parked = self.embedded.parked.get(self)
        if parked is not None:
            self.unpark(None if parked.shape is None else parked.shape(None))
            self.flush()

    def unpark(self, result: Any) -> None:
        """End the wait with this answer; commands that came meanwhile go on one step later."""
        parked = self.embedded.parked.pop(self)
        if parked.timer is not None:
            parked.timer.cancel()
        self._blocked = False
        self._unblock_reason = None
        self.put_response(self._decode_result(result))
        if self._backlog:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        backlog, self._backlog = self._backlog, []
        for index, fields in enumerate(backlog):
            if self in self.embedded.parked:
                self._backlog = backlog[index:]
                return
            if self not in self.embedded.connections:
                return
            self._run(fields)

    def close(self) -> None:
        parked = self.embedded.parked.pop(self, None)
        if parked is not None and parked.timer is not None:
            parked.timer.cancel()
        self._backlog.clear()
        if self in self.embedded.connections:
            self.embedded.connections.remove(self)
            self._cleanup(self.embedded.fake)
            super().close()
            self.embedded.fake.closed_sockets.clear()  # that is done

    def _blmove(self, *args: Any) -> Any:
        *keys_and_ends, timeout = args
        return self._blocking(timeout, functools.partial(_move, self, *keys_and_ends))

    def copy(self, key: CommandItem, to: CommandItem, *options: bytes) -> Any:
        """fakeredis's COPY lets two keys share one value: what is popped from one is gone from both."""
        value = copy.deepcopy(key.value)
        done = super().copy(key, to, *options)
        if done:
            to.value = value
        return done

    def setex(self, key: CommandItem, seconds: int, value: bytes) -> Any:
        """fakeredis's ends at a whole second of the clock, up to one too early."""
        reply = super().setex(key, seconds, value)
        key.expireat = self._db.time + seconds
        return reply

    def psetex(self, key: CommandItem, ms: int, value: bytes) -> Any:
        """See `setex`."""
        reply = super().psetex(key, ms, value)
        key.expireat = self._db.time + ms / 1000
        return reply

    def _unsubscribe(
        self, channels: Iterable[bytes], subscribers: dict[bytes, Any], mtype: bytes
    ) -> NoResponse:
        """As Redis: who is subscribed to nothing is told so; fakeredis says nothing at all."""
        if channels or any(self in subscribed for subscribed in subscribers.values()):
            return super()._unsubscribe(channels, subscribers, mtype)
        self.put_response([mtype, None, self._pubsub])
        return NoResponse()

    def _ttl(self, key: CommandItem, scale: float) -> int:
        """As Redis rounds; fakeredis has half a second as 0, and one and a half as 2."""
        if key.value is None or key.expireat is None:
            return -2 if key.value is None else -1
        left_ms = round((key.expireat - self._db.time) * 1000)
        return left_ms if scale == 1000.0 else (left_ms + 500) // 1000


def _awaited(fields: list[bytes]) -> list[bytes]:
    """The keys that a blocking command waits on; the target of a move is none of them."""
    name = fields[0].upper()
    if name in (b"BLPOP", b"BRPOP", b"BZPOPMIN", b"BZPOPMAX"):
        return fields[1:-1]
    if name in (b"BLMPOP", b"BZMPOP"):
        return fields[3 : 3 + int(fields[2])]
    if name in (b"XREAD", b"XREADGROUP"):
        keys_and_ids = fields[[word.upper() for word in fields].index(b"STREAMS") + 1 :]
        return keys_and_ids[: len(keys_and_ids) // 2]
    return fields[1:2]


class _Status(bytes):
    """A status, which is no bulk string.

    Who reads one reads once; a string takes two reads, and the connection may end between them.
    """

    __slots__ = ()


def _encoded(value: Any, protocol: int) -> bytes:
    """A reply as a real server writes it: fakeredis writes all strings in one way, at the top or below."""
    kind = type(value)
    if kind is bytes:
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if kind is list:
        return b"*%d\r\n%b" % (len(value), b"".join([_encoded(each, protocol) for each in value]))
    if isinstance(value, SimpleError):
        return encode_error(value.value)
    return encode_reply(value, protocol, nested=kind is not _Status)


def _meaning(value: Any, data: bytes) -> Any:
    """What a reply means to whoever reads its bytes, as the trace of a real server shows it."""
    if isinstance(value, SimpleError):
        return Error(" ".join(value.value.splitlines()))
    if type(value) is _Status or is_plain(value):
        return value
    return Splitter().replies(data)[0]


def _move(
    self: Any, source: bytes, target: bytes, take_from: bytes, put_to: bytes, first: bool
) -> bytes | None:
    taken = CommandItem(source, self._db, item=self._db.get(source), default=[])
    if not isinstance(taken.value, list):
        if first:
            raise SimpleError(msgs.WRONGTYPE_MSG)
        return None
    if not taken.value:
        return None
    put = taken
    if target != source:
        put = CommandItem(target, self._db, item=self._db.get(target), default=[])
    if not isinstance(put.value, list):
        raise SimpleError(msgs.WRONGTYPE_MSG)
    element: bytes = taken.value.pop(0 if casematch(take_from, b"left") else -1)
    put.value.insert(0 if casematch(put_to, b"left") else len(put.value), element)
    for item in (taken,) if taken is put else (taken, put):
        item.updated()
        item.writeback()
    return element

"""The embedded Redis: fakeredis's server, made to wait, wake and order as a real one does.

This is the only module that knows fakeredis's internals, so its version is pinned. What differs from
fakeredis as it comes:

- BLMOVE waits (its own answers nil at once on an empty list);
- blocked clients are served oldest first (its own order is that of addresses in memory), and one that
  is gone takes nothing with it;
- replies reach clients in one order: first whoever sent the command, then the others by the age of
  their connections;
- INFO answers; scripts are compiled once.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import fakeredis
import redis.asyncio
from fakeredis import _msgs as msgs
from fakeredis._clients._tcp_server import encode_reply
from fakeredis._command_args_parsing import Timeout
from fakeredis._commands import COMMANDS_WITH_SUB, Signature
from fakeredis._core import CommandItem
from fakeredis._helpers import NoResponse, SimpleError, casematch, decode_command_bytes
from fakeredis._socket import AsyncFakeSocket
from fakeredis.commands_mixins import scripting_mixin

from queuekit.simulation.wire import HANDSHAKES, Scripts, Wire

VERSION = (7, 4)
"Of Redis, as which it answers."

_LUA_COLLECT_EVERY = 256
"Scripts between two collections of Lua's garbage; fakeredis collects after each, which costs most of it."

_BLMOVE = Signature("blmove", "blmove", cast("Any", (bytes, bytes, bytes, bytes, Timeout)))

_INFO = (
    b"# Server\r\nredis_version:7.4.0\r\nredis_mode:standalone\r\nos:simulated\r\n"
    b"# Clients\r\nconnected_clients:1\r\n"
    b"# Memory\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n"
    b"# Persistence\r\nloading:0\r\naof_enabled:0\r\n"
    b"# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"
)


@dataclass
class _Parked:
    """A blocked command: how to try it again, and what it answers when its time is over."""

    attempt: Callable[[bool], Any]
    shape: Callable[[Any], Any] | None
    timer: asyncio.TimerHandle | None


class EmbeddedServer:
    """One Redis, and its connections in the order of their age."""

    def __init__(self) -> None:
        self.fake = fakeredis.FakeServer(version=VERSION)
        self.connections: list[Connection] = []
        self.parked: dict[Connection, _Parked] = {}
        "Oldest first: whoever waits longest is served first."
        self.compiled: dict[bytes, Any] = {}
        self.scripts_run = 0

    def after_command(self, sender: Connection) -> None:
        """Serve those who wait, then send what the command has brought, the sender's own first."""
        self._serve_parked()
        sender.flush()
        for connection in self.connections:
            connection.flush()

    def _serve_parked(self) -> None:
        served = True
        while served:
            served = False
            for connection, parked in list(self.parked.items()):
                with self.fake.lock:
                    result = parked.attempt(False)
                if result is not None:
                    connection.unpark(result if parked.shape is None else parked.shape(result))
                    served = True


class Connection(AsyncFakeSocket):
    """The server's end of one connection."""

    def __init__(self, server: EmbeddedServer, wire: Wire) -> None:
        self.embedded = server
        self.wire = wire
        self.number = wire.number
        self._outbox: list[tuple[bytes, Any, bool]] = []
        self._backlog: list[list[bytes]] = []
        self._traced = True
        info = {"protocol_version": 2, "addr": f"simulated:{wire.number}", "laddr": "simulated:0"}
        super().__init__(server.fake, 0, None, client_class=redis.asyncio.Redis, client_info=info)
        server.connections.append(self)

    # -- commands

    def execute(self, command: list[bytes]) -> None:
        if self in self.embedded.parked or self._backlog:
            self._backlog.append(command)
            return
        self._run(command)

    def _run(self, fields: list[bytes]) -> None:
        self._traced = fields[0].upper() not in HANDSHAKES
        if fields[0].upper() == b"INFO":
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

    def put_response(self, msg: Any) -> None:
        if isinstance(msg, SimpleError):
            msg = self._decode_error(msg)
        protocol = self._client_info.protocol_version
        data = encode_reply(msg, protocol, nested=type(msg) is bytes)
        self._outbox.append((data, _plain(msg, data), self._traced))

    def flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        for data, value, traced in outbox:
            self.wire.reply(data, value, traced=traced)

    # -- blocking

    def _blocking(
        self,
        timeout: float | None,
        func: Callable[[bool], Any],
        shape: Callable[[Any], Any] | None = None,
    ) -> Any:
        result = func(True)
        if result is not None or self._in_transaction:
            return result if shape is None else shape(result)
        # The timer is upkeep exactly when the client's wait is: it inherits the client's context.
        timer = asyncio.get_running_loop().call_later(timeout, self._expire) if timeout else None
        self.embedded.parked[self] = _Parked(func, shape, timer)
        self._blocked = True
        return NoResponse()

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
            self._run(fields)

    def close(self) -> None:
        parked = self.embedded.parked.pop(self, None)
        if parked is not None and parked.timer is not None:
            parked.timer.cancel()
        if self in self.embedded.connections:
            self.embedded.connections.remove(self)
            self._cleanup(self.embedded.fake)
            super().close()

    def _name_to_func(self, cmd_name: str) -> Any:
        if cmd_name == "blmove":
            return self._blmove, _BLMOVE
        return super()._name_to_func(cmd_name)

    def _blmove(self, *args: Any) -> Any:
        *keys_and_ends, timeout = args
        return self._blocking(timeout, functools.partial(_move, self, *keys_and_ends))

    # -- scripts

    def eval(self, script: bytes, numkeys: int, *keys_and_args: bytes) -> Any:
        """fakeredis's own `eval`, with the script compiled once and garbage collected now and then."""
        if numkeys > len(keys_and_args):
            raise SimpleError(msgs.TOO_MANY_KEYS_MSG)
        if numkeys < 0:
            raise SimpleError(msgs.NEGATIVE_KEYS_MSG)
        sha = hashlib.sha1(script, usedforsecurity=False).hexdigest()
        self._server.script_cache[sha.encode()] = script
        runtime = self._get_server_runtime(self._server)
        server: Any = self._server
        server._lua_current_socket[0] = self
        self._script_resp = 2
        fieldsets, self._fieldsets = self._fieldsets, {}
        keys, arguments = keys_and_args[:numkeys], keys_and_args[numkeys:]
        server._lua_set_keys_argv(runtime.table_from(keys), runtime.table_from(arguments))
        try:
            result = self._compiled(runtime, script)()
        except SimpleError as error:
            raise SimpleError(error.value) from None
        except scripting_mixin.LUA_MODULE.LuaError as error:
            raise SimpleError(msgs.SCRIPT_ERROR_MSG.format(sha, error)) from None
        finally:
            self._script_resp = None
            self._fieldsets = fieldsets
            self._collect(runtime)
        scripting_mixin._check_for_lua_globals(runtime, server._lua_expected_globals)
        return self._convert_lua_result(result, nested=False)

    def _compiled(self, runtime: Any, script: bytes) -> Any:
        function = self.embedded.compiled.get(script)
        if function is None:
            function = self.embedded.compiled[script] = runtime.compile(script)
        return function

    def _collect(self, runtime: Any) -> None:
        self.embedded.scripts_run += 1
        if self.embedded.scripts_run % _LUA_COLLECT_EVERY == 0:
            runtime.execute("collectgarbage()")

    def _lua_redis_call(
        self, lua_runtime: Any, expected_globals: set[Any], op: bytes, *args: Any
    ) -> Any:
        """As fakeredis's, but new globals are looked for once a script, not at each call."""
        del expected_globals
        name = decode_command_bytes(op)
        if name in COMMANDS_WITH_SUB and args:
            name += " " + decode_command_bytes(scripting_mixin._convert_redis_arg(args[0]))
            args = args[1:]
        function, signature = self._name_to_func(name)
        if function is None:
            raise SimpleError(msgs.WRONG_ARGS_MSG7)
        converted = [scripting_mixin._convert_redis_arg(arg) for arg in args]
        result = self._run_command(function, signature, converted, True)
        return self._convert_redis_result(lua_runtime, result)


def _plain(value: Any, data: bytes) -> Any:
    """What a reply means, as a client of a real server would read it."""
    if isinstance(value, Exception):
        return Exception(data[1:-2].decode("utf-8", "replace"))
    if isinstance(value, list | tuple):
        return [
            Exception(str(item)) if isinstance(item, Exception) else _plain(item, b"")
            for item in value
        ]
    if isinstance(value, str):
        return value.encode()
    return value


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


class EmbeddedNetwork:
    """A network on which every address leads to one embedded Redis.

    One, since a queue that an application builds at import time for `redis://localhost` and a test
    that asks for `simulation.queue` mean the same; databases are kept apart by number as ever.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.server = EmbeddedServer()
        self.scripts = Scripts()
        self.wires: list[Wire] = []

    def connect(self, protocol: asyncio.BaseProtocol, address: str) -> asyncio.Transport:
        """A connection to the Redis."""
        wire = Wire(self._loop, protocol, address, len(self.wires) + 1, self.scripts)
        wire.peer = Connection(self.server, wire)
        self.wires.append(wire)
        return wire

    def close(self) -> None:
        for wire in self.wires:
            wire.abort()

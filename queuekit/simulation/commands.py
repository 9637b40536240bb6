"""How the embedded Redis runs one command: as fakeredis does, with what is the same each time done once.

fakeredis reads a command's signature anew for each call, and a script of the store makes a dozen calls.
Here a signature is read once for each number of arguments, scripts are compiled once, and what a reply
need not be turned into is not looked for. With `server.py` and `beside.py` the only modules that know
fakeredis's inner classes.
"""

from __future__ import annotations

import functools
import hashlib
import operator
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import redis.asyncio
from fakeredis import FakeServer
from fakeredis import _msgs as msgs
from fakeredis._command_args_parsing import Float
from fakeredis._commands import COMMANDS_WITH_SUB, SUPPORTED_COMMANDS, Key, Signature
from fakeredis._core import CommandItem
from fakeredis._core._database import Database, Item
from fakeredis._helpers import NoResponse, SimpleError, decode_command_bytes
from fakeredis._socket import AsyncFakeSocket
from fakeredis._socket._resp import convert_to_resp2, valid_response_type
from fakeredis.commands_mixins import scripting_mixin
from fakeredis.model import ZSet, _acl
from fakeredis.model._client_info import ClientInfo

VERSION = (7, 4)
"Of Redis, as which it answers."

OURS: dict[str, Signature] = {}
"Commands that fakeredis lacks, or has otherwise."

MAX_PLANS = 2_048
"Signatures that are kept read, each for one number of arguments."

_LUA_COLLECT_EVERY = 256
"Scripts between two collections of Lua's garbage; fakeredis collects after each, which costs most of it."

_OF_NOTHING = {
    **dict.fromkeys(("hdel", "hexists", "hlen", "hstrlen", "zcard", "zrem"), 0),
    **dict.fromkeys(("hget", "zscore"), None),
}
"""What commands answer whose key is not there, and which look at nothing else. Most that a script asks for is
not there."""

_ADDS_NOTHING = frozenset(
    "hgetall hkeys hmget hvals zcount zlexcount zpopmax zpopmin zrange zrangebylex zrangebyscore zrank "
    "zrevrange zrevrangebylex zrevrangebyscore zrevrank".split()
)
"""Others that never give an element to a key that has none. All of them are handed one and the same empty
value then: to make a sorted set takes longer than to look into it."""

_COMMANDS_OF_SUBSCRIBERS = AsyncFakeSocket.ACCEPTED_COMMANDS_WHILE_PUBSUB
"Under RESP2; RESP3 has no such limit."

LEAVES = frozenset({bytes, int, type(None)})
"Types of replies that are the same under each version of the protocol."


def is_plain(value: Any) -> bool:
    """Whether a reply holds nothing but such, in lists or not: then it is sent as it is."""
    kind = type(value)
    return kind in LEAVES or (
        kind is list and (LEAVES.issuperset(map(type, value)) or all(map(is_plain, value)))
    )


_NEW_GLOBALS = """
function()
    local made = false
    setmetatable(_G, {__newindex = function(globals, name, value)
        made = true
        rawset(globals, name, value)
    end})
    return function(forget)
        if forget then made = false end
        return made
    end
end
"""
"Makes what tells whether global variables were made, without looking through them all after each script."

_GIVEN = """
function(key, ...)
    KEYS = {key}
    ARGV = {...}
end
"""
"""Gives a script its one key and its arguments: a third of what it takes to make two tables from outside."""

_GIVEN_AT_ONCE = 200
"Arguments that are given so: Lua calls a function with a few thousand at most."


class _Plan(NamedTuple):
    """A signature, read for so many arguments."""

    reads: tuple[tuple[int, Callable[[bytes], Any] | None, Any], ...]
    "Arguments that are turned into something (how), or keys that answer something where they are missing."
    keys: tuple[tuple[int, type | None, Callable[[], Any] | None], ...]
    "Arguments that are keys: what they must hold, and what they begin as."
    in_scripts: bool
    "Whether scripts may call it."
    converts: bool
    "Whether its reply is turned into what the client's protocol has."
    drops_empty: bool
    "Whether a key that is left without elements is removed."
    event: bytes


@functools.cache
def _empty(kind: type) -> Any:
    """What a key that is not there holds, for commands that add nothing."""
    return kind()


@functools.lru_cache(MAX_PLANS)
def _plan(signature: Signature, count: int) -> _Plan:
    """Raises SimpleError if it does not take so many arguments."""
    signature.check_arity([b""] * count, VERSION)
    kinds: list[Any] = list(signature.fixed)
    repeated: Any = signature.repeat
    kinds += [repeated[at % len(repeated)] for at in range(count - len(kinds))]
    flags = signature.flags
    reads, keys = [], []
    for at, kind in enumerate(kinds):
        if isinstance(kind, Key):
            begins: Any = kind.type_
            if msgs.FLAG_DO_NOT_CREATE in flags or begins is bytes:
                begins = None
            elif begins is not None and signature.name in _ADDS_NOTHING:
                begins = functools.partial(_empty, begins)
            keys.append((at, kind.type_, begins))
            if signature.name in _OF_NOTHING:
                reads.append((at, None, _OF_NOTHING[signature.name]))
            elif kind.missing_return is not Key.UNSPECIFIED:
                reads.append((at, None, kind.missing_return))
        elif kind is not bytes:
            reads.append((at, kind.decode, None))
    return _Plan(
        tuple(reads),
        tuple(keys),
        in_scripts=msgs.FLAG_NO_SCRIPT not in flags,
        converts=msgs.FLAG_SKIP_CONVERT_TO_RESP2 not in flags,
        drops_empty=msgs.FLAG_LEAVE_EMPTY_VAL not in flags,
        event=signature.name.encode(),
    )


@functools.lru_cache(MAX_PLANS)
def _signature(name: str) -> Signature | None:
    signature: Signature | None = OURS.get(name) or SUPPORTED_COMMANDS.get(name)
    return signature if signature and "redis" in signature.server_types else None


@functools.lru_cache(MAX_PLANS)
def _called(name: bytes) -> Signature | None:
    """What a script calls; None if that takes a closer look."""
    plain = decode_command_bytes(name)
    return None if plain in COMMANDS_WITH_SUB else _signature(plain)


class _Item(CommandItem):
    """A key that a command works on. Its value is asked for at every turn: by no function of Python's."""

    value = property(operator.attrgetter("_value"), CommandItem.value.fset)  # type: ignore[attr-defined]
    expireat = property(operator.attrgetter("_expireat"), CommandItem.expireat.fset)  # type: ignore[attr-defined]


class PlainDatabase(Database):
    """fakeredis's, whose lookups need no exception for a key that is not there."""

    def get(self, key: bytes, default: Any = None) -> Any:
        item = self._dict.get(key)
        if item is None:
            return default
        if item.expireat is not None and self.expired(item):
            del self._dict[key]
            return default
        return item

    def __contains__(self, key: object) -> bool:
        return self.get(key) is not None  # type: ignore[arg-type]

    def written_back(self, item: CommandItem, *, drops_empty: bool) -> None:
        """Hold what a command has made of a key; `CommandItem.writeback`, for one that was changed."""
        key, value = item.key, item.value
        self.notify_watch(key)
        held = self.get(key)
        if value is None or (drops_empty and not value and type(value) is not bytes):
            if held is not None:
                del self[key]
            return
        if held is None:
            self[key] = held = Item(None)
        held.value, held.expireat = value, item.expireat
        self.schedule_expiry(key, item.expireat)


class Lua:
    """The Lua of one server, and the scripts that are compiled in it."""

    def __init__(self) -> None:
        self._compiled: dict[bytes, Any] = {}
        self._runs = 0
        self._made_globals: Callable[[bool], bool] | None = None
        self._give: Callable[..., None] | None = None

    def compiled(self, runtime: Any, script: bytes) -> Callable[[], Any]:
        """The script as a function."""
        function: Callable[[], Any] | None = self._compiled.get(script)
        if function is None:
            function = self._compiled[script] = runtime.compile(script)
        return function

    def give(self, runtime: Any, server: Any, keys: Sequence[bytes], args: Sequence[bytes]) -> None:
        """Let the next script have these."""
        if self._give is None:
            self._made_globals = runtime.eval(_NEW_GLOBALS)()
            self._give = runtime.eval(_GIVEN)
        if len(keys) == 1 and len(args) <= _GIVEN_AT_ONCE:
            self._give(*keys, *args)
        else:
            server._lua_set_keys_argv(runtime.table_from(keys), runtime.table_from(args))

    @property
    def is_clean(self) -> bool:
        """Whether no script has left a global variable."""
        return self._made_globals is None or not self._made_globals(False)

    def check_globals(self, runtime: Any, expected: set[Any]) -> None:
        """Raises SimpleError if a script has left global variables of its own."""
        assert self._made_globals is not None
        if self._made_globals(False):
            scripting_mixin._check_for_lua_globals(runtime, expected)
            self._made_globals(True)

    def ran(self, runtime: Any) -> None:
        """A script has ended: its garbage is collected now and then."""
        self._runs += 1
        if self._runs % _LUA_COLLECT_EVERY == 0:
            runtime.execute("collectgarbage()")


# Each server makes a user who may do everything, and reads all commands of fakeredis's for that.
_acl.get_commands_by_category = functools.cache(_acl.get_commands_by_category)  # type: ignore[attr-defined]

_UNUSED = ("_event_loop", "_loop_thread_ident", "_parser", "_response_available", "responses")
"Of each connection of fakeredis's: how it reads and answers, which is done otherwise here."


@functools.cache
def _beginning() -> tuple[dict[str, Any], dict[str, Any]]:
    """What fakeredis gives to every connection: values, and what each needs a copy of.

    Called on a running loop, as fakeredis wants it.
    """
    socket = AsyncFakeSocket(FakeServer(version=VERSION), 0, None, client_class=redis.asyncio.Redis)
    given = {name: value for name, value in vars(socket).items() if name not in _UNUSED}
    own = {name: value for name, value in given.items() if type(value) in (set, dict, list)}
    return given, own


class CommandRunner(AsyncFakeSocket):
    """The server's end of a connection, as far as it runs commands.

    It begins as fakeredis's own does, but for the queues and locks that only that one needs: to make them
    anew takes longer than to connect.
    """

    lua: Lua

    def __init__(self, server: FakeServer, info: dict[str, Any]) -> None:
        given, own = _beginning()
        self.__dict__.update(given)
        for name, value in own.items():
            self.__dict__[name] = value.copy()
        self._server = server
        self._db = server.dbs[0]
        self._client_info = ClientInfo(**info, id=server.get_next_client_id())
        server.sockets.append(self)

    def _name_to_func(self, cmd_name: str) -> Any:
        signature = _signature(cmd_name)
        if signature is None:
            return super()._name_to_func(cmd_name)  # which says that there is none
        return getattr(self, signature.func_name, None), signature

    def _process_command(self, fields: list[bytes]) -> None:
        """fakeredis's own, for a command that is run at once and answered."""
        signature = _called(fields[0])
        if signature is None or msgs.FLAG_TRANSACTION in signature.flags or self._is_special():
            super()._process_command(fields)
            return
        function, server = getattr(self, signature.func_name, None), self._server
        try:
            server.acl.validate_command(self._client_info.user, self._client_info, fields)
            with server.lock:
                now = time.time()
                for database in server.dbs.values():
                    database.time = now
                result = self._run_command(function, signature, fields[1:], False)
        except SimpleError as error:
            result = error
        if type(result) is not NoResponse:
            self.put_response(self._decode_result(result))

    def _is_special(self) -> bool:
        """Whether commands are queued here, or not answered."""
        silent = self._reply_off or self._reply_skip or self._reply_skip_next
        return self._transaction is not None or silent

    def _run_command(self, func: Any, sig: Any, args: list[Any], from_script: bool) -> Any:
        if self._pubsub:
            return self._run_for_subscriber(func, sig, args, from_script)
        try:
            return self._planned(_plan(sig, len(args)), func, args, from_script)
        except SimpleError as error:
            return error

    def _run_for_subscriber(self, func: Any, sig: Any, args: list[Any], from_script: bool) -> Any:
        limited = self._client_info.protocol_version == 2
        if limited or sig.name in _COMMANDS_OF_SUBSCRIBERS:
            return super()._run_command(func, sig, args, from_script)
        subscriptions, self._pubsub = self._pubsub, 0
        try:
            return super()._run_command(func, sig, args, from_script)
        finally:
            self._pubsub = subscriptions

    def _planned(self, plan: _Plan, func: Any, values: list[Any], from_script: bool) -> Any:
        """Run a command whose arguments are these, which become what it takes. Raises SimpleError."""
        if from_script and not plan.in_scripts:
            raise SimpleError(msgs.COMMAND_IN_SCRIPT_MSG)
        database: Any = self._db
        for at, decode, if_missing in plan.reads:
            if decode is not None:
                values[at] = decode(values[at])
            elif values[at] not in database:
                return if_missing
        items = []
        for at, kind, begins in plan.keys:
            item = database.get(values[at])
            if item is not None and kind is not None and type(item.value) is not kind:
                raise SimpleError(msgs.WRONGTYPE_MSG)
            value = begins() if item is None and begins is not None else None
            values[at] = _Item(values[at], database, item, default=value)
            items.append(values[at])
        try:
            result = func(*values)
        finally:  # what it did before it found a mistake stands
            for item in items:
                if item._modified:
                    database.written_back(item, drops_empty=plan.drops_empty)
            if items and (self._server.subscribers or self._server.psubscribers):
                self._keyspace_notifications(items, plan.event)
        if not plan.converts or is_plain(result):
            return result
        protocol = self._resp_version
        if protocol == 2:
            result = convert_to_resp2(result)
        assert valid_response_type(result, protocol), f"invalid reply of {plan.event!r}: {result!r}"
        return result

    def add_subkey_event(self, event: bytes, key: bytes, subkeys: Sequence[bytes]) -> None:
        """Of notifications that servers send from 8.8 on."""

    def zadd(self, key: CommandItem, *args: bytes) -> int | float | None:
        """fakeredis's own looks for options, of which one member with its score has none."""
        if len(args) != 2:
            done: int | float | None = super().zadd(key, *args)
            return done
        score, member = 0.0 + Float.decode(args[0]), args[1]
        members: ZSet = key.value
        before = len(members)
        if members.add(member, score):
            key.updated()
        return len(members) - before

    def zrange(self, key: CommandItem, start: bytes, stop: bytes, *args: bytes) -> list[Any]:
        """fakeredis's own, but for the first, which scripts ask for all the time."""
        if (start, stop) != (b"0", b"0") or args not in ((), (b"WITHSCORES",)):
            found: list[Any] = super().zrange(key, start, stop, *args)
            return found
        return self._apply_withscores(key.value.islice_score(0, 1), bool(args))

    def hmget(self, key: CommandItem, *fields: bytes) -> list[bytes | None]:
        """fakeredis's own asks for each field whether some have expired."""
        held = key.value
        held._expire_keys()
        return list(map(held._values.get, fields))

    # -- scripts

    def eval(self, script: bytes, numkeys: int, *keys_and_args: bytes) -> Any:
        """fakeredis's own, with the script compiled once and garbage collected now and then."""
        sha = hashlib.sha1(script, usedforsecurity=False).hexdigest().encode()
        self._server.script_cache[sha] = script
        return self._evaluated(script, sha, numkeys, keys_and_args)

    def evalsha(self, sha1: bytes, numkeys: int, *keys_and_args: bytes) -> Any:
        """Likewise; the script is not hashed again."""
        script = self._server.script_cache.get(sha1)
        if script is None:
            raise SimpleError(msgs.NO_MATCHING_SCRIPT_MSG)
        return self._evaluated(script, sha1, numkeys, keys_and_args)

    def _evaluated(
        self, script: bytes, sha: bytes, numkeys: int, keys_and_args: tuple[bytes, ...]
    ) -> Any:
        if numkeys > len(keys_and_args):
            raise SimpleError(msgs.TOO_MANY_KEYS_MSG)
        if numkeys < 0:
            raise SimpleError(msgs.NEGATIVE_KEYS_MSG)
        runtime = self._get_server_runtime(self._server)
        server: Any = self._server
        server._lua_current_socket[0] = self
        self._script_resp = 2
        fieldsets, self._fieldsets = self._fieldsets, {}
        keys, arguments = keys_and_args[:numkeys], keys_and_args[numkeys:]
        self.lua.give(runtime, server, keys, arguments)
        try:
            result = self.lua.compiled(runtime, script)()
        except SimpleError as error:
            raise SimpleError(error.value) from None
        except scripting_mixin.LUA_MODULE.LuaError as error:
            first = str(error).split("\n", 1)[0]  # the rest is a stack of Lua's
            raise SimpleError(msgs.SCRIPT_ERROR_MSG.format(sha.decode(), first)) from None
        finally:
            self._script_resp = None
            self._fieldsets = fieldsets
            self.lua.ran(runtime)
        self.lua.check_globals(runtime, server._lua_expected_globals)
        return self._convert_lua_result(result, nested=False)

    def _lua_redis_call(
        self, lua_runtime: Any, expected_globals: set[Any], op: bytes, *args: Any
    ) -> Any:
        """As fakeredis's, but new globals are looked for once a script, not at each call."""
        del expected_globals
        signature = _called(op)
        if signature is not None:
            function = getattr(self, signature.func_name, None)
        else:
            name = decode_command_bytes(op)
            if name in COMMANDS_WITH_SUB and args:
                name += " " + decode_command_bytes(scripting_mixin._convert_redis_arg(args[0]))
                args = args[1:]
            function, signature = self._name_to_func(name)
        if function is None:
            raise SimpleError(msgs.WRONG_ARGS_MSG7)
        words = [
            arg if type(arg) is bytes else scripting_mixin._convert_redis_arg(arg) for arg in args
        ]
        result = self._run_command(function, signature, words, True)
        kind = type(result)
        if kind is bytes or kind is int:
            return result
        if kind is list and LEAVES.issuperset(map(type, result)):
            return lua_runtime.table_from([False if each is None else each for each in result])
        return self._convert_redis_result(lua_runtime, result)

    def _lua_redis_pcall(
        self, lua_runtime: Any, expected_globals: set[Any], op: bytes, *args: Any
    ) -> Any:
        """As fakeredis's, but the error is bytes: of a `str` Lua now and then made another error."""
        try:
            return self._lua_redis_call(lua_runtime, expected_globals, op, *args)
        except SimpleError as error:
            return lua_runtime.table_from({b"err": error.value.encode()})

    def _convert_lua_result(self, result: Any, nested: bool = True) -> Any:
        if type(result) is bytes or type(result) is int:
            return result
        return super()._convert_lua_result(result, nested)

"""The simulated network, at the transport: a client's bytes become commands, each a hop each way.

redis-py, or any asyncio client of Redis, runs on it unmodified, with its own pools, reconnects and
time-outs. The other end of a connection is a `Peer`: a connection of the embedded server, or one
that is relayed to a real one.

On both, what a command causes arrives in one order: its own reply first, then what it set free for
others (blocked reads that end, messages), by the age of their connections.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, Protocol

import redis.utils

from queuekit.simulation.clock import VirtualClock
from queuekit.simulation.errors import RefusedInSimulation
from queuekit.simulation.observe import Hop
from queuekit.simulation.process import PROCESS
from queuekit.simulation.resp import Error, NotRedisError, Splitter, encode_error, text
from queuekit.simulation.tap import Tap
from queuekit.store.scripts import CLOCK_MARK, Script

# For each connection redis-py reads the metadata of its own package from the disk, which is a twentieth of a
# small world, and cannot have changed.
redis.utils.get_lib_version = functools.cache(redis.utils.get_lib_version)

HANDSHAKES = frozenset({b"HELLO", b"CLIENT", b"INFO", b"AUTH"})
"Commands that differ with versions of client and server, or hold secrets: not in the trace."


_UNQUEUED = frozenset({b"WATCH", b"UNWATCH", b"MULTI"})
"Inside MULTI they are executed, or refused, at once, like those that end it."

_ENDS_TRANSACTION = frozenset({b"EXEC", b"DISCARD", b"RESET", b"QUIT"})

_WRONG = [b"GET"]
"No command of any server's, in the same words for all: inside MULTI it makes EXEC refuse the whole."

LARGE = 10_000
"Bytes of a command or a reply that are not kept until somebody asks for the trace: they are put into words."

_CALLS = (b"EVALSHA", b"EVALSHA_RO")
"Commands that call a script by its hash."


def without_credentials(command: list[bytes]) -> list[bytes] | None:
    """The command as the simulated server takes it; None for AUTH, which it grants.

    An application's queue carries the password of its own Redis, which nobody knows here.
    """
    name = command[0].upper()
    if name == b"AUTH":
        return None
    if name == b"HELLO":
        words = [word.upper() for word in command]
        if b"AUTH" in words:
            at = words.index(b"AUTH")
            return [*command[:at], *command[at + 3 :]]
    return command


class Peer(Protocol):
    """The server's end of a connection."""

    def execute(self, command: list[bytes]) -> None:
        """Run a command; replies come by `Wire.reply`, now or later."""

    @property
    def database(self) -> int:
        """The number of the one that it uses, as `Network.look` takes it."""

    def close(self) -> None:
        """The client is gone."""


class Network(Protocol):
    """What connections of a simulation lead to."""

    scripts: Scripts
    wires: list[Wire]
    "The open ones, oldest first."
    half_open: list[Wire]
    "Those that the client has left, of which the server has not heard."
    numbers: Iterator[int]
    "Of connections, from 1."

    def connect(self, protocol: asyncio.BaseProtocol, address: str) -> asyncio.Transport:
        """A new connection to an address."""

    def contents(self, root: str, database: int = 0) -> list[Any]:
        """All of a queue, as `contents.READER` answers it, read from beside."""

    def look(self, *command: bytes, database: int | None = None) -> Any:
        """The reply to a command that only reads, given from beside: no hop, no trace, no time."""

    def script(self, sha: bytes) -> bytes | None:
        """The text of a script that the server knows."""

    def save(self) -> object:
        """All that the server holds, to be loaded later."""

    def load(self, saved: Any) -> None:
        """Hold exactly that from now on; None is nothing."""

    def load_scripts(self, scripts: Iterable[Script]) -> None:
        """Know these from the beginning, as a server that has run them before."""

    def flush_scripts(self) -> None:
        """Forget all scripts."""

    def close(self) -> None:
        """The end of the network and all its connections."""


class Scripts:
    """The scripts that were loaded, by name, so that traces do not depend on their text."""

    def __init__(self) -> None:
        self._names: dict[bytes, str] = {}
        self._told_time: set[bytes] = set()
        "Those whose first argument is the server's time."

    def know(self, script: Script) -> None:
        """One of the store's, as if it had been loaded."""
        sha = script.sha.encode()
        self._names[sha] = script.name
        self._told_time.add(sha)

    def learn(self, command: list[bytes]) -> bytes | None:
        """Take in EVAL and SCRIPT LOAD; the SHA-1 of the script that it brings, if it does."""
        name = command[0].upper()
        source = None
        if name in (b"EVAL", b"EVAL_RO") and len(command) > 1:
            source = command[1]
        elif name == b"SCRIPT" and len(command) > 2 and command[1].upper() == b"LOAD":
            source = command[2]
        if source is None:
            return None
        sha = hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()
        first, *rest = source.split(b"\n", 2)
        if CLOCK_MARK.encode() in rest[:1]:
            self._told_time.add(sha)
        named = first.startswith(b"-- name: ")
        self._names[sha] = first[9:].decode("utf-8", "replace").strip() if named else "script"
        return sha

    def told_time(self, command: list[bytes], clock: VirtualClock) -> list[bytes]:
        """The command; a call of a script that is told the server's time has it as its first argument."""
        if command[0].upper() not in _CALLS or command[1].lower() not in self._told_time:
            return command
        at = 3 + int(command[2])
        return [*command[:at], b"%d" % (clock.time_ns() // 1_000_000), *command[at + 1 :]]

    def name(self, command: list[bytes]) -> str:
        """What a command goes by: its script's name, or its own in capitals."""
        name = command[0].upper()
        if name in _CALLS and len(command) > 1:
            return self._names.get(command[1].lower(), "script")
        sha = self.learn(command)
        if sha is not None and name != b"SCRIPT":
            return self._names[sha]
        return name.decode("utf-8", "backslashreplace")

    def words(self, command: list[bytes], script: str | None = None) -> tuple[str, ...]:
        """A command as the trace shows it.

        Args:
            command: its words.
            script: what `name` said of it when it was sent; by now, a script may have got another name.
        """
        name = command[0].upper()
        if name in _CALLS and len(command) > 1:
            return (name.decode(), script or self.name(command), *map(text, command[2:]))
        sha = self.learn(command)
        if sha is None:
            return (name.decode("utf-8", "backslashreplace"), *map(text, command[1:]))
        if name == b"SCRIPT":
            return ("SCRIPT", "LOAD", self._names[sha])
        return (name.decode(), self._names[sha], *map(text, command[2:]))


class Wire(asyncio.Transport):
    """One connection, seen from the client; it is the transport that the client holds."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        address: str,
        network: Network,
    ) -> None:
        number = next(network.numbers)
        super().__init__({"peername": (address, 0), "sockname": ("simulated", number)})
        self.number = number
        self.peer: Peer | None = None
        self._loop = loop
        self._protocol: Any = protocol
        self._address = address
        self._network = network
        self._splitter = Splitter()
        self._closed = False
        self.ended_by: Exception | None = None
        "What the client is told of its end, if it did not close it itself."
        self.process = PROCESS.get()
        "The process that holds the client's end."
        self._owner = self.process.id if self.process else ""
        # A reply belongs to whom it goes to: the wait that it ends may not be the sender's own.
        self._context = copy_context()
        self._unanswered: deque[str] = deque()
        "Names of the commands that were executed and have no reply yet."
        self.queued: list[list[bytes]] | None = None
        "The commands that came inside MULTI, and wait for EXEC."
        self._instead: tuple[bytes, Any] | None = None
        "The reply that the client is given in the place of the server's next one."
        self._executing: list[bytes] | None = None
        "The command that the server executes now; its own reply is the first that comes."
        network.wires.append(self)
        self._hop: Callable[..., None] | None = getattr(loop, "hop", None)
        "None on a loop of asyncio's own (`fakeredis://` in real time): nobody watches or traces there."

    # -- towards the server

    def write(self, data: Any) -> None:
        if self._closed:
            return
        try:
            commands = self._splitter.commands(bytes(data))
        except NotRedisError as error:
            self._fail(
                RefusedInSimulation(
                    f"the client connected to {self._address} does not speak Redis's protocol: {error}.\n"
                    "  In a simulation every address leads to a simulated Redis.\n"
                    "  Replace the service by a stand-in in the test."
                )
            )
            return
        for command in commands:
            self._send(command)

    def write_now(self, data: bytes) -> None:
        """The same for a client that holds the loop: what it sends is executed before this returns.

        And what the server answers at once has arrived, unless something holds it up on the way.
        """
        hop, self._hop = self._hop, self._loop.hop_now  # type: ignore[attr-defined]  # of a simulated loop
        try:
            self.write(data)
        finally:
            self._hop = hop

    def _send(self, command: list[bytes]) -> None:
        if self._hop is None:
            self._loop.call_soon(self._request, command)
            return
        traced = command[0].upper() not in HANDSHAKES
        scripts = self._network.scripts
        name = scripts.name(command)
        say = partial(scripts.words, command, name) if traced else lambda: (text(command[0]),)
        hop = Hop(self.number, "request", say, process=self._owner, command=name, raw=command)
        if sum(map(len, command)) > LARGE:
            hop.put_into_words()
        self._hop(hop, partial(self._request, command, name), traced=traced)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def _request(self, command: list[bytes], name: str = "") -> None:
        if self.peer is None or self._is_refused(command, name):
            return
        self._unanswered.append(name)
        granted = without_credentials(command)
        if granted is None:
            self.reply(b"+OK\r\n", b"OK", traced=False)
        else:
            if self.queued is not None or name == "MULTI":
                self._queue(granted)
            if self._hop is not None:
                granted = self._network.scripts.told_time(granted, self._loop.server_clock)  # type: ignore[attr-defined]
            self._executing = granted
            self.peer.execute(granted)
            self._executing = None

    def _is_refused(self, command: list[bytes], name: str) -> bool:
        """Whether the server is in a state in which it does not execute this, and has said so."""
        if self._hop is None or self._loop.gate is None:  # type: ignore[attr-defined]  # of a simulated loop
            return False
        error = self._loop.gate(command, name, self)  # type: ignore[attr-defined]  # as above
        if error is not None:
            self.refuse(command, name, error)
        return error is not None

    def _queue(self, command: list[bytes]) -> None:
        """Keep in mind what EXEC will execute."""
        name = command[0].upper()
        if name in _ENDS_TRANSACTION:
            self.queued = None
        elif self.queued is None:
            self.queued = []
        elif name not in _UNQUEUED:
            self.queued.append(command)

    def refuse(self, command: Sequence[bytes], name: str, error: str) -> None:
        """Answer a command with an error, as a server does that is in no state to execute it.

        Inside MULTI the whole is refused with it: EXEC executes nothing, and ends it.
        """
        if self.peer is None:
            return
        self._unanswered.append(name)
        reply = (encode_error(error), Error(error))
        if self.queued is None:
            self.reply(*reply, traced=True)
            return
        ends = command[0].upper() in _ENDS_TRANSACTION
        if ends:
            self.queued = None
        self._instead = reply
        self.peer.execute([b"DISCARD"] if ends else list(_WRONG))

    # -- towards the client

    def reply(self, data: bytes, value: Any, *, traced: bool) -> None:
        """Called by the peer: bytes for the client, and what they mean."""
        if self._hop is None:
            self._loop.call_soon(self._receive, data)
            return
        if self._instead is not None:
            (data, value), self._instead = self._instead, None
        token, tap = None, self._tap
        if tap is not None and self._executing is not None:
            token = tap.executed(self, self._executing, value)
            self._executing = None
        # A message comes unasked; under RESP2 it looks like a reply, but to no command.
        answers = self._unanswered.popleft() if self._unanswered and data[:1] != b">" else ""
        say = (lambda: (text(value),)) if traced else tuple
        hop = Hop(self.number, "reply", say, process=self._owner, command=answers)
        if len(data) > LARGE:
            hop.put_into_words()
        deliver = partial(self._receive, data, token)
        self._hop(hop, deliver, traced=traced, context=self._context)

    @property
    def _tap(self) -> Tap | None:
        tap: Tap | None = self._loop.tap  # type: ignore[attr-defined]  # of a simulated loop
        return tap

    def _receive(self, data: bytes, token: object | None = None) -> None:
        if self._closed:
            return
        if token is not None and (tap := self._tap) is not None:
            tap.received(self, token)
        self._protocol.data_received(data)

    def _fail(self, error: Exception) -> None:
        self._close(error)

    # -- the rest of a transport

    def close(self) -> None:
        self._close(None)

    def abort(self) -> None:
        self._close(None)

    def _close(self, error: Exception | None) -> None:
        if not self._closed:
            self.ended_by = error
        if self.drop() and not self._loop.is_closed():
            self._loop.call_soon(self._protocol.connection_lost, error)

    def drop(self) -> bool:
        """The client's end is gone, with nobody there to hear of it; whether it was open."""
        if self._closed:
            return False
        self._closed = True
        self._network.wires.remove(self)
        if self._hop is not None and (tap := self._tap) is not None:
            tap.closed(self)
        if self.process is not None and self.process.cut_off:
            self._network.half_open.append(self)
            self.process.when_healed(self.hang_up)
        else:
            self.hang_up()
        return True

    def hang_up(self) -> None:
        """The server's end is gone: what is on its way to it is not executed."""
        if self.peer is not None:
            peer, self.peer = self.peer, None
            peer.close()
        if self in self._network.half_open:
            self._network.half_open.remove(self)

    def cut(self, error: Exception | None = None) -> None:
        """The network drops the connection: the client sees it reset."""
        if self._hop is not None:
            self._loop.disturbed("a connection was reset")  # type: ignore[attr-defined]  # as above
        self._close(error or ConnectionResetError("the simulated connection was reset"))

    def server_gone(self) -> None:
        """The server has ended: its client sees a reset, or if it hears nothing, when it is healed."""
        self.hang_up()
        error = ConnectionResetError("the simulated Redis closed the connection")
        if self.process is not None and "reply" in self.process.cut_off:
            self.process.when_healed(partial(self.cut, error))
        else:
            self.cut(error)

    def is_closing(self) -> bool:
        return self._closed

    def pause_reading(self) -> None:
        """Replies are small; nothing is held back for a slow reader."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is buffered."""

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

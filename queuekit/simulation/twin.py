"""The embedded Redis and a real one, side by side: every command goes to both, and they must agree.

The client hears the embedded one. After each command what both said, to whoever, is compared in its
order; and what they hold, every so many commands. The first difference ends the run: fakeredis, our
bridge or our relay has a bug then, and the message says where to begin.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from queuekit.simulation.contents import READER
from queuekit.simulation.errors import ServersDisagree
from queuekit.simulation.network import EmbeddedNetwork
from queuekit.simulation.relay import RelayNetwork
from queuekit.simulation.resp import text
from queuekit.simulation.server import Connection
from queuekit.simulation.wire import Scripts, Wire
from queuekit.store.scripts import Script

SHOWN = 300
"Characters of a command, a reply or a value in a message."

KEYS_A_COMMAND = 50
"The more keys there are, the more rarely they are compared: about so many a command, whatever their number."


@dataclass(frozen=True)
class Said:
    """A reply or a message, and the connection that it went to."""

    connection: int
    value: str

    def __str__(self) -> str:
        return f"on connection {self.connection}: {_short(self.value)}"


class _Ear:
    """What a peer has for a wire; it notes what the peer says, and passes it on if it is the one heard."""

    def __init__(self, wire: Wire, said: deque[Said], *, heard: bool) -> None:
        self.number = wire.number
        self._wire = wire
        self._said = said
        self._heard = heard

    def reply(self, data: bytes, value: Any, *, traced: bool) -> None:
        if traced:  # handshakes differ with the server's version
            self._said.append(Said(self.number, text(value)))
        if self._heard:
            self._wire.reply(data, value, traced=traced)

    def cut(self, error: Exception | None = None) -> None:
        self._wire.cut(error)


class TwinPeer:
    """The servers' ends of one connection."""

    def __init__(self, network: TwinNetwork, wire: Wire) -> None:
        self._network = network
        heard = cast("Wire", _Ear(wire, network.said_by_embedded, heard=True))
        other = cast("Wire", _Ear(wire, network.said_by_real, heard=False))
        self._embedded = Connection(network.embedded.server, heard)
        self._real = network.relayed.relay(other)

    def execute(self, command: list[bytes]) -> None:
        network = self._network
        network.compare_words()  # of what timers have ended since
        network.executing(command)
        # Each gets a list of its own: a relay writes database numbers into it.
        self._embedded.execute(list(command))
        self._real.execute(list(command))
        network.compare_words()
        network.compare_states(self._real.database, self._embedded.database)

    @property
    def database(self) -> int:
        return self._embedded.database

    def close(self) -> None:
        self._embedded.close()
        self._real.close()


class TwinNetwork:
    """A network on which every address leads to two servers, of which the embedded one is heard.

    Args:
        loop: the simulated loop.
        relayed: the network of the real server.
        state_every: so many commands apart, at least, what the servers hold is compared; 1 is after each.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, relayed: RelayNetwork, *, state_every: int = 1
    ) -> None:
        self.embedded = EmbeddedNetwork(loop)
        self.relayed = relayed
        self.scripts = Scripts()
        self.wires: list[Wire] = []
        self.half_open: list[Wire] = []
        self.numbers: Iterator[int] = itertools.count(1)
        self.said_by_embedded: deque[Said] = deque()
        self.said_by_real: deque[Said] = deque()
        self.commands = 0
        "Executed on both, handshakes included."
        self.states_compared = 0
        self._told = False
        "Whether a difference was: what follows from it is no news."
        self._loop = loop
        self._state_every = state_every
        self._next_state = state_every
        self._latest: list[bytes] = []

    def connect(self, protocol: asyncio.BaseProtocol, address: str) -> asyncio.Transport:
        """A connection to both."""
        wire = Wire(self._loop, protocol, address, self)
        wire.peer = TwinPeer(self, wire)
        return wire

    def executing(self, command: list[bytes]) -> None:
        """A command is about to be executed."""
        self.commands += 1
        self._latest = command

    def compare_words(self) -> None:
        """Hold what the two have said against each other, in its order."""
        embedded, real = self.said_by_embedded, self.said_by_real
        if self._told:
            embedded.clear()
            real.clear()
        while embedded and real:
            here, there = embedded.popleft(), real.popleft()
            if here != there:
                self._fail("answered differently", str(here), str(there))
        if embedded or real:
            here_left = str(embedded[0]) if embedded else "(silent)"
            there_left = str(real[0]) if real else "(silent)"
            self._fail("differ in who was answered", here_left, there_left)

    def compare_states(self, real_database: int, embedded_database: int) -> None:
        """Hold what the two hold against each other, if it is time."""
        if self._told or self.commands < self._next_state:
            return
        self.states_compared += 1
        here = _state(
            self.embedded.look(b"EVAL", READER.encode(), b"0", database=embedded_database)
        )
        there = _state(self.relayed.look(b"EVAL", READER.encode(), b"0", database=real_database))
        self._next_state = self.commands + max(self._state_every, len(here) // KEYS_A_COMMAND)
        for key in sorted({*here, *there}):
            if here.get(key) != there.get(key):
                name = text(key)
                self._fail(
                    f"hold different things at the key {name}",
                    here.get(key, "(no such key)"),
                    there.get(key, "(no such key)"),
                )

    def _fail(self, how: str, here: str, there: str) -> None:
        words = " ".join(self.scripts.words(self._latest)) if self._latest else "(none)"
        error = ServersDisagree(
            f"the embedded Redis and {self.relayed.address} {how}, at command {self.commands:,}:\n"
            f"  {_short(words)}\n"
            f"  embedded: {_short(here)}\n"
            f"  real:     {_short(there)}\n"
            "  What the real one does is right: fakeredis has a bug, or the bridge to it."
        )
        if not self._told:
            self._told = True
            self.relayed.fail(error)

    def contents(self, root: str, database: int = 0) -> list[Any]:
        return self.embedded.contents(root, database)

    def look(self, *command: bytes, database: int | None = None) -> Any:
        return self.embedded.look(*command, database=database)

    def script(self, sha: bytes) -> bytes | None:
        return self.embedded.script(sha)

    def save(self) -> object:
        return self.embedded.save(), self.relayed.save()

    def load(self, saved: Any) -> None:
        embedded, relayed = saved or (None, None)
        self.embedded.load(embedded)
        self.relayed.load(relayed)

    def load_scripts(self, scripts: Iterable[Script]) -> None:
        known = list(scripts)
        for script in known:
            self.scripts.know(script)
        self.embedded.load_scripts(known)
        self.relayed.load_scripts(known)

    def flush_scripts(self) -> None:
        self.embedded.flush_scripts()
        self.relayed.flush_scripts()

    def close(self) -> None:
        for wire in list(self.wires):
            wire.abort()
        for wire in list(self.half_open):
            wire.hang_up()
        self.embedded.close()
        self.relayed.close()


def _state(reply: Any) -> dict[bytes, str]:
    """By key. What is left of a key's life is not compared: a real server reckons it by another clock."""
    return {key: f"{text(kind)} {text(content)}" for key, kind, content, _ in reply}


def _short(words: str) -> str:
    return words if len(words) <= SHOWN else f"{words[:SHOWN]}... ({len(words):,} characters)"

"""Redis without a loop: one command, one answer, on the embedded server and on real ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from queuekit.simulation.link import Link
from queuekit.simulation.private_server import find_servers, start_private_server
from queuekit.simulation.resp import Error, Splitter, encode_command
from queuekit.simulation.server import Connection, EmbeddedServer
from queuekit.store import keys, scripts
from tests.store.invariants import READER, Snapshot, snapshot_of

ROOT = keys.root("q")
SCRIPTS = sorted(
    path.stem for path in Path(scripts.__file__).parent.glob("*.lua") if path.stem != "prelude"
)
"Every script of the store, found where they are: a new one is among them."


class Answerer:
    """Something that answers commands at once."""

    def exchange(self, *words: bytes) -> tuple[bytes, Any]:
        """The reply's bytes, and what they say."""
        raise NotImplementedError

    def ask(self, *words: str | bytes | float) -> Any:
        """What the reply says. An error is raised: no script of ours has one."""
        _, value = self.exchange(*(encoded(word) for word in words))
        if isinstance(value, Error):
            raise value
        return value

    def run(self, script: str, *arguments: str | bytes | float) -> Any:
        """Run one of the store's scripts; the first argument is `now`."""
        return self.ask(*call_of(script, *arguments))

    def load(self) -> None:
        for script in SCRIPTS:
            self.ask("SCRIPT", "LOAD", scripts.load(script).text)

    def read_all(self) -> Snapshot:
        return snapshot_of(self.ask("EVAL", READER, 1, ROOT), ROOT)


def call_of(script: str, *arguments: str | bytes | float) -> tuple[str | bytes | float, ...]:
    return ("EVALSHA", scripts.load(script).sha, 1, ROOT, *arguments)


def encoded(word: str | bytes | float) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


class Embedded(Answerer):
    """The embedded Redis."""

    number = 1

    def __init__(self) -> None:
        self._sent = b""
        # fakeredis asks for a running loop when a connection is made, and uses it for waits only.
        loop = asyncio.new_event_loop()
        loop.run_until_complete(self._connect())
        loop.close()
        self.load()

    async def _connect(self) -> None:
        self._connection = Connection(EmbeddedServer(), self)  # type: ignore[arg-type]

    def reply(self, data: bytes, value: Any, *, traced: bool) -> None:
        """Called by the connection, for which this is the wire."""
        self._sent += data

    def exchange(self, *words: bytes) -> tuple[bytes, Any]:
        self._sent = b""
        self._connection.execute(list(words))
        return Splitter().frames(self._sent)[0]


class Real(Answerer):
    """A real server of our own: of this program, else of that which the run is about."""

    def __init__(self, program: Path | None = None) -> None:
        about = os.environ.get("QUEUEKIT_TEST_PROGRAM")
        self.server = start_private_server(program or (Path(about) if about else None))
        self._link = Link(self.server.address, 0)
        self.load()

    def exchange(self, *words: bytes) -> tuple[bytes, Any]:
        self._link.send(encode_command(list(words)))
        return self._link.frames()[0]

    def close(self) -> None:
        self._link.close()
        self.server.close()


@contextlib.contextmanager
def real_server(program: Path | None = None) -> Iterator[Real]:
    """A real server, for as long as the block lasts."""
    server = Real(program)
    try:
        yield server
    finally:
        server.close()


PROGRAMS = dict(find_servers())
"Each real server that is here, by where it comes from."

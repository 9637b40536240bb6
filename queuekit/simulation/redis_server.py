"""The simulated Redis as a test handles it: stopped, started, restarted, set back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from queuekit.simulation import lost_data
from queuekit.simulation.errors import SimulationError

if TYPE_CHECKING:
    from queuekit.simulation.wire import Network, Wire
    from queuekit.simulation.world import Simulation

Data = Literal["kept", "lost", "stale"]


class SimulatedServer:
    """The one Redis of a simulation."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._checkpoint: object | None = None
        self._stopped = False
        "Whether somebody has stopped it by hand."
        self._outages: dict[object, None] = {}
        "Those that have not ended."
        self._refusing: dict[object, Mapping[str, str]] = {}
        "The states in which it is: of each the arguments of a fault `error`."
        self.losses = 0
        "How often it has restarted without some of its data."

    @property
    def running(self) -> bool:
        """Whether it takes connections."""
        return not self._simulation.loop.server_down

    def stop(self) -> None:
        """Close all connections, and take no new ones: clients see theirs reset, and others refused.

        Until `start()`: the end of an outage does not undo it.
        """
        self._stopped = True
        self._go_down()

    def _go_down(self) -> None:
        self._simulation.loop.server_down = True
        self._disturbed("the server is down")
        self._reset_connections()

    def start(self) -> None:
        """Take connections again, with the data that it had; a script is not known any more.

        All outages are over with it.
        """
        self._stopped = False
        self._outages.clear()
        self._recover()
        loop = self._simulation.loop
        if loop.server_down:
            loop.server_down = False
            self._network.flush_scripts()
            self._disturbed("the server is up again")

    def outage(self, seconds: float) -> None:
        """Be away for so long. Of several that overlap the last one to end counts."""
        outage = object()
        self._outages[outage] = None

        def end() -> None:
            known = self._outages.pop(outage, self) is None
            if known and not self._outages and not self._stopped:
                self.start()

        self._go_down()
        self._later(seconds, end)

    def refuse(self, error: str, *, seconds: float, server: str = "") -> None:
        """Answer with an error for so long, wherever a real server in that state does.

        What that server lets through is executed. A restart ends it, as does `start()`.

        Args:
            error: OOM, READONLY, BUSY, LOADING, ...: see docs/faults.md.
            seconds: above 0.
            server: whose words it has; "redis 8" by default.
        """
        state = object()
        self._refusing[state] = {"error": error, "server": server}
        self._simulation.loop.gate = self._refusal
        self._disturbed(f"the server refuses with {error}")

        def end() -> None:
            if self._refusing.pop(state, None) is not None and not self._refusing:
                self._recover()

        self._later(seconds, end)

    def _refusal(self, command: Sequence[bytes], name: str, wire: Wire) -> str | None:
        """Asked for each command: what a server in one of the states says to it."""
        for state in self._refusing.values():
            refusal = self._simulation.faults.refusals.refusal(state, command, wire)
            if refusal is not None:
                self._disturbed(f"{name} is refused")
                return refusal
        return None

    def _recover(self) -> None:
        """Refuse nothing any more."""
        self._refusing.clear()
        if self._simulation.loop.gate is not None:
            self._simulation.loop.gate = None
            self._disturbed("the server refuses no more")

    def restart(self, data: Data = "kept") -> None:
        """Stop, and start at once.

        Args:
            data: what it has then: all of it is "kept", or all "lost"; "stale" is what it held at the
                last `checkpoint()`: its later writes are gone although they were acknowledged, as after a
                crash without fsync or a failover to a replica that lagged behind.

        Raises:
            SimulationError: there was no checkpoint, or no such word.
        """
        if data not in ("kept", "lost", "stale"):
            raise SimulationError(
                f"restart(data={data!r}): it is 'kept', 'lost' or 'stale' (as at the last checkpoint())."
            )
        if data == "stale" and self._checkpoint is None:
            raise SimulationError(
                "restart(data='stale'): there is no earlier state to go back to.\n"
                "  Call simulation.server.checkpoint() where that state is reached."
            )
        self._reset_connections()
        if data != "kept":
            self._network.load(self._checkpoint if data == "stale" else None)
            self.losses += 1
            lost_data.compare(self._simulation, restarted=True)
            loop = self._simulation.loop
            loop.disturbed_ns = loop.clock.elapsed_ns
            if loop.tap is not None:
                loop.tap.data_changed(data)
        self._stopped = False
        self._outages.clear()
        self._recover()
        self._simulation.loop.server_down = False
        self._network.flush_scripts()

    def checkpoint(self) -> None:
        """Keep what it holds now, for `restart(data="stale")`."""
        self._checkpoint = self._network.save()

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is an earlier state to go back to."""
        return self._checkpoint is not None

    def flush_scripts(self) -> None:
        """Forget all scripts, as SCRIPT FLUSH does: the next EVALSHA is answered with NOSCRIPT."""
        self._network.flush_scripts()
        self._disturbed("scripts are flushed")

    def step_clock(self, seconds: float) -> None:
        """Set its clock ahead by so much (negative: back). All that is due, leased or kept follows it."""
        clock = self._simulation.loop.server_clock
        self._disturbed("the server's clock is about to be set")
        clock.set_skew(clock.skew_ns / 1e9 + seconds)
        self._disturbed("the server's clock was set")

    def _reset_connections(self) -> None:
        for wire in list(self._network.half_open):
            wire.hang_up()
        for wire in list(self._network.wires):
            wire.server_gone()

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        loop = self._simulation.loop
        loop.call_later(seconds, function, context=loop.server_context())

    def _disturbed(self, what: str) -> None:
        self._simulation.loop.disturbed(what)

    @property
    def _network(self) -> Network:
        network = self._simulation.loop.network
        assert network is not None
        return network

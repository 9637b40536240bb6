"""Following the jobs of a foreign queue: what checkers of it have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from queuekit.exploration.ledger import Broken
from queuekit.foreign.hearing import Executed, Hearing

if TYPE_CHECKING:
    from queuekit.simulation.process import Process
    from queuekit.simulation.world import Simulation


class Following:
    """Hears what is executed, and keeps what was broken. A queue says what each command means."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._broken: list[Broken] = []
        self._simulation: Simulation | None = None

    # -- what `explore` calls

    def attach(self, simulation: Simulation) -> None:
        """Called before a run: what earlier ones have left is forgotten."""
        self._broken, self._simulation = [], simulation
        self.forget()
        Hearing(simulation, self.heard)

    def __call__(self, simulation: Simulation) -> list[Broken]:
        """Called after a run: what was broken, in the order of happening."""
        del simulation
        return list(self._broken)

    # -- what a queue says

    def forget(self) -> None:
        """Know of no job."""
        raise NotImplementedError

    def heard(self, process: Process | None, done: list[Executed]) -> None:
        """Take in what was executed at once for a client of this process."""
        raise NotImplementedError

    # -- what it says it with

    @property
    def world(self) -> Simulation:
        """The one that is followed."""
        assert self._simulation is not None, "attach() comes first"
        return self._simulation

    def now_ms(self) -> int:
        return self.world.clock.time_ns() // 1_000_000

    def elapsed_s(self) -> float:
        """Since the world began."""
        return self.world.loop.now_us() / 1e6

    def goes_on(self, process: str) -> bool:
        """Whether a process, by its id, is alive and does not stand still."""
        return any(
            each.id == process and each.alive and not each.stands_still
            for each in self.world.loop.processes
        )

    def tell(self, key: str, what: str) -> None:
        """One more line of the story."""
        self.world.journal.add(self.now_ms(), what, key, self.name, {})

    def breaks(self, promise: str, key: str, what: str) -> None:
        self._broken.append(Broken(promise, what, self.now_ms(), job=key, queue=self.name))


def name_of(process: Process | None) -> str:
    """The id of a process; empty for the test's own client."""
    return "" if process is None else process.id

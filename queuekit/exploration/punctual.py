"""P6: a due job does not wait while a worker that could run it has a free slot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from queuekit.exploration.ledger import Ledger, Life

if TYPE_CHECKING:
    from queuekit.simulation.process import Process
    from queuekit.simulation.world import Simulation

GRACE_NS = 10_000_000
"Clocks and due times are whole milliseconds; a due job is taken within some of them."

CALM_S = 30.0
"Beside a worker's idle wait: how long after a disturbance workers may be behind, by pauses and time-outs."


class Punctuality:
    """Asked at the end of each instant, when all that could be done is done."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self.calm_from_ns = 0
        "From then on workers are not behind any more (of the clock's elapsed time)."
        self._told: set[int] = set()

    def disturbed(self) -> None:
        """From now on workers may be late, for a while."""
        self.calm_from_ns = self._simulation.environment.idle_until_ns() + round(CALM_S * 1e9)

    def has_lived_well(self, ledger: Ledger, address: str, since_ms: int) -> bool:
        """Whether a worker runs, and all was calm since a moment (of the clock that nobody sets).

        What came before it counts, too: a claim that was long on its way brings less of a lease.
        """
        now_ns = self._simulation.clock.elapsed_ns
        if now_ns - (ledger.steady_ms - since_ms) * 1_000_000 < self.calm_from_ns:
            return False
        process = ledger.workers.get(address)
        return (process is None or is_fit(process)) and any(
            handle.running and handle.worker.address == address
            for handle in self._simulation.workers()
        )

    def look(self, ledger: Ledger, now_ns: int, next_ns: int) -> None:
        """Nothing happens between now and `next_ns`: whoever could start now, and does not, is late."""
        if now_ns < self.calm_from_ns or self._simulation.loop.server_down:
            ledger.stalled_ns = None
            return
        since_ns, life = self._startable(ledger, now_ns, next_ns)
        if life is None:
            ledger.stalled_ns = None
            return
        worker = self._free_worker(ledger)
        if worker is None:
            ledger.stalled_ns = None
            return
        since_ns = ledger.stalled_ns = min(since_ns, ledger.stalled_ns or since_ns)
        if next_ns - since_ns > GRACE_NS and id(life) not in self._told:
            self._told.add(id(life))
            waits_s = (next_ns - since_ns) / 1e9
            what = f"is due, and worker {worker} has a free slot; nothing happens for {waits_s:g} s"
            ledger.breach("P6", life.key, what)

    def _startable(self, ledger: Ledger, now_ns: int, next_ns: int) -> tuple[int, Life | None]:
        """Since when a job could start (never before now), and which one."""
        for life in ledger.due_by(ledger.now_ms):
            if not life.solo and not _is_blocked(ledger, life):
                return now_ns, life
        due_ms = ledger.next_due_ms()
        if due_ms is None:
            return now_ns, None
        due_ns = now_ns + (due_ms - ledger.now_ms) * 1_000_000
        if due_ns + GRACE_NS >= next_ns:
            return now_ns, None
        return due_ns, ledger.first_waiting()

    def tidied_until_ms(self, ledger: Ledger) -> float | None:
        """Records that have ended before this moment must be gone; None if nobody may have looked at them."""
        wait_s = self._simulation.environment.idle_wait_s() + CALM_S
        now_ns = self._simulation.clock.elapsed_ns
        if now_ns - wait_s * 1e9 < self.calm_from_ns or self._simulation.loop.server_down:
            return None
        return ledger.now_ms - wait_s * 1000 if any(self._at_work(ledger)) else None

    def _free_worker(self, ledger: Ledger) -> str | None:
        return next((str(worker.id) for worker in self._at_work(ledger) if worker.has_room()), None)

    def _at_work(self, ledger: Ledger) -> Iterator[Any]:
        """Workers of a queue that reach it, and go on looking after it."""
        for handle in self._simulation.workers():
            worker: Any = handle.worker
            if not handle.running or worker.queue.store.root != ledger.root:
                continue
            if worker.address not in ledger.workers:
                continue  # it has not claimed anything yet
            process = ledger.workers[worker.address]
            if process is not None and not is_fit(process):
                continue
            session = worker._session
            if session is not None and not session.stopping:
                yield worker


def is_fit(process: Process) -> bool:
    """Whether it runs, reaches Redis, and its timers go as the world's do."""
    return not process.stands_still and not process.cut_off and process.clock.rate == 1


def _is_blocked(ledger: Ledger, life: Life) -> bool:
    """Whether its group has somebody who runs, or waits to run alone."""
    if not life.group:
        return False
    return bool(ledger.groups.get(life.group)) or any(
        other.group == life.group and other.solo for other in ledger.ready.values()
    )

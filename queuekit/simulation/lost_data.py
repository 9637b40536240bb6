"""What became of jobs when the server has lost data.

The journal is told by whoever does something, and a server that forgets tells nobody. So behind such a
restart the journal is compared with what the server holds: of what it has lost nothing more is to come,
and what it takes for unfinished again will run again.

A write whose reply was on its way when the data was lost is told of later: a record that is new to the
journal is compared when somebody waits for jobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from queuekit.job import TERMINAL_STATUSES, Status
from queuekit.simulation.contents import snapshot_of
from queuekit.simulation.relay import DATABASES
from queuekit.store import keys

if TYPE_CHECKING:
    from queuekit.simulation.journal import JobRecord
    from queuekit.simulation.world import Simulation


def compare(simulation: Simulation, *, restarted: bool = False) -> None:
    """Hold records that were not yet compared with the latest loss against the server.

    Args:
        simulation: its world.
        restarted: whether it was now; then finished jobs are looked at, too.
    """
    losses, journal = simulation.server.losses, simulation.journal
    if not losses:
        return
    new = [
        record
        for record in journal
        if record.compared < losses and not record.lost and (restarted or not record.finished)
    ]
    now_ms = simulation.clock.time_ns() // 1_000_000
    held = {queue: _held(simulation, queue) for queue in dict.fromkeys(r.queue for r in new)}
    for record in new:
        record.compared = losses
        status, ended_ms = held[record.queue].get(record.key, (None, 0))
        if record.finished:
            latest = journal.find(record.queue, record.key) is record
            if latest and status is not None and status not in TERMINAL_STATUSES:
                journal.bring_back(record, now_ms, status).compared = losses
        elif status is None or _of_an_earlier_life(record, status, ended_ms):
            journal.lose(record, now_ms)


def _of_an_earlier_life(record: JobRecord, status: Status, ended_ms: int) -> bool:
    return status in TERMINAL_STATUSES and ended_ms < record.enqueued_ms


def _held(simulation: Simulation, queue: str) -> dict[str, tuple[Status, int]]:
    """The jobs of a queue that the server has, by key: status, and when they ended (epoch ms)."""
    network, root = simulation.loop.network, keys.root(queue)
    assert network is not None
    found: dict[str, tuple[Status, int]] = {}
    for database in range(DATABASES):
        snapshot = snapshot_of(network.contents(root, database), root)
        found.update(dict.fromkeys(snapshot.calls, (Status.QUEUED, 0)))
        for key, state in snapshot.jobs.items():
            ended_ms = state.get("completed", "")
            status = _status(state.get("status", ""))
            found[key] = (status, int(ended_ms) if ended_ms.isdigit() else 0)
    return found


def _status(written: str) -> Status:
    """What somebody has written there by hand may be anything; such a job is not known to have ended."""
    known = {status.value for status in Status}
    return Status(written) if written in known else Status.QUEUED

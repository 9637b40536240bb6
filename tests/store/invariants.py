"""The rules of `queuekit.exploration.audit`, held against a queue whenever a test likes.

A test calls `await check_invariants(queue)`: between two steps of a scenario, or at its end.
With a connection of its own there is `read_all(ask, root)`, and `violations(snapshot)` for the rules.
"""

from __future__ import annotations

from typing import Any

from queuekit.environment import environment
from queuekit.exploration.audit import TERMINAL, follower_of, violations
from queuekit.simulation.contents import READER, Snapshot, snapshot_of

__all__ = [
    "READER",
    "TERMINAL",
    "Snapshot",
    "check_invariants",
    "follower_of",
    "snapshot_of",
    "violations",
]


async def check_invariants(queue: Any) -> Snapshot:
    """Read all of a queue in one go, and hold the rules against it; inside a simulation or without."""
    store = queue.store
    found = snapshot_of(await store._command("EVAL", READER, 1, store.root), store.root)
    broken = violations(found, virtual=bool(environment().script_now()))
    assert not broken, "the queue breaks its invariants:\n  " + "\n  ".join(broken)
    return found

"""What a queue truly holds, read in one go, against what it must hold."""

from __future__ import annotations

from queuekit.exploration.audit import violations
from queuekit.exploration.ledger import HELD, Ledger, Life
from queuekit.simulation.contents import Snapshot

PROMISES = {"S1": "P1", "S2": "P3", "S3": "P4", "S4": "P1", "S5": "P1"}
"Which promise rests on a rule of the state (see audit.py)."


def compare(ledger: Ledger, snapshot: Snapshot) -> None:
    """Report what differs."""
    for words in violations(snapshot):
        ledger.breach(PROMISES[words[:2]], "", f"the state breaks a rule: {words}")
    for life in ledger.lives.values():
        state = snapshot.jobs.get(life.key, {})
        is_there = bool(state) or life.key in snapshot.calls
        status = (state.get("status") or "queued") if is_there else ""
        if life.over:
            _compare_ended(ledger, life, state, status)
        elif not status:
            heard = "acknowledged" if life.acknowledged else "accepted"
            ledger.breach("P1", life.key, f"was {heard}, is {life.status}, and is not there")
        elif status != life.status:
            ledger.breach(
                "P1", life.key, f"is {status} on the server, and {life.status} by its moves"
            )
        else:
            _compare_unfinished(ledger, life, state, snapshot)


def _compare_ended(ledger: Ledger, life: Life, state: dict[str, str], status: str) -> None:
    if ledger.now_ms >= life.ends_ms or "gone" in state:
        return
    if status != life.status:
        found = f"is {status} now" if status else "its record is gone before its time"
        ledger.breach("P3" if status else "P1", life.key, f"was {life.status}, and {found}")
    elif life.status == "complete":
        result = life.result.decode("utf-8", "backslashreplace") if life.result else None
        if state.get("result") != result:
            ledger.breach("P3", life.key, "is complete, and its result is not that of its run")


def _compare_unfinished(
    ledger: Ledger, life: Life, state: dict[str, str], snapshot: Snapshot
) -> None:
    for name in ("attempts", "failures", "losses", "unknown"):
        stored, counted = int(state.get(name, 0)), getattr(life, name)
        if stored != counted:
            ledger.breach("P4", life.key, f"has {stored} {name}, and there were {counted}")
    if life.status in HELD:
        if (int(state.get("fence", 0)), state.get("claim")) != (life.fence, life.claim):
            what = f"is held by fence {life.fence}, and its record says {state.get('fence')}"
            ledger.breach("P3", life.key, what)
        end = snapshot.scores("lease").get(life.key)
        if end is not None and end != life.lease_end_ms:
            what = f"its lease ends at {end:.0f}, and was to end at {life.lease_end_ms}"
            ledger.breach("P2", life.key, what)
        return
    due = snapshot.scores("scheduled").get(life.key)
    if due is not None and due != life.due_ms:
        promise = "P5" if due < life.due_ms else "P6"
        ledger.breach(promise, life.key, f"waits for {due:.0f}, and is due at {life.due_ms}")
    elif due is None and life.due_ms > ledger.now_ms and not life.was_due:
        ledger.breach("P5", life.key, f"could be run now, and is due at {life.due_ms}")

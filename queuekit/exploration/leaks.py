"""P12: what belongs to nobody does not stay, and whoever is there is entered.

All that may lie at a queue's keys is named here, with the reason for which it does. The owners are known from
the ledger: jobs, with the moments at which their records end, and workers, with those until which they count
as alive. What a script should have taken away, and did not, would stay for ever: nobody looks for it again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from queuekit.exploration.audit import TERMINAL
from queuekit.exploration.ledger import FOR_EVER, IDS_KEPT

if TYPE_CHECKING:
    from queuekit.exploration.ledger import Ledger
    from queuekit.simulation.contents import Snapshot

KEYS = {
    "ready": "jobs that could start",
    "suspect": "jobs that could start, alone",
    "followers": "jobs that wait for others of their groups",
    "scheduled": "jobs that wait for their time",
    "lease": "jobs that run",
    "groups": "of each group that has such jobs the one that leads",
    "leaders": "the same, by the job",
    "finished": "jobs that have ended, as long as their records are kept",
    "quarantine": "those of them that were set aside",
    "fence": "one number",
    "wake": "one token at most",
    "workers": "those that count as alive, or of whose silence no other worker has heard",
    "info": "what these tell of themselves",
    "claims": "the last claim of each of them, for one that is sent again",
    "solo": "the job that runs alone, or the worker that makes room for one",
    "ticked": "schedules, until they have not ticked for 400 days",
    "timetable": "of each of them who last ticked by what",
    "cronjob": "of each of them the key of its last tick's job, which another one may wait for",
}
"What may lie there for as long as there is a queue, and why."

FAMILIES = {
    "job": "the state of a job that has not ended, or whose record is kept",
    "call": "what it is to run",
    "foreign": "what lay at the key of a job in quarantine",
    "control": "words to a worker that counts as alive",
}
"Likewise, one key for each."

TOMBSTONE_FIELDS = frozenset({"result", "error", "exception", "meta", "log"})
"What a record without a ttl leaves behind for a minute has none of these."

QUEUED_FIELDS = frozenset({"started", "worker"})
"A job that is queued again is nobody's."

HELD_FIELDS = frozenset({"due", "follows"})
"A job that runs does not wait."


def check(ledger: Ledger, snapshot: Snapshot) -> None:
    """Report what is there, and should not be; and the other way round."""
    for words in (
        *left_behind(snapshot, workers=ledger.there.until_ms),
        *_workers(ledger, snapshot),
        *_alone(ledger, snapshot),
        *_records(ledger, snapshot),
    ):
        ledger.breach("P12", "", words)


def left_behind(snapshot: Snapshot, *, workers: Collection[str] | None = None) -> Iterator[str]:
    """What belongs to nobody, by what lies there alone.

    Args:
        snapshot: all of a queue.
        workers: that count as alive; None: those that are entered.
    """
    known = snapshot.scores("workers") if workers is None else workers
    for name in snapshot.contents:
        family, colon, rest = name.partition(":")
        if name not in KEYS and not (colon and family in FAMILIES):
            yield f"nobody knows the key {name}"
        elif family == "control" and rest not in known:
            yield f"words lie there for {rest}, which has gone"
    for name in ("info", "claims"):
        for worker in snapshot.fields(name):
            if worker not in known:
                yield f"{name} has an entry of {worker}, which has gone"
    yield from _solo(snapshot, known)
    yield from _schedules(snapshot)
    yield from _fields(snapshot)
    for key in snapshot.scores("finished"):
        if key not in snapshot.jobs:
            yield f"finished has an entry of {key}, of which there is no record"


def _solo(snapshot: Snapshot, workers: Collection[str]) -> Iterator[str]:
    solo = snapshot.fields("solo")
    key, worker = solo.get("key"), solo.get("worker")
    if key is not None and worker is not None:
        yield f"solo says that {key} runs alone, and that {worker} makes room"
    if key is not None and key not in snapshot.scores("lease"):
        yield f"solo says that {key} runs alone, and it does not run"
    if worker is not None and worker not in workers:
        yield f"solo says that {worker} makes room, which has gone"


def _schedules(snapshot: Snapshot) -> Iterator[str]:
    ticked = snapshot.scores("ticked")
    for name in ("timetable", "cronjob"):
        for schedule in snapshot.fields(name):
            if schedule not in ticked:
                yield f"{name} has an entry of schedule {schedule!r}, which is not in ticked"
    for schedule in ticked:
        if schedule not in snapshot.fields("timetable"):
            yield f"schedule {schedule!r} is in ticked, and has no timetable"


def _fields(snapshot: Snapshot) -> Iterator[str]:
    for key, state in snapshot.jobs.items():
        status = state.get("status", "queued")
        if status in TERMINAL:
            old = TOMBSTONE_FIELDS if "gone" in state else frozenset()
        else:
            old = QUEUED_FIELDS if status == "queued" else HELD_FIELDS
        if not old.isdisjoint(state):
            yield f"{key} is {status}, and still has {sorted(old & state.keys())}"
        if len(ids := state.get("earlier", "").split()) > IDS_KEPT:
            yield f"{key} remembers the ids of {len(ids)} enqueues"
        if state.keys() == {"status"}:
            yield f"{key} has a state that says nothing but {status}"


def _workers(ledger: Ledger, snapshot: Snapshot) -> Iterator[str]:
    told = {worker: c.partition("\n")[0] for worker, c in snapshot.fields("claims").items()}
    if told != ledger.claims:
        yield f"the last claims were {ledger.claims}, and claims says {told}"
    entered, there = snapshot.scores("workers"), ledger.there.until_ms
    if entered == there:
        return
    for worker, until_ms in entered.items():
        if worker not in there:
            yield f"workers has an entry of {worker}, which has gone"
        elif until_ms != there[worker]:
            yield f"{worker} counts as alive until {until_ms:.0f}, and told {there[worker]}"
    for worker in there:
        if worker not in entered:
            yield f"{worker} has told that it is there, and is not entered"


def _alone(ledger: Ledger, snapshot: Snapshot) -> Iterator[str]:
    solo = snapshot.fields("solo")
    for life in ledger.held.values():
        if life.solo and solo.get("key") != life.key:
            yield f"{life.key} runs alone, and solo does not say so"
    worker, _ = ledger.makes_room
    if worker and solo.get("worker") != worker:
        yield f"{worker} makes room for a job that must run alone, and solo does not say so"


def _records(ledger: Ledger, snapshot: Snapshot) -> Iterator[str]:
    """Records are kept for as long as was told, not longer."""
    for key, end in snapshot.scores("finished").items():
        life = ledger.lives.get(key)
        if life is None:
            yield f"there is a record of {key}, which nobody has enqueued"
        elif life.over and life.known_until_ms and not life.inherited:
            told = math.inf if life.known_until_ms == FOR_EVER else life.known_until_ms
            if end != told:
                yield f"the record of {key} ends at {end:.0f}, and should at {told:.0f}"


def check_tidied(ledger: Ledger, snapshot: Snapshot, until_ms: float | None) -> None:
    """Report a record that ended before a moment, since when a worker looks on in vain."""
    if until_ms is None:
        return
    for key, end in snapshot.scores("finished").items():
        if end < until_ms:
            ago_s = (ledger.now_ms - end) / 1000
            ledger.breach("P12", key, f"its record ended {ago_s:g} s ago, and nobody takes it away")
            return

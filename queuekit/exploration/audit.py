"""What holds of a queue after every script, by what lies in Redis.

    S1  each unfinished job is in exactly one container, a finished one in none; of each group one job
        leads, and the others follow it
    S2  fences are the queue's own: no two jobs share one, and the counter is past them all
    S3  no run is charged twice, and none for nothing
    S4  a record says when it ends exactly if it is finished and its ttl is not for ever
    S5  the sizes of the containers are the numbers of jobs

`violations(snapshot)` looks; a `Snapshot` is all of a queue, read in one go.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator

from queuekit.simulation.contents import Snapshot

TERMINAL = {"complete", "failed", "aborted"}
WAITING = ("ready", "suspect", "followers", "scheduled")
LEADING = ("ready", "suspect", "lease")
BAND = 2**37
LOG_LINES = 19
"The twentieth attempt is told by the state."


def violations(
    snapshot: Snapshot, *, virtual: bool = True, damaged: Collection[str] = ()
) -> list[str]:
    """What is wrong, in words; of `damaged` jobs only the places are looked at."""
    queue = _Queue(snapshot, damaged)
    return [
        *queue.partition(),
        *queue.groups(),
        *queue.fences(),
        *queue.budgets(),
        *queue.logs(),
        *queue.ttls(virtual=virtual),
        *queue.counts(),
    ]


def follower_of(member: str) -> tuple[str, int, str]:
    """Group, place and key in an entry of `followers`."""
    group, place, key = member.split("\1")
    return group, int(place) - 2**52, key


class _Queue:
    def __init__(self, snapshot: Snapshot, damaged: Collection[str]) -> None:
        self.snapshot = snapshot
        self.damaged = set(damaged)
        self.calls = snapshot.records("call")
        self.jobs = {key: c for key, c in snapshot.records("job").items() if isinstance(c, dict)}
        self.keys = sorted({*self.calls, *snapshot.records("job")})
        self.followers = [follower_of(member) for member in snapshot.scores("followers")]
        self.containers: dict[str, list[str]] = {
            name: list(snapshot.scores(name)) for name in (*WAITING, "lease")
        }
        self.containers["followers"] = [key for _, _, key in self.followers]
        self.finished = snapshot.scores("finished")

    def sound(self) -> Iterator[tuple[str, dict[str, str], str]]:
        """Keys, states and statuses of the jobs that nobody has damaged."""
        for key in self.keys:
            if key not in self.damaged:
                state = self.jobs.get(key, {})
                yield key, state, state.get("status", "queued")

    def partition(self) -> Iterator[str]:
        places = defaultdict(list)
        for name, members in self.containers.items():
            for key in members:
                places[key].append(name)
        for key, names in places.items():
            if key not in self.damaged and len(names) > 1:
                yield f"S1: {key} is in {names}"
            if key not in self.damaged and key not in self.calls:
                yield f"S1: {key} is in {names} and has no call"
        for key, state, status in self.sound():
            allowed = WAITING if status == "queued" else ("lease",)
            here = places[key]
            if status in TERMINAL:
                if here:
                    yield f"S1: {key} is {status} and in {here}"
                if key not in self.finished:
                    yield f"S1: {key} is {status} and not in finished"
                yield from self._ended(key, state)
                continue
            if len(here) != 1 or here[0] not in allowed:
                yield f"S1: {key} is {status} and in {here}"
            else:
                yield from self._placed(key, state, here[0])
        yield from self._records()

    def _ended(self, key: str, state: dict[str, str]) -> Iterator[str]:
        left = {"due", "follows", "solo"} & set(state)
        if left:
            yield f"S1: {key} has ended and still has {sorted(left)}"
        if "gone" in state and key in self.calls:
            yield f"S1: {key} is gone and still has a call"

    def _placed(self, key: str, state: dict[str, str], where: str) -> Iterator[str]:
        solo = "solo" in state
        if (where == "ready" and solo) or (where == "suspect" and not solo):
            yield f"S1: {key} is in {where} and solo is {solo}"
        if ("follows" in state) != (where == "followers"):
            yield f"S1: {key} is in {where} and follows {state.get('follows')}"
        if where in ("ready", "suspect"):
            yield from self._banded(key, state, self.snapshot.scores(where)[key])
        if where == "scheduled" and float(state.get("due", -1)) != self.snapshot.scores(where)[key]:
            yield f"S1: {key} is scheduled and due {state.get('due')}"

    def _banded(self, key: str, state: dict[str, str], place: float) -> Iterator[str]:
        if place // BAND != int(state.get("priority", 0)):
            yield f"S1: {key} of priority {state.get('priority', 0)} stands at {place:.0f}"

    def _records(self) -> Iterator[str]:
        for key in self.finished:
            status = self.jobs.get(key, {}).get("status", "")
            if key in self.keys and key not in self.damaged and status not in TERMINAL:
                yield f"S1: {key} is in finished and {status or 'queued'}"
        quarantine = self.snapshot.scores("quarantine")
        yield from (
            f"S1: {k} is in quarantine, not in finished"
            for k in quarantine
            if k not in self.finished
        )
        foreign = self.snapshot.records("foreign")
        yield from (
            f"S1: {k} is foreign, not in quarantine" for k in foreign if k not in quarantine
        )

    def groups(self) -> Iterator[str]:
        leader = self.snapshot.fields("groups")
        way_back = sorted((group, key) for key, group in self.snapshot.fields("leaders").items())
        if way_back != sorted(leader.items()):
            yield f"S1: groups {leader} and leaders {self.snapshot.fields('leaders')} differ"
        leading = {key for name in LEADING for key in self.containers[name]}
        for group, key in leader.items():
            if key not in leading:
                yield f"S1: group {group} is led by {key}, which could not start and does not run"
        for group, place, key in self.followers:
            state = self.jobs.get(key, {})
            if group not in leader:
                yield f"S1: {key} follows in group {group}, which nobody leads"
            if key in self.damaged:
                continue
            if state.get("group") != group or float(state.get("follows", "nan")) != place:
                yield f"S1: {key} follows in {group} at {place}, and its state says otherwise"
            yield from self._banded(key, state, place)
        for key, state, _ in self.sound():
            group = state.get("group", "")
            if group and key in leading and leader.get(group) != key:
                yield f"S1: {key} could start in group {group}, which {leader.get(group)} leads"

    def fences(self) -> Iterator[str]:
        counter = int(self.snapshot.contents.get("fence", 0))
        fences = Counter(int(job["fence"]) for job in self.jobs.values() if "fence" in job)
        yield from (f"S2: fence {fence} is given twice" for fence, n in fences.items() if n > 1)
        if fences and max(fences) > counter:
            yield f"S2: fence {max(fences)} is given, and the counter is {counter}"
        for key in self.containers["lease"]:
            if key not in self.damaged and not self.jobs.get(key, {}).get("claim"):
                yield f"S2: {key} has a lease and no claim"

    def budgets(self) -> Iterator[str]:
        for key, state, status in self.sound():
            charged = sum(int(state.get(name, 0)) for name in ("failures", "losses", "unknown"))
            attempts = int(state.get("attempts", 0))
            lines = state.get("log", "").split("\n")
            free = sum("\treleased\t" in line or "\taborted\t" in line for line in lines)
            running = status in ("active", "aborting")
            if charged > attempts - running:
                yield f"S3: {key} is charged {charged} times for {attempts} attempts, {status}"
            told = len(lines) < LOG_LINES and "gone" not in state  # a tombstone has no log
            if told and attempts > charged + free + 1:
                yield f"S3: {key} has {attempts} attempts, of which {charged} are charged, {free} free"
            yield from self._overspent(key, state)

    def _overspent(self, key: str, state: dict[str, str]) -> Iterator[str]:
        payload = self.calls.get(key, b"").partition(b"\n")[2]
        try:
            call = json.loads(payload)
        except ValueError:  # not written by the default codec: nobody knows its budget
            return
        if isinstance(call, dict) and int(state.get("losses", 0)) > call.get("max_lost", 2) + 1:
            yield f"S3: {key} was lost {state['losses']} times"

    def logs(self) -> Iterator[str]:
        for key, state, _ in self.sound():
            lines = state["log"].split("\n") if "log" in state else []
            if len(lines) > LOG_LINES:
                yield f"S3: the log of {key} has {len(lines)} lines"
            if any(
                not re.fullmatch(r"\d+\t\d+\t\d+\t[^\t]*\t[^\t]*\t[^\t]*", line) for line in lines
            ):
                yield f"S3: the log of {key} cannot be read: {state['log']!r}"

    def ttls(self, *, virtual: bool) -> Iterator[str]:
        for key, state, status in self.sound():
            ends = self.finished.get(key) if status in TERMINAL else None
            told = float(state["expires"]) if "expires" in state else None
            if told != (None if ends == math.inf else ends):
                yield f"S4: the record of {key}, {status}, ends at {told}, and in finished at {ends}"
            for name in (f"job:{key}", f"call:{key}"):
                ttl = self.snapshot.ttls_ms.get(name)
                if ttl is not None and (ttl > 0) != (told is not None and not virtual):
                    yield f"S4: {name} of a job that is {status} has a ttl of {ttl} ms"

    def counts(self) -> Iterator[str]:
        if self.damaged:
            return
        statuses = Counter(status for _, _, status in self.sound() if status not in TERMINAL)
        waiting = sum(len(self.containers[name]) for name in WAITING)
        found = (statuses["queued"], statuses["active"] + statuses["aborting"])
        if found != (waiting, len(self.containers["lease"])):
            held = (waiting, len(self.containers["lease"]))
            yield f"S5: {found} jobs wait and run; the containers hold {held}"
        tokens = len(self.snapshot.contents.get("wake", []))
        if tokens > 1:
            yield f"S5: {tokens} tokens lie there"

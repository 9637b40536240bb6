"""What a queue must hold, kept beside it from what its server was told and has answered.

It shares no code with the queue: a move is taken in as the commands and replies on the wire say, and held
against what was there before. Jobs are those of the server, whether their client heard of them or not.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from queuekit.exploration.order import Order
from queuekit.exploration.presence import Presence

if TYPE_CHECKING:
    from queuekit.simulation.contents import Snapshot
    from queuekit.simulation.process import Process

TERMINAL = frozenset({"complete", "failed", "aborted"})
HELD = frozenset({"active", "aborting"})
SOLO_AFTER = 2
"Losses after which a job runs alone (docs/reliability.md)."
TOMBSTONE_MS = 60_000
IDS_KEPT = 8
"Of the lives of a key that have ended, for enqueues that are sent again."
QUARANTINE_MS = 30 * 86_400_000
FOR_EVER = 1 << 62


@dataclass(frozen=True)
class Broken:
    """A promise that was not kept."""

    promise: str
    "As docs/promises.md names it: P1, P2, ..."
    what: str
    "In words, with what was found."
    at_ms: int
    "By the server's clock."
    job: str = ""
    "Its key, if it is one job's matter."
    queue: str = ""

    def __str__(self) -> str:
        job = f" job {self.job!r}:" if self.job else ""
        return f"{self.promise}{job} {self.what}"


class Run:
    """One claim of a job, and what became of it."""

    __slots__ = (
        "abandoned",
        "began_ms",
        "claimed_ms",
        "committing",
        "error",
        "fence",
        "lease_end_ms",
        "lease_over_ns",
        "let_go",
        "outcome",
        "own_end",
        "process",
        "steady_claimed_ms",
        "told",
        "told_lost_ns",
        "worker",
    )

    def __init__(
        self, fence: int, worker: str, process: Process | None, lease_end_ms: int, claimed_ms: int
    ) -> None:
        self.fence = fence
        self.claimed_ms = claimed_ms
        self.committing = False
        "Whether its worker says that it is over."
        self.worker = worker
        self.process = process
        self.steady_claimed_ms = claimed_ms
        "When it was claimed, by a clock that nobody sets."
        self.lease_end_ms = lease_end_ms
        "As it was last renewed, by the server's clock."
        self.lease_over_ns = 0
        "The same, of the world's elapsed time: its worker's own clock, at the latest."
        self.began_ms: int | None = None
        "When its task was called."
        self.told = ""
        "How its worker says that it has ended."
        self.told_lost_ns: int | None = None
        "When a renewal was first answered so."
        self.outcome = ""
        "How that call ended: returned, raised, cancelled or killed; empty as long as it runs."
        self.error: BaseException | None = None
        self.abandoned = False
        self.own_end = False
        "Its task has ended it, by finish() or retry(), and goes on as it likes."
        self.let_go = ""
        "How the job went on without it: the target of its own commit, or lost."

    @property
    def open(self) -> bool:
        """Whether its task runs now, and is nobody's responsibility but its worker's."""
        return self.began_ms is not None and not self.outcome and not self.abandoned


class Life:
    """One job from its enqueue to its end; a key that is enqueued again begins another."""

    def __init__(self, key: str, payload: bytes, due_ms: int, group: str, status: str) -> None:
        self.key = key
        self.payload = payload
        self.due_ms = due_ms
        self.was_due = False
        "Whether its time had come before the server's clock was set back."
        self.group = group
        self.status = status
        self.acknowledged = False
        "Whether its client has heard of it."
        self.worker = ""
        self.fence = 0
        self.claim = ""
        self.lease_end_ms = 0
        self.attempts = self.failures = self.losses = self.unknown = 0
        self.ended: tuple[int, str, bool] | None = None
        "The last accepted end of a run: its fence, its claim, and whether its lease had ended."
        self.result: bytes | None = None
        self.ends_ms = FOR_EVER
        "When the record of a finished job ends."
        self.known_until_ms = FOR_EVER
        "Until then its enqueue, sent again, is answered as the same."
        self.earlier: tuple[Life, ...] = ()
        "The lives of its key before, whose enqueues are still known."
        self.runs: list[Run] = []
        self.inherited = False
        "Whether its past is not known, since the server has lost data meanwhile."
        self.retried_by: Process | None = None
        self.entered_ms = 0
        "Since when it is queued."
        self.priority = 0
        self.came_due = False
        "Whether it was due later when it was enqueued."
        self.abort_id = ""
        "Of the last abort of it that was accepted."
        self.in_front = False
        "Whether it was handed back, and waits before the others."

    @property
    def over(self) -> bool:
        return self.status in TERMINAL

    @property
    def solo(self) -> bool:
        return self.losses >= SOLO_AFTER

    @property
    def run(self) -> Run | None:
        """The one that holds it, or held it last."""
        return self.runs[-1] if self.runs else None

    def run_of(self, fence: int) -> Run | None:
        return next((run for run in reversed(self.runs) if run.fence == fence), None)

    def holds(self, fence: int, claim: str) -> bool:
        return self.status in HELD and self.fence == fence and self.claim == claim

    @cached_property
    def options(self) -> dict[str, Any] | None:
        """What it was enqueued with; None when another codec has written that down."""
        try:
            call = json.loads(self.payload)
        except ValueError:
            return None
        return call if isinstance(call, dict) and "function" in call else None


class Ledger:
    """One queue.

    Args:
        root: what its keys in Redis begin with.
        database: of the server.
        report: told of each breach.
        reach: told of each label.
    """

    def __init__(
        self,
        root: str,
        database: int,
        report: Callable[[Broken], None],
        reach: Callable[[str], None],
    ) -> None:
        self.root, self.database = root, database
        self.name = root[len("qk:{") : -1]
        self.reach = reach
        self._report = report
        self.tampered = ""
        "Who has written to its keys beside the scripts: then nothing of it is checked."
        self.lives: dict[str, Life] = {}
        self.by_id: dict[str, Life] = {}
        "By the id of the enqueue."
        self.runs: dict[tuple[int, str], tuple[Life, Run]] = {}
        "By fence and claim."
        self.begun: dict[str, list[Run]] = {}
        "Of each worker the runs that were begun, and had not ended when the last one was."
        self.held: dict[str, Life] = {}
        self.ready: dict[str, Life] = {}
        "Queued and due, as far as `due_by` has looked."
        self._waiting: list[tuple[int, int, Life]] = []
        self._pushed = 0
        self.groups: dict[str, dict[str, Life]] = {}
        "Of each group those that are held."
        self.group_free_ms: dict[str, int] = {}
        "When the last of each group was let go."
        self.top_fence = 0
        self.claims: dict[str, str] = {}
        "The last claim of each worker."
        self.workers: dict[str, Process | None] = {}
        self.anew = False
        "Whether the server has lost data: attempts are counted by it from what it held, again."
        self.there, self.makes_room = Presence(), ("", 0)
        "Workers that are entered; and the one that makes room for a job that must run alone, and until when."
        self.present: dict[str, Process | None] = {}
        "Workers that have told that they are there, and not that they leave."
        self.ticks: dict[tuple[str, int], str] = {}
        "Who has handled it first: schedule and tick -> the worker."
        self.tick_jobs: dict[tuple[str, int], str] = {}
        self.handled_ms: dict[tuple[str, int], int] = {}
        "When each was first handled, whether a job came of it or none was to come."
        self.last_ticks: dict[str, str] = {}
        "The job of each schedule's last tick."
        self.last_claim: tuple[int, str, bool] = (-1, "", False)
        self.stalled_ns: int | None = None
        self.has_lived_well: Callable[[str, int], bool] = lambda worker, since_ms: False
        "Whether a worker runs, and nothing was disturbed since then."
        self.order = Order()
        self.now_ms = self.now_ns = 0
        "By the server's clock, and of the world's elapsed time."
        self.latest_ms = 0
        "The latest time that the server's clock has shown."
        self.ahead_ms = 0
        "How far the server's clock was set ahead."

    @property
    def steady_ms(self) -> int:
        """The server's time, had nobody ever set its clock."""
        return self.now_ms - self.ahead_ms

    def tell_time(self, now_ms: int, ahead_ms: int) -> None:
        """It is then, by the server's clock; what is over stays over when that was set back."""
        if now_ms < self.now_ms:
            self._set_back(now_ms)
        self.now_ms, self.ahead_ms = now_ms, ahead_ms
        self.latest_ms = max(self.latest_ms, now_ms)

    def _set_back(self, now_ms: int) -> None:
        self.order.clock_set_back()
        for life in self.lives.values():
            if life.status == "queued" and life.due_ms <= self.now_ms:
                life.was_due = True
            if life.ends_ms <= self.now_ms:
                life.ends_ms = 0
            for each in (life, *life.earlier):
                if each.known_until_ms <= self.now_ms:
                    each.known_until_ms = 0
        for life in [each for each in self.ready.values() if each.due_ms > now_ms]:
            del self.ready[life.key]
            self._wait(life)

    def breach(self, promise: str, key: str, what: str) -> None:
        """A promise is broken, now."""
        if not self.tampered:
            self._report(Broken(promise, what, self.now_ms, key, self.name))

    def register(self, worker: str, alive_ms: int) -> None:
        """A worker tells that it is there for so long; then all of the silent is forgotten. 0: it leaves."""
        gone = self.there.forget_the_silent(self.now_ms) if alive_ms else [worker]
        for each in gone:
            self.claims.pop(each, None)
        if self.makes_room[0] in gone:
            self.makes_room = ("", 0)
        if alive_ms:
            self.there.spoke(worker, self.now_ms + alive_ms)
        else:
            self.there.left(worker)

    # -- how jobs move

    def begin(
        self, key: str, enqueue_id: str, payload: bytes, due_ms: int, group: str, priority: int = 0
    ) -> Life:
        """A new life."""
        before = self.lives.get(key)
        if before is not None and not before.over:
            self.breach(
                "P7", key, f"was accepted anew while the job of that key is {before.status}"
            )
            self._leave(before)
        life = self.lives[key] = Life(key, payload, due_ms, group, "queued")
        if before is not None:
            lives = (*before.earlier, before)
            for forgotten in lives[:-IDS_KEPT]:
                forgotten.known_until_ms = 0
            life.earlier = lives[-IDS_KEPT:]
        self.by_id[enqueue_id] = life
        life.priority = priority
        self._enter(life)
        self.order.came(life, self.now_ms)
        return life

    def _enter(self, life: Life) -> None:
        life.status = "queued"
        life.entered_ms = self.now_ms
        life.was_due = False
        self._wait(life)

    def _wait(self, life: Life) -> None:
        self._pushed += 1
        heapq.heappush(self._waiting, (life.due_ms, self._pushed, life))

    def _leave(self, life: Life) -> None:
        self.ready.pop(life.key, None)
        self.held.pop(life.key, None)
        if self.groups.get(life.group, {}).pop(life.key, None):
            self.group_free_ms[life.group] = self.now_ms

    def take(self, life: Life, run: Run, claim: str) -> None:
        """It is claimed."""
        run.steady_claimed_ms = run.claimed_ms - self.ahead_ms
        self._leave(life)
        life.status, life.fence, life.claim = "active", run.fence, claim
        life.lease_end_ms, life.worker = run.lease_end_ms, run.worker
        life.in_front = False
        life.attempts += 1
        life.runs.append(run)
        self.runs[run.fence, claim] = life, run
        self.held[life.key] = life
        if life.group:
            self.groups.setdefault(life.group, {})[life.key] = life
        self.top_fence = max(self.top_fence, run.fence)

    def queue_again(self, life: Life, due_ms: int, *, in_front: bool = False) -> None:
        """A run of it is over, and another one is to come."""
        self._leave(life)
        life.due_ms = due_ms
        self._enter(life)
        if in_front and due_ms <= self.now_ms:
            self.order.handed_back(life)

    def finish(self, life: Life, status: str, ttl_ms: int) -> None:
        """It is over."""
        self._leave(life)
        life.status = status
        # With a negative ttl there is no record to be read, only a tombstone for enqueues sent twice.
        life.ends_ms = FOR_EVER if ttl_ms == 0 else self.now_ms + max(ttl_ms, 0)
        life.known_until_ms = life.ends_ms if ttl_ms >= 0 else self.now_ms + TOMBSTONE_MS
        for earlier in life.earlier:  # their ids lie in its record
            earlier.known_until_ms = min(earlier.known_until_ms, life.known_until_ms)

    def due_by(self, now_ms: int) -> Iterator[Life]:
        """Those that wait and whose time has come by then."""
        while self._waiting and self._waiting[0][0] <= now_ms:
            due_ms, _, life = heapq.heappop(self._waiting)
            waits = life.status == "queued" and life.due_ms == due_ms
            if waits and self.lives.get(life.key) is life:
                self.ready[life.key] = life
        yield from self.ready.values()

    def next_due_ms(self) -> int | None:
        """When the next of the others comes due."""
        while self._waiting:
            due_ms, _, life = self._waiting[0]
            if life.status == "queued" and life.due_ms == due_ms:
                return due_ms
            heapq.heappop(self._waiting)
        return None

    def first_waiting(self) -> Life | None:
        """Whose time comes next, as `next_due_ms` has found it; None if it may have to wait for others."""
        life = self._waiting[0][2]
        return None if life.solo or self.groups.get(life.group) else life

    # -- when the server has lost what it had

    def begin_anew(self, snapshot: Snapshot) -> None:
        """Take what the server holds now for what it must hold."""
        self.anew = True
        self.order = Order()
        self.lives, self.by_id, self.ready, self._waiting = {}, {}, {}, []
        self.held, self.groups, self.claims, self.runs, self.begun = {}, {}, {}, {}, {}
        self.top_fence = int(snapshot.contents.get("fence", 0))
        self.ticks, self.tick_jobs, self.last_ticks = {}, {}, {}
        self.handled_ms = {}
        for worker, claim in snapshot.fields("claims").items():
            self.claims[worker] = claim.partition("\n")[0]
        self.there, self.makes_room = Presence(snapshot.scores("workers")), ("", 0)
        leases, finished = snapshot.scores("lease"), snapshot.scores("finished")
        for key in sorted({*snapshot.calls, *snapshot.jobs}):
            call, state = snapshot.calls.get(key, b""), snapshot.jobs.get(key, {})
            head, _, payload = call.partition(b"\n")
            life = Life(key, payload, int(state.get("due", 0)), state.get("group", ""), "queued")
            self.lives[key] = life
            life.inherited = True
            self.by_id[(head or state.get("gone", "").encode()).partition(b" ")[0].decode()] = life
            life.fence, life.claim = int(state.get("fence", 0)), state.get("claim", "")
            life.lease_end_ms, life.worker = int(leases.get(key, 0)), state.get("worker", "")
            for name in ("attempts", "failures", "losses", "unknown"):
                setattr(life, name, int(state.get(name, 0)))
            status = state.get("status", "queued")
            if status == "queued":
                self._enter(life)
                continue
            life.status = status
            if life.over:
                end = finished.get(key, float("inf"))
                life.ends_ms = FOR_EVER if end == float("inf") else int(end)
                life.result = state["result"].encode() if "result" in state else None
                if "gone" in state:
                    life.ends_ms = 0
            else:
                self.held[key] = life
                run = Run(
                    life.fence,
                    state.get("worker", ""),
                    None,
                    lease_end_ms=life.lease_end_ms,
                    claimed_ms=0,
                )
                life.runs = [run]
                self.runs[life.fence, life.claim] = life, run
                if life.group:
                    self.groups.setdefault(life.group, {})[key] = life

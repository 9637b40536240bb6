"""What the store's scripts are to answer and to leave behind, in plain Python; see rows.py for the places."""

from __future__ import annotations

import math
from typing import Any

from tests.store.invariants import TERMINAL
from tests.store.rows import Place, Rows, place_of

FOREIGN = b"something else"
"What damage writes over a state."

TOMBSTONE_MS = 60_000
IDS_BYTES = 137
QUARANTINE_MS = 30 * 86_400_000
FORGET_MS = 400 * 86_400_000
WORKERS_KEPT = 16
MAX_LOG_LINES = 19

UNREADABLE = "its record cannot be read: "
NO_HASH = UNREADABLE + "its state is no hash, something else was written to its key"
NO_CALL = UNREADABLE + "its call is gone"


class Model(Rows):
    """One queue."""

    # -- how a life begins and ends

    def _begin(
        self, key: str, enqueue_id: str, payload: bytes, due: int, priority: int, group: str
    ) -> None:
        earlier = self._ids(key)
        self.calls[key] = f"{enqueue_id} {self.now}\n".encode() + payload
        self.states.pop(key, None)
        for container in (self.lease, self.ready, self.suspect, self.scheduled):
            container.pop(key, None)
        self._leave(key)
        if self.finished.pop(key, None) is not None and self.quarantine.pop(key, None) is not None:
            self.foreign.pop(key, None)
        state = {}
        if due > self.now:
            state["due"] = str(due)
        if priority:
            state["priority"] = str(priority)
        if group:
            state["group"] = group
        if earlier:
            state["earlier"] = earlier
        if state:
            self.states[key] = {"status": "queued", **state}
        self._place(key, due, priority, group or None, front=False, solo=False)

    def _ids(self, key: str) -> str:
        state, head = self.state(key) or {}, self.head(key)
        own = head[0] if head else state.get("gone")
        return (state.get("earlier", " ") + own + " ")[-IDS_BYTES:] if own is not None else ""

    def _finish(self, key: str, status: str, ttl: int, written: dict[str, str]) -> None:
        state = self.writable(key)
        state.update(written, status=status, completed=str(self.now), touched=str(self.now))
        for name in ("due", "follows", "solo"):
            state.pop(name, None)
        if ttl < 0:
            state["gone"] = (self.head(key) or ("", ""))[0]
            self.calls.pop(key, None)
            for name in ("result", "error", "exception", "meta", "log"):
                state.pop(name, None)
        self.finished[key] = math.inf
        if ttl:
            ends = self.now + (TOMBSTONE_MS if ttl < 0 else ttl)
            self.finished[key] = ends
            state["expires"] = str(ends)

    def _set_aside(self, key: str, reason: str, status: str = "failed") -> None:
        if self.state(key) is None:
            self.foreign[key] = FOREIGN
            del self.states[key]
        self._finish(key, status, QUARANTINE_MS, {"error": reason})
        self.quarantine[key] = self.now
        self._leave(key)
        self._end_solo(key)

    def _end_solo(self, key: str) -> None:
        if self.solo.get("key") == key:
            self.solo = {}

    # -- the scripts

    def enqueue(self, most: int | None, *jobs: tuple[str, str, bytes, int, int, int, str]) -> Any:
        waiting = (self.ready, self.suspect, self.followers, self.scheduled)
        room = math.inf if most is None else most - sum(map(len, waiting))
        answer: list[Any] = []
        for key, enqueue_id, payload, due, delay, priority, group in jobs:
            due_at = max(due, self.now + delay if delay > 0 else 0)
            head, state = self.head(key), self.state(key) or {}
            status = self.status(key)
            if enqueue_id in (head[0] if head else None, state.get("gone")):
                queued = int(head[1]) if head else self.now
                answer.append(["same", queued, int(state.get("due", 0))])
            elif f" {enqueue_id} " in state.get("earlier", ""):
                answer.append(["same", self.now, 0])
            elif status and status not in TERMINAL:
                answer.append(["taken", 0, 0, self.calls.get(key), self.answered_state(key)])
            elif room < 1:
                answer.append(["full", 0, 0])
            else:
                self._begin(key, enqueue_id, payload, due_at, priority, group)
                room -= 1
                answer.append(["new", self.now, due_at if due_at > self.now else 0])
        return answer

    def _promote(self) -> None:
        for key, due in sorted(self.scheduled.items(), key=lambda item: (item[1], item[0])):
            if due > self.now:
                continue
            del self.scheduled[key]
            state = self.state(key)
            if state is None:
                self._set_aside(key, NO_HASH)
                continue
            priority, group = int(state.get("priority", 0)), state.get("group")
            self._place(key, 0, priority, group, front=False, solo="solo" in state)

    def _take(
        self, key: str, fence: int, worker: str, claim_id: str, lease_ms: int
    ) -> list[Any] | None:
        state = self.state(key)
        if state is None:
            self._set_aside(key, NO_HASH)
            return None
        if key not in self.calls:
            self._set_aside(key, NO_CALL)
            return None
        if state.get("status", "queued") != "queued":
            return None
        state = self.writable(key)
        state.pop("due", None)
        state["attempts"] = str(int(state.get("attempts", 0)) + 1)
        state.update(status="active", started=str(self.now), touched=str(self.now))
        state.update(worker=worker, fence=str(fence), claim=claim_id)
        self.lease[key] = self.now + lease_ms
        return [key, fence, self.calls[key], self.answered_state(key)]

    def _take_from(self, which: dict[str, Place], most: int, *how: Any) -> list[list[Any]]:
        jobs: list[list[Any]] = []
        if most < 1 or not which:
            return jobs
        # All fences that may be needed are taken first; those that are not are never given.
        first, self.fence = self.fence + 1, self.fence + most
        while len(jobs) < most and which:
            key = min(which, key=lambda k: (which[k], k))
            del which[key]
            if job := self._take(key, first + len(jobs), *how):
                jobs.append(job)
        return jobs

    def solo_is_taken(self, worker: str) -> bool:
        if "key" in self.solo:
            return self.solo["key"] in self.lease
        return (
            "worker" in self.solo
            and self.solo["worker"] != worker
            and int(self.solo["until"]) > self.now
        )

    def claim(
        self,
        worker: str,
        claim_id: str,
        wanted: int,
        lease_ms: int,
        alive_ms: int,
        idle: str,
        room_ms: int,
    ) -> Any:
        jobs: list[list[Any]] = []
        make_room = ""
        how = (worker, claim_id, lease_ms)
        last_id, last_keys = self.claims.get(worker, ("", []))
        if last_id == claim_id:
            for key in last_keys:
                state = self.state(key) or {}
                if state.get("claim") == claim_id and state["status"] in ("active", "aborting"):
                    call = self.calls.get(key)
                    jobs.append([key, int(state["fence"]), call, self.answered_state(key)])
        else:
            self._promote()
            can_take, can_make_room = bool(idle), not idle and room_ms > 0
            if (can_take or can_make_room) and self.suspect and not self.solo_is_taken(worker):
                self.solo = {}
                if can_take:
                    jobs = self._take_from(self.suspect, 1, *how)
                    self.solo = {"key": jobs[0][0]} if jobs else {}
                else:
                    make_room = "1"
                    self.solo = {"worker": worker, "until": str(self.now + room_ms)}
            if not make_room and not jobs:
                jobs = self._take_from(self.ready, wanted, *how)
            if jobs:
                self.claims[worker] = claim_id, [job[0] for job in jobs]
        self.workers[worker] = self.now + alive_ms
        lease_end = min(self.lease.values(), default=-1)
        if self.suspect and "until" in self.solo:
            until = int(self.solo["until"])
            lease_end = until if lease_end < 0 else min(lease_end, until)
        due = min(self.scheduled.values(), default=-1)
        record = min(self.finished.values(), default=-1)
        return [self.now, due, lease_end, -1 if record == math.inf else record, make_room, jobs]

    def commit(self, *moves: tuple[Any, ...]) -> Any:
        return [self._commit(*move) for move in moves]

    def _commit(
        self,
        key: str,
        fence: int,
        claim_id: str,
        target: str,
        delay: int,
        ttl: int,
        charge: str,
        flags: str,
        outcome: str,
        note: str,
        *texts: str,
    ) -> list[str]:
        state = self.state(key) or {}
        status = state.get("status")
        ending = f"{fence}:{claim_id}" + (":lost" if "e" in flags else "")
        ours = (state.get("fence"), state.get("claim")) == (str(fence), claim_id)
        ours = ours and status in ("active", "aborting")
        if ours and "e" in flags:
            ours = self.lease.get(key, 0) <= self.now
        if not ours:
            verdict = "done" if state.get("ended") == ending else "lost"
            return [verdict, self.status(key) or "missing"]
        if status == "aborting" and target != "aborted":
            return ["aborting", state.get("error", "")]
        if status == "active" and target == "aborted":
            return ["lost", "active"]
        self.lease.pop(key, None)
        if "solo" in state:
            self._end_solo(key)
        for counter in (charge, "abandoned" if "a" in flags else ""):
            if counter:
                state[counter] = str(int(state.get(counter, 0)) + 1)
        self._leave(key)
        written = {"ended": ending}
        names = ("result", "error", "exception")
        written.update({n: t for n, t in zip(names, texts, strict=True) if t})
        if target == "queued":
            self._requeue(key, state, written, delay, flags, (outcome, note))
            return ["ok", "queued"]
        self._finish(key, target, QUARANTINE_MS if "q" in flags else ttl, written)
        if "q" in flags:
            self.quarantine[key] = self.now
        return ["ok", target]

    def _requeue(
        self,
        key: str,
        state: dict[str, str],
        written: dict[str, str],
        delay: int,
        flags: str,
        told: tuple[str, str],
    ) -> None:
        outcome, note = told
        words = (state["attempts"], state["started"], str(self.now), outcome, state["worker"], note)
        log = [*state.get("log", "").split("\n")] if "log" in state else []
        written["log"] = "\n".join([*log, "\t".join(words)][-MAX_LOG_LINES:])
        if "s" in flags:
            written["solo"] = "1"
        due = self.now + delay
        if due > self.now:
            written["due"] = str(due)
        for name in ("started", "progress", "worker"):
            state.pop(name, None)
        state.update(written, status="queued", touched=str(self.now))
        priority, group = int(state.get("priority", 0)), state.get("group")
        self._place(key, due, priority, group, front="f" in flags, solo="solo" in state)

    def renew(self, lease_ms: int, *runs: tuple[str, int, str]) -> Any:
        news: list[list[Any]] = []
        for key, fence, claim_id in runs:
            state = self.state(key) or {}
            held = (state.get("fence"), state.get("claim")) == (str(fence), claim_id)
            if not held or state["status"] not in ("active", "aborting"):
                news.append([fence, "lost", ""])
                continue
            if key in self.lease:
                self.lease[key] = self.now + lease_ms
            if state["status"] == "aborting":
                news.append([fence, "aborting", state.get("error", "")])
        return news

    def expired(self, limit: int) -> Any:
        orphans: list[list[Any]] = []
        over = sorted((end, key) for key, end in self.lease.items() if end <= self.now)
        for _, key in over[:limit]:
            state = self.state(key)
            status = (state or {}).get("status")
            if state and status in ("active", "aborting"):
                call = self.calls.get(key)
                orphans.append([key, int(state["fence"]), call, self.answered_state(key)])
                continue
            del self.lease[key]
            if status not in TERMINAL:
                self._set_aside(key, "its state is gone, though it ran under a lease")
        return orphans

    def update(self, key: str, fence: int | str, claim_id: str, progress: str, meta: str) -> Any:
        state = self.state(key)
        found = state or {}
        status = self.status(key)
        if not status or int(found.get("expires", self.now + 1)) <= self.now:
            return ["missing", "", 0]
        held = (found.get("fence"), found.get("claim")) == (str(fence), claim_id)
        if fence and not (held and status in ("active", "aborting")):
            return ["lost", status, 0]
        if status in TERMINAL:
            return ["final", status, 0]
        if state is None:
            return ["missing", "", 0]
        state = self.writable(key)
        state.update(status=status, touched=str(self.now))
        state.update({n: v for n, v in (("progress", progress), ("meta", meta)) if v})
        return ["ok", status, self.now]

    def abort(self, key: str, reason: str, ttl: int, abort_id: str) -> Any:
        state = self.state(key)
        found = state or {}
        status = self.status(key)
        if not status or int(found.get("expires", self.now + 1)) <= self.now:
            return "missing"
        if status == "aborted" and found.get("stopped") == abort_id:
            return status
        if status in TERMINAL:
            return f"final {status}"
        if status == "queued":
            for container in (self.ready, self.scheduled, self.suspect, self.lease):
                if "follows" not in found and container.pop(key, None) is not None:
                    break
            if "follows" in found:
                self._unfollow(found["group"], place_of(int(found["follows"])), key)
            if state is None:
                self._set_aside(key, reason, "aborted")
                self.writable(key)["stopped"] = abort_id
            else:
                self._finish(key, "aborted", ttl, {"error": reason, "stopped": abort_id})
                self._leave(key)
            return "aborted"
        self.writable(key).update(status="aborting", error=reason, stopped=abort_id)
        if self.workers.get(found["worker"], 0) > self.now:
            self._tell(found["worker"], f"abort\n{found['fence']}\n{key}\n{reason}")
        return "aborting"

    def _tell(self, worker: str, word: str) -> None:
        words = self.control.setdefault(worker, [])
        if words[-1:] != [word]:
            words.append(word)

    def pass_on(self, worker: str) -> Any:
        if worker in self.workers:
            self._tell(worker, "nudge")
        return 1

    def read(self, *keys: str) -> Any:
        return [self._read(key) for key in keys]

    def _read(self, key: str) -> Any:
        state, call = self.state(key), self.calls.get(key)
        found = state or {}
        over = "gone" in found or int(found.get("expires", self.now + 1)) <= self.now
        if over or not (call or found.get("status")):
            return None
        return [call, self.answered_state(key), found.get("log")]

    def expire(self, limit: int) -> Any:
        over = sorted((end, key) for key, end in self.finished.items() if end <= self.now)[:limit]
        for _, key in over:
            self._forget(key)
        return len(over)

    def _forget(self, key: str) -> None:
        del self.finished[key]
        if self.quarantine.pop(key, None) is not None:
            self.foreign.pop(key, None)
        self.states.pop(key, None)
        self.calls.pop(key, None)

    def restore(self, key: str, enqueue_id: str) -> Any:
        head = self.head(key)
        if key not in self.quarantine:
            return "restored" if head and head[0] == enqueue_id else "missing"
        if key not in self.calls:
            return "gone"
        state = self.state(key) or {}
        call = self.calls[key]
        payload = call.partition(b"\n")[2] if head else call
        priority, group = int(state.get("priority", 0)), state.get("group", "")
        self._begin(key, enqueue_id, payload, 0, priority, group)
        return "restored"

    def discard(self, key: str) -> Any:
        if key not in self.quarantine:
            return 0
        self._forget(key)
        return 1

    def register(self, worker: str, alive_ms: int, told: str) -> Any:
        if alive_ms == 0:
            self._forget_worker(worker)
            return 1
        for gone in [w for w, until in self.workers.items() if until <= self.now]:
            self._forget_worker(gone)
        self.workers[worker] = self.now + alive_ms
        if told:
            self.info[worker] = told
        return 1

    def _forget_worker(self, worker: str) -> None:
        for told in (self.workers, self.info, self.claims, self.control):
            told.pop(worker, None)
        if self.solo.get("worker") == worker:
            self.solo = {}

    def adopt(self, worker: str, *timetables: tuple[str, str]) -> Any:
        answer = [self.now]
        for schedule, timetable in timetables:
            since = self.ticked.get(schedule, -1)
            another = self.timetables.get(schedule, ("", []))[0] != timetable
            if another:
                self.timetables.pop(schedule, None)
            if since < 0 or another:
                since = self.ticked[schedule] = max(since, self.now)
            self._tick_by(timetable, schedule, worker)
            answer.append(since)
        return answer

    def _tick_by(self, timetable: str, schedule: str, worker: str) -> None:
        _, workers = self.timetables.get(schedule, ("", []))
        workers = [*(each for each in workers if each != worker), worker]
        self.timetables[schedule] = timetable, workers[-WORKERS_KEPT:]

    def cron(
        self,
        schedule: str,
        tick: int,
        unique: str,
        key: str,
        enqueue_id: str,
        payload: bytes,
        timetable: str,
        worker: str,
    ) -> Any:
        if tick > self.now:
            return ["early", self.now]
        if self.ticked.get(schedule, -1) >= tick or tick <= self.now - FORGET_MS:
            return ["handled", self.now]
        theirs, workers = self.timetables.get(schedule, (timetable, []))
        if theirs != timetable:
            if any(self.workers.get(each, -1) >= self.now for each in workers):
                return ["replaced", self.now]
            self.timetables.pop(schedule, None)
        before = self.status(self.cron_jobs[schedule]) if schedule in self.cron_jobs else None
        busy = bool(unique and before and before not in TERMINAL)
        taken = (self.status(key) or "complete") not in TERMINAL
        self.ticked[schedule] = tick
        self._tick_by(timetable, schedule, worker)
        if not busy and not taken:
            self.cron_jobs[schedule] = key
            self._begin(key, enqueue_id, payload, 0, 0, "")
        for old in [s for s, at in self.ticked.items() if at <= self.now - FORGET_MS]:
            for told in (self.ticked, self.timetables, self.cron_jobs):
                told.pop(old, None)
        return ["overlap" if busy else "handled" if taken else "enqueued", self.now]

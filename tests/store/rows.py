"""Where the jobs of a queue are, in plain Python: the containers, the places in them, and the groups.

Written from the words of the design and of keys.py, as simply as can be: containers are mappings, an order
is what `sorted` says, a place is (priority, number), and nothing here is fast. A state is the mapping of
fields that codec.py reads, or the bytes that damage has written over it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from queuekit.store.codec import STATE_FIELDS

Place = tuple[int, int]
"Priority, and number within it; lower first."


@dataclass
class Rows:
    """One queue."""

    now: int = 0
    calls: dict[str, bytes] = field(default_factory=dict)
    states: dict[str, dict[str, str] | bytes] = field(default_factory=dict)
    foreign: dict[str, bytes] = field(default_factory=dict)
    ready: dict[str, Place] = field(default_factory=dict)
    suspect: dict[str, Place] = field(default_factory=dict)
    followers: dict[tuple[str, Place, str], None] = field(default_factory=dict)
    scheduled: dict[str, int] = field(default_factory=dict)
    lease: dict[str, int] = field(default_factory=dict)
    finished: dict[str, float] = field(default_factory=dict)
    quarantine: dict[str, int] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)
    info: dict[str, str] = field(default_factory=dict)
    claims: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    control: dict[str, list[str]] = field(default_factory=dict)
    solo: dict[str, str] = field(default_factory=dict)
    ticked: dict[str, int] = field(default_factory=dict)
    timetables: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    cron_jobs: dict[str, str] = field(default_factory=dict)
    fence: int = 0

    # -- what is there

    def state(self, key: str) -> dict[str, str] | None:
        """The fields of a state; None when it is none of ours."""
        found = self.states.get(key, {})
        return None if isinstance(found, bytes) else found

    def writable(self, key: str) -> dict[str, str]:
        found = self.states.setdefault(key, {})
        assert isinstance(found, dict)
        return found

    def head(self, key: str) -> tuple[str, str] | None:
        match = re.match(rb"(\S+) (\d+)\n", self.calls.get(key, b"")[:128])
        return (match[1].decode(), match[2].decode()) if match else None

    def status(self, key: str) -> str | None:
        return (self.state(key) or {}).get("status") or ("queued" if self.head(key) else None)

    def answered_state(self, key: str) -> list[str | None] | None:
        state = self.state(key)
        return None if state is None else [state.get(name) for name in STATE_FIELDS]

    # -- where a job waits

    def _row(self, which: dict[str, Place], priority: int) -> list[int]:
        return sorted(number for p, number in which.values() if p == priority)

    def _mates(self, priority: int, group: str | None) -> list[int]:
        """Numbers of those of a group that wait, its leader among them."""
        leader = self.groups.get(group or "", "")
        leading = [("", self.ready[leader], leader)] if leader in self.ready else []
        following = [entry for entry in self.followers if entry[0] == group]
        return [number for _, (p, number), _ in (*following, *leading) if p == priority]

    def _behind(self, which: dict[str, Place], priority: int, group: str | None) -> Place:
        row, mates = self._row(which, priority), self._mates(priority, group)
        # Whoever comes into an empty row stands at its middle; nobody overtakes those of its group.
        return priority, max([row[-1] + 1 if row else 0, *(mate + 1 for mate in mates)])

    def _before(self, which: dict[str, Place], priority: int, group: str | None) -> Place:
        row, mates = self._row(which, priority), self._mates(priority, group)
        return priority, min([row[0] - 1 if row else 0, *(mate - 1 for mate in mates)])

    def _follow(self, group: str, place: Place, key: str) -> None:
        self.followers[group, place, key] = None
        if self.state(key) is not None:
            self.writable(key)["follows"] = str(score(place))

    def _unfollow(self, group: str, place: Place, key: str) -> None:
        self.followers.pop((group, place, key), None)
        state = self.state(key)
        if state is not None:
            state.pop("follows", None)
            self._drop_if_empty(key)

    def _drop_if_empty(self, key: str) -> None:
        if self.states.get(key) == {}:
            del self.states[key]

    def _place(
        self, key: str, due: int, priority: int, group: str | None, *, front: bool, solo: bool
    ) -> None:
        if due > self.now:
            self.scheduled[key] = due
            return
        which = self.suspect if solo else self.ready
        place = (self._before if front else self._behind)(which, priority, group)
        if group:
            leader = self.groups.get(group)
            if leader and leader != key:
                theirs = self.ready.get(leader)
                if theirs is None or theirs <= place:
                    self._follow(group, place, key)
                    return
                del self.ready[leader]
                self._follow(group, theirs, leader)
            self.groups[group] = key
        which[key] = place

    def _leave(self, key: str) -> None:
        led = [group for group, leader in self.groups.items() if leader == key]
        for group in led:
            del self.groups[group]
            for g, place, mate in sorted(self.followers):
                if g != group:
                    continue
                state = self.state(mate) or {}
                solo = "solo" in state
                if state.get("status") and state.get("follows") != str(score(place)):
                    del self.followers[g, place, mate]
                    continue
                self._unfollow(g, place, mate)
                self.groups[group] = mate
                (self.suspect if solo else self.ready)[mate] = place
                break

    # -- all of it, in the words of keys.py

    def contents(self) -> dict[str, Any]:
        """Every key that is to be there, but the token, which is a matter of `owes_a_token`."""
        named: dict[str, Any] = {
            "ready": {key: score(place) for key, place in self.ready.items()},
            "suspect": {key: score(place) for key, place in self.suspect.items()},
            "followers": {
                f"{group}\1{score(place) + 2**52:017d}\1{key}": 0
                for group, place, key in self.followers
            },
            "groups": self.groups,
            "leaders": {key: group for group, key in self.groups.items()},
            "scheduled": self.scheduled,
            "lease": self.lease,
            "finished": self.finished,
            "quarantine": self.quarantine,
            "workers": self.workers,
            "info": self.info,
            "claims": {w: "\n".join([claim, *keys]) for w, (claim, keys) in self.claims.items()},
            "solo": self.solo,
            "ticked": self.ticked,
            "timetable": {
                schedule: "".join(f"{line}\n" for line in (timetable, *workers))
                for schedule, (timetable, workers) in self.timetables.items()
            },
            "cronjob": self.cron_jobs,
            "fence": str(self.fence).encode() if self.fence else b"",
            **{f"control:{worker}": words for worker, words in self.control.items()},
            **{f"call:{key}": call for key, call in self.calls.items()},
            **{f"job:{key}": state for key, state in self.states.items()},
            **{f"foreign:{key}": raw for key, raw in self.foreign.items()},
        }
        return {name: content for name, content in named.items() if content}

    def waits(self, key: str) -> bool:
        """Whether it has an entry in any container."""
        mates = {mate for _, _, mate in self.followers}
        return any(
            key in place for place in (self.ready, self.suspect, self.scheduled, self.lease, mates)
        )

    def could_start(self) -> bool:
        """Whether somebody must be on the way: a token lies there, or its taker has yet to look."""
        return bool(self.ready) or bool(self.suspect and not self.solo)


def score(place: Place) -> int:
    """A place as Redis holds it: each priority has a band of 2^37, and begins in its middle."""
    priority, number = place
    return priority * 2**37 + 2**36 + number


def place_of(held: int) -> Place:
    priority, number = divmod(held, 2**37)
    return priority, number - 2**36

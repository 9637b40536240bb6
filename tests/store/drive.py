"""Drives the scripts on several servers at once, beside the model, and compares whatever can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.store.commands import KEYS, RUNS
from tests.store.invariants import TERMINAL, violations
from tests.store.model import FOREIGN, Model
from tests.store.servers import ROOT, Answerer, call_of, encoded

START_MS = 1_700_000_000_000
LEASE_MS = 30_000
ALIVE_MS = 60_000
ROOM_MS = 40_000
PAYLOAD = b'{"v":1,"function":"f"}'
ENDS: dict[str, tuple[str, int, int, str, str]] = {
    # target, delay, ttl, charge, flags
    "complete": ("complete", 0, 600_000, "", ""),
    "failed": ("failed", 0, 600_000, "failures", "a"),
    "gone": ("complete", 0, -1, "", ""),
    "for ever": ("complete", 0, 0, "", ""),
    "retried": ("queued", 0, 0, "failures", ""),
    "delayed": ("queued", 5000, 0, "failures", ""),
    "released": ("queued", 0, 0, "", "f"),
    "aborted": ("aborted", 0, 600_000, "", ""),
    "solo": ("queued", 0, 0, "losses", "s"),
    "quarantine": ("failed", 0, 0, "", "q"),
    "unknown": ("queued", 1000, 0, "unknown", ""),
}
"How a run may end; any of them may be sent by anybody, at any time."

Run = tuple[str, int, str]
"Key, fence and claim id of a run that a worker was given."


class Driver:
    """One history on all servers."""

    def __init__(self, servers: Sequence[Answerer]) -> None:
        self.servers = servers
        self.model = Model(now=START_MS)
        self.runs: list[Run] = []
        self.ids: dict[str, str] = {}
        self.damaged: set[str] = set()
        self.made = 0
        self.claim_ids: dict[str, str] = {}
        self.abort_ids: dict[str, str] = {}
        self.takers: set[str] = set()
        "Workers that took the token and have not looked yet."
        self.last: tuple[str, tuple[Any, ...]] | None = None
        for server in servers:
            server.ask("FLUSHALL")

    # -- one script

    def script(self, name: str, *arguments: Any) -> Any:
        """Run a script everywhere. The answers are the model's, byte for byte; then the rules hold."""
        self.last = name, arguments
        flat = [self.model.now, *_flat(arguments)]
        expected = _wired(getattr(self.model, name.replace("-", "_"))(*arguments))
        answer = self.command(*call_of(name, *flat))
        assert answer == expected, (
            f"{name}{arguments} is answered\n  {answer!r}\nand the model says\n  {expected!r}"
        )
        self.check()
        return expected

    def command(self, *words: Any) -> Any:
        sent = [encoded(word) for word in words]
        (first, value), *others = [server.exchange(*sent) for server in self.servers]
        for other, told in others:
            # Of commands that stand alone, fakeredis says in a bulk string what is a simple one in Redis.
            same = other == first if words[0] == "EVALSHA" else told == value
            assert same, f"{words} is answered {first!r} by one server, {other!r} by another"
        return value

    def check(self) -> None:
        """The last server's whole state is the model's, and breaks no rule."""
        found = self.servers[-1].read_all()
        contents = {n: c for n, c in found.contents.items() if n != "wake"}
        expected = self.model.contents()
        if contents != expected:
            differing = sorted(
                n for n in {*contents, *expected} if contents.get(n) != expected.get(n)
            )
            told = [f"{n}: {contents.get(n)!r}, expected {expected.get(n)!r}" for n in differing]
            raise AssertionError("what is stored is not the model's:\n  " + "\n  ".join(told))
        self._mend()
        broken = violations(found, damaged=self.damaged)
        if self.model.could_start() and not self.takers and "wake" not in found.contents:
            broken.append("P6: a job could start, no token lies there and nobody has one")
        assert not broken, "\n  ".join(broken)

    def _mend(self) -> None:
        """A damaged job that ended or began anew has no damage left."""
        for key in sorted(self.damaged):
            ended = self.model.status(key) in (*TERMINAL, None)
            if ended and not self.model.waits(key) and self.model.state(key) is not None:
                self.damaged.discard(key)

    def same_everywhere(self) -> None:
        """All of the state is equal on all servers: once a history, since fakeredis takes its time."""
        first, *others = [server.read_all() for server in self.servers]
        for other in others:
            assert other == first

    # -- one command of a history

    def do(self, command: tuple[Any, ...]) -> None:
        what, *details = command
        getattr(self, "do_" + what.replace(" ", "_"))(*details)

    def do_nothing(self) -> None:
        """What a shrunk history consists of."""

    def do_enqueue(self, jobs: Sequence[tuple[Any, ...]], most: int | None) -> None:
        now = self.model.now
        moments = {
            "at once": (0, 0),
            "soon": (now + 3000, 0),
            "delayed": (0, 2500),
            "past": (now - 1, 0),
        }
        batch = []
        for number, again, when, priority, group in jobs:
            key = f"k{number}"
            enqueue_id = self.ids.get(key, "") if again else ""
            if not enqueue_id:
                enqueue_id = self.new_id()
                self.ids[key] = enqueue_id
            batch.append((key, enqueue_id, PAYLOAD, *moments[when], priority, group))
        answer = self.script("enqueue", most, *batch)
        self.damaged -= {
            job[0] for job, told in zip(batch, answer, strict=True) if told[0] == b"new"
        }

    def new_id(self) -> str:
        self.made += 1
        return f"e{self.made}"

    def do_claim(self, number: int, wanted: int, idle: bool, again: bool) -> None:
        worker = f"w{number}"
        claim_id = self.claim_ids.get(worker, "") if again else ""
        if not claim_id:
            claim_id = self.claim_ids[worker] = f"{worker}.{self.new_id()}"
        self.takers.discard(worker)
        flag = "1" if idle and wanted else ""
        answer = self.script("claim", worker, claim_id, wanted, LEASE_MS, ALIVE_MS, flag, ROOM_MS)
        for key, fence, _, _ in answer[5]:
            held = (key.decode(), fence, claim_id)
            self.runs = [held, *(run for run in self.runs if run != held)][:RUNS]

    def _run(self, number: int) -> Run:
        return self.runs[number] if number < len(self.runs) else (f"k{number % KEYS}", 99, "nobody")

    def _move(self, run: Run, how: str, twist: str) -> tuple[Any, ...]:
        key, fence, claim_id = run
        target, delay, ttl, charge, flags = ENDS[how]
        fence += 1000 * (twist == "wrong fence")
        claim_id += "?" * (twist == "wrong claim")
        flags += "e" * (twist == "expired only")
        texts = ("r", "", "") if how == "complete" else ("", f"it was {how}", '["E","m"]')
        return (key, fence, claim_id, target, delay, ttl, charge, flags, how, "a note", *texts)

    def do_commit(self, ends: Sequence[tuple[int, str, str]]) -> None:
        moves = []
        for number, how, twist in ends:
            move = self._move(self._run(number), how, twist)
            moves += [move, move] if twist == "twice" else [move]
        self.script("commit", *moves)

    def do_recover(self, how: str) -> None:
        moves = []
        for key, fence, _, state in self.script("expired", 100):
            aborting = state[0] == b"aborting"
            target = "aborted" if aborting else how.replace("solo", "queued")
            flags = "es" if how == "solo" else "e"
            told = ("losses", flags, "lost", "its worker died", "", "lost", "")
            moves.append((key.decode(), fence, state[16].decode(), target, 0, 600_000, *told))
        if moves:
            self.script("commit", *moves)

    def do_renew(self, numbers: Sequence[int]) -> None:
        self.script("renew", LEASE_MS, *(self._run(number) for number in numbers))

    def do_update(self, number: int, run: int | None, what: int) -> None:
        key, fence, claim_id = (f"k{number}", "", "") if run is None else self._run(run)
        self.script("update", key, fence, claim_id, ["", "0.5", ""][what], ["", "", "m"][what])

    def do_abort(self, number: int, ttl: int) -> None:
        key = f"k{number}"
        sent_before = self.abort_ids.pop(key, "")  # each second one is the last one, sent again
        abort_id = sent_before or self.abort_ids.setdefault(key, self.new_id())
        self.script("abort", key, "because", ttl, abort_id)

    def do_expire(self) -> None:
        self.script("expire", 100)

    def do_restore(self, number: int) -> None:
        key = f"k{number}"
        self.ids[key] = self.new_id()
        if self.script("restore", key, self.ids[key]) == b"restored":
            self._restored(key)

    def _restored(self, key: str) -> None:
        # What was written over its call is what is restored: still no record of ours.
        if self.model.calls[key].partition(b"\n")[2] == PAYLOAD:
            self.damaged.discard(key)

    def do_discard(self, number: int) -> None:
        self.script("discard", f"k{number}")

    def do_register(self, number: int, leaves: bool) -> None:
        worker = f"w{number}"
        if leaves:
            self.takers.discard(worker)
        self.script("register", worker, 0 if leaves else ALIVE_MS, "" if leaves else "{}")

    def do_adopt(self, number: int, timetables: Sequence[int]) -> None:
        pairs = [(f"s{schedule}", f"t{which}") for schedule, which in enumerate(timetables)]
        self.script("adopt", f"w{number}", *pairs)

    def do_cron(self, number: int, offset: int, unique: bool, by: int) -> None:
        tick = self.model.now + offset
        # Ticks of the first schedule fall on the keys of others.
        key = f"k{tick % KEYS}" if number == 0 else f"cron{number}:{tick}"
        flag = "1" if unique else ""
        told = (self.new_id(), PAYLOAD, f"t{by % 2}", f"w{by}")
        answer = self.script("cron", f"s{number}", tick, flag, key, *told)
        if answer[0] == b"enqueued":
            self.damaged.discard(key)

    def do_read(self) -> None:
        self.script("read", *(f"k{number}" for number in range(KEYS)))

    def do_token(self, number: int) -> None:
        worker = f"w{number}"
        self.last = None
        for source in (f"control:{worker}", "wake"):
            if self.command("LPOP", f"{ROOT}:{source}") is not None:
                if source == "wake":
                    self.takers.add(worker)
                else:
                    words = self.model.control[worker]
                    self.model.control[worker] = words[1:]
                return

    def do_pass_on(self, number: int) -> None:
        self.takers.discard(f"w{number}")
        self.script("pass_on", "")

    def do_nudge(self, number: int) -> None:
        self.script("pass_on", f"w{number}")

    def do_again(self) -> None:
        """The last script once more, as if its reply had been lost: nothing changes."""
        if self.last is None:
            return
        name, arguments = self.last
        before = self.servers[-1].read_all()
        self.script(name, *arguments)
        assert self.servers[-1].read_all() == before, f"{name}{arguments}, sent twice, acts twice"

    def do_advance(self, ms: int) -> None:
        self.model.now += ms
        self.last = None

    def do_damage(self, number: int, how: str) -> None:
        """Somebody else writes to the keys of a job, or a server evicts them."""
        key = f"k{number}"
        model = self.model
        part, what = how.split(" ")
        records = model.calls if part == "call" else model.states
        if key not in records:
            return
        self.last = None
        self.damaged.add(key)
        stored_at = f"{ROOT}:{'call' if part == 'call' else 'job'}:{key}"
        if what == "deleted":
            self.command("DEL", stored_at)
            del records[key]
        else:
            self.command("SET", stored_at, FOREIGN)
            records[key] = FOREIGN


def _flat(arguments: Sequence[Any]) -> list[Any]:
    flat: list[Any] = []
    for argument in arguments:
        flat += argument if isinstance(argument, tuple) else [argument]
    return ["" if argument is None else argument for argument in flat]


def _wired(value: Any) -> Any:
    """A value as a reply says it."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list | tuple):
        return [_wired(each) for each in value]
    return value

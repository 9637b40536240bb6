"""The promises of docs/promises.md, checked from what can be seen of a run.

watch = Watch(simulation)            # before the story begins
simulation.run(story(simulation))
assert not watch.broken()
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from queuekit.exploration import labels, leaks, runs, state
from queuekit.exploration.ledger import Broken, Ledger, Life, Run
from queuekit.exploration.moves import HANDLERS, Handler, cron
from queuekit.exploration.punctual import Punctuality, is_fit
from queuekit.exploration.ticking import Ticking
from queuekit.simulation.contents import snapshot_of
from queuekit.simulation.process import PROCESS, Process
from queuekit.simulation.tap import Tap

if TYPE_CHECKING:
    from queuekit.job import Job
    from queuekit.simulation.wire import Wire
    from queuekit.simulation.world import Simulation
    from queuekit.worker import Worker

MAX_BROKEN = 50
"Breaches that are kept: what follows from the first ones helps nobody."

SHIPPED = frozenset({*HANDLERS, "adopt", "expire", "expired", "pass_on", "register"})
"The scripts of queuekit."

HARMLESS = frozenset(
    b"BLPOP EXISTS GET GETRANGE HGET HGETALL HLEN HMGET LINDEX LLEN LRANGE MGET PTTL PUBLISH SCRIPT "
    b"SUBSCRIBE TTL TYPE UNSUBSCRIBE ZCARD ZCOUNT ZRANGE ZRANGEBYSCORE ZREVRANGE ZSCORE".split()
)
"Commands beside the scripts that move no job."


class Watch(Tap):
    """Watches a simulation, and tells which promises were not kept.

    It is attached before the story begins, and costs some microseconds a command. What it cannot know it
    does not judge: a queue to whose keys somebody has written by hand is left alone (see `unchecked`).

    Args:
        simulation: the world to be watched; it has begun.
        thorough: hold what the server holds against its moves at the end of each instant, not only at the
            end and when `look` is called; that costs a tenth of a millisecond each time.
    """

    def __init__(self, simulation: Simulation, *, thorough: bool = False) -> None:
        self._simulation = simulation
        self._thorough = thorough
        self._loop = simulation.loop
        self._found: list[Broken] = []
        self._ledgers: dict[tuple[int, str], Ledger] = {}
        self._databases: dict[int, int] = {}
        self._under_way: Counter[int] = Counter()
        self._handlers: dict[bytes, Handler | str] = {}
        self._written_by_hand: dict[str, str] = {}
        self._late = bool(simulation.journal.records)
        self._data_lost = False
        "Then what a worker knows of its runs, and what the server knows, are of two pasts."
        self._held_back_ns = 0
        "When an observer last held something back."
        self._punctuality = Punctuality(simulation)
        self._ticking = Ticking(simulation)
        self._loop.tap = self
        self._loop.at_instants_end.append(self._instant_ends)

    # -- what came of it

    def broken(self) -> list[Broken]:
        """All breaches, the first one first; looks at what the server holds now."""
        self.look()
        for ledger in self._ledgers.values():
            self._ticking.check(ledger)
            for life in ledger.lives.values():
                for run in life.runs:
                    self._goes_on(ledger, life, run)
        return list(dict.fromkeys(self._found))

    @property
    def found(self) -> int:
        """How many breaches were found so far, without another look."""
        return len(self._found)

    def look(self) -> None:
        """Hold what the server holds against what it must hold; at the end, and whenever wanted."""
        network = self._loop.network
        if network is None:
            return
        for ledger in self._ledgers.values():
            self._tell_time(ledger)
            if ledger.tampered:
                continue
            snapshot = snapshot_of(network.contents(ledger.root, ledger.database), ledger.root)
            state.compare(ledger, snapshot)
            leaks.check(ledger, snapshot)
            leaks.check_tidied(ledger, snapshot, self._punctuality.tidied_until_ms(ledger))

    def ledgers(self) -> list[Ledger]:
        """Of each queue that there was, what it must hold."""
        return list(self._ledgers.values())

    def unfinished(self) -> list[str]:
        """The keys of jobs that have not ended: in a run that was left to end, P1 is broken by them."""
        return [
            life.key
            for ledger in self._ledgers.values()
            for life in ledger.lives.values()
            if not life.over
        ]

    @property
    def unchecked(self) -> dict[str, str]:
        """The queues that were not judged, each with the reason."""
        return {each.name: each.tampered for each in self._ledgers.values() if each.tampered}

    def _report(self, broken: Broken) -> None:
        if len(self._found) < MAX_BROKEN:
            self._found.append(broken)

    # -- what the server did

    def executed(self, wire: Wire, command: list[bytes], reply: Any) -> object | None:
        name = command[0].upper()
        if name not in (b"EVALSHA", b"EVAL"):
            self._executed_plainly(wire, name, command)
            return None
        if isinstance(reply, Exception) and str(reply).startswith("NOSCRIPT"):
            return None
        handler = self._handlers.get(command[1]) or self._learn(name, command)
        if not handler or len(command) < 5:
            return None
        self._under_way[wire.number] += 1
        if isinstance(reply, Exception):
            self.disturbed(f"the server answered {reply}")
            return NOBODY
        ledger = self._ledger_of(wire, command[3])
        if ledger is None:
            return NOBODY
        self._tell_time(ledger)
        words = [each.decode("utf-8", "surrogateescape") for each in command[5:]]
        if isinstance(handler, str):
            self._upkeep(ledger, handler, words, wire)
            return NOBODY
        if handler is cron:
            self._ticking.heard(ledger, words[-1])
        return handler(ledger, words, command[5:], reply, wire.process)

    def _learn(self, name: bytes, command: list[bytes]) -> Handler | str:
        assert self._loop.network is not None
        script = self._loop.network.scripts.words(command)[1]
        if script in SHIPPED:
            handler = self._handlers[command[1]] = HANDLERS.get(script, script)
            return handler
        if script != "read_all" and len(command) > 3 and command[3].startswith(b"qk:{"):
            self._tampered(command[3], f"a script called {script!r}")
        return ""

    def _executed_plainly(self, wire: Wire, name: bytes, command: list[bytes]) -> None:
        if name == b"SELECT":
            self._databases[wire.number] = int(command[1])
        elif name in (b"FLUSHALL", b"FLUSHDB"):
            self.data_changed(name.decode())
        elif name not in HARMLESS and len(command) > 1 and command[1].startswith(b"qk:{"):
            self._tampered(command[1], name.decode("utf-8", "replace"))

    def _tampered(self, key: bytes, by: str) -> None:
        root = key.partition(b"}")[0].decode("utf-8", "replace") + "}"
        self._written_by_hand.setdefault(root, f"{by} has written to its keys")
        for ledger in self._ledgers.values():
            ledger.tampered = self._written_by_hand.get(ledger.root, "")

    def _ledger_of(self, wire: Wire, raw_root: bytes) -> Ledger | None:
        """The ledger of a queue; None at its first move when that came before this watch."""
        root, database = raw_root.decode("utf-8", "replace"), self._databases.get(wire.number, 0)
        ledger = self._ledgers.get((database, root))
        if ledger is None:
            ledger = Ledger(root, database, self._report, self._simulation.reach)
            self._ledgers[database, root] = ledger
            ledger.has_lived_well = partial(self._punctuality.has_lived_well, ledger)
            ledger.tampered = self._written_by_hand.get(root, "")
            if self._late:
                self._begin_anew(ledger)
                return None
        return ledger

    def _begin_anew(self, ledger: Ledger) -> None:
        network = self._loop.network
        assert network is not None
        self._tell_time(ledger)
        if ledger.tampered:
            return  # nothing of it is judged, and its records may be anything
        ledger.begin_anew(snapshot_of(network.contents(ledger.root, ledger.database), ledger.root))

    def _upkeep(self, ledger: Ledger, script: str, words: list[str], wire: Wire) -> None:
        # Whoever stands still, or is cut off, since it has asked does not hear the answer now; nor
        # does one that has given up, and closed its end, while the question was under way.
        process = wire.process
        still = process is not None and (process.stands_still or process.cut_off)
        hears = not (still or wire.is_closing())
        if script == "adopt" and hears:
            fit = process is None or is_fit(process)
            self._ticking.begin(ledger, words[0], fit=fit)
        elif script == "register":
            ledger.register(words[0], int(words[1]))
            ledger.present[words[0]] = process
            if words[1] == "0":
                self._ticking.end(ledger, words[0])
                del ledger.present[words[0]]

    def _tell_time(self, ledger: Ledger) -> None:
        clock = self._loop.server_clock
        ledger.tell_time(clock.time_ns() // 1_000_000, clock.skew_ns // 1_000_000)
        ledger.now_ns = self._loop.clock.elapsed_ns

    # -- what clients saw

    def received(self, wire: Wire, token: object) -> None:
        self._under_way[wire.number] -= 1
        for life in token:  # type: ignore[attr-defined]  # what a handler gave
            life.acknowledged = True

    def closed(self, wire: Wire) -> None:
        if self._under_way.pop(wire.number, 0) > 0:
            self._simulation.reach(labels.REPLY_LOST)
        self._databases.pop(wire.number, None)

    # -- who ran

    def began(self, job: Job) -> None:
        found = self._run_of(job)
        if found is not None:
            ledger, life, run = found
            self._tell_time(ledger)
            runs.began(ledger, life, run)
            run.began_ms = ledger.now_ms
            worker = self._worker_of(run)
            if worker is not None and not self._data_lost:
                runs.check_cap(ledger, life, run, worker.concurrency)

    def ended(self, job: Job, error: BaseException | None) -> None:
        found = self._run_of(job)
        if found is not None:
            ledger, life, run = found
            self._tell_time(ledger)
            self._goes_on(ledger, life, run)
            run.error = error
            run.outcome = "returned" if error is None else _how(error)

    def _goes_on(self, ledger: Ledger, life: Life, run: Run) -> None:
        """How long did, or does, a task go on behind the end of its lease?"""
        at = self._worker_of(run)
        if at is not None and not self._data_lost:
            runs.goes_on(ledger, life, run, at.cancellation_hard_deadline_s, self._held_back_ns)

    def _worker_of(self, run: Run) -> Worker[Any] | None:
        workers = (each.worker for each in self._simulation.workers())
        return next((each for each in workers if each.address == run.worker), None)

    def _run_of(self, job: Job) -> tuple[Ledger, Life, Run] | None:
        if job.queue is None:
            return None
        root = job.queue.store.root
        for ledger in self._ledgers.values():
            if ledger.root == root and (found := ledger.runs.get((job.fence, job.claim_id))):
                return ledger, *found
        return None

    def moment(self, name: str, details: Mapping[str, object]) -> None:
        if name not in ("abandoned", "committing", "committed"):
            return
        process = PROCESS.get()
        for ledger in self._ledgers.values():
            life = ledger.lives.get(str(details["key"]))
            if ledger.name != details["queue"] or life is None:
                continue
            run = next((run for run in reversed(life.runs) if run.process is process), None)
            if name == "committed":
                self._tell_time(ledger)
                if not self._data_lost:
                    runs.told(ledger, life, process, details)
            elif run is not None and name == "committing":
                run.committing = True
            elif run is not None and run.open:
                self._tell_time(ledger)
                self._goes_on(ledger, life, run)
                run.abandoned = True
                self._simulation.reach(labels.ABANDONED)

    # -- what went wrong around it

    def killed(self, process: Process) -> None:
        for ledger in self._ledgers.values():
            self._tell_time(ledger)
            for life in ledger.held.values():
                if life.run is not None and life.run.process is process:
                    self._simulation.reach(labels.KILLED_HOLDER)
            for life in ledger.lives.values():
                for run in life.runs:
                    if run.process is process and not run.outcome:
                        run.outcome = "killed"
            for worker, owner in ledger.workers.items():
                if owner is process:
                    self._ticking.end(ledger, worker)
        self._punctuality.disturbed()

    def disturbed(self, what: str) -> None:
        self._punctuality.disturbed()
        ledgers = list(self._ledgers.values())
        for ledger in ledgers:
            self._tell_time(ledger)
        self._ticking.disturbed(ledgers)

    def data_changed(self, what: str) -> None:
        self._data_lost = True
        for ledger in self._ledgers.values():
            self._tell_time(ledger)
            self._ticking.forget(ledger)
            self._begin_anew(ledger)
        self.disturbed(what)

    def _instant_ends(self, next_ns: int) -> None:
        now_ns = self._loop.clock.elapsed_ns
        if any(hold.reached and not hold.released for hold in self._loop._holds):
            self.disturbed("an observer holds something back")
            self._held_back_ns = now_ns
        if self._thorough:
            self.look()
        calm_ns = self._punctuality.calm_from_ns
        for ledger in self._ledgers.values():
            self._tell_time(ledger)
            if next_ns > calm_ns and not self._loop.server_down:
                calm_ms = ledger.now_ms + max(0, calm_ns - now_ns) // 1_000_000
                self._ticking.calm(ledger, calm_ms)
            self._punctuality.look(ledger, now_ns, next_ns)


NOBODY: tuple[Life, ...] = ()
"Nobody's job: the reply is waited for all the same."


def _how(error: BaseException) -> str:
    return "cancelled" if type(error).__name__ == "CancelledError" else "raised"


def check(simulation: Simulation) -> list[Broken]:
    """The breaches that the watch of this simulation has found."""
    watch = simulation.loop.tap
    assert isinstance(watch, Watch), "attach a Watch(simulation) before the story begins"
    return watch.broken()

"""Misfortunes on the way to Redis and of processes: planned ones, and those of chance.

Each strikes at a hop of the network, at a named moment, or at a point of time. A planned one that never
found its moment fails the run: a test of a fault that did not happen proves nothing.
"""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from queuekit.simulation.errors import FaultNeverFired, SimulationError
from queuekit.simulation.fault_kinds import (
    ANY_COMMAND,
    AT_HOPS,
    OF_PROCESSES,
    TAIL_RANKS,
    late_s,
)
from queuekit.simulation.observe import Hop, Moment
from queuekit.simulation.process import PROCESS, Process
from queuekit.simulation.refusal_rules import STATES
from queuekit.simulation.refusals import Refusals
from queuekit.simulation.waiting import where

if TYPE_CHECKING:
    from queuekit.simulation.processes import SimulatedProcess
    from queuekit.simulation.wire import Wire
    from queuekit.simulation.world import Simulation

TEST = "test"
"The name by which a fault means the test's own client."

STALE_LAG_S = 1.0
"By how much a server that is restarted stale at a point of time has fallen behind."


@dataclass(frozen=True)
class Strike:
    """A fault that has fired, or would have."""

    at: float
    "Seconds since the world began."
    where: str

    def __str__(self) -> str:
        return f"{self.at:g} s, {self.where}"


@dataclass
class Fault:
    """A misfortune that was asked for.

    `fired` and `suppressed` grow while the world runs: a fault is suppressed when its moment came and there
    was nothing left to strike, since the process was dead or the world healed.
    """

    kind: str
    arguments: Mapping[str, Any]
    command: str | None = None
    side: str = ""
    "`request`: before it is executed; `reply`: after."
    moment: str | None = None
    task: str | None = None
    "How the name of the task begins that it strikes."
    at: float | None = None
    "Seconds since the world began."
    nth: int = 1
    times: int = 1
    chance: float | None = None
    process: str | None = None
    "The name of the process that it strikes; None is whoever comes by."
    handle: SimulatedProcess | None = None
    "That one, and no other of its name, if it was not given by its name."
    optional: bool = False
    fired: list[Strike] = field(default_factory=list)
    suppressed: list[Strike] = field(default_factory=list)
    met: int = 0
    "How often its moment came."
    let_through: int = 0
    "How often a command came that a server with this error lets through."

    @property
    def over(self) -> bool:
        """Whether it will not fire again."""
        return self.chance is None and self.met >= self.nth + self.times - 1

    def strikes(self, owner: str, process: Process | None) -> bool:
        """Whether it may strike what this process does.

        One of chance spares the test's own client, unless it names it: a story's own calls would fail,
        and not what it is about.
        """
        if self.handle is not None:
            return process is self.handle.process
        if self.process is None:
            return self.chance is None or owner != TEST
        return self.process == owner

    def __str__(self) -> str:
        words = [self.kind, *(f"{name}={value!r}" for name, value in self.arguments.items())]
        if self.process is not None:
            words.append(f"process={self.process!r}")
        if self.at is not None:
            words.append(f"at={self.at:g}")
        if self.task is not None:
            words.append(f"task={self.task!r}")
        target = self.command or self.moment
        if target is not None:
            words.append(f"{'before' if self.side == 'request' else 'after'}={target!r}")
        if self.chance is not None:
            words.append(f"chance={self.chance:g}")
        elif self.at is None:
            words.append(f"nth={self.nth}")
        if self.times != 1:
            words.append(f"times={self.times}")
        return " ".join(words)


class Faults:
    """All faults of a world; asked at each hop and moment."""

    def __init__(self, simulation: Simulation) -> None:
        self.planned: list[Fault] = []
        self.by_chance: (
            Callable[[Hop, Process | None, Wire], tuple[str, Mapping[str, Any]] | None] | None
        ) = None
        "Asked at each hop of a process that nothing else has struck: a kind and its arguments."
        self.late_by_chance: Callable[[Hop, Process], float | None] = lambda hop, process: None
        "Asked where that has drawn nothing: by how many seconds the hop is late, as it always is."
        self.by_chance_at_moments: (
            Callable[[Moment, Process], tuple[str, Mapping[str, Any]] | None] | None
        ) = None
        "Asked at each moment that a process passes: a kind that strikes processes, and its arguments."
        self.by_chance_at_steps: Callable[[asyncio.Task[Any], Process], bool] | None = None
        "Asked at each step of a process's tasks: whether the task is cancelled there."
        self.cancelled: dict[str, None] = {}
        "The names of tasks that were cancelled by chance; what was planned, who planned it knows of."
        self.struck: list[tuple[Strike, str]] = []
        "All that has fired, planned or not, with its words, in the order of happening."
        self.ended: dict[str, None] = {}
        "Starts of processes (their ids) that were killed, or told to end."
        self.healed = False
        self._restarts_stale: list[Fault] = []
        "Those that take back the last acknowledged write: the state before it is kept."
        self.refusals = Refusals(simulation)
        self._simulation = simulation
        self._seen: dict[str, None] = {}

    # -- planning

    def add(self, fault: Fault) -> None:
        """Let it strike at its moment."""
        self.planned.append(fault)
        self._simulation.loop.watch = self
        if fault.at is not None:
            self._strike_at(fault, fault.at)
        elif fault.arguments.get("data") == "stale":
            self._restarts_stale.append(fault)
        if fault.task is not None:
            self.watch_steps()

    def watch_hops(self) -> None:
        """Be asked at each hop from now on."""
        self._simulation.loop.watch = self

    def watch_steps(self) -> None:
        """Be asked at each step of a task from now on."""
        self._simulation.loop.watch_steps = self._at_step

    def _strike_at(self, fault: Fault, at: float) -> None:
        server = self._simulation.server
        if fault.arguments.get("data") == "stale":
            self._later(max(0.0, at - self._now() - STALE_LAG_S), server.checkpoint)

        def strike() -> None:
            fault.met += 1
            handle = fault.handle
            struck = self._process_named(fault.process) if handle is None else handle.process
            self._strike(fault, "", struck)

        self._later(max(0.0, at - self._now()), strike)

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        loop = self._simulation.loop
        loop.call_later(seconds, function, context=loop.server_context())

    def _now(self) -> float:
        return self._simulation.loop.now_us() / 1e6

    # -- being asked

    def at_hop(self, hop: Hop, wire: Wire) -> float | None:
        """What becomes of a command that is about to arrive, or of a reply.

        Returns:
            None: it goes on. Seconds: it comes later by so much; infinitely: never.
        """
        name = hop.command
        if name:
            self._seen.setdefault(name)
        process = PROCESS.get()
        owner = process.name if process is not None else TEST
        for fault in self.planned:
            if fault.command is None or fault.side != hop.direction or fault.over:
                continue
            if not _names(fault.command, name) or not fault.strikes(owner, process):
                continue
            if fault.kind == "error" and not self._refuses(fault, hop, wire):
                continue
            if not self._meets(fault, f"fault.{fault.kind}:{owner}:{name}"):
                continue
            return self._strike(fault, f"{owner}: {hop.direction} {name}", process, hop, wire)
        if self._restarts_stale and hop.direction == "request" and _is_script(hop):
            self._keep_state(name)
        if self.by_chance is not None and not self.healed and process is not None:
            drawn = self.by_chance(hop, process, wire)
            if drawn is not None:
                return self._do(*drawn, f"{owner}: {hop.direction} {name}", process, hop, wire)
            return self.late_by_chance(hop, process)
        return None

    def _refuses(self, fault: Fault, hop: Hop, wire: Wire) -> bool:
        """Whether a server in that state refuses this command; only then is it the fault's moment."""
        if self.refusals.refusal(fault.arguments, hop.raw, wire) is not None:
            return True
        fault.let_through += wire.peer is not None  # or nothing arrives
        return False

    def _keep_state(self, name: str) -> None:
        """A script is about to be executed; its write is the one that a stale restart takes back."""
        for fault in self._restarts_stale:
            behind_it = fault.side == "reply" and fault.command is not None
            if not fault.over and (not behind_it or _names(fault.command or "", name)):
                self._simulation.server.checkpoint()
                return

    def at_moment(self, moment: Moment) -> None:
        """A named moment is passed."""
        process = PROCESS.get()
        owner = process.name if process is not None else TEST
        self._seen.setdefault(moment.name)
        for fault in self.planned:
            if fault.moment != moment.name or fault.over or not fault.strikes(owner, process):
                continue
            if self._meets(fault, f"fault.{fault.kind}:{owner}:{moment.name}"):
                self._strike(fault, f"{owner}: {moment.name}", process)
        if self.by_chance_at_moments is not None and not self.healed and process is not None:
            drawn = self.by_chance_at_moments(moment, process) if process.alive else None
            if drawn is not None:
                self._do(*drawn, f"{owner}: {moment.name}", process, None, None)

    def _at_step(self, task: asyncio.Task[Any], process: Process | None) -> None:
        """A task is about to take a step; one that is cancelled now takes another."""
        for fault in self.planned:
            if fault.task is None or fault.over or not task.get_name().startswith(fault.task):
                continue
            owner = process.name if process is not None else TEST
            if fault.strikes(owner, process) and self._meets(fault, f"fault.cancel:{fault.task}"):
                strike = Strike(self._now(), f"{owner}: {task.get_name()}, {where(task)}")
                if self.healed or not task.cancel():
                    fault.suppressed.append(strike)
                else:
                    fault.fired.append(strike)
                    self._tell_cancelled(task, strike, by_chance=fault.chance is not None)
        if self.by_chance_at_steps is None or self.healed or process is None:
            return
        if self.by_chance_at_steps(task, process) and task.cancel():
            at = f"{process.name}: {task.get_name()}, {where(task)}"
            self._tell_cancelled(task, Strike(self._now(), at), by_chance=True)

    def _tell_cancelled(self, task: asyncio.Task[Any], strike: Strike, *, by_chance: bool) -> None:
        if by_chance:
            self.cancelled[task.get_name()] = None
        self._tell("cancel", strike)

    def _meets(self, fault: Fault, site: str) -> bool:
        if fault.chance is not None:
            if self.healed:
                return False
            self._simulation.chooser.draw([f"fault.{fault.kind}"])
            return bool(self._simulation.chooser.pick(site, 2, fault.chance, quiet=True))
        fault.met += 1
        return fault.met >= fault.nth

    # -- striking

    def _strike(
        self,
        fault: Fault,
        where: str,
        process: Process | None,
        hop: Hop | None = None,
        wire: Wire | None = None,
    ) -> float | None:
        strike = Strike(self._now(), where or "at that time")
        needs_process = fault.kind in OF_PROCESSES
        if self.healed or (needs_process and (process is None or not process.alive)):
            fault.suppressed.append(strike)
            return None
        fault.fired.append(strike)
        arguments = self._drawn(fault.arguments, process) if hop is not None else fault.arguments
        return self._do(fault.kind, arguments, where, process, hop, wire)

    def _drawn(self, arguments: Mapping[str, Any], process: Process | None) -> Mapping[str, Any]:
        """The arguments, with a latency that has a tail drawn by the seed."""
        if not arguments.get("tail"):
            return arguments
        chooser = self._simulation.chooser
        chooser.draw(["fault.tail"])
        rank = chooser.pick(f"fault.tail:{TEST if process is None else process.name}", TAIL_RANKS)
        return {"seconds": late_s(arguments["seconds"], arguments["tail"], rank)}

    def _do(
        self,
        kind: str,
        arguments: Mapping[str, Any],
        where: str,
        process: Process | None,
        hop: Hop | None,
        wire: Wire | None,
    ) -> float | None:
        self.tell(kind, arguments, where)
        simulation = self._simulation
        if kind in AT_HOPS:
            assert hop is not None
            assert wire is not None
            if kind == "error":
                return self._answer_with_error(arguments, hop, wire)
            return _AT_HOP[kind](arguments, hop, wire)
        if kind in OF_PROCESSES:
            assert process is not None
            self._strike_process(kind, arguments, process)
            return None
        server = simulation.server
        if kind == "outage":
            server.outage(arguments["seconds"])
        elif kind == "refuse":
            server.refuse(
                arguments["error"], seconds=arguments["seconds"], server=arguments["server"]
            )
        elif kind == "step_clock":
            server.step_clock(arguments["seconds"])
        elif kind == "flush_scripts":
            server.flush_scripts()
        else:
            self._restart_server(arguments)
        return None

    def _answer_with_error(self, arguments: Mapping[str, Any], hop: Hop, wire: Wire) -> float:
        refusal = self.refusals.refusal(arguments, hop.raw, wire)
        assert refusal is not None, "only what is refused is struck"
        wire.refuse(hop.raw, hop.command, refusal)
        return float("inf")

    def _restart_server(self, arguments: Mapping[str, Any]) -> None:
        """Restart it, behind the reply that was its moment: or nothing acknowledged would be lost."""
        server, loop = self._simulation.server, self._simulation.loop
        if not server.has_checkpoint:
            server.checkpoint()

        def restart() -> None:
            if not self.healed:
                server.restart(arguments["data"])

        if arguments.get("lag"):
            server.checkpoint()
            self._later(arguments["lag"], restart)
        else:
            loop.call_soon(restart, context=loop.server_context())

    def tell(self, kind: str, arguments: Mapping[str, Any], where: str) -> None:
        """Let everybody know what has struck."""
        told = " ".join(
            [kind, *(f"{name}={value!r}" for name, value in arguments.items() if value)]
        )
        self._tell(told, Strike(self._now(), where or "at that time"))

    def _tell(self, told: str, strike: Strike) -> None:
        """Whoever reads what has struck: the list, the trace, and those who listen in."""
        self.struck.append((strike, told))
        loop = self._simulation.loop
        loop.trace.fault(loop.now_us(), told, strike.where)
        loop.disturbed(told)

    def _strike_process(self, kind: str, arguments: Mapping[str, Any], process: Process) -> None:
        handle = self._handle_of(process)
        if kind in ("kill", "terminate"):
            self.ended[process.id] = None
        if kind == "kill":
            process.kill()
            after = arguments["restart_after"]
            if after and handle is not None:
                self._later(
                    after, lambda: None if process is not handle.process else handle.restart()
                )
        elif kind == "terminate":
            handle.terminate() if handle is not None else process.signal(15)
        elif handle is None:
            raise SimulationError(
                f"{process!r} was made by hand; only kill and terminate strike it."
            )
        elif kind == "partition":
            handle.partition(arguments["direction"], arguments["seconds"])
        elif kind == "drift":
            handle.drift(arguments["rate"])
        else:
            getattr(handle, kind)(arguments["seconds"])

    def _handle_of(self, process: Process) -> SimulatedProcess | None:
        return next((h for h in self._simulation.processes() if h.process is process), None)

    def _process_named(self, name: str | None) -> Process | None:
        return next((h.process for h in self._simulation.processes() if h.name == name), None)

    # -- afterwards

    def check(self) -> None:
        """Raises FaultNeverFired if one that was asked for has not."""
        missing = [fault for fault in self.planned if not fault.fired and not fault.optional]
        if not missing:
            return
        lines = []
        for fault in missing:
            why = "its moment never came"
            if fault.suppressed:
                why = f"at {fault.suppressed[0]} there was nothing left to strike"
            elif fault.let_through and not fault.met:
                state, refused = STATES[fault.arguments["error"]]
                why = (
                    f"a Redis {state} lets through what came, {fault.let_through} time(s); "
                    f"it refuses {refused}"
                )
            elif fault.met:
                why = f"its moment came {fault.met} time(s) only"
            target = fault.command or fault.moment or ""
            near = difflib.get_close_matches(target, self._seen) if target not in self._seen else []
            if near:
                why += f"; near it are {', '.join(near)}"
            lines.append(f"    {fault}: {why}")
        seen = ", ".join(sorted(self._seen)) or "none"
        raise FaultNeverFired(
            "faults were asked for and never fired:\n"
            + "\n".join(lines)
            + f"\n  Commands and moments that there were: {seen}.\n"
            "  Ask for what happens, let the test live long enough, or say optional=True."
        )


def _names(command: str, name: str) -> bool:
    """Whether a fault of this command strikes that one; a message that is pushed has no name."""
    return bool(name) if command == ANY_COMMAND else command.lower() == name.lower()


def _is_script(hop: Hop) -> bool:
    return bool(hop.words) and hop.words[0].upper() in ("EVALSHA", "EVAL")


def _lose(arguments: Mapping[str, Any], hop: Hop, wire: Wire) -> float:
    del hop
    if arguments["how"] == "reset":
        wire.cut()
    return float("inf")


def _reset(arguments: Mapping[str, Any], hop: Hop, wire: Wire) -> float:
    return _lose({"how": "reset"}, hop, wire)


def _delay(arguments: Mapping[str, Any], hop: Hop, wire: Wire) -> float:
    del hop, wire
    seconds: float = arguments["seconds"]
    return seconds


_AT_HOP = {
    "lose_request": _lose,
    "lose_reply": _lose,
    "reset": _reset,
    "delay": _delay,
}

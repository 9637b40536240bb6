"""Misfortunes by chance: which kinds a run may meet, how often, and where they strike.

Every strike is a decision at a site of its own, such as `swarm.kill:worker-1:claim reply`. So a strike of
a tape that is replayed means the same thing whatever was drawn beside it, and what is taken out of the
tape leaves the others where they were.

Each run draws its own profile: some kinds, each with its own rate. A run with all of them at once
would hide what only some of them together, or one alone and often, bring about (swarm testing, Groce et
al., ISSTA 2012).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from queuekit.simulation import fault_kinds
from queuekit.simulation.effects import MOMENTS
from queuekit.simulation.errors import SimulationError
from queuekit.simulation.faults import STALE_LAG_S
from queuekit.simulation.observe import Hop, Moment

if TYPE_CHECKING:
    from queuekit.simulation.process import Process
    from queuekit.simulation.wire import Wire
    from queuekit.simulation.world import Simulation

LATER_KINDS = frozenset({"cancel", "lose_data", "refuse", "latency"})

MAX_LOSSES = 2
"Strikes of one run that can cost a job its run: as many as `max_lost` allows by default."

MAX_STRIKES = (1, 2, 4, 8)
"Of one run, drawn: a run of few is told quickly, one of many finds what needs them."

RATES = (0.01, 0.03, 0.1, 0.3)
"How probable a strike is at one hop."

DEPLOY_S = 5.0
"After which it is looked whether a worker that was told to end has ended, to start it again."

HANDSHAKE = frozenset({"", "HELLO", "CLIENT", "AUTH", "SELECT", "PING", "SCRIPT", "INFO"})
"Commands that are passed over."

STRIKING_MOMENTS = frozenset({"started", "ended"})
"Moments at which a process can be struck; effects are others."


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of fault may strike."""

    arguments: tuple[Mapping[str, Any], ...]
    "One of these; the first is the mildest."
    requests: bool = True
    "Whether it strikes before the command is executed."
    replies: bool = True
    "Whether it strikes when it was, and nobody has seen the reply."
    moments: bool = False
    "Whether it strikes in the midst of a task."
    loses: bool = False
    "Whether it can cost a job its run."
    lasts: bool = False
    "Whether it goes on for a while, or for good; such a kind is for a share of the runs."
    common: bool = True
    "Whether each run may meet it; the others are for a share of the runs."
    fault: str = ""
    "The kind of fault that it is, if that has another name."


_ANY: tuple[Mapping[str, Any], ...] = ({},)

KINDS: Mapping[str, Kind] = {
    "lose_reply": Kind(_ANY, requests=False),
    "lose_request": Kind(_ANY, replies=False),
    "reset": Kind(_ANY),
    "delay": Kind(({"seconds": 0.01}, {"seconds": 0.5}, {"seconds": 3}, {"seconds": 20})),
    "error": Kind(
        ({"error": "LOADING"}, {"error": "READONLY"}, {"error": "BUSY"}, {"error": "OOM"}),
        replies=False,
    ),
    "flush_scripts": Kind(_ANY, replies=False),
    "kill": Kind(
        ({"restart_after": 1}, {"restart_after": 20}, {"restart_after": 90}),
        moments=True,
        loses=True,
    ),
    "terminate": Kind(_ANY, moments=True),
    "pause": Kind(
        ({"seconds": 1}, {"seconds": 12}, {"seconds": 45}, {"seconds": 120}),
        moments=True,
        loses=True,
    ),
    "partition": Kind(
        (
            {"direction": "both", "seconds": 2},
            {"direction": "both", "seconds": 45},
            {"direction": "replies", "seconds": 45},
            {"direction": "requests", "seconds": 45},
        ),
        loses=True,
    ),
    "outage": Kind(({"seconds": 1}, {"seconds": 8}, {"seconds": 45}), loses=True),
    "restart_server": Kind(({"data": "kept"},), replies=False),
    "skew": Kind(({"seconds": 5}, {"seconds": -60}, {"seconds": 3600}), replies=False),
    "drift": Kind(({"rate": 0.01}, {"rate": -0.2}, {"rate": 0.2}), replies=False, common=False),
    "step_clock": Kind(
        ({"seconds": 1}, {"seconds": -60}, {"seconds": 60}), replies=False, common=False
    ),
    "cancel": Kind(_ANY, requests=False, replies=False, common=False),
    "lose_data": Kind(
        ({"data": "stale", "lag": STALE_LAG_S}, {"data": "lost"}),
        replies=False,
        common=False,
        fault="restart_server",
    ),
    "refuse": Kind(
        (
            {"error": "BUSY", "seconds": 3},
            {"error": "LOADING", "seconds": 8},
            {"error": "OOM", "seconds": 45},
            {"error": "READONLY", "seconds": 12, "server": "redis 6.2"},
            {"error": "MISCONF", "seconds": 20},
            {"error": "BUSY", "seconds": 45, "server": "valkey 9"},
        ),
        replies=False,
        loses=True,
        lasts=True,
    ),
    "latency": Kind(
        (
            {"seconds": 0.001, "tail": 0.2},
            {"seconds": 0.02, "tail": 2},
            {"seconds": 0.2, "tail": 4},
        ),
        requests=False,
        replies=False,
        loses=True,
        lasts=True,
        fault="delay",
    ),
}
"All kinds, in the order in which they are asked."

COMMON_KINDS = tuple(name for name, kind in KINDS.items() if kind.common and not kind.lasts)
"Those that a queue must live through with every promise kept."

RARE_KINDS = tuple(name for name, kind in KINDS.items() if not kind.common)
"""Those that suspend some promises, or end jobs by the rule: clocks that run wrong or jump, tasks that are
cancelled, and a server that loses what it has acknowledged."""

RARE_SHARE = 0.25
"Of the runs that may meet those: what is excused in them is not tested."

LASTING_KINDS = tuple(name for name, kind in KINDS.items() if kind.lasts)
"A server that refuses for a while, and processes that are far from it."

LASTING_SHARE = 0.2
"Of the runs, for each of those: where everything is late, P6 is not tested."

STREAMS = 8
"So many ways in which the latencies of one process may follow each other."


@dataclass(frozen=True)
class Profile:
    """What a run may meet."""

    rates: Mapping[str, float] = field(default_factory=dict)
    "Kind -> how probable it is at each place where it could strike."
    strikes: int = 0
    "At most so many."
    losses: int = 0
    "Of them, at most so many that can cost a job its run."

    def __bool__(self) -> bool:
        return bool(self.rates)


CALM = Profile()
"Nothing happens."


def drawn(seed: int, kinds: Collection[str]) -> Profile:
    """The profile of a seed: each kind in it or not, and a rate for each."""
    source = random.Random(f"queuekit swarm {seed}")  # noqa: S311 (replayable)
    everything = len(kinds) == len(KINDS)
    asked = COMMON_KINDS if everything else kinds
    # Kinds that came later have draws of their own, so that a seed that has found something finds it again.
    old = [name for name in KINDS if name not in LATER_KINDS or name in asked]
    rates = {name: source.choice(RATES) for name in old if source.random() < 0.5 and name in asked}
    if not rates and asked:
        rates = {source.choice(sorted(asked)): source.choice(RATES)}
    strikes = source.choice(MAX_STRIKES)
    rare = random.Random(f"queuekit rare {seed}")  # noqa: S311 (as above)
    if everything and rare.random() < RARE_SHARE:
        rates |= {name: rare.choice(RATES) for name in RARE_KINDS if rare.random() < 0.5}
    lasting = random.Random(f"queuekit lasting {seed}")  # noqa: S311 (as above)
    if everything:
        drew = [name for name in LASTING_KINDS if lasting.random() < LASTING_SHARE]
        rates |= {name: lasting.choice(RATES) for name in drew}
    return Profile(rates, strikes=strikes, losses=MAX_LOSSES)


def anything(kinds: Collection[str]) -> Profile:
    """Every kind at every place, none by chance: for tapes, which say where something strikes."""
    count = 10**9
    return Profile({name: 0.0 for name in KINDS if name in kinds}, count, count)


def checked(kinds: Collection[str] | None) -> tuple[str, ...]:
    """The kinds that are meant, in their order.

    Raises:
        SimulationError: there is no such kind.
    """
    if kinds is None:
        return tuple(KINDS)
    given = (kinds,) if isinstance(kinds, str) else kinds
    if not isinstance(given, Collection) or not all(isinstance(kind, str) for kind in given):
        raise SimulationError(
            f"faults={kinds!r}: faults are kinds of misfortune, in a list.\n  faults=['kill', 'pause']"
        )
    unknown = sorted(set(given) - set(KINDS))
    if unknown:
        raise SimulationError(
            f"faults={kinds!r}: exploration has no kind {', '.join(map(repr, unknown))}.\n"
            f"  Kinds are {', '.join(KINDS)}.\n"
            "  faults=() is none at all; the default is all of them."
        )
    return tuple(name for name in KINDS if name in given)


class Latency:
    """The standing latency of one process, which has a tail."""

    def __init__(self, seconds: float, tail: float, stream: str) -> None:
        self._seconds = seconds
        self._tail = tail
        self._ranks = random.Random(f"queuekit latency {stream}")  # noqa: S311 (replayable)

    def next_s(self) -> float:
        """How late the next command or reply is."""
        rank = self._ranks.randrange(fault_kinds.TAIL_RANKS)
        return fault_kinds.late_s(self._seconds, self._tail, rank)


class Swarm:
    """Strikes a simulation by a profile; attached before the story begins."""

    def __init__(self, simulation: Simulation, profile: Profile) -> None:
        self._simulation = simulation
        self._chooser = simulation.chooser
        self._kinds = [(name, kind, profile.rates.get(name)) for name, kind in KINDS.items()]
        self._kinds = [each for each in self._kinds if each[2] is not None]
        self._rates = profile.rates
        self._strikes = profile.strikes
        self._losses = profile.losses
        self.leaving = 0
        "Workers, and processes that restart, that were told to end and are to be started again."
        if self._kinds:
            self._chooser.draw([f"swarm.{name}" for name, _, _ in self._kinds])
            simulation.faults.by_chance = self._at_hop
            simulation.faults.by_chance_at_moments = self._at_moment
            simulation.faults.watch_hops()
        self._far: dict[str, Latency | None] = {}
        "By process, whether it is far from Redis."
        if "latency" in profile.rates:
            simulation.faults.late_by_chance = self._late
        self._cancels = profile.rates.get("cancel")
        self._struck_workers: dict[Process, None] = {}
        self.data_lost = False
        "Whether the server has lost, or is about to lose, what it had acknowledged."
        self.at_strike: Callable[[str], None] = lambda kind: None
        "Told of each kind that strikes."
        if self._cancels is not None:
            simulation.faults.by_chance_at_steps = self._at_step
            simulation.faults.watch_steps()

    def _at_hop(
        self, hop: Hop, process: Process | None, wire: Wire
    ) -> tuple[str, Mapping[str, Any]] | None:
        if process is None or self._strikes <= 0 or hop.command.upper() in HANDSHAKE:
            return None
        reply = hop.direction == "reply"
        place = f"{process.name}:{hop.command}{' reply' if reply else ''}"
        return self._asked(process, place, "replies" if reply else "requests", (hop, wire))

    def _late(self, hop: Hop, process: Process) -> float | None:
        """How late it comes to or from a process that is far; whether it is is decided at its first word.

        That is one decision of the tape, so that it shrinks as one: what follows is drawn from its value.
        """
        if process.id not in self._far:
            self._far[process.id] = self._distance(process)
        far = self._far[process.id]
        if far is None:
            return None
        self._simulation.loop.disturbed(f"{process.name} is far from Redis")
        return far.next_s()

    def _distance(self, process: Process) -> Latency | None:
        kind = KINDS["latency"]
        if self._strikes <= 0 or self._losses <= 0:
            return None
        n = 1 + len(kind.arguments) * STREAMS
        site = f"swarm.latency:{process.name}"
        value = self._chooser.pick(site, n, self._rates["latency"], quiet=True)
        if not value:
            return None
        self._strikes -= 1
        self._losses -= 1
        stream, level = divmod(value - 1, len(kind.arguments))
        words = kind.arguments[level]
        self._simulation.faults.tell("delay", words, f"{process.name}: from its first word on")
        return Latency(words["seconds"], words["tail"], f"{process.name} {stream}")

    def _at_moment(self, moment: Moment, process: Process) -> tuple[str, Mapping[str, Any]] | None:
        name = moment.name
        if self._strikes <= 0 or (name in MOMENTS and name not in STRIKING_MOMENTS):
            return None
        return self._asked(process, f"{process.name}:{name}", "moments")

    def _at_step(self, task: asyncio.Task[Any], process: Process) -> bool:
        """Whether a job's task, or a worker's own, is cancelled at this step."""
        if self._strikes <= 0:
            return False
        is_worker = False
        if not task.get_name().startswith("task "):
            is_worker = any(handle._task is task for handle in self._simulation.workers())
            if not is_worker or process in self._struck_workers:
                return False
        site = f"swarm.cancel:{process.name}:{'worker' if is_worker else 'task'}"
        if not self._chooser.pick(site, 2, self._cancels, quiet=True):
            return False
        self._strikes -= 1
        if is_worker:
            self._struck_workers[process] = None
            self._again_soon(process)
        return True

    def _asked(
        self, process: Process, place: str, when: str, at: tuple[Hop, Wire] | None = None
    ) -> tuple[str, Mapping[str, Any]] | None:
        """Which kind strikes here. All that may are asked: no answer decides whether another one counts.

        One that may not any more is not asked: what the tape holds strikes when the tape is lived again.
        """
        found: tuple[str, Kind, int] | None = None
        for name, kind, rate in self._kinds:
            if not getattr(kind, when) or (kind.loses and self._losses <= 0):
                continue
            n = len(kind.arguments) + 1
            value = self._chooser.pick(f"swarm.{name}:{place}", n, rate, quiet=True)
            if value and found is None and self._can_be(name, kind.arguments[value - 1], at):
                found = (name, kind, value)
        if found is None:
            return None
        name, kind, value = found
        self._strikes -= 1
        self._losses -= kind.loses
        if name == "terminate":
            self._again_soon(process)
        if name == "lose_data":
            self.data_lost = True
        self.at_strike(name)
        fault = kind.fault or name
        return fault, {**fault_kinds.KINDS[fault], **kind.arguments[value - 1]}

    def _can_be(self, name: str, arguments: Mapping[str, Any], at: tuple[Hop, Wire] | None) -> bool:
        """Whether that could happen there: an error is no answer to what a server with it lets through.

        A server that begins to refuse does so at a command that it refuses, or it might go unnoticed.
        """
        if name not in ("error", "refuse") or at is None:
            return True
        hop, wire = at
        refusals = self._simulation.faults.refusals
        return refusals.refusal(arguments, hop.raw, wire) is not None

    def _again_soon(self, process: Process) -> None:
        """Who is told to end is started again when it has, as a deploy does."""
        handle = next((h for h in self._simulation.processes() if h.process is process), None)
        if handle is None or not handle.restarts:
            return
        loop = self._simulation.loop
        self.leaving += 1

        def again() -> None:
            gone = handle.process is not process or not process.alive
            if handle.running and not gone:
                loop.call_later(DEPLOY_S, again, context=loop.server_context())
                return
            self.leaving -= 1
            if not gone:  # or somebody else starts it again
                handle.restart()

        loop.call_later(DEPLOY_S, again, context=loop.server_context())

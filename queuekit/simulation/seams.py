"""What a simulated loop shows and writes down: steps, hops, decisions and named moments.

Everything an observer sees passes here, and here it may be held back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from queuekit.environment import BACKGROUND
from queuekit.simulation.chooser import Chooser
from queuekit.simulation.clock import OwnClock, VirtualClock
from queuekit.simulation.observe import Draw, Event, Hold, Hop, Moment, Observer
from queuekit.simulation.process import PROCESS, Process, is_dead
from queuekit.simulation.scope import OWN_CLOCK
from queuekit.simulation.tap import Tap
from queuekit.simulation.trace import Trace

if TYPE_CHECKING:
    from queuekit.simulation.wire import Wire

T = TypeVar("T")


class Watch(Protocol):
    """Who decides about misfortunes; see `faults.py`."""

    def at_hop(self, hop: Hop, wire: Wire) -> float | None:
        """Seconds by which a hop is late, infinitely for one that is lost, or None."""

    def at_moment(self, moment: Moment) -> None:
        """A named moment is passed."""


Lane = tuple[int, str]
"A connection and a direction: what goes that way keeps its order."


class ObservedLoop(asyncio.BaseEventLoop):
    """The part of a simulated loop that watches; `begin_world` sets it up."""

    def __init__(self) -> None:
        super().__init__()
        self._held_lanes: dict[Lane, deque[tuple[Hop, Callable[[], None], bool, Context]]] = {}

    def begin_world(self, clock: VirtualClock, *, trace: Trace, chooser: Chooser) -> None:
        """Go on with another world: its clock continues this loop's monotonic time."""
        before: VirtualClock | None = getattr(self, "simulated_clock", None)
        if before is not None and clock.elapsed_ns < before.elapsed_ns:
            clock = VirtualClock(clock.time_ns(), before.elapsed_ns)
        self.simulated_clock = self.clock = clock
        self.trace = trace
        self.chooser = chooser
        self.chooser.on_draw = self._drawn
        self.observers: list[Observer] = []
        self.tap: Tap | None = None
        "Who listens in on this world."
        self._holds: dict[Hold, None] = {}
        self.processes: list[Process] = []
        self.server_down = False
        self.watch_steps: Callable[[asyncio.Task[Any], Process | None], None] | None = None
        "Told of each step of a task."
        self.watch: Watch | None = None
        self.gate: Callable[[Sequence[bytes], str, Wire], str | None] | None = None
        "Asked for each command that is about to be executed: the error that it is answered with instead."
        "Asked at each hop and moment what becomes of it."
        self.disturbed_ns: int | None = None
        "When somebody last meddled with it; None: nobody has."
        self.server_clock = OwnClock(self.clock)
        "The clock that decides: scripts are told its time when they arrive."
        self.world_began_ns = clock.elapsed_ns

    def disturbed(self, what: str) -> None:
        """Somebody has meddled with the network, the server, a clock or a process."""
        self.disturbed_ns = self.clock.elapsed_ns
        if self.tap is not None:
            self.tap.disturbed(what)

    def now_us(self) -> int:
        return (self.clock.elapsed_ns - self.world_began_ns) // 1000

    def _show(self, event: Event) -> Hold | None:
        for observer in list(self.observers):
            hold = observer(event)
            if hold is not None and not hold.released:
                self._holds[hold] = None
                return hold
        return None

    def release_all(self) -> None:
        """Take out all observers, and let go of what they hold."""
        self.observers.clear()
        for hold in self._holds:
            hold.release()
        self._holds.clear()

    def _drawn(self, site: str, n: int, value: int) -> None:
        self.trace.draw(self.now_us(), site, n, value)
        if self.observers:
            self._show(Draw(site, n, value))

    async def moment(self, name: str, details: Mapping[str, object]) -> None:
        """A named point in a job's life; an observer may hold it."""
        hold = self._show(Moment(name, details)) if self.observers else None
        if hold is not None:
            released = self.create_future()
            hold.catch(partial(_resolve, released))
            await released
        if self.watch is not None:
            self.watch.at_moment(Moment(name, details))
        process = PROCESS.get()
        if is_dead(process):  # killed by who saw this moment
            await self.create_future()
        elif process is not None and process.stands_still:
            await asyncio.sleep(0)  # the step behind this one is put off
        self.trace.moment(self.now_us(), name, details)

    def show_moment(self, moment: Moment) -> Hold | None:
        """A named point that code has passed already; what would hold it back."""
        self.trace.moment(self.now_us(), moment.name, moment.details)
        if self.watch is not None:
            self.watch.at_moment(moment)
        return self._show(moment) if self.observers else None

    def hop(
        self,
        hop: Hop,
        deliver: Callable[[], None],
        *,
        traced: bool = True,
        context: Context | None = None,
    ) -> None:
        """One way through the network.

        At least one step later, and in order on its lane (a connection and direction), it is shown to
        observers, written down unless it is a handshake, and delivered. It belongs to the process of
        `context` (default: of whoever sends it).
        """
        self.call_soon(self._arrive, hop, deliver, traced, context=context)

    def hop_now(
        self,
        hop: Hop,
        deliver: Callable[[], None],
        *,
        traced: bool = True,
        context: Context | None = None,
    ) -> None:
        """The same for whoever holds the loop and waits: it arrives before this returns."""
        (context or copy_context()).copy().run(self._arrive, hop, deliver, traced)

    def in_no_process(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function as the test itself would, whoever asks for it."""
        return self.server_context().run(function, *arguments)

    def server_context(self) -> Context:
        """The context of what the server does, and of how misfortune ends: nobody's, by the server's clock.

        It is nobody's upkeep either, though it was set off by some: who has been paused at its upkeep
        goes on with its work.
        """
        context = copy_context()
        context.run(PROCESS.set, None)
        context.run(OWN_CLOCK.set, self.server_clock)
        context.run(BACKGROUND.set, False)
        return context

    def _arrive(self, hop: Hop, deliver: Callable[[], None], traced: bool) -> None:
        lane = (hop.connection, hop.direction)
        if lane in self._held_lanes:
            self._wait_in(lane, hop, deliver, traced)
            return
        process = PROCESS.get()
        if process is not None and hop.direction in process.cut_off:
            self._held_lanes[lane] = deque()
            self._wait_in(lane, hop, deliver, traced)
            process.stalled.append(lane)
            return
        hold = self._show(hop) if self.observers else None
        if is_dead(process):
            return
        if self.watch is not None and hold is None and not self._watch_lets(hop, deliver, traced):
            return
        if hold is not None:
            self._held_lanes[lane] = deque()
            context = copy_context()
            hold.catch(lambda: self._release_lane(lane, hop, deliver, traced, context))
            return
        self._deliver(hop, deliver, traced)

    def _watch_lets(self, hop: Hop, deliver: Callable[[], None], traced: bool) -> bool:
        """Ask who watches over the network; whether the hop goes on now."""
        assert self.watch is not None
        wire: Wire = deliver.func.__self__  # type: ignore[attr-defined]  # a wire's own partial
        late = self.watch.at_hop(hop, wire)
        if late is not None and late < float("inf"):
            lane = (hop.connection, hop.direction)
            self._held_lanes[lane] = deque()
            context, waits = copy_context(), copy_context()
            waits.run(BACKGROUND.set, False)  # what comes late may be work
            release = partial(self._release_lane, lane, hop, deliver, traced, context)
            self.call_later(late, release, context=waits)
        return late is None and not is_dead(PROCESS.get())

    def _wait_in(self, lane: Lane, hop: Hop, deliver: Callable[[], None], traced: bool) -> None:
        self._held_lanes[lane].append((hop, deliver, traced, copy_context()))

    def _release_lane(
        self, lane: Lane, hop: Hop, deliver: Callable[[], None], traced: bool, context: Context
    ) -> None:
        self.call_soon(self._deliver, hop, deliver, traced, context=context)
        self.let_through(lane)

    def let_through(self, lane: Lane) -> None:
        """What waits in a lane arrives, in its order."""
        # Each by `_arrive` itself, by whose arguments a schedule knows the lane: one that went by another way
        # would overtake the hop that was released before it, which no connection's bytes do.
        for hop, deliver, traced, context in self._held_lanes.pop(lane):
            self.call_soon(self._arrive, hop, deliver, traced, context=context)

    def _deliver(self, hop: Hop, deliver: Callable[[], None], traced: bool) -> None:
        if traced and self.trace.keeps:
            self.trace.hop(self.now_us(), hop)
        if hop.direction == "reply":
            deliver()
            return
        # The server's doing is nobody's, and follows its own clock; what it sets off inherits that.
        process, clock = PROCESS.set(None), OWN_CLOCK.set(self.server_clock)
        try:
            deliver()
        finally:
            PROCESS.reset(process)
            OWN_CLOCK.reset(clock)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

"""What a simulated loop shows and writes down: steps, hops, decisions and named moments.

Everything an observer sees passes here, and here it may be held back.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import Context
from functools import partial

from queuekit.simulation.chooser import Chooser
from queuekit.simulation.clock import VirtualClock
from queuekit.simulation.observe import Draw, Event, Hold, Hop, Moment, Observer
from queuekit.simulation.process import PROCESS, Process, is_dead
from queuekit.simulation.tap import Tap
from queuekit.simulation.trace import Trace


class ObservedLoop(asyncio.BaseEventLoop):
    """The part of a simulated loop that watches; `begin_world` sets it up."""

    def __init__(self) -> None:
        super().__init__()
        self._held_lanes: dict[tuple[int, str], deque[Callable[[], None]]] = {}

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
        self._world_began_ns = clock.elapsed_ns

    def _now_us(self) -> int:
        return (self.clock.elapsed_ns - self._world_began_ns) // 1000

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
        self.trace.draw(self._now_us(), site, n, value)
        if self.observers:
            self._show(Draw(site, n, value))

    async def moment(self, name: str, details: Mapping[str, object]) -> None:
        """A named point in a job's life; an observer may hold it."""
        hold = self._show(Moment(name, details)) if self.observers else None
        if hold is not None:
            released = self.create_future()
            hold.catch(partial(_resolve, released))
            await released
        if is_dead(PROCESS.get()):  # killed by who saw this moment
            await self.create_future()
        self.trace.moment(self._now_us(), name, details)

    def show_moment(self, moment: Moment) -> Hold | None:
        """A named point that code has passed already; what would hold it back."""
        self.trace.moment(self._now_us(), moment.name, moment.details)
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

    def _arrive(self, hop: Hop, deliver: Callable[[], None], traced: bool) -> None:
        lane = (hop.connection, hop.direction)
        if lane in self._held_lanes:
            self._held_lanes[lane].append(lambda: self._arrive(hop, deliver, traced))
            return
        hold = self._show(hop) if self.observers else None
        if is_dead(PROCESS.get()):
            return
        if hold is not None:
            self._held_lanes[lane] = deque()
            hold.catch(lambda: self._release_lane(lane, hop, deliver, traced))
            return
        self._deliver(hop, deliver, traced)

    def _release_lane(
        self, lane: tuple[int, str], hop: Hop, deliver: Callable[[], None], traced: bool
    ) -> None:
        waiting_behind = self._held_lanes.pop(lane)
        self.call_soon(self._deliver, hop, deliver, traced)
        for arrive in waiting_behind:
            self.call_soon(arrive)

    def _deliver(self, hop: Hop, deliver: Callable[[], None], traced: bool) -> None:
        if traced:
            self.trace.hop(self._now_us(), hop.connection, hop.direction, hop.words)
        deliver()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

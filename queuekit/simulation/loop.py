"""The event loop of a simulation: time moves when nothing is ready, and only then.

A loop of asyncio's without a selector. Its steps are taken from one pool; when that is empty, the
clock jumps to the next timer's own moment. There are no system calls in it, no real sleeping, and no
order that a hash or an address decides.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from queuekit.simulation import waiting
from queuekit.simulation.chooser import Chooser
from queuekit.simulation.clock import NS, VirtualClock
from queuekit.simulation.errors import (
    RefusedInSimulation,
    SimulationDeadlock,
    SimulationError,
    SimulationLivelock,
    VirtualTimeLimit,
)
from queuekit.simulation.observe import Draw, Event, Hold, Hop, Moment, Observer, Step
from queuekit.simulation.process import PROCESS, Process, is_dead
from queuekit.simulation.threads import Batons
from queuekit.simulation.timers import Timer, Timers, grains_after, grains_at
from queuekit.simulation.trace import Trace

if TYPE_CHECKING:
    from queuekit.environment import Environment
    from queuekit.simulation.wire import Network

T = TypeVar("T")

STEPS_PER_INSTANT = 200_000
"More steps than this without time moving are a livelock. A thousand jobs at one instant take 40,000."

VIRTUAL_LIMIT_S = 2 * 366 * 24 * 3600
"Two years. More than this in a single wait, and the test waits for what never comes."

COUNTED_STEPS = 2_000
"The steps before a livelock is declared, in which it is counted who turns."


class SimulatedTask(asyncio.Task[T]):
    """A task whose place in a set follows from its age, not from its address."""

    number: int

    def __hash__(self) -> int:
        return self.number


class SimulatedFuture(asyncio.Future[T]):
    """A future, likewise."""

    number: int

    def __hash__(self) -> int:
        return self.number


class SimulatedLoop(asyncio.BaseEventLoop):
    """See the module. Several worlds may follow one another on it; time never runs backwards.

    Args:
        clock: the clock that this loop moves.
        trace: where everything is written down.
        chooser: who decides.
        steps_per_instant: more than this without time moving raises `SimulationLivelock`.
    """

    _ready: deque[asyncio.Handle]

    def __init__(
        self,
        clock: VirtualClock,
        *,
        trace: Trace | None = None,
        chooser: Chooser | None = None,
        steps_per_instant: int = STEPS_PER_INSTANT,
    ) -> None:
        super().__init__()
        self.network: Network | None = None
        self.queuekit_environment: Environment | None = None
        self.unseen: list[dict[str, Any]] = []
        "What asyncio's exception handler was told: exceptions that nobody awaited."
        self.signal_handlers: dict[int, tuple[Callable[..., object], tuple[Any, ...]]] = {}
        self.batons = Batons(self)
        self.fatal: SimulationError | None = None
        "What ends the world at its next step."
        self.steps_per_instant = steps_per_instant
        self._timers = Timers()
        self._settling: list[tuple[int, int, asyncio.Future[None]]] = []
        self._born = 0
        self._instant_steps = 0
        self._turning: Counter[str] = Counter()
        self._wait_began_ns = 0
        self._held_lanes: dict[tuple[int, str], deque[Callable[[], None]]] = {}
        self.begin_world(clock, trace=trace or Trace(), chooser=chooser or Chooser(0))

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
        self._holds: dict[Hold, None] = {}
        self.processes: list[Process] = []
        self.unseen.clear()
        self._world_began_ns = self._wait_began_ns = clock.elapsed_ns
        self._named = 0

    # -- time

    def time(self) -> float:
        return self.clock.elapsed_ns / NS

    def _now_us(self) -> int:
        return (self.clock.elapsed_ns - self._world_began_ns) // 1000

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Timer:
        return self._add_timer(self.clock.elapsed_ns + grains_after(delay), callback, args, context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Timer:
        return self._add_timer(grains_at(when), callback, args, context)

    def _add_timer(
        self,
        when_ns: int,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> Timer:
        self._check_closed()  # type: ignore[attr-defined]
        timer = Timer.make(when_ns, callback, args, self, context)
        self._timers.add(timer)
        return timer

    def _timer_handle_cancelled(self, handle: Timer) -> None:
        self._timers.cancelled(handle)

    def take_timers(self, process: Process) -> list[Timer]:
        """Take out the timers of a process that is killed."""
        return self._timers.take(lambda timer: _process_of(timer) is process)

    def next_timer_ns(self, *, include_background: bool = False) -> int | None:
        """The next moment at which something happens (without `include_background`: other than upkeep)."""
        return self._timers.next_ns() if include_background else self._timers.next_work_ns()

    async def settle(self, at_ns: int | None = None) -> None:
        """Wait until nothing more can be done at a moment (default: now).

        Time moves there from timer to timer. Timers due exactly then have fired, and all that follows
        from them at that instant is done.
        """
        target = self.clock.elapsed_ns if at_ns is None else at_ns
        self._wait_began_ns = self.clock.elapsed_ns
        self._born += 1
        future = self.create_future()
        heapq.heappush(self._settling, (target, self._born, future))
        await future

    # -- one turn

    def _run_once(self) -> None:
        if self.fatal is not None:
            raise self.fatal
        ready = self._ready
        now_ns = self.clock.elapsed_ns
        next_ns = self._timers.next_ns()
        if next_ns is not None and next_ns <= now_ns:
            ready.extend(self._timers.pop_due(now_ns))
        elif not ready and not self._stopping:  # type: ignore[attr-defined]
            self._move()
        for _ in range(len(ready)):
            handle = ready.popleft()
            if not handle.cancelled():
                self._step(handle)

    def _move(self) -> None:
        """Nothing is ready: wake whoever waits for that, or let time go to the next timer."""
        next_ns = self._timers.next_ns()
        if self._settling and (next_ns is None or self._settling[0][0] < next_ns):
            at_ns, _, future = heapq.heappop(self._settling)
            self._move_to(max(at_ns, self.clock.elapsed_ns))
            if not future.done():
                future.set_result(None)
            return
        if next_ns is None or not (self._settling or self._timers.has_work):
            held = any(hold.reached and not hold.released for hold in self._holds)
            raise SimulationDeadlock(waiting.deadlock(self, held))
        if next_ns - self._wait_began_ns > VIRTUAL_LIMIT_S * NS:
            raise VirtualTimeLimit(waiting.limit(self, VIRTUAL_LIMIT_S))
        self._move_to(next_ns)
        self._ready.extend(self._timers.pop_due(next_ns))

    def _move_to(self, elapsed_ns: int) -> None:
        if elapsed_ns > self.clock.elapsed_ns:
            self.clock.move_to(elapsed_ns)
            self._instant_steps = 0
            self._turning.clear()
            self.trace.time(self._now_us())

    def _step(self, handle: asyncio.Handle) -> None:
        process = _process_of(handle)
        if is_dead(process):
            return
        task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
        if isinstance(task, asyncio.Task):
            where = waiting.where(task)
            name = task.get_name()
            if self.observers:
                hold = self._show(Step(name, where, process.id if process else ""))
                if hold is not None:
                    hold.catch(lambda: self._ready.append(handle))
                    return
                if is_dead(process):
                    return
            self.trace.step(self._now_us(), name, where)
        self._instant_steps += 1
        if self._instant_steps > self.steps_per_instant - COUNTED_STEPS:
            self._count_turn(task, handle)
        handle._run()

    def _count_turn(self, task: object, handle: asyncio.Handle) -> None:
        self._turning[task.get_name() if isinstance(task, asyncio.Task) else "(callbacks)"] += 1
        if self._instant_steps > self.steps_per_instant:
            self._ready.appendleft(handle)  # the world is taken down yet: nothing may be lost
            raise SimulationLivelock(waiting.livelock(self, self._turning))

    def run_forever(self) -> None:
        self._wait_began_ns = self.clock.elapsed_ns
        self._instant_steps = 0
        super().run_forever()

    # -- seams: everything an observer sees passes here

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

    # -- what asyncio asks of a loop

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        self._check_closed()  # type: ignore[attr-defined]
        self._named += 1
        task: SimulatedTask[T] = SimulatedTask.__new__(SimulatedTask)
        self._born += 1
        task.number = self._born  # before __init__, which puts the task into a set
        name = name or f"{getattr(coro, '__qualname__', 'task')}-{self._named}"
        task.__init__(coro, loop=self, name=name, context=context, **options)  # type: ignore[misc]
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is not None:
            process.adopt(task)
        return task

    def create_future(self) -> asyncio.Future[Any]:
        future: SimulatedFuture[Any] = SimulatedFuture(loop=self)
        self._born += 1
        future.number = self._born
        return future

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """In a baton thread, whatever the executor: see `threads.py`."""
        return self.batons.run(lambda: func(*args))

    def wait_from_thread(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """For sync tasks: run a coroutine on this loop and wait for it."""
        return self.batons.wait(coroutine)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.unseen.append(context)
        super().call_exception_handler(context)

    def add_signal_handler(  # type: ignore[override]
        self, sig: int, callback: Callable[..., object], *args: Any
    ) -> None:
        self.signal_handlers[sig] = (callback, args)

    def remove_signal_handler(self, sig: int) -> bool:
        return self.signal_handlers.pop(sig, None) is not None

    def deliver_signal(self, sig: int) -> None:
        """A simulated signal: its handler runs as a step."""
        if sig not in self.signal_handlers:
            raise SimulationError(f"signal {sig} has no handler in this simulation.")
        callback, args = self.signal_handlers[sig]
        self.call_soon(callback, *args)

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None = None,
        port: int | None = None,
        **options: Any,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        del options  # TLS, binding and races between addresses mean nothing here
        return await self._connect(protocol_factory, f"{host}:{port}")

    async def create_unix_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        path: str | None = None,
        **options: Any,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        del options
        return await self._connect(protocol_factory, str(path))

    async def _connect(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], address: str
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        if self.network is None:
            raise RefusedInSimulation(
                f"cannot connect to {address}: this simulated loop has no network.\n"
                "  Connections live in a Simulation; use its fixture or its with block."
            )
        await asyncio.sleep(0)
        protocol = protocol_factory()
        transport = self.network.connect(protocol, address)
        protocol.connection_made(transport)
        return transport, protocol

    def _process_events(self, event_list: object) -> None:
        """There is no selector."""

    def _write_to_self(self) -> None:
        """Nothing sleeps, so nobody needs to be woken."""

    def close(self) -> None:
        if not self.is_closed():
            self.batons.close()
            self._timers.clear()
            self._settling.clear()
            super().close()


def _process_of(handle: asyncio.Handle) -> Process | None:
    context: Context = handle._context  # type: ignore[attr-defined]
    return context.get(PROCESS)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _refused(what: str) -> Callable[..., Any]:
    async def refuse(self: SimulatedLoop, *args: Any, **options: Any) -> Any:
        del self, args, options
        raise RefusedInSimulation(
            f"{what}() would reach out of the simulation.\n"
            "  Simulated are time, tasks, threads and connections to Redis.\n"
            "  Replace what needs it by a stand-in in the test."
        )

    return refuse


for _name in (
    "getaddrinfo getnameinfo create_server create_unix_server create_datagram_endpoint sock_recv "
    "sock_sendall sock_connect sock_accept connect_read_pipe connect_write_pipe subprocess_exec "
    "subprocess_shell sendfile start_tls"
).split():
    setattr(SimulatedLoop, _name, _refused(_name))

"""A simulated process: tasks with connections of their own, which can be killed as the kernel kills one.

Whatever code that runs in it creates is part of it: tasks, timers, threads and connections inherit it by
their context. Code outside of any belongs to the test.
"""

from __future__ import annotations

import asyncio
import signal
import weakref
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar, copy_context
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from queuekit.simulation.clock import OwnClock
from queuekit.simulation.observe import Hop
from queuekit.simulation.scope import OWN_CLOCK
from queuekit.simulation.tasks import Tasks
from queuekit.simulation.unwinding import (
    UNWIND_ROUNDS,
    take_down_generator,
    take_down_task,
    unheard,
)

if TYPE_CHECKING:
    from queuekit.simulation.loop import SimulatedLoop
    from queuekit.simulation.programs import Program
    from queuekit.simulation.seams import Lane
    from queuekit.simulation.timers import Timer
    from queuekit.simulation.wire import Wire

T = TypeVar("T")

PROCESS: ContextVar[Process | None] = ContextVar("queuekit_process", default=None)
"The process whose code runs."

Handlers = dict[int, tuple[Callable[..., object], tuple[Any, ...]]]
"Of signals, by their numbers: a function and its arguments."

CLIENT_FRAMES = 8
"How far up redis-py's own connection stands when it connects."


class Process:
    """A process of a simulation, from its start to its end.

    Args:
        loop: the world's loop.
        name: for whoever reads traces; several may have one name, as after a restart.
    """

    def __init__(self, loop: SimulatedLoop, name: str) -> None:
        self.name = name
        self.id = f"{name}#{len(loop.processes) + 1}"
        "The name, made unique."
        self.alive = True
        self.stands_still = False
        "Whether it takes no step: it is paused, its loop is held, or it is dead."
        self.fit_since_ns = 0
        "When it last went on after it had stood still (of the world's elapsed time)."
        self.paused = False
        self._ends_when_resumed = False
        "Whether a signal came that it has no handler for, while it was paused."
        self._busy = False
        self.cut_off: frozenset[str] = frozenset()
        "Directions in which the network carries nothing of it."
        self.stalled: list[Lane] = []
        "The lanes in which something waits for the network."
        self.clock = OwnClock(loop.clock)
        self.signal_handlers: Handlers = {}
        self.program: Program | None = None
        "Its sync code, as far as that uses signals."
        self.at_death: list[Callable[[], None]] = []
        self.exited: SystemExit | KeyboardInterrupt | None = None
        "By which some code of it has ended it."
        self.exit_seen = False
        "Whether somebody has asked for that."
        self.loop = loop
        self._context = copy_context()
        self._context.run(PROCESS.set, self)
        self._context.run(OWN_CLOCK.set, self.clock)
        self.tasks = Tasks()
        "Those that were made here, but for some that have ended."
        self._generators: weakref.WeakSet[AsyncGenerator[Any, Any]] = weakref.WeakSet()
        self._left_generators: list[AsyncGenerator[Any, Any]] = []
        "Strong, when it is dead: as the tasks."
        self._timers: list[Timer] = []
        self._wires: list[Wire] = []
        self._clients: list[weakref.ref[Any]] = []
        self._put_off: list[asyncio.Handle] = []
        self._at_heal: list[Callable[[], None]] = []
        self._waiting_for_network: list[asyncio.Future[None]] = []
        loop.processes.append(self)

    def run(self, function: Callable[..., T], /, *arguments: Any, **keywords: Any) -> T:
        """Call a function in this process: what it creates belongs to it."""
        return self._context.copy().run(partial(function, *arguments, **keywords))

    def adopt_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Called by the loop: an async generator was begun here."""
        self._generators.add(generator)

    def kill(self) -> None:
        """The process is gone, as by SIGKILL: no `finally` runs, and nothing it meant to send is sent.

        Its tasks never take another step, its timers never fire, the server sees its connections closed;
        a command that was under way is lost, a reply reaches nobody.
        """
        if not self.alive:
            return
        self.alive = False
        self.stands_still = True
        self._put_off.clear()
        self._left_generators = list(self._generators)
        self.loop.disturbed_ns = self.loop.clock.elapsed_ns
        if self.loop.tap is not None:
            self.loop.tap.killed(self)
        self._timers = self.loop.take_timers(self)
        network = self.loop.network
        for wire in list(network.wires) if network is not None else ():
            if wire.process is self:
                wire.drop()
                self._wires.append(wire)
        for mourn in self.at_death:
            mourn()

    def leave(self, exited: SystemExit | KeyboardInterrupt | None = None) -> None:
        """End as by an uncaught exception, or by sys.exit(): its tasks are cancelled, then it is dead.

        So `asyncio.run` does: their `finally` runs, and may still send something.
        """
        self.exited = self.exited or exited
        left = {task: None for task in self.tasks if not task.done()}

        def ended(task: asyncio.Task[Any]) -> None:
            left.pop(task, None)
            if not left:
                self.kill()

        for task in list(left):
            task.add_done_callback(ended, context=self.loop.server_context())
            task.cancel()
        if not left:
            self.kill()

    @property
    def status(self) -> int:
        """With which it exited, as the shell sees it."""
        if isinstance(self.exited, KeyboardInterrupt):
            return 128 + signal.SIGINT
        code = 0 if self.exited is None else self.exited.code
        return code if isinstance(code, int) else 0 if code is None else 1

    def signal(self, number: int) -> None:
        """Deliver a signal: its handler runs as a step; without one the process dies, as by default."""
        if not self.alive:
            return
        handler = self.signal_handlers.get(number)
        if handler is None:
            if self.paused:  # as Linux: only SIGKILL ends who is stopped
                self._ends_when_resumed = True
                return
            self.kill()
            return
        callback, arguments = handler
        self.loop.call_soon(callback, *arguments, context=self._context.copy())

    # -- standing still

    def pause(self) -> None:
        """Take no further step, as by SIGSTOP. What it has sent arrives; what it is sent waits."""
        if self.alive and not self.paused:
            self.paused = self.stands_still = True
            self._disturbed("paused")

    def resume(self) -> None:
        """Go on, with all that has become due or has arrived meanwhile, in its order.

        Work of the processor that holds its loop is not ended by this.
        """
        if self.alive and self.paused:
            self.paused = False
            if self._ends_when_resumed:
                self.kill()
            else:
                self._go_on()

    def hold_loop(self) -> None:
        """Take no further step, since one of its own holds the event loop."""
        if self.alive and not self._busy:
            self._busy = self.stands_still = True
            self._disturbed("busy")

    def release_loop(self) -> None:
        """The step that held the loop has ended; if the process is paused, it goes on when resumed."""
        if self.alive and self._busy:
            self._busy = False
            self._go_on()

    def _go_on(self) -> None:
        if self.paused or self._busy:
            return
        self.stands_still = False
        self.fit_since_ns = self.loop.clock.elapsed_ns
        self._disturbed("running again")
        put_off, self._put_off = self._put_off, []
        self.loop.resume(put_off)

    def passes(self, handle: asyncio.Handle) -> bool:
        """Whether a step of it is taken although it stands still; one that is not is kept for later."""
        arguments: Any = handle._args
        sent = (
            bool(arguments)
            and isinstance(arguments[0], Hop)
            and arguments[0].direction == "request"
        )
        if sent and self.alive:
            return True
        if self.alive:
            self._put_off.append(handle)
        return False

    # -- being cut off

    def partition(self, directions: frozenset[str]) -> None:
        """Let the network carry nothing of it in these directions (`request`, `reply`)."""
        self.cut_off = directions
        self._disturbed("partitioned")
        self._let_through()  # what waited in a direction that is still cut off comes to wait again

    def heal(self) -> None:
        """Let the network carry again: what waited arrives, and ends that were closed are found closed."""
        if not self.cut_off:
            return
        self.cut_off = frozenset()
        self._disturbed("connected again")
        self._let_through()
        at_heal, self._at_heal = self._at_heal, []
        for find_out in at_heal:
            self.loop.call_soon(find_out, context=self.loop.server_context())
        waiting, self._waiting_for_network = self._waiting_for_network, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _let_through(self) -> None:
        stalled, self.stalled = self.stalled, []
        for lane in stalled:
            self.loop.let_through(lane)

    def when_healed(self, find_out: Callable[[], None]) -> None:
        """Called by the network: the other end hears of this when it can."""
        self._at_heal.append(find_out)

    async def reach_network(self) -> None:
        """Wait until a new connection can be made."""
        while self.cut_off:
            future = self.loop.create_future()
            self._waiting_for_network.append(future)
            await future

    def _disturbed(self, how: str) -> None:
        self.loop.disturbed(f"{self.id} is {how}")

    async def die(self) -> NoReturn:
        """Kill the process from within: nothing behind this is ever executed."""
        self.kill()
        while True:
            await self.loop.create_future()

    def unwind(self) -> None:
        """At the end of the world: take down what a dead process left, with all its effects cut off."""
        with unheard(self.loop):
            for wire in self._wires:
                wire.get_protocol().connection_lost(None)
            done: set[asyncio.Task[Any]] = set()
            for _ in range(UNWIND_ROUNDS):  # a `finally` may begin others
                left = [task for task in self.tasks if task not in done]
                for task in left:
                    take_down_task(task, self.loop.context_of(task))
                done.update(left)
                if not left:
                    break
            for generator in self._left_generators:
                self._context.run(take_down_generator, generator)

    def connected(self, client: Any) -> None:
        """Called by the loop: an object of redis-py's has connected here (None: something else has)."""
        if client is not None:
            self._clients.append(weakref.ref(client))

    def exit(self) -> None:
        """At the end of the world: its sockets go with it, and no object of a client's is to mourn them."""
        for known in self._clients:
            client = known()
            if client is not None and client._writer is not None:
                client._writer.transport.abort()
                client._writer = client._reader = None

    def __repr__(self) -> str:
        return f"Process<{self.id}, {'alive' if self.alive else 'dead'}>"


def client_in(frame: FrameType | None) -> Any:
    """The connection of redis-py's on whose behalf a frame runs, if any."""
    for _ in range(CLIENT_FRAMES):
        if frame is None:
            return None
        if frame.f_code.co_name == "_connect":
            client = frame.f_locals.get("self")
            if hasattr(client, "_writer"):
                return client
        frame = frame.f_back
    return None


def is_dead(process: Process | None) -> bool:
    """Whether it was killed; what belongs to no process lives as long as the world."""
    return process is not None and not process.alive

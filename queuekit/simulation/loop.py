"""The event loop of a simulation: time moves when nothing is ready, and only then.

A loop of asyncio's without a selector. Its steps are taken from one pool; when that is empty, the
clock jumps to the next timer's own moment. There are no system calls in it, no real sleeping, and no
order that a hash or an address decides.
"""

from __future__ import annotations

import asyncio
import errno
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from queuekit.simulation.chooser import Chooser
from queuekit.simulation.clock import VirtualClock
from queuekit.simulation.errors import (
    CallbackFailed,
    RefusedInSimulation,
    SimulationError,
    TaskFailed,
)
from queuekit.simulation.process import PROCESS, Handlers, client_in
from queuekit.simulation.tasks import Tasks
from queuekit.simulation.threads import Batons
from queuekit.simulation.trace import Trace
from queuekit.simulation.turn import STEPS_PER_INSTANT, TurningLoop
from queuekit.simulation.unwinding import take_down_generator

if TYPE_CHECKING:
    from queuekit.environment import Environment
    from queuekit.simulation.programs import Program
    from queuekit.simulation.wire import Network

T = TypeVar("T")


class SimulatedTask(asyncio.Task[T]):
    """A task whose place in a set follows from its age, not from its address."""

    number: int
    context: Context

    def __hash__(self) -> int:
        return self.number


class SimulatedFuture(asyncio.Future[T]):
    """A future, likewise."""

    number: int

    def __hash__(self) -> int:
        return self.number


class SimulatedLoop(TurningLoop):
    """See the module. Several worlds may follow one another on it; time never runs backwards.

    Args:
        clock: the clock that this loop moves.
        trace: where everything is written down.
        chooser: who decides.
        steps_per_instant: more than this without time moving raises `SimulationLivelock`.
    """

    def __init__(
        self,
        clock: VirtualClock,
        *,
        trace: Trace | None = None,
        chooser: Chooser | None = None,
        steps_per_instant: int = STEPS_PER_INSTANT,
    ) -> None:
        super().__init__(steps_per_instant=steps_per_instant)
        self.network: Network | None = None
        self.queuekit_environment: Environment | None = None
        self.unseen: list[dict[str, Any]] = []
        "What asyncio's exception handler was told: exceptions that nobody awaited."
        self.unwinding = False
        "Whether what a dead process left is being taken down."
        self.signal_handlers: Handlers = {}
        "Of code that belongs to no process."
        self.batons = Batons(self)
        self.begin_world(clock, trace=trace or Trace(), chooser=chooser or Chooser(0))

    def begin_world(self, clock: VirtualClock, *, trace: Trace, chooser: Chooser) -> None:
        super().begin_world(clock, trace=trace, chooser=chooser)
        self.unseen.clear()
        self.tasks = Tasks()
        "Of no process: the test's own."
        self.program: Program | None = None
        "The sync code that belongs to no process, as far as it uses signals."
        self._broken_callbacks: list[tuple[str, BaseException]] = []
        self.refused = None
        self._named = 0

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
        if context is None:
            context = copy_context()
        task.context = context
        name = name or f"{getattr(coro, '__qualname__', 'task')}-{self._named}"
        task.__init__(coro, loop=self, name=name, context=context, **options)  # type: ignore[misc]
        self._know(task)
        process = context.get(PROCESS)
        (self.tasks if process is None else process.tasks).add(task)
        return task

    def context_of(self, task: asyncio.Task[Any]) -> Context:
        """In which a task of this loop runs."""
        assert isinstance(task, SimulatedTask)
        return task.context

    def create_future(self) -> asyncio.Future[Any]:
        future: SimulatedFuture[Any] = SimulatedFuture(loop=self)
        self._born += 1
        future.number = self._born
        return future

    def _asyncgen_firstiter_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        super()._asyncgen_firstiter_hook(agen)  # type: ignore[misc]
        process = PROCESS.get()
        if process is not None:
            process.adopt_generator(agen)

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, Any]) -> None:
        if self.unwinding:
            take_down_generator(agen)
        else:
            super()._asyncgen_finalizer_hook(agen)  # type: ignore[misc]

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
        error = context.get("exception")
        if "handle" in context and isinstance(error, SimulationError) and self.fatal is None:
            # The world cannot do what it was asked to, such as a fault: who goes on tests something else.
            self.refused = self.fatal = error
        elif "handle" in context and error is not None and self._exception_handler is None:  # type: ignore[attr-defined]
            self._broken_callbacks.append((context["message"], error))
        super().call_exception_handler(context)

    def broken_callback(self) -> CallbackFailed | None:
        """What to raise for the first callback that raised, if nobody has taken that in."""
        broken, self._broken_callbacks = self._broken_callbacks, []
        for message, error in broken:
            failed = CallbackFailed(
                f"{message}: {type(error).__name__}: {error}.\n"
                "  Nobody heard of it: asyncio logs such an error, and goes on.\n"
                "  Mend the callback; or, if it may raise, take it in by loop.set_exception_handler()."
            )
            failed.__cause__ = error
            return failed
        return None

    def unasked_tasks(self) -> list[tuple[str, BaseException]]:
        """Tasks of the test, and of processes that live, whose exception nobody has asked for, in words.

        An application that has a handler for what nobody hears of hears of it now; then it is none of these.
        """
        owners = [("", self.tasks), *((f" of {p.id}", p.tasks) for p in self.processes if p.alive)]
        found = []
        for owner, tasks in owners:
            for task, error in tasks.unasked():
                if self._exception_handler is None:  # type: ignore[attr-defined]
                    found.append((f"task {task.get_name()!r}{owner}", error))
                    continue
                message = "Task exception was never retrieved"
                self.call_exception_handler({"message": message, "exception": error, "task": task})
        return found

    def failed_task(self) -> TaskFailed | None:
        """What to raise for the first of them, if any."""
        for task, error in self.unasked_tasks():
            failed = TaskFailed(
                f"{task} ended by {type(error).__name__}: {error}.\n"
                "  Nobody has asked for it: asyncio logs it when a collector finds the task, and goes on.\n"
                "  Await the task, or ask for its exception() in a done callback; or, if it may fail,\n"
                "  take that in by loop.set_exception_handler()."
            )
            failed.__cause__ = error
            return failed
        return None

    def add_signal_handler(  # type: ignore[override]
        self, sig: int, callback: Callable[..., object], *args: Any
    ) -> None:
        self._signal_handlers_here()[sig] = (callback, args)

    def remove_signal_handler(self, sig: int) -> bool:
        return self._signal_handlers_here().pop(sig, None) is not None

    def _signal_handlers_here(self) -> Handlers:
        process = PROCESS.get()
        return self.signal_handlers if process is None else process.signal_handlers

    def deliver_signal(self, sig: int) -> None:
        """A simulated signal to all that have a handler, as Ctrl-C in a terminal; handlers run as steps."""
        takers = [p for p in self.processes if p.alive and sig in p.signal_handlers]
        if not takers and sig not in self.signal_handlers:
            raise SimulationError(f"signal {sig} has no handler in this simulation.")
        for process in takers:
            process.signal(sig)
        if sig in self.signal_handlers:
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
        process = PROCESS.get()
        if process is not None:
            await process.reach_network()
        protocol = protocol_factory()
        transport = self.connect_now(protocol, address)
        if process is not None:
            process.connected(client_in(sys._getframe()))
        protocol.connection_made(transport)
        return transport, protocol

    def connect_now(self, protocol: asyncio.BaseProtocol, address: str) -> asyncio.Transport:
        """A connection to the simulated Redis, for a client that the network carries.

        Raises:
            ConnectionRefusedError: the server is down.
        """
        if self.server_down:
            raise ConnectionRefusedError(
                errno.ECONNREFUSED, f"the simulated Redis is down; nobody listens at {address}"
            )
        assert self.network is not None
        return self.network.connect(protocol, address)

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

"""Where time, chance and ids come from at this moment.

queuekit never asks the machine directly. Code asks `environment()` at each call: in production it
answers with the machine's clock and randomness, inside a simulation with the simulation's. Nothing
is captured when an object is built, so a queue that an application makes at import time follows
whichever world it is used in.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import random
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from queuekit.job import Job

T = TypeVar("T")

BACKGROUND: ContextVar[bool] = ContextVar("queuekit_background", default=False)
"""True while the code that runs is upkeep: a timer set now leads to no work of the application's.

A simulation in which only such timers are left, and whose test waits for something else, is stuck.
"""

IDLE_WAIT_S = 5.0
"""Seconds that an idle worker waits at most before it looks at the queue again (production)."""


class Passed:
    """What `effect` gives: nothing happens when it is awaited, and it need not be."""

    def __await__(self) -> Generator[Any, None, None]:
        yield from ()


_PASSED = Passed()
_NO_BRACKET: AbstractContextManager[None] = contextlib.nullcontext()


@contextlib.contextmanager
def background(active: bool = True) -> Iterator[None]:
    """Mark the timers that are set in this block as upkeep (see `BACKGROUND`)."""
    token = BACKGROUND.set(active)
    try:
        yield
    finally:
        BACKGROUND.reset(token)


class Environment:
    """Production: the machine's own clock, chance and threads. A simulation subclasses it."""

    simulated: bool = False
    "Whether time belongs to a test."

    @property
    def process(self) -> str:
        """The simulated process that runs now; real processes share nothing anyway."""
        return ""

    def __init__(self) -> None:
        self.forget_threads()

    def forget_threads(self) -> None:
        """Begin without any: a forked child has none of its parent's, and would wait for them for ever."""
        self._threads = SlotThreads()
        self._portal = LoopThread()

    def time_ms(self) -> int:
        """This process's wall clock, in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds on a clock that never runs backwards."""
        return time.monotonic()

    def script_now(self) -> str:
        """The `now` argument of the store's scripts; empty means: ask the server's own clock."""
        return ""

    def idle_wait_s(self) -> float:
        """How long an idle worker may wait before it looks again."""
        return IDLE_WAIT_S

    def new_id(self) -> str:
        """A fresh identifier: 16 characters that are safe in URLs, 96 random bits."""
        return secrets.token_urlsafe(12)

    def jitter(self, upper_s: float) -> float:
        """Full jitter: a delay between 0 and `upper_s` seconds."""
        return random.uniform(0, upper_s)  # noqa: S311 (spreads load, guards nothing)

    @property
    def watched(self) -> bool:
        """Whether somebody looks at the named steps; if not, `step` need not be awaited."""
        return False

    async def step(self, name: str, **details: object) -> None:
        """A named point in a job's life. A simulation shows it to its observers, who may hold it."""

    def effect(self, name: str, details: Mapping[str, object]) -> Awaitable[None]:
        """See `effect`: here nobody counts."""
        del name, details
        return _PASSED

    def running(self, job: Job) -> AbstractContextManager[None]:
        """Brackets each call of a task, from before its first step to after its last."""
        del job
        return _NO_BRACKET

    def run_in_thread(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a blocking function beside the loop, with the caller's context variables.

        Daemon threads of our own, one for each call under way: asyncio's default pool would
        throttle a worker to cpu + 4 sync tasks, and its exit join would hold the process.
        """
        return self._threads.run(function)

    def wait_from_thread(
        self, loop: asyncio.AbstractEventLoop | None, coroutine: Coroutine[Any, Any, T]
    ) -> T:
        """Run a coroutine and block this thread for its result.

        On `loop` (never this thread's own), or where there is none on one that a thread of this
        process keeps for such calls.
        """
        return asyncio.run_coroutine_threadsafe(coroutine, loop or self._portal.loop()).result()


class LoopThread:
    """A loop in a daemon thread, made when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, running."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name="queuekit-sync", daemon=True
                ).start()
            return self._loop


class SlotThreads:
    """Daemon threads, kept for reuse: as many as there were blocking calls at one time."""

    def __init__(self) -> None:
        self._idle: list[queue.SimpleQueue[Callable[[], None]]] = []

    def run(self, function: Callable[[], T]) -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = copy_context()

        def settle(result: T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result, error = None, None
            try:
                result = context.run(function)
            except BaseException as raised:  # handed to whoever awaits the future
                error = raised
                if isinstance(raised, StopIteration):  # a future refuses it
                    error = RuntimeError("the function raised StopIteration")
                    error.__cause__ = raised
            # A loop that was closed meanwhile has nobody left who waits for the answer.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, result, error)

        try:
            inbox = self._idle.pop()
        except IndexError:
            inbox = queue.SimpleQueue()
            threading.Thread(
                target=self._serve, args=(inbox,), name="queuekit-sync-task", daemon=True
            ).start()
        inbox.put(work)
        return future

    def _serve(self, inbox: queue.SimpleQueue[Callable[[], None]]) -> None:
        while True:
            inbox.get()()
            self._idle.append(inbox)


PRODUCTION = Environment()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=PRODUCTION.forget_threads)

_ambient: ContextVar[Environment] = ContextVar("queuekit_environment", default=PRODUCTION)


def environment() -> Environment:
    """The environment of the code that asks: that of its running loop, else of its context."""
    loop = asyncio._get_running_loop()  # get_running_loop() without its exception
    own: Environment | None = getattr(loop, "queuekit_environment", None)
    return own if own is not None else _ambient.get()


def effect(name: str, /, **details: object) -> Awaitable[None]:
    """Tell that something has happened which must not happen twice, or not be forgotten.

    In production this does nothing and costs a fraction of a microsecond. A simulation counts it
    (`simulation.effects("charged", order=42).happened(times=1)`), and a fault can strike just behind it:

        async def charge(ctx, order):
            await gateway.charge(order)
            effect("charged", order=order)

    A process that is killed there ends at its next await; with `await effect(...)` it ends there.

    Args:
        name: what happened, in the past.
        details: which one it was; simple values, such as the number of an order.
    """
    return environment().effect(name, details)


@contextlib.contextmanager
def use(environment: Environment) -> Iterator[None]:
    """Answer `environment()` with this one in the block, where no loop of its own decides."""
    token = _ambient.set(environment)
    try:
        yield
    finally:
        _ambient.reset(token)

"""Baton threads: sync code in real threads, of which exactly one runs at any moment.

Whoever runs has the baton. The loop hands it to a thread and waits; the thread hands it back when its
function ends, sleeps, or waits for a coroutine. So the order of everything stays the loop's to decide.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from queuekit.environment import use
from queuekit.simulation.errors import SimulationError, ThreadEnded
from queuekit.simulation.scope import STATE

if TYPE_CHECKING:
    from queuekit.simulation.loop import SimulatedLoop

T = TypeVar("T")

REAL_LIMIT_S = 60.0
"Of real time: a thread that keeps the baton longer waits for something that cannot happen."


class Baton:
    """One thread of a simulated loop."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.loop = loop
        self.ended = False
        self.job: Callable[[], None] | None = None
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        threading.Thread(target=self._serve, name="queuekit-baton", daemon=True).start()

    def resume(self) -> None:
        """Called by the loop: let the thread run until it gives the baton back."""
        self._go.release()
        if not self._back.acquire(timeout=REAL_LIMIT_S):
            # Not raised: this is a step of the loop, and asyncio would only log it.
            self.ended = True
            self.loop.fatal = SimulationError(
                f"a sync task did not give control back within {REAL_LIMIT_S:g} s of real time.\n"
                "  In a simulation one thread runs at a time; it waits for another one, or works on.\n"
                "  Let sync tasks wait by time.sleep() or through ctx['job'].sync, not for locks."
            )

    def give_back(self) -> None:
        """Called in the thread: let the loop go on, and wait to be resumed."""
        if not self.ended:
            self._back.release()
            self._go.acquire()
        if self.ended:
            raise ThreadEnded

    def end(self) -> None:
        """Called by the loop when its world ends: unwind whatever the thread runs."""
        if self.ended:  # it keeps the baton for ever, and its thread dies with the process
            return
        self.ended = True
        self._go.release()
        self._back.acquire(timeout=REAL_LIMIT_S)

    def _serve(self) -> None:
        STATE.baton = self
        while True:
            self._go.acquire()
            if self.ended:
                self._back.release()
                return
            assert self.job is not None
            try:
                self.job()
            finally:
                self.job = None
                ended = self.ended
                self._back.release()
            if ended:
                return


class Batons:
    """The threads of a loop, kept for reuse."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self._idle: list[Baton] = []
        self._all: list[Baton] = []

    def run(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Run a function in a thread, with the caller's context variables."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._loop.call_soon(self._start, future, function, copy_context())
        return future

    def _start(
        self, future: asyncio.Future[T], function: Callable[[], T], context: Context
    ) -> None:
        if future.cancelled():
            return
        if not self._idle:
            self._idle.append(Baton(self._loop))
            self._all.append(self._idle[-1])
        baton = self._idle.pop()

        def job() -> None:
            result, error = None, None
            try:
                result = context.run(self._ambient, function)
            except ThreadEnded:
                return
            except BaseException as raised:  # handed to whoever awaits the future
                error = raised
            self._idle.append(baton)
            if future.done():
                return
            if isinstance(error, StopIteration):  # a future refuses it
                error = RuntimeError("the function raised StopIteration")
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        baton.job = job
        baton.resume()

    def _ambient(self, function: Callable[[], T]) -> T:
        """A thread has no running loop to ask for its environment; its context must tell."""
        own = self._loop.queuekit_environment
        if own is None:
            return function()
        with use(own):
            return function()

    def sleep(self, seconds: float) -> None:
        """`time.sleep` in a baton thread: a virtual timer."""
        baton = _own_baton()
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        self._loop.call_later(seconds, baton.resume)
        baton.give_back()

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and let the loop go on until it is done."""
        baton = _own_baton()
        if baton.ended:  # its world is over, and a `finally` would wait once more
            coroutine.close()
            raise ThreadEnded
        task = self._loop.create_task(coroutine, context=copy_context())
        task.add_done_callback(lambda _: baton.resume())
        baton.give_back()
        return task.result()

    def close(self) -> None:
        """End all threads; those inside a function are unwound."""
        for baton in self._all:
            baton.end()
        self._all.clear()
        self._idle.clear()


def _own_baton() -> Baton:
    if STATE.baton is None:
        raise SimulationError(
            "a blocking call was made in a simulation outside of a sync task; the world would stand still.\n"
            "  In async code use asyncio.sleep() and the async methods; sync tasks may block."
        )
    return STATE.baton

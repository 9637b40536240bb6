"""Baton threads: sync code in real threads, of which exactly one runs at any moment.

Whoever runs has the baton. The loop hands it to a thread and waits; the thread hands it back when its
function ends, sleeps, or waits for a coroutine. So the order of everything stays the loop's to decide.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from queuekit.environment import use
from queuekit.simulation import stuck
from queuekit.simulation.errors import SimulationError, ThreadEnded, ThreadStuck
from queuekit.simulation.scope import STATE

if TYPE_CHECKING:
    from queuekit.simulation.loop import SimulatedLoop

T = TypeVar("T")

REAL_LIMIT_S = 60.0
"Of real time: a thread that keeps the baton longer does not come to an end."

STUCK_LIMIT_S = 10.0
"Of real time: a thread that takes no step for so long waits for something that cannot happen."

LOOKS = 20
"How often it is looked, within that time, where the thread stands."

MAX_TOLD = 3
"Threads of which it is said where they wait."

INTERRUPTED_LIMIT_S = 1.0
"Of real time: so long a thread may take to its next wait after a Ctrl-C before it is left alone."

_NAME = "queuekit-baton"
"Of threads that are ours, and not the application's."

_start_thread = threading.Thread.start
"Python's own: one of ours must not be taken for a thread of the application's."


class Wait:
    """Something that a thread waits for."""

    done = False


class Baton:
    """A turn of one thread of a simulated loop."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self.loop = loop
        self.ended = False
        self.interrupted = False
        "Whether a Ctrl-C came while the thread ran."
        self._thread: threading.Thread | None = None
        self._waits_for_turn = True
        "Whether the thread has given the baton back."
        self.job: Callable[[], None] | None = None
        self.jobs = 0
        "How many functions it has ended."
        # Locks, not semaphores of Python's library: those wait in virtual time.
        self._go, self._back = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._back.acquire()
        self._waits: list[Wait] = []
        "What it waits for, the innermost last: a signal's handler may wait in the midst of a wait."
        self._interrupts: deque[Callable[[], object]] = deque()

    # -- on the loop's side

    def serve(self) -> None:
        """Let a thread of our own run its jobs, one after the other."""
        _start_thread(threading.Thread(target=self._serve, name=_NAME, daemon=True))

    def resume(self) -> None:
        """Called by the loop: let the thread run until it gives the baton back."""
        self._waits_for_turn = False
        self._go.release()
        try:
            what = self._stuck()
        except BaseException:  # a Ctrl-C: the thread ends at its next wait
            self.ended = self.interrupted = True
            raise
        if what:
            # Not raised: this is a step of the loop, and asyncio would only log it.
            self.ended = True
            self.loop.fatal = ThreadStuck(what)

    def _stuck(self) -> str:
        """Wait until the thread gives the baton back; what is to be said if it does not.

        What it waits for by a plain lock cannot be seen, only that it takes no step of Python's.
        """
        stood, place = 0, None
        for _ in range(round(LOOKS * REAL_LIMIT_S / STUCK_LIMIT_S)):
            if self._back.acquire(timeout=STUCK_LIMIT_S / LOOKS):
                return ""
            before, place = place, stuck.place(self._ident)
            stood = stood + 1 if place is not None and place == before else 0
            if stood >= LOOKS:
                return (
                    f"{self._name} has stood for {STUCK_LIMIT_S:g} s of real time at"
                    f" {stuck.where(self._ident)}.\n"
                    "  In a simulation one thread runs at a time. It waits in real time, as plain locks do:"
                    " whoever\n  holds what it waits for has no turn meanwhile.\n"
                    f"{self.loop.batons.where_others_wait()}"
                    "  Let no sync task sleep, or call Redis, while it holds a lock that others wait for.\n"
                    "  A lock is held around what takes no time; or replace it in the test."
                )
        return (
            f"{self._name} did not give control back within {REAL_LIMIT_S:g} s of real time;"
            f" it is at {stuck.where(self._ident)}.\n"
            "  In a simulation one thread runs at a time, and nothing else happens meanwhile.\n"
            "  Let it wait by time.sleep() or through ctx['job'].sync, and do less between two waits."
        )

    @property
    def _ident(self) -> int:
        assert self._thread is not None
        assert self._thread.ident is not None
        return self._thread.ident

    @property
    def _name(self) -> str:
        assert self._thread is not None
        own = self._thread.name == _NAME
        return "a sync task" if own else f"thread {self._thread.name!r}"

    @property
    def where(self) -> str:
        """Where it waits in virtual time, if it does."""
        return stuck.where(self._ident) if self._waits else ""

    def end_wait(self, wait: Wait) -> None:
        """Called by the loop: what the thread waits for has come."""
        wait.done = True
        if self._waits and self._waits[-1] is wait:
            self.resume()

    def interrupt(self, handler: Callable[[], object]) -> None:
        """Called by the loop: run a function in the thread, in the midst of its wait, as a signal does.

        What it raises ends the wait. A thread that is idle, or ended, is not interrupted.
        """
        if self._waits:
            self._interrupts.append(handler)
            self.resume()

    def end(self) -> None:
        """Called by the loop when its world ends: unwind whatever the thread runs."""
        if self.interrupted:
            self._end_interrupted()
        if self.ended:  # it keeps the baton for ever, and its thread dies with the process
            return
        self.ended = True
        self._go.release()
        self._stuck()  # one that waits in its `finally` dies with the process

    def _end_interrupted(self) -> None:
        """Whether the Ctrl-C came before or after the thread gave the baton back, it is to end."""
        if not self._waits_for_turn:
            self._back.acquire(timeout=INTERRUPTED_LIMIT_S)
        if self._waits_for_turn:
            self._back.acquire(blocking=False)
            self._go.release()
            self._back.acquire(timeout=INTERRUPTED_LIMIT_S)

    # -- in the thread

    def wait_for(self, wait: Wait) -> None:
        """Let the loop go on until it says that this has come.

        Raises:
            ThreadEnded: the world ends.
        """
        self._waits.append(wait)
        try:
            while not wait.done:
                if not self.ended:
                    self._waits_for_turn = True
                    self._back.release()
                    self._go.acquire()
                if self.ended:
                    raise ThreadEnded
                while self._interrupts:
                    self._interrupts.popleft()()
        finally:
            self._waits.pop()

    def take(self) -> bool:
        """Wait for the first turn; whether the world still goes on then."""
        STATE.baton, self._thread = self, threading.current_thread()
        self._go.acquire()
        return not self.ended

    def drop(self) -> None:
        """Hand the last turn back."""
        self.jobs += 1
        self._interrupts.clear()
        self._waits_for_turn = not self.ended
        self._back.release()

    def _serve(self) -> None:
        while self.take():
            assert self.job is not None
            try:
                self.job()
            finally:
                self.job = None
                ended = self.ended
                self.drop()
            if ended:
                return
        self.drop()


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
            self._idle.append(self.new())
            self._idle[-1].serve()
        baton = self._idle.pop()

        def job() -> None:
            result, error = None, None
            try:
                result = context.run(self.ambient, function)
            except ThreadEnded:
                return
            except BaseException as raised:  # handed to whoever awaits the future
                error = raised
            if baton.ended:
                return
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

    def ambient(self, function: Callable[[], T]) -> T:
        """A thread has no running loop to ask for its environment; its context must tell."""
        own = self._loop.queuekit_environment
        if own is None:
            return function()
        with use(own):
            return function()

    def new(self) -> Baton:
        """One for a thread that is begun."""
        self._all.append(Baton(self._loop))
        return self._all[-1]

    def forget(self, baton: Baton) -> None:
        """Its thread has ended by itself."""
        self._all.remove(baton)

    def where_others_wait(self) -> str:
        """One of those who wait in virtual time may hold what a thread waits for in real time."""
        places = [where for baton in self._all if (where := baton.where)]
        return "".join(
            f"  Another one waits in virtual time at {each}.\n" for each in places[:MAX_TOLD]
        )

    def sleep(self, seconds: float) -> None:
        """`time.sleep` in a baton thread: a virtual timer."""
        baton, wait = _own_baton(), Wait()
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        self._loop.call_later(seconds, baton.end_wait, wait)
        baton.wait_for(wait)

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and let the loop go on until it is done."""
        baton, wait = _own_baton(), Wait()
        if baton.ended:  # its world is over, and a `finally` would wait once more
            coroutine.close()
            raise ThreadEnded
        task = self._loop.create_task(coroutine, context=copy_context())
        task.add_done_callback(lambda _: baton.end_wait(wait))
        try:
            baton.wait_for(wait)
        except BaseException:  # the handler of a signal raised: nobody waits for this any more
            task.cancel()
            raise
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

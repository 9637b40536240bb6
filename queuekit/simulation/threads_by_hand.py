"""Threads that sync code starts by hand: they take turns with it, and wait in virtual time.

What a baton thread starts is one, too: it has its process, its clock and its connections, and runs
when the loop lets it. `Condition.wait`, on which events, queues and semaphores are built, and `join`
give the turn away. Plain locks do not: who waits for one while its holder waits for something else
holds the world up.

So do those of a `ThreadPoolExecutor` that a baton thread has made: it is the real one, but for a queue of
Python's own in place of C's, which would wait in real time.

A thread that is started elsewhere, on the event loop or in a plain test, and those of other executors
of Python's library, live in real time, and find no simulation to connect to.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from queuekit.simulation.blocking import holds_loop, loop_here, wait
from queuekit.simulation.errors import SimulationError, ThreadEnded
from queuekit.simulation.link import real_network
from queuekit.simulation.loop import SimulatedLoop
from queuekit.simulation.scope import STATE
from queuekit.simulation.threads import Baton

_POOLS = ("concurrent.futures", "multiprocessing")
"Modules whose threads wait for each other, and for processes, by locks."

_ENDS = (ThreadEnded, asyncio.CancelledError)
"What is raised in a thread whose world ends, or what it waits for in it."

_POOLS_LOGGER = logging.getLogger("concurrent.futures")

_real_start = threading.Thread.start
_real_join = threading.Thread.join
_real_wait = threading.Condition.wait
_real_init = ThreadPoolExecutor.__init__
_real_submit = ThreadPoolExecutor.submit
_PythonsQueue: Any = queue._PySimpleQueue  # type: ignore[attr-defined]  # its waits are a Condition's


class _Turns:
    """The life of one thread in a simulation."""

    def __init__(self, thread: threading.Thread, loop: SimulatedLoop) -> None:
        self.loop = loop
        self.over: asyncio.Future[None] = loop.create_future()
        # So that it is not alive any more at the same step of each run.
        self.over.add_done_callback(lambda _: _real_join(thread))
        self._thread = thread
        self._baton: Baton = loop.batons.new()
        self._run = thread.run
        self._context = copy_context()
        thread.run = self.run  # type: ignore[method-assign]
        thread.daemon = (
            True  # one whose process was killed must not hold up the end of the test run
        )
        with real_network():  # starting waits for the thread, which is there at once
            _real_start(thread)
        loop.call_soon(self._first_turn)

    def _first_turn(self) -> None:
        self._baton.resume()

    def run(self) -> None:
        """In the thread, instead of its own `run`."""
        if self._baton.take():
            try:
                self._context.run(self.loop.batons.ambient, self._run)
            except _ENDS:
                pass  # the end of its world, or of what it waited for in it
            except BaseException:  # as Python's own threads do, while nobody else runs
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), self._thread)))
        if not self._baton.ended:
            self.over.set_result(None)
            self.loop.batons.forget(self._baton)
        self._baton.drop()


def _start(self: threading.Thread) -> None:
    loop = loop_here()
    if loop is None:
        _real_start(self)
    elif STATE.baton is not None and not _is_of_a_pool(self):
        self.turns = _Turns(self, loop)  # type: ignore[attr-defined]
    else:
        self.run = _as_stranger(self.run, loop)  # type: ignore[method-assign]
        with real_network():
            _real_start(self)


def _is_of_a_pool(thread: threading.Thread) -> bool:
    target: Any = getattr(thread, "_target", None)
    if any(isinstance(each, _PythonsQueue) for each in getattr(thread, "_args", ())):
        return False
    modules = (type(thread).__module__, getattr(target, "__module__", None) or "")
    return any(module.startswith(_POOLS) for module in modules)


def _as_stranger(run: Callable[[], None], loop: SimulatedLoop) -> Callable[[], None]:
    network = loop.network

    def run_elsewhere() -> None:
        STATE.left = (loop, network)
        run()

    return run_elsewhere


def _join(self: threading.Thread, timeout: float | None = None) -> None:
    turns: _Turns | None = getattr(self, "turns", None)
    if turns is None or loop_here() is not turns.loop:
        _real_join(self, timeout)
        return
    if not turns.over.done():
        if holds_loop():
            raise SimulationError(
                f"join() of thread {self.name!r} on the event loop's own thread would stop the simulation.\n"
                "  That thread runs when the loop lets it, and the loop would wait for it.\n"
                "  Join it in sync code: in a sync task, or by asyncio.to_thread()."
            )
        wait(_until(turns.over, timeout))
    if turns.over.done():
        _real_join(self)


async def _until(over: asyncio.Future[None], timeout: float | None) -> None:
    await asyncio.wait([over], timeout=timeout)


class _Waiter:
    """Stands for the lock with which a condition wakes one of its waiters."""

    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self.woken = loop.create_future()
        self.released = False

    def release(self) -> None:
        """Called by `notify`, in any thread."""
        self.released = True
        self._loop.call_soon_threadsafe(_wake, self.woken)


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)


def _wait(self: threading.Condition, timeout: float | None = None) -> bool:
    loop = loop_here()
    simulated = hasattr(self, "of_a_simulated_pool") or not _waits_for_a_pool()
    if loop is None or STATE.baton is None or not simulated:
        return _real_wait(self, timeout)
    if not self._is_owned():  # type: ignore[attr-defined]  # this and what follows: as Python's own
        raise RuntimeError("cannot wait on un-acquired lock")
    waiter = _Waiter(loop)
    waiters: Any = self._waiters  # type: ignore[attr-defined]
    waiters.append(waiter)
    saved = self._release_save()  # type: ignore[attr-defined]
    try:
        if timeout is None or timeout > 0:
            wait(_until(waiter.woken, timeout))
    finally:
        self._acquire_restore(saved)  # type: ignore[attr-defined]
        if not waiter.released and waiter in waiters:
            waiters.remove(waiter)
    return waiter.released


def _waits_for_a_pool() -> bool:
    """Whether a result of an executor is waited for: its threads live in real time."""
    module: str = sys._getframe(2).f_globals.get("__name__", "")
    return module.startswith(_POOLS)


def _init(self: ThreadPoolExecutor, *arguments: Any, **options: Any) -> None:
    _real_init(self, *arguments, **options)
    if STATE.baton is not None and loop_here() is not None:
        self._work_queue = _PythonsQueue()


def _submit(
    self: ThreadPoolExecutor, fn: Callable[..., Any], /, *arguments: Any, **keywords: Any
) -> Future[Any]:
    future = _real_submit(self, fn, *arguments, **keywords)
    if isinstance(self._work_queue, _PythonsQueue):
        future._condition.of_a_simulated_pool = True  # type: ignore[attr-defined]
    return future


def _is_news(record: logging.LogRecord) -> bool:
    """Not that a thread of a pool has ended with its world, which the pool takes for an error."""
    return not (record.exc_info and isinstance(record.exc_info[1], _ENDS))


_REPLACED: list[tuple[type, str, Callable[..., Any], Callable[..., Any]]] = [
    (threading.Thread, "start", _real_start, _start),
    (threading.Thread, "join", _real_join, _join),
    (threading.Condition, "wait", _real_wait, _wait),
    (ThreadPoolExecutor, "__init__", _real_init, _init),
    (ThreadPoolExecutor, "submit", _real_submit, _submit),
]


def install() -> None:
    """Let threads that sync code of a simulation starts live in it."""
    for owner, name, _, ours in _REPLACED:
        setattr(owner, name, ours)
    _POOLS_LOGGER.addFilter(_is_news)


def uninstall() -> None:
    """Put back what Python's library has there."""
    for owner, name, real, _ in _REPLACED:
        setattr(owner, name, real)
    _POOLS_LOGGER.removeFilter(_is_news)

"""Taking down the coroutines that a dead process left: quietly, and so that nobody hears of it.

Python cannot drop a coroutine that waits without running its `finally`; left to a collector, it does so
at any time, in anybody's context, and prints what that raises. So they are closed at the world's end,
each in the context of its task and on the world's loop, which takes no step meanwhile: what a `finally`
sends reaches nobody, and what it waits for never comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import sys
import traceback
import types
import warnings
from collections.abc import AsyncGenerator, Callable, Iterator
from contextvars import Context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from queuekit.simulation.loop import SimulatedLoop

UNWIND_ROUNDS = 20
"How often a coroutine is closed that waits for something in its `finally`."

_REFERENTS = 3
"So deep inside an awaitable of C lies the async generator that it steps: anext() has one around another."


@contextlib.contextmanager
def unheard(loop: SimulatedLoop) -> Iterator[None]:
    """Let code run as on this loop, with what it raises or leaves behind told to nobody."""
    heard, sys.unraisablehook = sys.unraisablehook, _heard_by_nobody
    hooks = sys.get_asyncgen_hooks()
    running = asyncio._get_running_loop()
    asyncio._set_running_loop(loop)
    loop.unwinding = True
    sys.set_asyncgen_hooks(finalizer=take_down_generator)
    try:
        with warnings.catch_warnings():
            # What it meant to wait for is never awaited.
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    finally:
        loop.unwinding = False
        sys.set_asyncgen_hooks(*hooks)
        asyncio._set_running_loop(running)
        sys.unraisablehook = heard


def take_down_task(task: asyncio.Task[Any], context: Context) -> None:
    """Close what a task runs, inside of `unheard`; its exception, if it has ended by one, is nobody's."""
    if task.done():
        task._log_traceback = False  # nobody was left to look
        return
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own switch
    waits_for: asyncio.Future[Any] | None = task._fut_waiter  # type: ignore[attr-defined]
    if waits_for is not None:
        waits_for._log_traceback = False  # the task has not seen its exception yet, if it has one
    context.run(_take_down, task.get_coro())


def take_down_generator(generator: AsyncGenerator[Any, Any]) -> None:
    """Close an async generator, likewise."""
    if generator.ag_frame is not None:  # type: ignore[attr-defined]
        closing = generator.aclose()
        _quietly(lambda: closing.send(None))
        _end(closing)
    if generator.ag_await is not None:  # type: ignore[attr-defined]  # whoever stepped it is gone
        _take_down(generator.ag_await)  # type: ignore[attr-defined]


def _take_down(awaitable: Any) -> None:
    """Close a coroutine, or what else one may await."""
    for _ in range(UNWIND_ROUNDS):
        # Closing the outermost one passes async generators by: those are told first.
        for stepped in reversed(_awaitables_of_c(awaitable)):
            _end(stepped)
        if not hasattr(awaitable, "close") or _quietly(awaitable.close):
            return


def _end(stepped: Any) -> None:
    """Let a step of an async generator end, whatever that waits for in its `finally`."""
    for _ in range(UNWIND_ROUNDS):
        if not _quietly(lambda: stepped.throw(GeneratorExit)):
            return


def _quietly(function: Callable[[], object]) -> bool:
    """Whether it went well: a `finally` may raise what it likes, or wait, which is refused."""
    try:
        function()
    except BaseException as error:  # nobody is left to hear it; its job is another's
        traceback.clear_frames(error.__traceback__)
        return False
    return True


def _awaitables_of_c(coroutine: Any) -> list[Any]:
    """The steps of async generators for which a coroutine waits, the outermost first."""
    found: list[Any] = []
    waiting: Any = coroutine
    while waiting is not None:
        if isinstance(waiting, types.CoroutineType):
            waiting = waiting.cr_await
        elif isinstance(waiting, types.GeneratorType):
            waiting = waiting.gi_yieldfrom
        elif (generator := _generator_in(waiting)) is not None:
            found.append(waiting)
            waiting = generator.ag_await
        else:
            break
    return found


def _generator_in(awaitable: Any) -> Any:
    """The async generator that this awaitable steps, if it is one of C's that does."""
    if type(awaitable).__module__ != "builtins" or isinstance(awaitable, asyncio.Future):
        return None
    inside = [awaitable]
    for _ in range(_REFERENTS):
        inside = gc.get_referents(*inside)
        found = next((each for each in inside if inspect.isasyncgen(each)), None)
        if found is not None:
            return found
    return None


def _heard_by_nobody(unraisable: object) -> None:
    """What a coroutine raises that was waited for by one that is gone already."""

"""Calling the application's code: async, or in a thread; and what is told of it when it fails."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from queuekit.environment import environment
from queuekit.errors import TaskExitError
from queuekit.sync import TASK_LOOP

if TYPE_CHECKING:
    from queuekit.types import Context


def traceback_of(error: BaseException) -> str:
    """Its traceback as text, from the application's first frame on."""
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_globals.get("__name__") in _OUR_FRAMES:
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame or error.__traceback__))


async def contained(
    name: str, function: Callable[..., Any], context: Context, /, **arguments: Any
) -> Any:
    """What the function returns; what would end a program ends its run, and not the worker."""
    try:
        return await call(function, context, **arguments)
    except (Exception, asyncio.CancelledError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit, GeneratorExit, one of the application's own
        did = (
            f"called sys.exit({error.code!r})"
            if isinstance(error, SystemExit)
            else f"raised {type(error).__name__}"
        )
        raise TaskExitError(f"{name} {did}, which ends its run and not its worker") from error


_OUR_FRAMES = (
    __name__,
    "queuekit.execution",
    "queuekit.environment",
    "queuekit.simulation.threads",
)


async def call(function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Any:
    """Await an async function, or run a sync one in a thread with this task's context variables."""
    if is_async(function):
        return await function(*arguments, **keywords)
    token = TASK_LOOP.set(asyncio.get_running_loop())  # seen by the thread, and by nobody else
    future = environment().run_in_thread(partial(function, *arguments, **keywords))
    TASK_LOOP.reset(token)
    try:
        result = await asyncio.shield(future)
    except asyncio.CancelledError:
        # A thread cannot be cancelled. Wait for it, so that it is not left running unnoticed;
        # whoever cancelled us stops waiting at the hard deadline.
        if not future.done():
            await asyncio.wait([future])
        future.cancelled() or future.exception()
        raise
    return await result if inspect.isawaitable(result) else result


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine; looks through partials and callable objects."""
    while isinstance(function, partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 (its kind is asked, not whether it is there)
    )

"""How sync code of a simulation waits: in virtual time, each kind of caller in its own way.

A sync task, in its baton thread, hands the baton back until what it waits for has come. A plain test
lets the world run meanwhile. Sync code that a coroutine calls holds the event loop, as in production: it
gets what is there at once, and nothing that would have to be waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from queuekit.environment import environment
from queuekit.simulation.ambient import SimulatedEnvironment
from queuekit.simulation.errors import SimulationError
from queuekit.simulation.loop import SimulatedLoop
from queuekit.simulation.scope import STATE, current_loop

T = TypeVar("T")

real_sleep = time.sleep


def loop_here() -> SimulatedLoop | None:
    """The loop of the simulation that this sync code belongs to, if any.

    Beyond `current_loop`: a plain test belongs to its simulation between two runs of the loop, too.
    """
    if STATE.bypass:
        return None
    loop = current_loop()
    if loop is not None or asyncio._get_running_loop() is not None:  # a real loop's code is real
        return loop
    ambient = environment()
    return ambient.loop if isinstance(ambient, SimulatedEnvironment) else None


def holds_loop() -> bool:
    """Whether this sync code was called by a coroutine, so that the loop stands still meanwhile."""
    return asyncio._get_running_loop() is not None  # get_running_loop() without its exception


def wait(coroutine: Coroutine[Any, Any, T]) -> T:
    """Wait for a coroutine of the world's; not for a caller that holds the loop."""
    assert not holds_loop(), "the loop cannot be waited for by what holds it"
    return environment().wait_from_thread(None, coroutine)


def sleep(seconds: float) -> None:
    """`time.sleep`, wherever it is called."""
    loop = loop_here()
    if loop is None:
        real_sleep(seconds)
    elif STATE.baton is not None:
        loop.batons.sleep(seconds)
    elif holds_loop():
        raise SimulationError(
            f"time.sleep({seconds!r}) on the event loop's own thread would stop the simulation.\n"
            "  In production it would stop every other job of the worker.\n"
            "  Use asyncio.sleep(), or make the task a sync function."
        )
    elif seconds < 0:
        raise ValueError("sleep length must be non-negative")
    else:
        wait(asyncio.sleep(seconds))

"""Whether the code that asks runs inside a simulation, and in which.

Inside is what runs on the thread of a simulated loop while it runs, and in its baton threads. All
other threads, and this thread between two runs of the loop, live in real time.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from queuekit.simulation.clock import OwnClock, VirtualClock
    from queuekit.simulation.loop import SimulatedLoop
    from queuekit.simulation.threads import Baton
    from queuekit.simulation.wire import Network


class _ThreadState(threading.local):
    baton: Baton | None = None
    bypass: bool = False
    left: tuple[SimulatedLoop, Network | None] | None = None
    "The world in which the thread was started, if it does not live in it."


STATE = _ThreadState()


def current_loop() -> SimulatedLoop | None:
    """The simulated loop that this code belongs to, if any."""
    running = asyncio._get_running_loop()  # get_running_loop() without its exception
    if running is not None:
        return running if hasattr(running, "simulated_clock") else None  # type: ignore[return-value]
    return STATE.baton.loop if STATE.baton is not None else None


OWN_CLOCK: ContextVar[OwnClock | None] = ContextVar("queuekit_own_clock", default=None)
"The clock of the host whose code runs: a simulated process, or the server. None: the world's own."


def current_clock() -> VirtualClock | None:
    """The virtual clock of this code, or None: its time is real."""
    loop = current_loop()
    if loop is None:
        return None
    return OWN_CLOCK.get() or loop.simulated_clock

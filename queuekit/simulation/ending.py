"""How a world ends: its tasks may take leave, in virtual time; or, after a Ctrl-C, at once."""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

from queuekit.simulation.errors import ServersDisagree, ThreadStuck
from queuekit.simulation.trace import Trace
from queuekit.simulation.unwinding import take_down_task, unheard
from queuekit.store.connection import close_all

if TYPE_CHECKING:
    from queuekit.simulation.loop import SimulatedLoop

CANCEL_ROUNDS = 5
"How often a task that ignores its cancellation is asked again, when its world ends."


def end_tasks(loop: SimulatedLoop) -> None:
    """End what a world still runs. Its own clean-up may run, in virtual time.

    What was interrupted, now or before, has no time for that: nothing of it takes another step.
    """
    loop.trace = Trace(keeps=False)  # how the world is taken down is no part of its own
    if loop.interrupted:
        drop_all(loop)
        return
    try:
        _take_leave(loop)
    except KeyboardInterrupt:
        drop_all(loop)
        raise


def _take_leave(loop: SimulatedLoop) -> None:
    loop.release_all()
    loop.take_steps_by(None)
    if isinstance(loop.fatal, ServersDisagree | ThreadStuck):
        loop.fatal = None  # told; the others can still take leave, and are answered
    for process in loop.processes:
        process.heal()
        process.resume()
        process.release_loop()
    if loop.is_running():
        return  # it belongs to somebody who goes on with it
    dead = [process for process in loop.processes if not process.alive]
    for process in dead:
        process.unwind()
    unwound = {task for process in dead for task in process.tasks}
    for _ in range(CANCEL_ROUNDS):
        tasks = [task for task in loop.unfinished() if task not in unwound]
        if not tasks:
            break
        for task in sorted(tasks, key=lambda task: task.get_name()):
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks, timeout=60))
    loop.run_until_complete(close_all({process.id for process in dead}))
    for process in loop.processes:
        process.exit()
    _drop_tasks(loop, unwound)  # those that do not take their leave


def drop_all(loop: SimulatedLoop) -> None:
    """End what a world still runs as a kill does, the test's own tasks, too; no step is taken any more."""
    for process in loop.processes:
        process.kill()
    for process in loop.processes:
        process.unwind()
        process.exit()
    if loop.network is not None:  # nothing that the test's own tasks clean up reaches it
        loop.network.close()
        loop.network = None
    _drop_tasks(loop, set())


def _drop_tasks(loop: SimulatedLoop, but: AbstractSet[asyncio.Task[Any]]) -> None:
    left = [task for task in loop.unfinished() if task not in but]
    if left:
        with unheard(loop):
            for task in left:
                take_down_task(task, loop.context_of(task))
    loop.forget_all()

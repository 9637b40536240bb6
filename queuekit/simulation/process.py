"""A simulated process: tasks with connections of their own, which can be killed as the kernel kills one.

Whatever code that runs in it creates is part of it: tasks, timers, threads and connections inherit it by
their context. Code outside of any belongs to the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    from queuekit.simulation.loop import SimulatedLoop
    from queuekit.simulation.timers import Timer
    from queuekit.simulation.wire import Wire

T = TypeVar("T")

PROCESS: ContextVar[Process | None] = ContextVar("queuekit_process", default=None)
"The process whose code runs."

UNWIND_ROUNDS = 20
"How often a coroutine of a dead process is closed that waits for something in its `finally`."


class Process:
    """A process of a simulation.

    Args:
        loop: the world's loop.
        name: for whoever reads traces; several may have one name, as after a restart.
    """

    def __init__(self, loop: SimulatedLoop, name: str) -> None:
        self.name = name
        self.id = f"{name}#{len(loop.processes) + 1}"
        "The name, made unique."
        self.alive = True
        self._loop = loop
        self._context = copy_context()
        self._context.run(PROCESS.set, self)
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._prune_at = 64
        self._timers: list[Timer] = []
        self._wires: list[Wire] = []
        loop.processes.append(self)

    def run(self, function: Callable[..., T], /, *arguments: Any, **keywords: Any) -> T:
        """Call a function in this process: what it creates belongs to it."""
        return self._context.copy().run(partial(function, *arguments, **keywords))

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Called by the loop: a task was made here. Strong, so that no collector unwinds a dead one."""
        if len(self._tasks) >= self._prune_at:
            self._tasks = {known: None for known in self._tasks if not known.done()}
            self._prune_at = 2 * len(self._tasks) + 64
        self._tasks[task] = None

    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that were made here, but for some that have ended."""
        return list(self._tasks)

    def kill(self) -> None:
        """The process is gone, as by SIGKILL: no `finally` runs, and nothing it meant to send is sent.

        Its tasks never take another step, its timers never fire, the server sees its connections closed;
        a command that was under way is lost, a reply reaches nobody.
        """
        if not self.alive:
            return
        self.alive = False
        if self._loop.tap is not None:
            self._loop.tap.killed(self)
        self._timers = self._loop.take_timers(self)
        network = self._loop.network
        for wire in list(network.wires) if network is not None else ():
            if wire.process is self:
                wire.drop()
                self._wires.append(wire)

    async def die(self) -> NoReturn:
        """Kill the process from within: nothing behind this is ever executed."""
        self.kill()
        while True:
            await self._loop.create_future()

    def unwind(self) -> None:
        """At the end of the world: take down what a dead process left, with all its effects cut off."""
        for wire in self._wires:
            wire.get_protocol().connection_lost(None)
        for task in self._tasks:
            if task.done():
                task._log_traceback = False  # nobody was left to look
                continue
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own switch
            coroutine: Any = task.get_coro()
            for _ in range(UNWIND_ROUNDS):
                # A `finally` may raise what it likes, or wait, which is refused; then it is closed again.
                with suppress(BaseException):
                    coroutine.close()
                    break

    def __repr__(self) -> str:
        return f"Process<{self.id}, {'alive' if self.alive else 'dead'}>"


def is_dead(process: Process | None) -> bool:
    """Whether it was killed; what belongs to no process lives as long as the world."""
    return process is not None and not process.alive

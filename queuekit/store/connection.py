"""Connections to Redis: kept for reuse, one set for each loop, and never with an old reply in them."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Collection, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from redis.exceptions import RedisError, ResponseError

from queuekit.environment import environment
from queuekit.errors import ForeignLoopError
from queuekit.store.address import NAMELESS, Address, Node, read_address
from queuekit.store.hints import Hints
from queuekit.store.route import Route, route_to

MAX_CONCURRENT_COMMANDS = 20
"""Commands of one queue under way at one time on one loop; more wait their turn here, so that a burst
of enqueues does not become a burst of connections."""

Command = Sequence[Any]


class Progress:
    """How far a command has come."""

    def __init__(self) -> None:
        self.sent = False
        "Whether it may have been executed: it was sent, and its whole answer did not come back."


class Line:
    """Connections to the server that holds the queue, wherever that is now."""

    def __init__(self, address: Address, route: Route, *, answer_s: float | None) -> None:
        """`answer_s` is how long an answer may take; None: whoever asks has a deadline of his own."""
        self._address = address
        # Of redis-py's own time-outs each makes a task, on Python 3.11, or a timer at least: one for sending,
        # one for each read, one for connecting and one for its end. There is one here for all of an exchange,
        # and one until a connection is there.
        never = {"socket_timeout": None, "socket_connect_timeout": None}
        self._options = {**address.options, **never}
        self._answer_s = answer_s
        self.route = route
        self.shown = address.shown
        self.limit_s = address.limit_s
        self._connect_s = address.options["socket_connect_timeout"] or self.limit_s
        self._node: Node | None = None
        self._idle: list[Any] = []
        self._taken: dict[Any, Node | None] = {}

    async def exchange(
        self, commands: Sequence[Command], progress: Progress, until: float = math.inf
    ) -> list[Any]:
        """Send commands on one connection and read all replies; a refusal is an item of the list.

        Args:
            commands: what to send.
            progress: is told how far they came.
            until: the moment of the loop's clock at which whoever asks gives up.

        Raises:
            TimeoutError: an answer took too long.

        Whatever ends it early, a cancellation too, closes the connection: a reply that is still to
        come would be taken for that of the next command.
        """
        connection = await self.take(until)
        whole = False
        try:
            progress.sent = True
            async with asyncio.timeout_at(self._next_answer(until)) as limit:
                await connection.send_packed_command(connection.pack_commands(commands))
                replies = [await _reply(connection)]
                for _ in commands[1:]:  # something came: the next may take its time, too
                    limit.reschedule(self._next_answer(until))
                    replies.append(await _reply(connection))
            whole, progress.sent = True, False
            return replies
        finally:
            await self.give_back(connection, reusable=whole)

    def _next_answer(self, until: float) -> float | None:
        """When it must have come."""
        if self._answer_s is None:
            return None
        return min(asyncio.get_running_loop().time() + self._answer_s, until)

    async def take(self, until: float = math.inf) -> Any:
        """A connection that is ready, within the socket's time-out and until that moment."""
        if self._idle and not self.route.finds and _is_open(self._idle[-1]):  # nothing to wait for
            connection = self._idle.pop()
            self._taken[connection] = self._node
            return connection
        now = asyncio.get_running_loop().time
        async with asyncio.timeout_at(min(now() + self.limit_s, until)) as limit:
            node = await self.route.node()
            if node != self._node:
                await self.drop_idle()
                self._node = node
            while self._idle:
                connection = self._idle.pop()
                if _is_open(connection):
                    self._taken[connection] = node
                    return connection
                await connection.disconnect(nowait=True)
            if self._connect_s < self.limit_s:
                limit.reschedule(min(now() + self._connect_s, until))
            return await self._connect(node)

    async def _connect(self, node: Node | None) -> Any:
        _stay_in_the_simulation()
        place = {} if node is None else {"host": node[0], "port": node[1]}
        # In a simulation it does not say which version of redis-py it is: each version does that in steps of
        # its own, and the same seed would give another run.
        nameless = NAMELESS if environment().simulated else {}
        connection = self._address.connection(**{**self._options, **place, **nameless})
        self._taken[connection] = node
        try:
            await connection.connect()
        except BaseException:
            await self.give_back(connection, reusable=False)
            raise
        return connection

    async def give_back(self, connection: Any, *, reusable: bool) -> None:
        """Keep a connection for the next command, or close it."""
        node = self._taken.get(connection, self)  # itself: closed meanwhile, so it is nowhere
        if reusable and node == self._node:
            self._idle.append(connection)
        else:
            # Before it is forgotten: should this fail, `close` or `drop` still finds it.
            await connection.disconnect(nowait=True)
        self._taken.pop(connection, None)

    async def drop_idle(self) -> None:
        """Close those that nobody uses: where one was lost, its neighbours are lost too."""
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close all, those in use too."""
        for connection in self._let_go():
            with contextlib.suppress(RedisError, OSError):
                async with asyncio.timeout(self.limit_s):
                    await connection.disconnect()

    async def drop(self) -> None:
        """Close all without waiting for it, as at the death of their process."""
        for connection in self._let_go():
            await connection.disconnect(nowait=True)

    def abandon(self) -> None:
        """Close all from outside: their loop is closed, so nothing can be awaited on it."""
        for connection in self._let_go():
            _close_without_loop(connection)

    def _let_go(self) -> list[Any]:
        everything = [*self._idle, *self._taken]
        self._idle.clear()
        self._taken.clear()
        return everything


async def _reply(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as refusal:
        return refusal


def _stay_in_the_simulation() -> None:
    """Raises ForeignLoopError on a loop of asyncio's own, in code that a simulation runs or has set up."""
    loop = asyncio.get_running_loop()
    if environment().simulated and not hasattr(loop, "simulated_clock"):
        raise ForeignLoopError(
            f"a queue was used on {type(loop).__name__} while a simulation is there: its command would "
            "go to the real Redis.\n"
            "  In a simulation all runs on the simulation's own loop.\n"
            "  Use it in the test itself, in a task, by queue.sync or simulation.run(...); not in an async "
            "fixture of another plugin's, nor by asyncio.run()."
        )


def _is_open(connection: Any) -> bool:
    """Whether neither end has closed it, as far as this end knows."""
    reader = getattr(connection, "_reader", None)
    return bool(connection.is_connected) and not (reader is not None and reader.at_eof())


def _close_without_loop(connection: Any) -> None:
    """Close the socket itself: a transport closes its own in a step of the loop, which takes none."""
    writer = getattr(connection, "_writer", None)
    if writer is None:
        return
    connection._reader = connection._writer = None  # noqa: SLF001 (or it complains when collected)
    held = writer.get_extra_info("socket")
    with contextlib.suppress(RuntimeError):  # that the loop is closed
        writer.close()
    # Other loops than asyncio's hold sockets of their own kind, and close them when they end.
    if (inner := getattr(held, "_sock", None)) is not None:
        inner.close()


class LoopClients:
    """The connections of one queue on one loop, in one process (simulated or real)."""

    def __init__(self, address: Address, root: str) -> None:
        self.route = route_to(address, root)
        self.commands = Line(address, self.route, answer_s=address.limit_s)
        # For reads that block, each with a deadline of its own.
        self.waiting = Line(address, self.route, answer_s=None)
        self.hints = Hints(self.waiting)
        most = min(MAX_CONCURRENT_COMMANDS, address.max_connections or MAX_CONCURRENT_COMMANDS)
        self._turn = asyncio.Semaphore(most)

    async def exchange(
        self, commands: Sequence[Command], progress: Progress, until: float
    ) -> list[Any]:
        """Wait for a turn, and send commands: see `Line.exchange`."""
        if self._turn.locked():
            async with asyncio.timeout_at(until):
                await self._turn.acquire()
        else:
            await self._turn.acquire()  # at once: a timer would be made in vain
        try:
            return await self.commands.exchange(commands, progress, until)
        finally:
            self._turn.release()

    async def close(self) -> None:
        await self.hints.close()
        await self.commands.close()
        await self.waiting.close()

    async def drop(self) -> None:
        """Let go of the connections of a process of which nobody does anything any more."""
        for line in (self.commands, self.waiting):
            await line.drop()

    def abandon(self) -> None:
        """Let go of the connections: the loop is closed."""
        for line in (self.commands, self.waiting):
            line.abandon()


_simulated: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Connections, None]] = (
    WeakKeyDictionary()
)
"""The queues that were used on each simulated loop. They are kept to its end: a queue that a test drops
must not be collected with its connections open."""


async def close_all(dead: Collection[str] = ()) -> None:
    """Close the connections of every queue on the running loop, of all its processes.

    For the end of a simulated world; `dead` are the processes that were killed in it.
    """
    for connections in _simulated.pop(asyncio.get_running_loop(), {}):
        await connections.close_all(dead)


class Connections:
    """Connections made when they are first needed, never when the queue is built.

    A queue that is made at import time has no loop yet, and may be used on several, one after the
    other; asyncio objects belong to one.
    """

    def __init__(self, url: str, options: dict[str, Any], root: str = "") -> None:
        self.address = read_address(url, options)
        self._root = root
        # What stands here refers to its loop, so weak keys would let go of none: see `_sweep`.
        self._by_loop: dict[asyncio.AbstractEventLoop, dict[str, LoopClients]] = {}

    def __repr__(self) -> str:
        return self.address.shown

    def current(self) -> LoopClients:
        """Those of the running loop and process."""
        loop = asyncio.get_running_loop()
        if loop not in self._by_loop:
            self._sweep()
        processes = self._by_loop.setdefault(loop, {})
        process = environment().process
        clients = processes.get(process)
        if clients is None:
            if environment().simulated:
                _simulated.setdefault(loop, {})[self] = None
            clients = processes[process] = LoopClients(self.address, self._root)
        return clients

    def _sweep(self) -> None:
        """Let go of loops that are closed, with their connections: nobody can use those any more."""
        for loop in list(self._by_loop):  # a copy: other threads have loops of their own
            if loop.is_closed():
                for clients in self._by_loop.pop(loop, {}).values():
                    clients.abandon()

    async def close(self) -> None:
        """Close those of the running loop and process."""
        processes = self._by_loop.get(asyncio.get_running_loop(), {})
        clients = processes.pop(environment().process, None)
        if clients is not None:
            await clients.close()

    async def close_all(self, dead: Collection[str]) -> None:
        """Close those of the running loop, of every process."""
        processes = self._by_loop.get(asyncio.get_running_loop(), {})
        while processes:
            process, clients = processes.popitem()
            if process not in dead:
                await clients.hints.close()
            await clients.drop()  # nobody is left who waits until the other end has heard of it

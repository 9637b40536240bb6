"""Hints that a job has changed: one subscription for all who wait on a loop.

A hint is never the truth. Whoever waits subscribes first, reads the job then, and waits only if it
is not what was waited for; so a change between the two is seen, and a lost message costs at most
one fallback interval.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from typing import TYPE_CHECKING, Any

from queuekit.environment import background, environment
from queuekit.outage import Backoff
from queuekit.store.refusals import REDIS_ERRORS, code_of, refused, unreachable
from queuekit.store.sending import sent

if TYPE_CHECKING:
    from queuekit.store.connection import Line

FALLBACK_S = 5.0
"A waiter looks for itself at least this often: a message may be lost with its connection."


class _Confirmation(asyncio.Event):
    """Set when the server has confirmed a subscription, or nobody asks it for that any more."""

    given_up = False
    "Whether whoever was to subscribe was cancelled before that was sent."


class Hints:
    """Subscriptions, shared. The connection is kept for a while when nobody waits any more."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._waiters: dict[str, list[asyncio.Event]] = {}
        self._confirmed: dict[str, _Confirmation] = {}
        self._connection: Any = None
        self._reader: asyncio.Task[None] | None = None
        self._answered = True
        "Whether the server has confirmed anything since it was last connected to."
        self._pauses = Backoff()
        # Of those who send: two who connect at once would make two connections, and lose one.
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def watch(self, channels: Collection[str]) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever one of the channels has news. Subscribed when it is given.

        Raises:
            ServerError: the server cannot be reached, or refuses.
        """
        news = asyncio.Event()
        for channel in channels:
            self._waiters.setdefault(channel, []).append(news)
        try:
            await self._subscribe(channels)
            yield news
        finally:
            await self._leave(channels, news)

    async def _subscribe(self, channels: Collection[str]) -> None:
        await self._begin([channel for channel in channels if channel not in self._confirmed])
        for channel in channels:
            while (confirmed := self._confirmed.get(channel)) is not None:
                await confirmed.wait()
                if not confirmed.given_up:
                    break
                # Whoever was to subscribe was cancelled on the way: one of those who counted on it does it.
                if channel not in self._confirmed:
                    await self._begin([channel])

    async def _begin(self, fresh: Collection[str]) -> None:
        """Send for channels that nobody has subscribed yet."""
        for channel in fresh:
            self._confirmed[channel] = _Confirmation()
        if not fresh:
            return
        try:
            async with self._turn:
                await self._send_subscription(fresh)
        except REDIS_ERRORS as error:
            # Others may wait for the same confirmation: they look for themselves instead.
            self._give_up(fresh)
            raise self._line_error(error) from error
        except BaseException:
            self._give_up(fresh, cancelled=True)
            raise

    def _give_up(self, channels: Collection[str], *, cancelled: bool = False) -> None:
        for channel in channels:
            if confirmed := self._confirmed.pop(channel, None):
                confirmed.given_up = cancelled
                confirmed.set()

    async def _send_subscription(self, fresh: Collection[str]) -> None:
        if self._connection is None:
            await self._connect()
        else:
            await sent(self._connection.send_command("SUBSCRIBE", *fresh))
        if self._reader is None:
            self._reader = asyncio.create_task(self._read(), name="queuekit-hints")

    async def _connect(self) -> None:
        """A new connection, with everything subscribed that somebody waits for."""
        self._answered = False
        connection = await self._line.take()
        try:
            await sent(connection.send_command("SUBSCRIBE", *self._waiters))
        except BaseException:
            await self._line.give_back(connection, reusable=False)
            raise
        self._connection = connection

    def _line_error(self, error: BaseException) -> Exception:
        code, shown = code_of(error), self._line.shown
        if code is None:
            return unreachable(shown, error, sent=False)
        return refused(shown, code, error)

    async def _leave(self, channels: Collection[str], news: asyncio.Event) -> None:
        abandoned = []
        for channel in channels:
            waiters = self._waiters.get(channel, [])
            if news in waiters:
                waiters.remove(news)
            if not waiters and self._waiters.pop(channel, None) is not None:
                abandoned.append(channel)
                self._confirmed.pop(channel, None)
        # The connection stays for a while: a client that waits for one result waits for the next one soon.
        if abandoned and self._connection is not None:
            # Best effort: a channel that stays subscribed costs a message that nobody reads.
            with contextlib.suppress(*REDIS_ERRORS):
                await sent(self._connection.send_command("UNSUBSCRIBE", *abandoned))

    async def _read(self) -> None:
        while True:
            try:
                with background():
                    kind, channel = await self._next()
            except REDIS_ERRORS:
                await self._reconnect()
                kind, channel = b"", ""
            if self._connection is None or (kind == b"idle" and not self._waiters):
                self._reader = None  # whoever waits next makes another one
                await self._let_go()
                return
            if kind == b"subscribe":
                self._answered = True
                self._pauses.reset()
                if confirmed := self._confirmed.get(channel):
                    confirmed.set()
            elif kind == b"message":
                for news in self._waiters.get(channel, ()):
                    news.set()

    async def _next(self) -> tuple[bytes, str]:
        """The next message. A connection that is silent for long is asked whether it is still there.

        Nothing tells a half-open connection from a quiet one, and a quiet one may wait for ever.
        """
        connection = self._connection
        message = await connection.read_response(timeout=environment().idle_wait_s())
        if message is None and not self._waiters:
            return b"idle", ""
        if message is None:
            await sent(connection.send_command("PING"))
            message = await connection.read_response(timeout=self._line.limit_s)
        if message is None:
            raise TimeoutError("no answer to PING")
        if isinstance(message, bytes):  # the answer to a PING between two subscriptions
            return b"pong", ""
        return message[0], (message[1] or b"").decode()

    async def _reconnect(self) -> None:
        """The connection is gone: let everybody look for themselves, and subscribe anew."""
        await self._let_go()
        self._line.route.forget()
        for waiters in self._waiters.values():
            for news in waiters:
                news.set()
        for confirmed in self._confirmed.values():
            confirmed.set()
        while self._waiters and self._connection is None:
            # A server that takes connections and refuses subscriptions (BUSY, NOPERM) is not asked at full
            # speed: only a connection on which it has confirmed one is replaced at once.
            if not self._answered:
                with background():
                    await asyncio.sleep(self._pauses.next_s())
            with contextlib.suppress(*REDIS_ERRORS):
                async with self._turn:
                    if self._connection is None and self._waiters:
                        await self._connect()
                return

    async def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._line.give_back(connection, reusable=False)

    async def close(self) -> None:
        """Let go of the connection. Whoever still waits falls back to looking for itself."""
        reader, self._reader = self._reader, None
        for confirmed in self._confirmed.values():
            confirmed.set()
        self._confirmed.clear()
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])
        await self._let_go()

"""Hints that a job has changed: one subscription for all who wait on a loop.

A hint is never the truth. Whoever waits subscribes first, reads the job then, and waits only if it
is not what was waited for; so a change between the two is seen, and a lost message costs at most
one fallback interval.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from typing import Any

import redis.asyncio
from redis.exceptions import RedisError

from queuekit.environment import background

FALLBACK_S = 5.0
"A waiter looks for itself at least this often: a message may be lost with its connection."


class Hints:
    """Subscriptions, shared. The connection exists only while somebody waits."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._waiters: dict[str, list[asyncio.Event]] = {}
        self._confirmed: dict[str, asyncio.Event] = {}
        self._pubsub: Any = None
        self._reader: asyncio.Task[None] | None = None
        # redis-py's pubsub connects at its first command; two at once would make two connections,
        # and lose one.
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def watch(self, channels: Collection[str]) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever one of the channels has news. Subscribed when it is given."""
        news = asyncio.Event()
        for channel in channels:
            self._waiters.setdefault(channel, []).append(news)
        try:
            await self._subscribe(channels)
            yield news
        finally:
            await self._leave(channels, news)

    async def _subscribe(self, channels: Collection[str]) -> None:
        fresh = [channel for channel in channels if channel not in self._confirmed]
        for channel in fresh:
            self._confirmed[channel] = asyncio.Event()
        if fresh:
            async with self._turn:
                if self._pubsub is None:
                    self._pubsub = self._client.pubsub()
                await self._pubsub.subscribe(*fresh)
                if self._reader is None:
                    self._reader = asyncio.create_task(self._read(), name="queuekit-hints")
        for channel in channels:
            confirmed = self._confirmed.get(channel)
            if confirmed is not None:
                await confirmed.wait()

    async def _leave(self, channels: Collection[str], news: asyncio.Event) -> None:
        abandoned = []
        for channel in channels:
            waiters = self._waiters.get(channel, [])
            if news in waiters:
                waiters.remove(news)
            if not waiters and self._waiters.pop(channel, None) is not None:
                abandoned.append(channel)
                self._confirmed.pop(channel, None)
        if not self._waiters:
            await self.close()
        elif abandoned and self._pubsub is not None:
            # Best effort: a channel that stays subscribed costs a message that nobody reads.
            with contextlib.suppress(RedisError, OSError):
                await self._pubsub.unsubscribe(*abandoned)

    async def _read(self) -> None:
        while True:
            try:
                with background():
                    message = await self._pubsub.get_message(timeout=None)
            except (RedisError, OSError):
                await self._reconnect()
                continue
            if message is None:
                continue
            channel = message["channel"].decode()
            if message["type"] == "subscribe":
                if channel in self._confirmed:
                    self._confirmed[channel].set()
            elif message["type"] == "message":
                for news in self._waiters.get(channel, ()):
                    news.set()

    async def _reconnect(self) -> None:
        """The connection is gone: let everybody look for themselves, and subscribe anew."""
        for waiters in self._waiters.values():
            for news in waiters:
                news.set()
        delay = 0.05
        while self._waiters:
            with contextlib.suppress(RedisError, OSError):
                await self._pubsub.aclose()
                self._pubsub = self._client.pubsub()
                await self._pubsub.subscribe(*self._waiters)
                return
            with background():
                await asyncio.sleep(delay)
            delay = min(delay * 2, 2.0)

    async def close(self) -> None:
        """Let go of the connection. Whoever still waits falls back to looking for itself."""
        reader, pubsub = self._reader, self._pubsub
        self._reader = self._pubsub = None
        self._confirmed.clear()
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])
        if pubsub is not None:
            with contextlib.suppress(RedisError, OSError):
                await pubsub.aclose()

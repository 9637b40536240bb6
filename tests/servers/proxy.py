"""A proxy between a queue and its server whose faults a test sets: cut, swallowed, answered by itself."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile


class Proxy:
    """`async with Proxy(server.path) as proxy`: connect to `proxy.url`.

    Faults hold for the connections that are open and those to come, until `heal()`:

    - `cut_replies_to(word)`: a request that holds the word is passed on and executed; its reply is
      dropped and the connection closed.
    - `cut_requests_with(word)`: the connection is closed before the server sees the request.
    - `swallow()`: bytes go nowhere, in both directions, and nothing is closed: half open. After
      `heal_new_connections()` that stays so for those that are open, and others work.
    - `answer(reply, times)`: this is the reply to everything, and the server sees nothing of it.
    - `refuse()`: nobody listens any more, and all is closed: an outage.

    With `tls`, an ssl.SSLContext, it speaks TLS to its clients on a TCP port of its own.
    """

    def __init__(self, target, *, tls=None, port=None):
        self.target, self.tls, self.port = target, tls, port
        self.connections = 0
        self._folder = tempfile.TemporaryDirectory(prefix="queuekit-")
        self.path = f"{self._folder.name}/proxy.sock"
        self._tasks, self._states = set(), []
        self._server = None
        self.heal()

    def heal(self):
        self.cut_reply = self.cut_request = self.reply = None
        self.left = 0
        self.swallowing = False
        self.seen = asyncio.Event()
        "Set when the fault has met somebody."

    def cut_replies_to(self, word):
        self.heal()
        self.cut_reply = word

    def cut_requests_with(self, word):
        self.heal()
        self.cut_request = word

    def swallow(self):
        self.heal()
        self.swallowing = True

    def heal_new_connections(self):
        for state in self._states:
            state["dead"] = True
        self.heal()

    def answer(self, reply, times):
        self.heal()
        self.reply, self.left = reply, times

    @property
    def url(self):
        scheme = "rediss" if self.tls else "redis"
        return f"unix://{self.path}" if self.port is None else f"{scheme}://localhost:{self.port}"

    async def __aenter__(self):
        await self.listen()
        return self

    async def __aexit__(self, *exc):
        await self.refuse()
        self._folder.cleanup()

    async def listen(self):
        if self.port is None:
            self._server = await asyncio.start_unix_server(self._serve, self.path)
        else:
            self._server = await asyncio.start_server(
                self._serve, "localhost", self.port, ssl=self.tls
            )

    async def refuse(self):
        self._server.close()
        while self._tasks:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tasks.difference_update(tasks)
            await asyncio.sleep(0)

    async def _serve(self, reader, writer):
        self.connections += 1
        self._tasks.add(asyncio.current_task())
        both, writers = [], [writer]
        try:
            up_reader, up_writer = await asyncio.open_unix_connection(self.target)
            writers.append(up_writer)
            state = {"cut": False, "dead": False}
            self._states.append(state)
            both = [
                asyncio.create_task(self._requests(reader, up_writer, writer, state)),
                asyncio.create_task(self._replies(up_reader, writer, state)),
            ]
            self._tasks |= set(both)
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, asyncio.CancelledError):
            pass  # the server is gone, or the proxy closes
        finally:
            for task in both:
                task.cancel()
            for one in writers:
                one.transport.abort()
            self._tasks.discard(asyncio.current_task())

    async def _requests(self, reader, up, down, state):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.swallowing or state["dead"]:
                    self.seen.set()
                    continue
                if self.reply is not None and self.left > 0:
                    self.left -= 1
                    self.seen.set()
                    # To each command: redis-py sends several at once.
                    down.write(self.reply * (data.count(b"\r\n*") + 1))
                    continue
                if self.cut_request and self.cut_request in data:
                    self.seen.set()
                    return
                if self.cut_reply and self.cut_reply in data:
                    state["cut"] = True
                up.write(data)

    async def _replies(self, reader, down, state):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if state["cut"]:
                    self.seen.set()
                    return
                if not (self.swallowing or state["dead"]):
                    down.write(data)

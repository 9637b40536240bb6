"""A real server with an append-only file: it can be killed, started again, and have a replica."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from pathlib import Path

import redis.asyncio
from redis.exceptions import RedisError

from tests.chaos.processes import end, spawn_program

START_LIMIT_S = 60.0
"A server that does not answer by then never will: an honest error is better than a hung battery."

LOOK_AGAIN_S = 0.02

ERRORS = (RedisError, OSError)

PAUSE_MS = 20_000
"How long a primary that is about to be replaced holds writers back at most."


class Server:
    """One server process on a port of 127.0.0.1, its data in a folder of its own."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.program, self.folder = program, folder
        self.folder.mkdir(parents=True)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._client = redis.asyncio.Redis(
            port=self.port, protocol=2, socket_timeout=5, socket_connect_timeout=5
        )

    async def start(self, replica_of: int | None = None) -> None:
        """Start it, or start it again on the data that it left; until it answers."""
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--dir": str(self.folder),
            "--save": "",
            "--appendonly": "yes",
            # Each write is with the kernel before it is acknowledged, and a kill of the process takes
            # nothing of it. Not so with `everysec`: while an fsync is slow, the server acknowledges
            # what it has not written yet, for up to two seconds.
            "--appendfsync": "no",
            "--loglevel": "warning",
            "--repl-diskless-sync": "yes",
            "--repl-diskless-sync-delay": "0",
        }
        words = [word for option in options.items() for word in option]
        if replica_of is not None:
            words += ["--replicaof", "127.0.0.1", str(replica_of)]
        self._process = spawn_program([str(self.program), *words], self.folder / "server.log")
        async with asyncio.timeout(START_LIMIT_S):
            while not await self._answers():  # noqa: ASYNC110 (a process sets no event)
                await asyncio.sleep(LOOK_AGAIN_S)

    async def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            said = (self.folder / "server.log").read_text("utf-8", "replace")[-2000:]
            raise RuntimeError(f"{self.program.name} does not start:\n{said}")
        try:
            return bool(await self.ask("PING"))
        except ERRORS:  # not up yet, or still reading its file
            return False

    async def ask(self, *command: str | int) -> object:
        """A command of the battery's own, past the proxy."""
        return await self._client.execute_command(*command)

    async def info(self, section: str) -> dict[str, object]:
        """The fields of an INFO section."""
        return dict(await self._client.info(section))

    def kill(self) -> None:
        """End it as a crash does; what it has written to its file stays."""
        if self._process is not None:
            end(self._process)

    async def close(self) -> None:
        self.kill()
        await self._client.aclose()

    async def version(self) -> str:
        fields = await self.info("server")
        name = "valkey" if "valkey_version" in fields else "redis"
        return f"{name} {fields.get(f'{name}_version', '?')}"


async def promote(primary: Server, folder: Path) -> Server:
    """Put a replica in the primary's place: the new primary. The old one is killed.

    An asynchronous replica may lack the last acknowledged writes, which is Redis's loss and not a
    queue's; so the primary holds writers back until both have the same offset.
    """
    replica = Server(primary.program, folder)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(replica.close)
        await replica.start(replica_of=primary.port)
        await _take_over(primary, replica)
        stack.pop_all()
    return replica


async def _take_over(primary: Server, replica: Server) -> None:
    async with asyncio.timeout(START_LIMIT_S):
        while not await _has_its_own_file(replica):  # noqa: ASYNC110 (nor does a server)
            await asyncio.sleep(LOOK_AGAIN_S)
        await primary.ask("CLIENT", "PAUSE", PAUSE_MS, "WRITE")
        while not await _in_step(primary, replica):  # noqa: ASYNC110 (nor does a server)
            await asyncio.sleep(LOOK_AGAIN_S)
    await primary.close()
    await replica.ask("REPLICAOF", "NO", "ONE")


async def _has_its_own_file(replica: Server) -> bool:
    """Whether it has all data, in its append-only file too: it may be killed next."""
    link = await replica.info("replication")
    file = await replica.info("persistence")
    return link.get("master_link_status") == "up" and not any(
        int(file[field])
        for field in ("loading", "aof_rewrite_in_progress", "aof_rewrite_scheduled")
    )


async def _in_step(primary: Server, replica: Server) -> bool:
    ours, theirs = await primary.info("replication"), await replica.info("replication")
    return ours["master_repl_offset"] == theirs["slave_repl_offset"]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])

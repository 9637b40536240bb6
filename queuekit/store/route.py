"""Which server holds a queue at the moment.

All keys of a queue share a slot, so whatever the topology, a queue lives on one server at a time.
What differs is how it is found: its address is given, the Sentinels know it, or any server of the
Cluster does. So there is one way to send commands, with one set of rules about what is sent again,
and redis-py's clients for Sentinel and Cluster, each with retries of its own, are not needed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.asyncio.connection import Connection
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from queuekit.environment import environment
from queuekit.errors import InvalidUrlError
from queuekit.store.address import Address, Node
from queuekit.store.sending import sent

ASK_LIMIT_S = 1.0
"For the answer of one Sentinel or server of a Cluster; then the next one is asked."


class Route:
    """A server whose address is given: nothing is to be found out."""

    finds = False
    "Whether it can find another server than the one it knew."

    async def node(self) -> Node | None:
        """The server; None: the one in the connection's own options.

        Raises:
            RedisError: nobody knows it at the moment.
        """
        return None

    def forget(self) -> None:
        """The server that was known does not answer, or is no primary: find out again."""

    def moved(self, node: Node) -> None:
        """A server said that the queue is there now."""


class AskedRoute(Route):
    """A server that others know. One question is under way at a time; its answer is kept."""

    finds = True

    def __init__(self, address: Address) -> None:
        self._address = address
        self._known: Node | None = None
        self._turn = asyncio.Lock()

    async def node(self) -> Node | None:
        if self._known is None:
            async with self._turn:
                if self._known is None:
                    self._known = await self._find()
        return self._known

    def forget(self) -> None:
        self._known = None

    def moved(self, node: Node) -> None:
        self._known = node

    async def _find(self) -> Node:
        raise NotImplementedError

    async def _ask(self, node: Node, options: dict[str, Any], *question: str) -> Any:
        """The answer of one of those who may know."""
        async with _connection(self._address, node, options) as connection:
            await sent(connection.send_command(*question))
            return await connection.read_response()


class SentinelRoute(AskedRoute):
    """The Sentinels know the primary. Whoever answered last is asked first."""

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._sentinels = list(address.nodes)

    async def _find(self) -> Node:
        for sentinel in list(self._sentinels):
            with contextlib.suppress(RedisError, OSError):
                found = await self._ask(
                    sentinel,
                    self._address.asking,
                    "SENTINEL",
                    "GET-MASTER-ADDR-BY-NAME",
                    self._address.service,
                )
                if found:
                    self._sentinels.remove(sentinel)
                    self._sentinels.insert(0, sentinel)
                    return found[0].decode(), int(found[1])
        raise RedisConnectionError(
            f"none of {len(self._sentinels)} Sentinels answers and knows a primary called"
            f" {self._address.service!r}"
        )


class ClusterRoute(AskedRoute):
    """Any server of the Cluster knows who has the queue's slot."""

    def __init__(self, address: Address, root: str) -> None:
        super().__init__(address)
        self._slot = key_slot(root.encode())
        self._servers = list(address.nodes)
        "Those of the address first, then those that they told us of."

    async def _find(self) -> Node:
        silent = 0
        for server in list(self._servers):
            try:
                slots = await self._ask(server, self._address.options, "CLUSTER", "SLOTS")
            except (RedisError, OSError):
                silent += 1
                continue
            owner = self._read(slots, asked=server[0])
            if owner is not None:
                return owner
        raise RedisConnectionError(
            f"no server of the Cluster knows who has slot {self._slot}"
            f" ({silent} of {len(self._servers)} did not answer)"
        )

    def _read(self, slots: Sequence[Any], asked: str) -> Node | None:
        """The owner of our slot; and who else there is, for the day when those we know are gone."""
        owner = None
        for first, last, *servers in slots:
            # A server without a name of its own is at the address that was asked.
            nodes = [((s[0] or b"").decode() or asked, int(s[1])) for s in servers]
            self._servers += [node for node in nodes if node not in self._servers]
            if first <= self._slot <= last:
                owner = nodes[0]
        return owner


@contextlib.asynccontextmanager
async def _connection(
    address: Address, node: Node, options: dict[str, Any]
) -> AsyncIterator[Connection]:
    """A connection for one question, within its time."""
    host, port = node
    connection = address.connection(**{**options, "host": host, "port": port})
    try:
        async with asyncio.timeout(ASK_LIMIT_S):
            await connection.connect()
            yield connection
    finally:
        await connection.disconnect(nowait=True)


def route_to(address: Address, root: str) -> Route:
    """How to find the server of the queue with this root.

    Raises:
        InvalidUrlError: the address needs Sentinels or a Cluster, and this is a simulation.
    """
    if address.kind not in ("sentinel", "cluster"):
        return Route()
    if environment().simulated:
        raise InvalidUrlError(
            f"{address.shown!r} cannot be used in a simulation: it has no Sentinels and no Cluster.\n"
            "  A simulation has one Redis, to which every other address leads.\n"
            "  Give the queue redis://localhost there; failovers are tested on real servers."
        )
    if address.kind == "sentinel":
        return SentinelRoute(address)
    return ClusterRoute(address, root)

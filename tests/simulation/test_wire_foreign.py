"""A server that is somebody else's too: what a simulation's clients do stays in its own database."""

from __future__ import annotations

import pytest
import redis.asyncio

from queuekit.simulation import Simulation
from queuekit.simulation.backends import RealServer
from queuekit.simulation.link import Link
from queuekit.simulation.private_server import start_private_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server():
    one = start_private_server()
    yield one
    one.close()


def test_nothing_of_others_is_flushed_moved_or_shut_down(server):
    async def main():
        r = redis.asyncio.Redis(host="h")
        await r.set("ours", 1)
        for command in ("SHUTDOWN", "SWAPDB 0 1", "MOVE ours 1", "REPLICAOF h 1"):
            with pytest.raises(redis.exceptions.ResponseError, match="reaches beyond"):
                await r.execute_command(*command.split())
        await r.flushall()
        assert await r.get("ours") is None
        await r.aclose()

    others = Link(server.address, 0)
    others.ask(b"SET", b"precious", b"1")
    with Simulation(backend=RealServer(server.address, database=5)) as simulation:
        simulation.run(main())
    assert others.ask(b"GET", b"precious") == b"1"
    others.close()


def test_a_client_that_selects_nothing_means_database_0(server):
    async def main():
        first, second = redis.asyncio.Redis(host="h"), redis.asyncio.Redis(host="h", db=3)
        await first.set("a", 1)
        with pytest.raises(redis.exceptions.ResponseError, match="databases 0 and 3"):
            await second.get("a")
        await first.aclose()
        await second.aclose()

    with Simulation(backend=RealServer(server.address, database=5)) as simulation:
        simulation.run(main())


def test_a_transaction_with_a_refused_command_is_refused_as_a_whole(server):
    async def main():
        r = redis.asyncio.Redis(host="h")
        async with r.pipeline(transaction=True) as pipe:
            pipe.set("a", 1).execute_command("WAIT", 1, 0)
            with pytest.raises(redis.exceptions.ResponseError):
                await pipe.execute()
        assert await r.get("a") is None
        await r.aclose()

    with Simulation(backend=RealServer(server.address, database=5)) as simulation:
        simulation.run(main())


@pytest.mark.parametrize(
    "command",
    ["XREAD BLOCK 0 STREAMS s $", "WAIT 1 0", "MONITOR", "RESTORE k 0 x", "HEXPIRE h 1 FIELDS 1 f"],
)
def test_what_would_live_in_the_servers_own_time_is_refused_by_name(server, command):
    async def main():
        r = redis.asyncio.Redis(host="h")
        with pytest.raises(redis.exceptions.ResponseError, match=f"queuekit: {command.split()[0]}"):
            await r.execute_command(*command.split())
        await r.aclose()

    with Simulation(backend=RealServer(server.address, database=5)) as simulation:
        simulation.run(main())

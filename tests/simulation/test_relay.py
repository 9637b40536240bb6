"""A real server given by address: one database of it is ours, and nothing else is touched."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import time

import pytest
import redis.asyncio

from queuekit.environment import Environment
from queuekit.simulation import Simulation, SimulationError
from queuekit.simulation.private_server import find_servers
from queuekit.simulation.relay import Link

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def port():
    """A server on TCP, as one that somebody has running."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number = free.getsockname()[1]
    program = find_servers()[0][1]
    options = ["--port", str(number), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    process = subprocess.Popen([str(program), *options], stdout=subprocess.DEVNULL)
    while True:
        try:
            Link(f"127.0.0.1:{number}", 0).close()
            break
        except SimulationError:
            assert process.poll() is None
    yield number
    process.terminate()
    process.wait()


async def greet(ctx):
    return "hello"


def test_the_database_of_the_address_is_used_and_emptied_and_no_other(port):
    async def main(world):
        world.worker([greet])
        assert await world.queue.apply("greet") == "hello"

    precious = Link(f"127.0.0.1:{port}", 0)
    precious.ask(b"SET", b"precious", b"1")
    for _ in range(2):  # the scripts of the first world are still loaded in the second
        with Simulation(backend=f"redis://127.0.0.1:{port}/15") as simulation:
            simulation.run(main(simulation))
    assert precious.ask(b"GET", b"precious") == b"1"
    assert precious.ask(b"DBSIZE") == 1
    precious.ask(b"SELECT", b"15")
    assert precious.ask(b"DBSIZE") == 0
    precious.close()
    with Simulation() as embedded:
        embedded.run(main(embedded))
    assert embedded.trace.digest() == simulation.trace.digest()


def test_clients_may_mean_another_number_but_only_one(port):
    async def main():
        first = redis.asyncio.Redis(host="h", db=3, protocol=2)
        await first.set("a", 1)
        second = redis.asyncio.Redis(host="h", db=4, protocol=2)
        try:
            with pytest.raises(redis.exceptions.ResponseError, match="databases 3 and 4"):
                await second.get("a")
            assert await first.get("a") == b"1"
        finally:
            await first.aclose()
            await second.aclose()

    with Simulation(backend=f"redis://127.0.0.1:{port}/15") as simulation:
        simulation.run(main())


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_and_waits_work_in_both_protocols(port, protocol):
    async def main():
        r = redis.asyncio.Redis(host="h", protocol=protocol)
        other = redis.asyncio.Redis(host="h", protocol=protocol)
        pubsub = r.pubsub()
        await pubsub.subscribe("news")
        wait = asyncio.create_task(other.blpop("q", 60))
        await asyncio.sleep(5)
        await r.publish("news", "x")
        await r.rpush("q", "job")
        heard = None
        while heard is None:
            heard = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)
        assert heard["data"] == b"x"
        assert list(await wait) == [b"q", b"job"]
        before = time.monotonic()
        assert await other.blpop("q", 2) is None
        assert time.monotonic() == pytest.approx(before + 2)
        await pubsub.aclose()
        await r.aclose()
        await other.aclose()

    with Simulation(backend=f"redis://127.0.0.1:{port}/15") as simulation:
        simulation.run(main())


def test_in_production_jitter_is_drawn_between_zero_and_its_bound():
    random.seed(1)
    drawn = [Environment().jitter(10) for _ in range(1000)]
    assert all(0 <= delay <= 10 for delay in drawn)
    assert min(drawn) < 1 < 9 < max(drawn)


def test_a_connection_that_the_collector_ends_within_a_question_waits_for_its_answer(port):
    """It may run at any line, also between a question and its answer."""
    link, other = Link(f"127.0.0.1:{port}", 0), Link(f"127.0.0.1:{port}", 0)
    client = other.ask(b"CLIENT", b"ID")
    frames = link.frames

    def collected():
        link.frames = frames
        link.tell(b"CLIENT", b"KILL", b"ID", b"%d" % client)
        link.tell(b"NOSUCH")
        return frames()

    link.frames = collected
    assert link.ask(b"ECHO", b"one") == b"one"
    assert link.ask(b"ECHO", b"two") == b"two"
    with pytest.raises(ConnectionError):
        other.ask(b"PING")
    link.close()
    other.close()

"""One script of many clients, on the embedded Redis and on every real server that is here."""

from __future__ import annotations

import asyncio
import contextlib
import random

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from queuekit.simulation import Simulation
from queuekit.simulation.backends import Embedded, RealServer
from queuekit.simulation.private_server import find_servers, start_private_server
from queuekit.simulation.trace import first_difference

pytestmark = pytest.mark.slow

SCRIPTS = 10
REPETITIONS = 3
QUEUES = ["q1", "q2", "q3"]
MOVE = """-- name: move
local taken = redis.call('LPOP', KEYS[1])
if taken then redis.call('RPUSH', KEYS[2], taken) redis.call('ZADD', KEYS[3], 1.5, taken) end
return taken"""


@contextlib.asynccontextmanager
async def client(number):
    r = redis.asyncio.Redis(
        host="h", protocol=2 + number % 2, retry=Retry(NoBackoff(), 0), socket_timeout=None
    )
    try:
        yield r
    finally:
        await r.aclose()


async def wait(number, chance, several):
    async with client(number) as r:
        for _ in range(6):
            first, second = chance.sample(QUEUES, 2)
            timeout = chance.choice([0.5, 1, 2])
            keys = [first, second] if several else [first]
            await chance.choice(
                [
                    lambda: r.blpop(keys, timeout),  # noqa: B023 (called at once)
                    lambda: r.brpop([first], timeout),  # noqa: B023
                    lambda: r.blmove(first, second, timeout),  # noqa: B023
                    lambda: r.brpoplpush(first, second, timeout),  # noqa: B023
                    lambda: r.bzpopmin(["z"], timeout),  # noqa: B023
                ]
            )()


async def act(number, chance):
    async with client(number) as r:
        script = r.register_script(MOVE)
        for n in range(10):
            first, second = chance.sample(QUEUES, 2)
            word = f"{number}-{n}"
            what = chance.randrange(6)
            if what == 0:
                await r.rpush(first, word)
            elif what == 1:
                async with r.pipeline(transaction=True) as pipe:
                    await pipe.rpush(first, word).publish("news", n).lpush(second, word).execute()
            elif what == 2:
                await script([first, second, "z"])
            elif what == 3:
                await r.set("k", word, ex=chance.choice([1, 2]), nx=chance.random() < 0.5)
            elif what == 4:
                async with r.pipeline(transaction=True) as pipe:
                    await pipe.ttl("k").get("k").zadd("z", {word: 0.25}).execute()
            else:
                await asyncio.gather(r.publish("other", word), r.incr("n"), r.hgetall("nothing"))
            await asyncio.sleep(chance.choice([0, 0.25, 0.5]))


async def listen(number):
    async with client(number) as r:
        pubsub = r.pubsub()
        await pubsub.subscribe("news", "other")
        await pubsub.psubscribe("n*")
        for _ in range(15):
            await pubsub.get_message(timeout=0.3)
        await pubsub.aclose()


async def everybody(script, several):
    await asyncio.gather(
        *(wait(n, random.Random(f"wait {script} {n}"), several) for n in range(6)),
        *(act(n, random.Random(f"act {script} {n}")) for n in range(6)),
        *(listen(n) for n in range(3)),
    )


def lines(backend, script, several):
    with Simulation(seed=5, backend=backend) as simulation:
        simulation.run(everybody(script, several))
        return simulation.trace.lines()


@pytest.mark.parametrize("name", [name for name, _ in find_servers()])
def test_many_clients_of_all_kinds_leave_the_same_trace_each_time(name):
    server = start_private_server(dict(find_servers())[name])
    # Before 7.2 a wait on several keys was served from the one that was written first; since then the
    # command is run again, and takes from the one that it names first. The embedded Redis does as 7.4.
    several = not server.version.startswith("redis 6")
    try:
        for script in range(SCRIPTS):
            expected = lines(Embedded(), script, several)
            for _ in range(REPETITIONS):
                found = lines(RealServer(server.address, private=True), script, several)
                assert first_difference(expected, found) is None
    finally:
        server.close()


def test_the_script_of_that_comparison_has_all_kinds_of_commands():
    sent = {line.split()[3] for line in lines(Embedded(), 0, several=True) if " > " in line}
    assert sent >= {
        "BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BZPOPMIN", "SET", "TTL",
        "MULTI", "EXEC", "EVALSHA", "PUBLISH", "SUBSCRIBE", "PSUBSCRIBE",
    }  # fmt: skip

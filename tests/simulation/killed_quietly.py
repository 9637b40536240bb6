"""Worlds whose processes are killed, each at another place; `test_unwinding.py` wants no noise of them.

python -m tests.simulation.killed_quietly BACKEND FIRST LAST STEP
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import sys
import time

import redis
import redis.asyncio

from queuekit.environment import background
from queuekit.simulation import Simulation

URL = "redis://redis.internal:6379/1"

taken_down, reached = [], []
"What of the dead was taken down in a way that it could see, and which of its words reached somebody then."


async def counted(upto):
    try:
        for number in range(upto):
            yield number
            with background():
                await asyncio.sleep(0.3)
    except GeneratorExit:
        taken_down.append("generator")
        reached.append(await redis.asyncio.Redis.from_url(URL).set("ghost", 1))
        raise
    finally:
        await asyncio.sleep(1)


@contextlib.asynccontextmanager
async def held(lock):
    with background():
        async with lock:
            try:
                yield
            finally:
                await asyncio.sleep(0)


async def follows(ctx):
    async for number in counted(4):
        await ctx["job"].update(progress=number / 4)


async def waits(ctx, *, other):
    async def fails():
        await asyncio.sleep(0.2)
        raise RuntimeError("nobody waits for this one")

    left_alone = asyncio.create_task(fails())
    try:
        await asyncio.shield(ctx["job"].queue.apply("follows"))
        async with asyncio.timeout(3), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(1))
            group.create_task(ctx["job"].queue.apply("sleeps"))
    finally:
        with contextlib.suppress(Exception):
            await left_alone
        asyncio.get_running_loop().create_task(ctx["job"].update(progress=1))
        await ctx["job"].update(progress=1)


def sleeps(ctx):
    client = redis.Redis.from_url(URL)
    try:
        client.blpop("never", timeout=2)
        time.sleep(0.5)
    except BaseException:
        taken_down.append("thread")
        reached.append(client.set("ghost", 1))
        raise


async def listens():
    client = redis.asyncio.Redis.from_url(URL)
    async with client.pubsub() as messages:
        await messages.subscribe("news")
        while True:
            await messages.get_message(timeout=3)


async def serves(queue):
    lock = asyncio.Lock()
    listening = asyncio.create_task(listens())
    try:
        async with held(lock):
            await queue.map("waits", [{"other": 1}, {"other": 2}])
        async for _ in queue.iter_jobs():
            pass
        await listening
    except GeneratorExit:
        taken_down.append("sync")
        reached.append(redis.Redis.from_url(URL).set("ghost", 1))
        raise


def live(backend, at):
    """One world; how many things were seen in it. Everything is killed at the thing of this number."""
    seen = 0
    with Simulation(backend=backend, seed=at) as simulation:

        async def main():
            worker = simulation.worker([follows, waits, sleeps], concurrency=4)
            web = simulation.process("web", lambda: serves(simulation.queue))

            def see(event):
                nonlocal seen
                seen += 1
                if seen == at:
                    worker.kill()
                    web.kill()

            simulation.observe(see)
            await simulation.advance(8)
            async with redis.asyncio.Redis.from_url(URL) as client:
                assert await client.get("ghost") is None

        simulation.run(main())
    return seen


def main(backend, first, last, step):
    logging.basicConfig()
    for at in range(first, last, step):
        seen = live(backend, at)
        if at > seen:
            break
        if at % 3 == 0:
            gc.collect()
    gc.collect()
    sys.stdout.write(
        json.dumps({"at": at, "taken_down": sorted(set(taken_down)), "reached": reached}) + "\n"
    )


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))

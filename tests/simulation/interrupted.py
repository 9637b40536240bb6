"""A world in which somebody presses Ctrl-C (a real one), for `test_interrupts.py`.

python -m tests.simulation.interrupted WHERE BACKEND
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading

import redis

from queuekit.exploration import assert_no_race, explore
from queuekit.simulation import Simulation

where, backend = sys.argv[1:]
seen = []


def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


async def nags(ctx):
    """A task that takes everything in, and would go on for ever."""
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(1)
            if where == "in a task that takes it in":
                ctrl_c()


async def naps(ctx):
    await asyncio.sleep(1)


def thread(ctx):
    try:
        if where == "in a thread":
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        redis.Redis.from_url("redis://redis.internal").blpop("never")
    finally:
        seen.append("a thread was ended")
        redis.Redis.from_url("redis://redis.internal").set("ghost", 1)
        seen.append("a thread's word has reached Redis")


async def cleans_up(simulation):
    try:
        await asyncio.sleep(1000)
    finally:
        seen.append("cleaned up")
        await simulation.queue.enqueue("thread")
        seen.append("a word has reached Redis")


async def story(simulation):
    simulation.worker([nags, thread], shutdown_grace_period_s=600_000)
    simulation.process("web", lambda: cleans_up(simulation))
    beside = asyncio.create_task(cleans_up(simulation))
    for function in ("nags", "thread"):
        await simulation.queue.enqueue(function, timeout=0)
    await simulation.advance(1)
    if where == "in a callback":
        asyncio.get_running_loop().call_soon(ctrl_c)
    if where == "in a process":
        simulation.process("other").process.run(asyncio.get_running_loop().call_soon, ctrl_c)
    if where == "in the test":
        ctrl_c()
    await simulation.advance(100)
    if where == "at the end":
        asyncio.get_running_loop().call_later(1, ctrl_c)
        return
    await beside


def live():
    if where in ("explored", "explored by two"):
        explore(explored, kept=None, backend=backend, jobs=1 + (where == "explored by two"))
    elif where == "in a race":
        assert_no_race(races)
    else:
        with Simulation(backend=backend) as simulation:
            simulation.run(story(simulation))


runs = 0


async def explored(simulation):
    global runs  # noqa: PLW0603
    runs += 1
    simulation.worker([naps])
    if runs == 4:
        os.kill(os.getppid() if where == "explored by two" else os.getpid(), signal.SIGINT)
    await simulation.queue.enqueue("naps")


async def races():
    left = [asyncio.create_task(asyncio.sleep(n)) for n in range(3)]
    await asyncio.sleep(1)
    ctrl_c()
    await left[2]


async def works():
    async def greet(ctx):
        return "hello"

    simulation.worker([greet])
    return await simulation.queue.apply("greet")


logging.basicConfig(level=logging.ERROR)
try:
    live()
except KeyboardInterrupt:
    seen.append("interrupted")
with Simulation(backend=backend) as simulation:
    seen.append(simulation.run(works()))
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
sys.stdout.write(json.dumps(seen))

"""The application that the stories are about: what its tasks do, and how it speaks to Redis."""

from __future__ import annotations

import asyncio

from queuekit import CronJob, effect
from queuekit.errors import ServerError
from queuekit.job import Status

LEASE_S = 6


async def ok(ctx, answer=None):
    await effect("ran", key=ctx["job"].key)
    return answer


async def slow(ctx, seconds=2.0):
    job = ctx["job"]
    await effect("ran", key=job.key)
    await asyncio.sleep(seconds)
    await effect("done", key=job.key)
    return job.key


async def fails(ctx, times=99):
    if ctx["job"].failures < times:
        raise ValueError(f"failure {ctx['job'].failures + 1}")
    return "at last"


async def beats(ctx, beats=3, pause=1.0):
    for beat in range(beats):
        await asyncio.sleep(pause)
        await ctx["job"].update(progress=(beat + 1) / beats, meta={"beat": beat})
        await effect("beat", key=ctx["job"].key)
    return beats


async def stubborn(ctx, seconds=20.0):
    end = asyncio.get_running_loop().time() + seconds
    while (left := end - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue


async def ends_itself(ctx, end="complete", after=0.0):
    await asyncio.sleep(after)
    await ctx["job"].finish(Status(end), result="by itself")
    await asyncio.sleep(1)
    return "too late"


async def puts_back(ctx):
    if ctx["job"].failures == 0:
        await ctx["job"].retry("not now")
        await asyncio.sleep(1)
    return "second time"


async def ticks(ctx, seconds=0.0):
    await effect("ticking", key=ctx["job"].key)
    await asyncio.sleep(seconds)


TASKS = [ok, slow, fails, beats, stubborn, ends_itself, puts_back, ticks]


def worker(simulation, **options):
    """A worker of the application's."""
    tasks = options.pop("tasks", TASKS)
    return simulation.worker(tasks, **{"lease_s": LEASE_S, "concurrency": 3, **options})


def minutely(seconds=0.0, **options):
    return CronJob(ticks, "* * * * *", kwargs={"seconds": seconds}, **options)


async def insist(call, *arguments, **options):
    """An answer of Redis, as an application gets it that does not give up."""
    while True:
        try:
            return await call(*arguments, **options)
        except ServerError:
            await asyncio.sleep(1)

"""The jobs of the battery: quick ones, slow ones, sync ones, some that fail first, some that tell."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from typing import Any

FAILING_RUNS = 2

PAUSE_S, THREAD_S, STEP_S, LONG_S = 0.05, 0.02, 0.02, 0.5

POISON_S, INNOCENT_S = 0.3, 1.0
"The poisonous job lets its neighbours begin before it kills their process, and none of them end."


async def quick(ctx: Any) -> str:
    with ctx["evidence"].run(ctx["job"]) as name:
        return name


async def pause(ctx: Any) -> str:
    with ctx["evidence"].run(ctx["job"]) as name:
        await asyncio.sleep(PAUSE_S)
        return name


def thread(ctx: Any) -> str:
    with ctx["evidence"].run(ctx["job"]) as name:
        time.sleep(THREAD_S)
        return name


async def flaky(ctx: Any) -> str:
    with ctx["evidence"].run(ctx["job"]) as name:
        if ctx["job"].attempts <= FAILING_RUNS:
            raise ConnectionError(f"run {ctx['job'].attempts} fails on purpose")
        return name


async def telling(ctx: Any) -> str:
    with ctx["evidence"].run(ctx["job"]) as name:
        for progress in (0.3, 0.6, 0.9):
            await asyncio.sleep(STEP_S)
            await ctx["job"].update(progress=progress)
        return name


async def long(ctx: Any) -> str:
    with ctx["evidence"].run(ctx["job"]) as name:
        await asyncio.sleep(LONG_S)
        return name


async def poison(ctx: Any) -> str:
    with ctx["evidence"].run(ctx["job"]) as name:
        await asyncio.sleep(POISON_S)
        os.kill(os.getpid(), signal.SIGKILL)
        return name


async def innocent(ctx: Any) -> str:
    with ctx["evidence"].run(ctx["job"]) as name:
        await asyncio.sleep(INNOCENT_S)
        return name


FUNCTIONS: list[Callable[..., Any]] = [
    quick, pause, thread, flaky, telling, long, poison, innocent
]  # fmt: skip

MIXTURE = (*["quick"] * 8, *["pause"] * 4, *["thread"] * 3, *["telling"] * 2, "flaky", "long")
"Drawn from with the battery's seed."

POISONED = ("poison", *["innocent"] * 9)
"All of them in one worker at one time."

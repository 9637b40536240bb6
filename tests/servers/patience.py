"""Waiting for what a real server or process does: for a condition, never for a time."""

from __future__ import annotations

import asyncio
import contextlib

from queuekit import Queue, Worker

PATIENCE_S = 40
"After which a test gives up; nothing is measured against it."


def in_real_time(main):
    """Run an async function on a loop of its own, with a limit; nothing may be left running."""

    async def run():
        async with asyncio.timeout(PATIENCE_S):
            result = await main()
        for _ in range(20):  # what was closed a moment ago still comes to its end
            await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, f"left running: {left}"
        return result

    return asyncio.run(run())


async def until(condition):
    """Wait until it holds, asking again and again; a coroutine function is awaited."""
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def queue_at(url, **options):
    queue = Queue.from_url(url, **options)
    try:
        yield queue
    finally:
        await queue.disconnect()


@contextlib.asynccontextmanager
async def worker_of(queue, functions, **options):
    """A worker that runs in the block."""
    worker = Worker(queue=queue, functions=functions, **options)
    task = asyncio.create_task(worker.start())
    try:
        yield worker
    finally:
        await worker.stop()
        await task

"""Sending to Redis without losing a cancellation on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable


async def sent(sending: Awaitable[object]) -> None:
    """Wait until redis-py has sent something; raises CancelledError if the task was cancelled meanwhile.

    redis-py sends in `asyncio.wait_for`, and that of Python 3.11 drops a cancellation which comes as what it
    waits for is done (CPython #86296). The task would go on, and a time-out that has struck does not strike
    again.
    """
    task = asyncio.current_task()
    asked = task.cancelling() if task is not None else 0
    await sending
    if task is not None and task.cancelling() > asked:
        raise asyncio.CancelledError

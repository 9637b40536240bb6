"""Recovery on a real server, in real time: what is compared are moments of the server's own clock."""

from __future__ import annotations

import asyncio

import pytest

from queuekit import Job, Queue, Worker
from queuekit.simulation.private_server import start_private_server
from queuekit.store.redis import NewJob

pytestmark = pytest.mark.slow

ORPHANS = 10_000
LEASE_MS = 2000
CLAIMABLE_MS = 5000
"After the end of its lease."

PATIENCE_S = 120
"After which the test gives up; nothing is measured against it."


async def ok(ctx):
    """A task."""


async def hang(ctx):
    await asyncio.sleep(3600)


async def orphan(queue):
    """All claimed by a worker that is never heard of again; when the last of their leases ends."""
    for first in range(0, ORPHANS, 1000):
        await queue.store.enqueue(
            [
                NewJob(f"{n}", f"id{n}", queue.codec.encode_call(Job("ok", key=f"{n}")))
                for n in range(first, first + 1000)
            ]
        )
    for n in range(ORPHANS // 100):
        await queue.store.claim("dead", f"dead.{n}", 100, LEASE_MS, 60_000)


async def busy_worker(queue):
    """One without a free slot: it recovers all the same, and takes none of what it recovers."""
    worker = Worker(queue=queue, functions=[hang], concurrency=1, lease_s=1)
    task = asyncio.create_task(worker.start())
    while not worker.running:  # noqa: ASYNC110 (its claim sets no event)
        await asyncio.sleep(0)
    return worker, task


async def recovered(queue):
    while (await queue.store.counts())["queued"] < ORPHANS:  # noqa: ASYNC110 (nobody tells)
        await asyncio.sleep(0)


def test_ten_thousand_orphans_are_claimable_by_their_lease_and_five_seconds():
    async def main():
        queue = Queue.from_url(f"unix://{server.address}")
        for _ in range(2):
            await queue.enqueue("hang", timeout=None)
        workers = [await busy_worker(queue) for _ in range(2)]
        await orphan(queue)
        async with asyncio.timeout(PATIENCE_S):
            await recovered(queue)
        late = []
        for first in range(0, ORPHANS, 100):
            keys = [f"{n}" for n in range(first, first + 100)]
            for stored in await queue.store.read(keys):
                _, started, ended, outcome, *_ = stored.log.decode().split("\t")
                assert outcome == "lost"
                late.append(int(ended) - int(started) - LEASE_MS)
        for worker, task in workers:
            await worker.stop()
            await task
        await queue.disconnect()
        return late

    server = start_private_server()
    try:
        late = asyncio.run(main())
    finally:
        server.close()
    assert len(late) == ORPHANS
    assert min(late) >= 0
    assert max(late) <= CLAIMABLE_MS

"""Recovery on a real server, in real time. Time is not measured: how long it takes is the machine's matter.

What is counted are the scripts that it takes; in virtual time, where a script takes none, all jobs are
claimable again by the end of their leases (tests/worker/test_recovery.py).
"""

from __future__ import annotations

import asyncio
import logging
import re

import pytest

from queuekit import Job, Queue, Worker
from queuekit.simulation.private_server import start_private_server
from queuekit.store.redis import NewJob

pytestmark = pytest.mark.slow

ORPHANS = 10_000
LEASE_MS = 2000
SCRIPTS = 5 * ORPHANS // 100
"""To show a hundred and to move them is two scripts, and both workers may try each hundred. The rest is for
their claims and renewals meanwhile. At 3 ms a script that is 2 s."""

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


async def scripts_run(queue):
    """How many the server has run so far."""
    stats = await queue.store._command("INFO", "commandstats")
    return int(re.search(rb"cmdstat_evalsha:calls=(\d+)", stats)[1])


class Losses(logging.Handler):
    """Hears of each job that a worker has recovered, and says when it was the last."""

    def __init__(self):
        super().__init__()
        self.heard = 0
        self.all = asyncio.Event()

    def emit(self, record):
        self.heard += "was lost" in record.msg
        if self.heard == ORPHANS:
            self.all.set()


def test_ten_thousand_orphans_are_recovered_in_some_hundred_scripts(monkeypatch):
    logger = logging.getLogger("queuekit")
    monkeypatch.setattr(logger, "propagate", False)

    async def main():
        losses = Losses()
        monkeypatch.setattr(logger, "handlers", [losses])
        queue = Queue.from_url(f"unix://{server.address}")
        for _ in range(2):
            await queue.enqueue("hang", timeout=None)
        workers = [await busy_worker(queue) for _ in range(2)]
        await orphan(queue)
        before = await scripts_run(queue)
        async with asyncio.timeout(PATIENCE_S):
            await losses.all.wait()
        scripts = await scripts_run(queue) - before
        assert (await queue.store.counts())["queued"] == ORPHANS
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
        return late, scripts

    server = start_private_server()
    try:
        late, scripts = asyncio.run(main())
    finally:
        server.close()
    assert len(late) == ORPHANS
    assert min(late) >= 0
    assert scripts <= SCRIPTS

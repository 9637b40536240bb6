"""A rolling deploy: workers of two releases share a queue, and no job is lost, misread or run for nothing."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import pytest

from queuekit import Queue, Status, Worker
from queuekit.simulation.private_server import start_private_server
from tests.compat.worker_of_a_release import echo

pytestmark = pytest.mark.slow

PATIENCE_S = 30

RELEASES = {"this one": sys.executable}
"""The Pythons whose queuekit meets ours. There is no release yet, so a second process of ours stands in; with
the first release its version and the Python of an environment that has it come here (see CONTRIBUTING.md)."""

SCRIPT = Path(__file__).with_name("worker_of_a_release.py")


@pytest.fixture
def server():
    one = start_private_server()
    yield one
    one.close()


async def run_all(queue, python, url):
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(python, SCRIPT, url, "theirs", stdout=pipe)
    try:
        assert await process.stdout.readline() == b"started\n"
        ours = Worker(queue=queue, functions=[echo], id="ours", concurrency=2)
        task = asyncio.create_task(ours.start())
        jobs = [
            await queue.enqueue(
                "echo",
                fail=n % 3,
                retries=4,
                priority=n % 2,
                group_key=f"g{n % 7}" if n % 2 else None,
            )
            for n in range(120)
        ]
        for job in jobs:
            await job.refresh(until_complete=PATIENCE_S)
        await ours.stop()
        await task
        return jobs
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()


@pytest.mark.parametrize("release", RELEASES)
def test_workers_of_two_releases_share_the_work(server, release):
    async def main():
        url = f"unix://{server.address}"
        queue = Queue.from_url(url)
        async with asyncio.timeout(PATIENCE_S):
            jobs = await run_all(queue, RELEASES[release], url)
        assert [job.status for job in jobs] == [Status.COMPLETE] * 120
        assert [job.attempts for job in jobs] == [n % 3 + 1 for n in range(120)]
        assert {job.result["by"] for job in jobs} == {"ours", "theirs"}
        assert {job.result["previous"] for job in jobs} == {None, "ValueError"}
        assert {job.meta["by"] for job in jobs} == {"ours", "theirs"}
        assert await queue.quarantined() == []
        await queue.disconnect()

    asyncio.run(main())

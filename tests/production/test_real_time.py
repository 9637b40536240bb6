"""Production: real time, a real server, real processes. Nothing here waits for time, only for events."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

from queuekit import JobError, Queue, Status, Worker
from queuekit.errors import ServerUnreachableError
from queuekit.simulation.private_server import start_private_server
from tests.rules.refusals import in_three_parts

pytestmark = pytest.mark.slow

PATIENCE_S = 30
"After which a test gives up; nothing is measured against it."

APP = """
import asyncio, os, sys, time
from queuekit import Queue, Worker

queue = Queue.from_url(sys.argv[1])

async def add(ctx, a, b):
    return a + b

async def hold(ctx):
    open(sys.argv[2], "w").write(str(os.getpid()))
    await asyncio.sleep(600)

def blocking(ctx):
    ctx["job"].sync.update(progress=0.5)
    return ctx["queue"].sync.count("active")

async def stop(ctx):
    print("stopped", flush=True)

worker = Worker(queue=queue, functions=[add, hold, blocking], shutdown=stop, lease_s=1)
asyncio.run(worker.start())
"""


@pytest.fixture(scope="module")
def server():
    one = start_private_server()
    yield one
    one.close()


@pytest.fixture(params=["unix", "fakeredis"])
def url(request, server):
    return f"unix://{server.address}" if request.param == "unix" else "fakeredis://dev"


@pytest.fixture
def start_worker(server, tmp_path):
    (tmp_path / "app.py").write_text(APP, "utf-8")
    processes = []

    def start():
        command = [sys.executable, "app.py", f"unix://{server.address}", str(tmp_path / "held")]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def in_real_time(server, main, name="default"):
    async def run():
        queue = Queue.from_url(f"unix://{server.address}", name=name)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await main(queue)
        finally:
            await queue.disconnect()

    return asyncio.run(run())


async def add(ctx, a, b):
    return a + b


async def fails(ctx):
    raise ValueError("no")


def blocking(ctx):
    ctx["job"].sync.update(progress=0.5)
    return threading.current_thread().name


def test_the_same_queue_and_worker_run_in_real_time(url):
    async def main():
        queue = Queue.from_url(url)
        worker = Worker(queue=queue, functions=[add, fails, blocking])
        task = asyncio.create_task(worker.start())
        async with asyncio.timeout(PATIENCE_S):
            assert await queue.apply("add", a=1, b=2) == 3
            assert await queue.map(add, [{"a": n} for n in range(200)], b=1) == list(range(1, 201))
            assert (await queue.apply("blocking")).startswith("queuekit-sync-task")
            with pytest.raises(JobError, match="ValueError: no"):
                await queue.apply("fails", retries=2)
            due = time.time() + 0.05
            late = await queue.enqueue("add", a=1, b=1, scheduled=due)
            await late.refresh(until_complete=PATIENCE_S)
            assert late.started >= due * 1000
            await worker.stop()
            await task
        await queue.disconnect()
        assert len(asyncio.all_tasks()) == 1, "nothing is left running"

    asyncio.run(main())


def test_sync_code_outside_of_any_loop_uses_the_blocking_twins(server):
    queue = Queue.from_url(f"unix://{server.address}", name="sync")
    job = queue.sync.enqueue("add", a=1, b=2)
    assert queue.sync.job(job.key).status is Status.QUEUED
    assert queue.sync.count("queued") == 1
    job.sync.abort("no more")
    job.sync.refresh()
    assert job.status is Status.ABORTED
    queue.sync.disconnect()


def test_the_blocking_twins_refuse_a_thread_in_which_a_loop_runs(server):
    async def main(queue):
        with pytest.raises(RuntimeError, match=r"await queue\.enqueue"):
            queue.sync.enqueue("add")

    in_real_time(server, main)


FORKING = """
import os
import sys
from queuekit import Queue

queue = Queue.from_url(sys.argv[1], name="fork")
queue.sync.enqueue("add", key="parent")  # starts the thread that a child does not have
child = os.fork()
if not child:
    queue.sync.enqueue("add", key="child")
    os._exit(0 if queue.sync.job("parent") else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), queue.sync.count("queued"))
"""


@pytest.mark.slow
def test_a_queue_that_was_used_before_a_fork_works_in_parent_and_child(server):
    command = [sys.executable, "-W", "ignore", "-c", FORKING, f"unix://{server.address}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.stdout.split() == ["0", "2"], done.stderr


def test_a_queue_works_on_several_loops_one_after_the_other_and_side_by_side(server):
    queue = Queue.from_url(f"unix://{server.address}", name="loops")

    async def use(key):
        await queue.enqueue("add", key=key)
        found = await queue.jobs(["first", key])
        await queue.disconnect()
        return [job.key for job in found if job]

    async def beside():
        other = asyncio.to_thread(asyncio.run, use("thread"))
        return await asyncio.gather(use("own"), other)

    assert asyncio.run(use("first")) == ["first", "first"]
    assert asyncio.run(beside()) == [["first", "own"], ["first", "thread"]]


def test_sigterm_hands_jobs_back_and_ends_with_code_zero(server, start_worker, tmp_path):
    process = start_worker()

    async def main(queue):
        assert await queue.apply("add", a=1, b=2) == 3
        assert await queue.apply("blocking") == 1
        job = await queue.enqueue("hold", timeout=None)
        await queue.listen([job.key], lambda key, status: status is Status.ACTIVE, PATIENCE_S)
        await wait_for(tmp_path / "held")
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, PATIENCE_S)
        await job.refresh()
        assert (job.status, job.failures, job.losses) == (Status.QUEUED, 0, 0)
        await job.abort("done with")

    in_real_time(server, main)
    assert process.returncode == 0
    assert process.stdout.read() == "stopped\n"


def test_a_killed_workers_job_is_run_by_another_one_after_its_lease(server, start_worker, tmp_path):
    victim = start_worker()

    async def main(queue):
        job = await queue.enqueue("hold", timeout=None)
        pid = await wait_for(tmp_path / "held")
        assert pid == victim.pid
        victim.send_signal(signal.SIGKILL)
        (tmp_path / "held").unlink()
        successor = start_worker()
        assert await wait_for(tmp_path / "held") == successor.pid
        await job.refresh()
        assert (job.status, job.attempts, job.losses) == (Status.ACTIVE, 2, 1)
        await job.abort("done with")
        await job.refresh(until_complete=PATIENCE_S)
        assert job.status is Status.ABORTED

    in_real_time(server, main)


def test_a_worker_rides_out_a_server_that_is_away(tmp_path):
    first = start_private_server()
    socket_path = Path(first.address)
    queue = Queue.from_url(f"unix://{socket_path}")

    async def main():
        worker = Worker(queue=queue, functions=[add])
        task = asyncio.create_task(worker.start())
        async with asyncio.timeout(PATIENCE_S):
            assert await queue.apply("add", a=1, b=2) == 3
            first.kill()
            await asyncio.to_thread(first.restart)
            while True:
                try:
                    assert await queue.apply("add", a=3, b=4) == 7
                    break
                except OSError:
                    await asyncio.sleep(0)
            await worker.stop()
            await task
        await queue.disconnect()

    try:
        asyncio.run(main())
    finally:
        first.close()


async def wait_for(path):
    """The number in a file, once it is there: the worker's word that its task has begun."""
    while not path.exists() or not path.read_text():  # noqa: ASYNC110 (a file sets no event)
        await asyncio.sleep(0)
    return int(path.read_text())


def test_a_production_import_brings_nothing_of_what_tests_need():
    code = (
        "import sys, queuekit, queuekit.worker, queuekit.cli\n"
        "names = {'pytest', 'hypothesis', 'freezegun', 'fakeredis', 'lupa', 'queuekit.simulation'}\n"
        "assert not names & set(sys.modules), names & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": os.environ["PATH"]})


# asyncio complains of a transport that its loop did not close; who disconnects in time hears nothing.
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_loops_that_have_ended_are_let_go_with_their_connections(server):
    queue = Queue.from_url(f"unix://{server.address}")
    loops = []

    async def use():
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await queue.count("queued")

    asyncio.run(use())
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        asyncio.run(use())
    assert len(list(Path("/dev/fd").iterdir())) == before
    gc.collect()
    assert [loop() is None for loop in loops] == [True] * 5 + [False]
    asyncio.run(_end(queue))
    gc.collect()


async def _end(queue):
    await queue.count("queued")
    await queue.disconnect()


def test_a_process_without_a_file_descriptor_is_told_that_and_not_that_the_server_is_away(server):
    queue = Queue.from_url(f"unix://{server.address}")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def use():
        next_one = os.dup(0)
        os.close(next_one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, limits[1]))
        try:
            await queue.count("queued")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    with pytest.raises(ServerUnreachableError) as caught:
        asyncio.run(use())
    in_three_parts(caught.value)
    assert "this process has no file descriptor left" in str(caught.value)
    assert "ulimit -n" in str(caught.value)

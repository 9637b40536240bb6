"""A server that refuses: clear errors, work that goes on where it can, and workers that come back."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from queuekit import Status
from queuekit.errors import ServerRefusedError, ServerUnreachableError
from queuekit.store.refusals import TRANSIENT
from tests.servers.patience import in_real_time, queue_at, until, worker_of
from tests.servers.proxy import Proxy
from tests.servers.running import running

pytestmark = pytest.mark.slow


async def add(ctx, a, b):
    return a + b


@pytest.fixture
def impatient(monkeypatch):
    """Clients that try again what passes by itself, but not for long."""
    monkeypatch.setattr("queuekit.store.server.PATIENCE_S", 0.05)


async def refusal_of(awaitable):
    with pytest.raises(ServerRefusedError) as caught:
        await awaitable
    error = caught.value
    assert len(str(error).splitlines()) == 3, (
        "what happened, what became of the command, what to do"
    )
    assert error.__cause__ is not None
    return error


def test_scripts_that_were_flushed_are_loaded_again(server):
    async def main():
        async with queue_at(server.url) as queue, worker_of(queue, [add]):
            for n in range(5):
                server.ask("SCRIPT", "FLUSH")
                assert await queue.apply("add", a=n, b=1) == n + 1

    in_real_time(main)


def test_a_restart_with_its_data_costs_no_job_and_no_worker(program):
    async def main(server):
        async with queue_at(server.url) as queue:
            for n in range(5):
                await queue.enqueue("add", a=n, b=1, key=f"job-{n}")
            server.kill()
            await asyncio.to_thread(server.start)
            async with worker_of(queue, [add]):
                for n in range(5):
                    job = await queue.job(f"job-{n}")
                    await job.refresh(until_complete=30)
                    assert (job.status, job.result) == (Status.COMPLETE, n + 1)
                server.kill()
                await asyncio.to_thread(server.start)
                await until(lambda: _applied(queue))

    with running(program, "appendonly yes", "appendfsync always") as server:
        in_real_time(lambda: main(server))


async def _applied(queue):
    with contextlib.suppress(ServerUnreachableError):
        return await queue.apply("add", a=1, b=1) == 2


def test_a_full_memory_refuses_enqueues_and_lets_the_work_in_flight_finish(server):
    release = asyncio.Event()

    async def hold(ctx):
        await release.wait()
        return "done"

    async def main():
        async with queue_at(server.url) as queue, worker_of(queue, [hold]):
            job = await queue.enqueue("hold", timeout=None)
            await queue.listen([job.key], lambda key, status: status is Status.ACTIVE, 30)
            server.configure("maxmemory", "1")
            error = await refusal_of(queue.enqueue("hold", key="refused"))
            assert (error.code, error.may_have_happened) == ("OOM", False)
            assert await queue.job("refused") is None
            release.set()
            await job.refresh(until_complete=30)
            assert (job.status, job.result) == (Status.COMPLETE, "done")
            server.configure("maxmemory", "0")
            assert await queue.apply("hold") == "done"

    in_real_time(main)


def test_a_replica_refuses_and_says_what_to_do(server, impatient):
    async def main():
        async with queue_at(server.url) as queue:
            await queue.enqueue("add")
            server.ask("REPLICAOF", "127.0.0.1", "1")
            error = await refusal_of(queue.enqueue("add"))
            assert error.code == "READONLY"
            assert "sentinel://" in str(error)
            server.ask("REPLICAOF", "NO", "ONE")
            assert await queue.enqueue("add")

    in_real_time(main)


def test_an_enqueue_during_a_short_failover_only_takes_longer(server):
    async def main():
        async with queue_at(server.url) as queue:
            await queue.enqueue("add")
            server.ask("REPLICAOF", "127.0.0.1", "1")
            enqueue = asyncio.create_task(queue.enqueue("add"))
            await until(lambda: _refused_writes(server))
            server.ask("REPLICAOF", "NO", "ONE")
            assert await enqueue
            assert await queue.count("queued") == 2

    in_real_time(main)


def _refused_writes(server):
    """Whether a second script was sent to it, by its own statistics."""
    calls, _ = server.info("commandstats")["cmdstat_evalsha"].split(",", 1)
    return int(calls.removeprefix("calls=")) >= 2


def test_a_server_that_cannot_save_refuses_with_the_reason(server):
    async def main():
        async with queue_at(server.url) as queue:
            server.configure("stop-writes-on-bgsave-error", "yes")
            server.configure("save", "3600 1")
            await queue.enqueue("add")
            (server.config.parent / "dump.rdb").mkdir()
            server.ask("BGSAVE")
            await until(lambda: server.info("persistence")["rdb_last_bgsave_status"] == "err")
            error = await refusal_of(queue.enqueue("add"))
            assert (error.code, error.may_have_happened) == ("MISCONF", False)
            assert await queue.count("queued") == 1

    in_real_time(main)


def test_an_endless_script_is_busy_and_after_its_end_the_call_goes_through(server):
    async def main():
        async with queue_at(server.url) as queue:
            await queue.enqueue("add")
            server.configure("lua-time-limit", "1")
            endless = asyncio.create_task(
                asyncio.to_thread(_ask_in_vain, server, "EVAL", "while true do end", "0")
            )
            await until(lambda: _is_busy(server))
            error = await refusal_of(_with_no_patience(queue.enqueue("add")))
            assert (error.code, error.may_have_happened) == ("BUSY", False)
            enqueue = asyncio.create_task(queue.enqueue("add"))
            await asyncio.sleep(0)
            server.ask("SCRIPT", "KILL")
            assert await enqueue
            await endless
            assert await queue.count("queued") == 2

    in_real_time(main)


async def _with_no_patience(awaitable):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("queuekit.store.server.PATIENCE_S", 0)
        return await awaitable


def _ask_in_vain(server, *words):
    with contextlib.suppress(Exception):
        server.ask(*words)


def _is_busy(server):
    try:
        server.ask("DBSIZE")
    except Exception as error:
        return "BUSY" in str(error)
    return False


def test_a_server_with_too_many_clients_says_so(server, impatient):
    async def main():
        async with queue_at(server.url) as queue:
            crowd = [server.link() for _ in range(2)]
            for one in crowd:
                one.ask(b"CONFIG", b"SET", b"maxclients", b"2")
            with pytest.raises((ServerRefusedError, ServerUnreachableError)) as caught:
                await queue.enqueue("add")
            assert (
                "max number of clients" in str(caught.value) or not caught.value.may_have_happened
            )
            for one in crowd:
                one.close()
            assert await until(lambda: _enqueued(queue))

    in_real_time(main)


async def _enqueued(queue):
    with contextlib.suppress(ServerRefusedError, ServerUnreachableError):
        return await queue.enqueue("add")


@pytest.mark.parametrize(
    ("password", "code"), [("", "NOAUTH"), (":wrong@", "WRONGPASS")], ids=["none", "wrong"]
)
def test_a_wrong_password_is_told_at_once(program, password, code):
    async def main(server):
        async with (
            Proxy(server.path) as proxy,
            queue_at(proxy.url.replace("unix://", f"unix://{password}")) as queue,
        ):
            error = await refusal_of(queue.enqueue("add"))
            assert (error.code, error.may_have_happened) == (code, False)
            assert proxy.connections == 1, "tried once: it does not pass by itself"

    with running(program, "requirepass right", password="right") as server:
        in_real_time(lambda: main(server))


@pytest.mark.parametrize("code", sorted(TRANSIENT - {"MOVED"}))
def test_a_refusal_that_passes_by_itself_is_tried_again_until_it_passes(server, code):
    words = {"ASK": "ASK 1 127.0.0.1:1", "MAXCLIENTS": "ERR max number of clients reached"}

    async def main():
        async with Proxy(server.path) as proxy, queue_at(proxy.url) as queue:
            await queue.enqueue("add")
            proxy.answer(f"-{words.get(code, f'{code} for now')}\r\n".encode(), times=3)
            assert await queue.enqueue("add")
            assert proxy.left == 0
            assert await queue.count("queued") == 2

    in_real_time(main)


@pytest.mark.parametrize("code", sorted(TRANSIENT))
def test_a_refusal_that_does_not_pass_is_told_within_the_patience(server, code, impatient):
    words = {
        "ASK": "ASK 1 127.0.0.1:1",
        "MOVED": "MOVED 1 127.0.0.1:1",
        "MAXCLIENTS": "ERR max number of clients reached",
    }

    async def main():
        async with Proxy(server.path) as proxy, queue_at(proxy.url) as queue:
            await queue.enqueue("add")
            proxy.answer(f"-{words.get(code, f'{code} for ever')}\r\n".encode(), times=10_000)
            error = await refusal_of(queue.enqueue("add"))
            assert (error.code, error.may_have_happened) == (code, False)
            assert 10_000 - proxy.left < 10, "with pauses between the tries"

    in_real_time(main)


def test_a_waiter_that_may_not_subscribe_looks_by_itself_and_does_not_flood_the_server(server):
    release = asyncio.Event()

    async def held(ctx):
        await release.wait()
        return "done"

    def connected():
        return int(server.info("stats")["total_connections_received"])

    async def main():
        server.ask("ACL", "SETUSER", "deaf", "on", ">secret", "~*", "+@all", "resetchannels")
        account = {"username": "deaf", "password": "secret"}
        async with (
            queue_at(server.url, **account) as deaf,
            queue_at(server.url) as queue,
            worker_of(queue, [held]),
        ):
            waiting = asyncio.create_task(deaf.apply("held", timeout=30))
            await until(lambda: _is_active(queue))
            began, before = time.monotonic(), connected()
            await until(lambda: time.monotonic() - began > 0.5)
            assert connected() - before < 10 + ASKED_HERE
            release.set()
            assert await waiting == "done"

    in_real_time(main)


ASKED_HERE = 2
"Each question of a test's own is a connection."


async def _is_active(queue):
    return await queue.count("active") == 1

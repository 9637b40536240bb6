"""Connections that are cut, half open or left behind: nothing doubled, nothing mixed up, no hang."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from queuekit import Queue, Status
from queuekit.errors import ServerError, ServerUnreachableError
from queuekit.simulation.errors import SimulationError
from tests.servers.patience import in_real_time, queue_at, until, worker_of
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.slow

SHORT_S = 0.3
"A socket's time-out for tests of silence."


async def add(ctx, a, b):
    return a + b


async def lost(awaitable):
    with pytest.raises(ServerUnreachableError) as caught:
        await awaitable
    assert isinstance(caught.value, ConnectionError)
    assert len(str(caught.value).splitlines()) == 3
    return caught.value


def test_an_enqueue_whose_reply_is_lost_is_sent_again_and_is_one_job(server):
    async def main():
        async with Proxy(server.path) as proxy, queue_at(proxy.url) as queue:
            await queue.enqueue("add", a=0, b=0)
            proxy.cut_replies_to(b"the-only-one")

            async def heal_after_the_first_cut():
                await proxy.seen.wait()
                proxy.heal()

            healing = asyncio.create_task(heal_after_the_first_cut())
            job = await queue.enqueue("add", key="the-only-one")
            await healing
            assert job.status is Status.QUEUED
            assert await queue.count("queued") == 2

    in_real_time(main)


def test_an_enqueue_whose_replies_are_all_lost_may_have_happened(server):
    async def main():
        async with Proxy(server.path) as proxy, queue_at(proxy.url) as queue:
            await queue.enqueue("add")
            proxy.cut_replies_to(b"perhaps")
            error = await lost(queue.enqueue("add", key="perhaps"))
            assert error.may_have_happened
            assert "may have been executed" in str(error)
            proxy.heal()
            assert await queue.enqueue("add", key="perhaps") is None, "it is there: not doubled"
            assert await queue.count("queued") == 2

    in_real_time(main)


def test_an_enqueue_that_was_never_sent_says_so(server):
    async def main():
        async with Proxy(server.path) as proxy, queue_at(proxy.url) as queue:
            await queue.enqueue("add")
            await proxy.refuse()
            error = await lost(queue.enqueue("add"))
            assert not error.may_have_happened
            assert "never sent" in str(error)

    in_real_time(main)


def test_a_client_on_a_half_open_connection_gets_an_error_within_its_time_out(server):
    async def main():
        async with (
            Proxy(server.path) as proxy,
            queue_at(proxy.url, socket_timeout=SHORT_S) as queue,
        ):
            await queue.enqueue("add")
            proxy.swallow()
            error = await lost(queue.enqueue("add", key="swallowed"))
            assert error.may_have_happened
            proxy.heal()
            assert await queue.job("swallowed") is None

    in_real_time(main)


def test_more_callers_than_connections_get_their_errors_too(server):
    async def main():
        async with (
            Proxy(server.path) as proxy,
            queue_at(proxy.url, socket_timeout=SHORT_S, max_connections=2) as queue,
        ):
            proxy.swallow()
            calls = [queue.enqueue("add") for _ in range(50)]
            errors = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(error) for error in errors} == {ServerUnreachableError}
            # Those whose turn did not come in time do not wait for it any longer.
            in_line = [error for error in errors if "no answer within 0.9 s" in str(error)]
            assert len(in_line) > 25
            assert not any(error.may_have_happened for error in in_line)

    in_real_time(main)


def test_a_worker_notices_a_half_open_connection_and_carries_on(server, monkeypatch):
    monkeypatch.setattr("queuekit.environment.IDLE_WAIT_S", SHORT_S)

    async def main():
        async with (
            Proxy(server.path) as proxy,
            queue_at(proxy.url, socket_timeout=SHORT_S) as queue,
            queue_at(server.url) as direct,
            worker_of(queue, [add]),
        ):
            await direct.apply("add", a=1, b=1)
            proxy.swallow()
            job = await direct.enqueue("add", a=1, b=2)
            await proxy.seen.wait()
            # The old connections stay half open for ever; new ones work.
            proxy.heal_new_connections()
            await job.refresh(until_complete=30)
            assert job.result == 3

    in_real_time(main)


def test_a_blocking_read_on_a_half_open_connection_ends(server):
    async def main():
        async with (
            Proxy(server.path) as proxy,
            queue_at(proxy.url, socket_timeout=SHORT_S) as queue,
        ):
            wait = asyncio.create_task(queue.store.wait("w", for_work=True, timeout_s=1))
            await until(lambda: any(c["cmd"] == "blpop" for c in server.clients()))
            proxy.swallow()
            await lost(wait)
            proxy.heal()
            assert await queue.store.wait("w", for_work=True, timeout_s=0.01) is None

    in_real_time(main)


def test_who_waits_on_a_half_open_subscription_hears_of_it(server, monkeypatch):
    monkeypatch.setattr("queuekit.environment.IDLE_WAIT_S", SHORT_S)
    monkeypatch.setattr("queuekit.results.FALLBACK_S", 10_000)

    async def main():
        async with (
            Proxy(server.path) as proxy,
            queue_at(proxy.url, socket_timeout=SHORT_S) as queue,
            queue_at(server.url) as direct,
        ):
            job = await queue.enqueue("add", a=1, b=2)
            waiting = asyncio.create_task(job.refresh(until_complete=1000))
            await until(lambda: _subscribers(server))
            proxy.swallow()
            async with worker_of(direct, [add]):
                await until(lambda: _complete(direct, job.key))
            proxy.heal_new_connections()
            await waiting
            assert job.result == 3

    in_real_time(main)


def test_a_subscription_stays_after_its_connection_was_killed(server, monkeypatch):
    monkeypatch.setattr("queuekit.results.FALLBACK_S", 10_000)

    async def main():
        async with queue_at(server.url) as queue:
            job = await queue.enqueue("add", a=1, b=2)
            waiting = asyncio.create_task(job.refresh(until_complete=1000))
            await until(lambda: _subscribers(server))
            server.ask("CLIENT", "KILL", "TYPE", "pubsub")
            await until(lambda: _subscribers(server))
            async with worker_of(queue, [add]):
                await waiting
            assert job.result == 3

    in_real_time(main)


def _subscribers(server):
    return server.ask("PUBSUB", "CHANNELS", "*")


async def _complete(queue, key):
    return (await queue.job(key)).status is Status.COMPLETE


def test_clients_that_are_killed_in_the_middle_of_commands_lose_and_double_nothing(server):
    async def main():
        async with queue_at(server.url) as queue, worker_of(queue, [add], concurrency=5):

            async def kill():
                while True:
                    with contextlib.suppress(SimulationError):
                        server.ask("CLIENT", "KILL", "TYPE", "normal")
                    await asyncio.sleep(0.01)

            killing = asyncio.create_task(kill())
            keys = [f"job-{n}" for n in range(100)]
            for n, key in enumerate(keys):
                while True:
                    # Its key makes it one job, so it can be enqueued again.
                    with contextlib.suppress(ServerUnreachableError):
                        await queue.enqueue("add", a=n, b=1, key=key, retries=1)
                        break
            killing.cancel()
            await asyncio.wait([killing])
            for n, key in enumerate(keys):
                job = await queue.job(key)
                await job.refresh(until_complete=30)
                assert (job.status, job.result, job.attempts) == (Status.COMPLETE, n + 1, 1)

    in_real_time(main)


def test_a_paused_server_is_an_error_in_time_and_answers_again_later(server):
    async def main():
        async with queue_at(server.url, socket_timeout=SHORT_S) as queue:
            await queue.enqueue("add")
            server.ask("CLIENT", "PAUSE", "1500", "ALL")
            error = await lost(queue.enqueue("add", key="paused"))
            assert error.may_have_happened
            await until(lambda: _counted(queue))
            # Whether what was sent into the pause was executed after it or not:
            await queue.enqueue("add", key="paused")
            assert await queue.count("queued") == 2

    in_real_time(main)


async def _counted(queue):
    with contextlib.suppress(ServerError):
        return await queue.count("queued")


def test_a_call_that_is_cancelled_anywhere_leaves_no_reply_for_the_next_one(server):
    """Of each call cancelled after n turns of the loop, the next one gets its own answer."""

    async def main():
        async with Proxy(server.path) as proxy, queue_at(proxy.url, max_connections=1) as queue:
            for n in range(10):
                await queue.enqueue("add", key=f"job-{n}")
            for turns in range(60):
                call = asyncio.create_task(queue.job(f"job-{turns % 10}"))
                for _ in range(turns % 30):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait([call])
                other = await queue.job(f"job-{(turns + 1) % 10}")
                assert other.key == f"job-{(turns + 1) % 10}"
                assert await queue.count("queued") == 10

    in_real_time(main)


def test_a_pipeline_that_is_cancelled_between_its_replies_leaves_none_behind(server):
    async def main():
        async with Proxy(server.path) as proxy, queue_at(proxy.url, max_connections=1) as queue:
            await queue.enqueue("add")
            for turns in range(40):
                call = asyncio.create_task(queue.info())
                for _ in range(turns):
                    await asyncio.sleep(0)
                call.cancel()
                await asyncio.wait([call])
                assert (await queue.info())["queued"] == 1

    in_real_time(main)


def test_nobody_at_an_address_is_told_with_the_address(tmp_path):
    async def main():
        queue = Queue.from_url(f"unix://{tmp_path}/nobody.sock")
        for call in (
            queue.connect(),
            queue.enqueue("add"),
            queue.apply("add"),
            queue.job("x"),
            queue.info(),
            queue.listen(["x"], lambda key, status: True),
        ):
            error = await lost(call)
            assert f"{tmp_path}/nobody.sock" in str(error)
            assert not error.may_have_happened

    in_real_time(main)

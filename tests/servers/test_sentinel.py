"""A pair under Sentinel, and enqueues that wait for a replica."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from queuekit import Queue, Status
from queuekit.errors import (
    InvalidOptionError,
    InvalidUrlError,
    NotReplicatedError,
    ServerError,
    ServerUnreachableError,
)
from queuekit.store.redis import NewJob, Store
from tests.servers.patience import in_real_time, queue_at, until, worker_of
from tests.servers.running import RunningServer, free_port

pytestmark = pytest.mark.slow


class Pair:
    """A primary, its replica, and a Sentinel that watches them."""

    def __init__(self, program):
        self.primary = RunningServer(program, "repl-diskless-sync-delay 0", port=free_port())
        self.replica = RunningServer(
            program, f"replicaof 127.0.0.1 {self.primary.port}", port=free_port()
        )
        self.sentinel = RunningServer(
            program,
            f"sentinel monitor mymaster 127.0.0.1 {self.primary.port} 1",
            "sentinel down-after-milliseconds mymaster 300",
            "sentinel failover-timeout mymaster 3000",
            port=free_port(),
            sentinel=True,
        )

    @property
    def url(self):
        # Nobody listens at the first one: the next is asked.
        return f"sentinel://127.0.0.1:1,127.0.0.1:{self.sentinel.port}/mymaster"

    async def ready(self):
        await until(lambda: self.replica.info("replication")["master_link_status"] == "up")
        await until(lambda: self._slaves() == 1)

    def _master(self):
        return list(self.sentinel.ask("SENTINEL", "MASTER", "mymaster"))

    def _slaves(self):
        told = self._master()
        return int(told[told.index(b"num-slaves") + 1])

    def close(self):
        for server in (self.sentinel, self.replica, self.primary):
            server.thaw()
            server.close()


@pytest.fixture
def pair(program):
    one = Pair(program)
    yield one
    one.close()


async def add(ctx, a, b):
    return a + b


async def _applied(queue):
    with contextlib.suppress(ServerError):
        return await queue.apply("add", a=1, b=2) == 3


def test_a_worker_follows_a_failover(pair):
    async def main():
        await pair.ready()
        async with queue_at(pair.url) as queue, worker_of(queue, [add]):
            assert await queue.apply("add", a=1, b=1) == 2
            pair.primary.kill()
            await until(lambda: _applied(queue))
            assert pair.replica.info("replication")["role"] == "master"

    in_real_time(main)


def test_a_primary_that_hangs_is_left_for_the_new_one(pair):
    async def main():
        await pair.ready()
        async with queue_at(pair.url, socket_timeout=0.5) as queue, worker_of(queue, [add]):
            assert await queue.apply("add", a=1, b=1) == 2
            pair.primary.freeze()
            await until(lambda: _applied(queue))
            assert pair.replica.info("replication")["role"] == "master"

    in_real_time(main)


def test_no_enqueue_that_a_replica_has_acknowledged_is_lost_in_a_failover(pair):
    acknowledged = []

    async def produce(queue, producer):
        with contextlib.suppress(ServerError):
            for n in range(10_000):
                job = await queue.enqueue("add", a=n, b=0, key=f"{producer}-{n}")
                acknowledged.append(job.key)

    async def main():
        await pair.ready()
        async with queue_at(pair.url, durability="replica") as queue:
            producers = [asyncio.create_task(produce(queue, n)) for n in range(5)]
            await until(lambda: len(acknowledged) >= 100)
            pair.primary.kill()
            await asyncio.wait(producers)
            await until(lambda: pair.replica.info("replication")["role"] == "master")
            found = await until(lambda: _read(queue))
            assert len(found) >= 100
            assert all(job is not None for job in found)

    async def _read(queue):
        with contextlib.suppress(ServerUnreachableError):
            return await queue.jobs(acknowledged)

    in_real_time(main)


def test_an_enqueue_that_no_replica_acknowledges_says_so_each_time_it_is_sent(pair):
    async def main():
        await pair.ready()
        store = Store(pair.url, "durable", {"socket_timeout": 0.5}, "replica")
        job = NewJob("job", "its-id", b"{}")
        pair.replica.freeze()
        try:
            for _ in range(2):  # the second time the script answers "same", and writes nothing
                with pytest.raises(NotReplicatedError, match="no replica") as caught:
                    await store.enqueue([job])
                assert caught.value.may_have_happened
            pair.replica.thaw()
            await until(lambda: _acknowledged(store, job))
        finally:
            await store.connections.close()

    in_real_time(main)


async def _acknowledged(store, job):
    with contextlib.suppress(NotReplicatedError):
        return (await store.enqueue([job]))[0].verdict == "same"


def test_a_server_without_replicas_takes_no_durable_enqueue_silently(server):
    async def main():
        async with queue_at(server.url, durability="replica", socket_timeout=0.5) as queue:
            with pytest.raises(NotReplicatedError) as caught:
                await queue.enqueue("add", key="alone")
            assert len(str(caught.value).splitlines()) == 3
            assert (await queue.job("alone")).status is Status.QUEUED, "the primary has it"
        async with queue_at(server.url) as queue:
            assert await queue.enqueue("add")

    in_real_time(main)


async def test_a_simulation_acknowledges_durable_enqueues_at_once(simulation):
    """It has no replicas, and nothing is ever lost in it that was stored."""
    queue = Queue.from_url("redis://localhost", durability="replica")
    before = asyncio.get_running_loop().time()
    assert await queue.enqueue("add")
    assert asyncio.get_running_loop().time() == before


def test_a_durability_that_is_none_is_refused():
    with pytest.raises(InvalidOptionError, match="durability='all' is none"):
        Queue.from_url("redis://localhost", durability="all")


def test_sentinels_that_know_no_such_primary_are_told_apart_from_a_primary_that_is_away(pair):
    async def main():
        async with queue_at(pair.url.replace("mymaster", "other")) as queue:
            with pytest.raises(ServerUnreachableError, match="primary called 'other'") as caught:
                await queue.enqueue("add")
            assert not caught.value.may_have_happened

    in_real_time(main)


async def test_sentinels_cannot_be_used_in_a_simulation(simulation):
    queue = Queue.from_url("sentinel://localhost/mymaster")
    with pytest.raises(InvalidUrlError, match="cannot be used in a simulation"):
        await queue.enqueue("add")

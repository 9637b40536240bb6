"""Redis Cluster: a queue lives in one slot, so on one server, which is found and followed."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from redis.crc import key_slot

from queuekit import Queue, Status
from queuekit.errors import (
    InvalidOptionError,
    InvalidUrlError,
    ServerRefusedError,
    ServerUnreachableError,
)
from queuekit.simulation.errors import SimulationError
from queuekit.store.keys import root
from tests.servers.patience import in_real_time, queue_at, until, worker_of
from tests.servers.running import RunningServer, free_port

pytestmark = pytest.mark.slow

SLOTS = 16384
LATER = int(time.time()) + 10**8
"Epoch seconds; nothing here lives so long."
SETTINGS = ("cluster-enabled yes", "cluster-node-timeout 2000", "repl-diskless-sync-delay 0")


class Cluster:
    """Three servers with a third of the slots each."""

    def __init__(self, program):
        self.servers = [RunningServer(program, *SETTINGS, port=free_port()) for _ in range(3)]
        for number, server in enumerate(self.servers):
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            mine = range(number * SLOTS // 3, (number + 1) * SLOTS // 3)
            server.ask("CLUSTER", "ADDSLOTS", *mine)
            server.ask("CLUSTER", "MEET", "127.0.0.1", self.servers[0].port)

    async def ready(self):
        await until(lambda: all(map(self._knows_all, self.servers)))

    def _knows_all(self, server):
        ok = b"cluster_state:ok" in server.ask("CLUSTER", "INFO")
        return ok and len(server.ask("CLUSTER", "SLOTS")) >= 3

    def owner_of(self, slot):
        return next(s for s in self.servers if slot in self._slots_of(s))

    def _slots_of(self, server):
        mine = set()
        for first, last, node, *_ in server.ask("CLUSTER", "SLOTS"):
            if int(node[1]) == server.port:
                mine |= set(range(int(first), int(last) + 1))
        return mine

    def begin_move(self, slot, source, target):
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(target))

    def end_move(self, slot, source, target):
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, 1000):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for server in (target, source, *self.servers):
            server.ask("CLUSTER", "SETSLOT", slot, "NODE", self._id(target))

    def _id(self, server):
        return server.ask("CLUSTER", "MYID")

    def url(self, *servers):
        places = ",".join(f"127.0.0.1:{server.port}" for server in servers or self.servers)
        return f"rediscluster://{places}"

    def close(self):
        for server in self.servers:
            server.close()


@pytest.fixture(scope="module")
def cluster(program):
    one = Cluster(program)
    yield one
    one.close()


async def add(ctx, a, b):
    return a + b


def test_queues_spread_over_a_cluster_and_each_works_whole(cluster):
    async def main():
        await cluster.ready()
        names = [f"queue-{n}" for n in range(6)]
        owners = {cluster.owner_of(key_slot(root(name).encode())).port for name in names}
        assert len(owners) > 1, "these names are on several servers"
        for name in names:
            async with (
                queue_at(cluster.url(), name=name) as queue,
                worker_of(queue, [add]),
            ):
                assert await queue.apply("add", a=1, b=2) == 3
                assert await queue.map("add", [{"a": n} for n in range(20)], b=1) == list(
                    range(1, 21)
                )
                late = await queue.enqueue("add", a=1, b=1, scheduled=LATER)
                await late.abort("no more")
                assert (await queue.info(jobs=True))["active"] == 0
                await queue.update(await queue.enqueue("add", scheduled=LATER), progress=0.5)

    in_real_time(main)


def test_one_server_of_the_address_is_enough_to_find_the_others(cluster):
    async def main():
        await cluster.ready()
        for server in cluster.servers:
            async with queue_at(cluster.url(server), name="one") as queue:
                await queue.enqueue("add")
        async with queue_at(cluster.url(), name="one") as queue:
            assert await queue.count("queued") == 3

    in_real_time(main)


def test_a_queue_whose_slot_moves_stands_still_and_then_goes_on_elsewhere(cluster):
    """While it moves nothing of it is done on half of its keys; afterwards nothing is missing."""
    name = "moving"
    slot = key_slot(root(name).encode())

    async def main():
        await cluster.ready()
        source = cluster.owner_of(slot)
        target = next(server for server in cluster.servers if server is not source)
        async with (
            queue_at(cluster.url(), name=name) as queue,
            worker_of(queue, [add], concurrency=2) as worker,
        ):
            jobs = [await queue.enqueue("add", a=n, b=1) for n in range(50)]
            await jobs[0].refresh(until_complete=30)
            waiting = [await queue.enqueue("add", a=n, b=1, scheduled=LATER) for n in range(20)]
            cluster.begin_move(slot, source, target)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("queuekit.store.server.PATIENCE_S", 0.1)
                with pytest.raises(ServerRefusedError) as caught:
                    await queue.enqueue("add", key="refused")
            assert caught.value.code in {"ASK", "TRYAGAIN"}
            patient = asyncio.create_task(queue.enqueue("add", a=1, b=1, key="patient"))
            cluster.end_move(slot, source, target)
            jobs.append(await patient)
            jobs.append(await queue.enqueue("add", a=1, b=1))
            for job in jobs:
                await job.refresh(until_complete=30)
                assert (job.status, job.attempts) == (Status.COMPLETE, 1)
            assert await queue.job("refused") is None
            assert await queue.count("scheduled") == len(waiting)
            assert target.ask("CLUSTER", "COUNTKEYSINSLOT", slot) > 0
            assert source.ask("CLUSTER", "COUNTKEYSINSLOT", slot) == 0
            assert worker.queue is queue

    in_real_time(main)


def test_a_plain_address_of_a_cluster_says_which_address_it_needs(cluster):
    async def main():
        await cluster.ready()
        stranger = next(
            server
            for server in cluster.servers
            if server is not cluster.owner_of(key_slot(root("default").encode()))
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("queuekit.store.server.PATIENCE_S", 0)
            async with queue_at(f"redis://127.0.0.1:{stranger.port}") as queue:
                with pytest.raises(ServerRefusedError, match="rediscluster://") as caught:
                    await queue.enqueue("add")
        assert caught.value.code == "MOVED"

    in_real_time(main)


@pytest.mark.parametrize("name", ["{a}", "a{b}c", "}"])
def test_braces_in_a_queue_name_are_refused(name):
    with pytest.raises(InvalidOptionError, match="name"):
        Queue.from_url("rediscluster://localhost", name=name)


async def test_a_cluster_cannot_be_used_in_a_simulation(simulation):
    queue = Queue.from_url("rediscluster://localhost")
    with pytest.raises(InvalidUrlError, match="cannot be used in a simulation"):
        await queue.enqueue("add")


def test_a_queue_follows_its_slot_to_a_replica_that_takes_over(program):
    name = "taken-over"

    async def main(cluster):
        await cluster.ready()
        owner = cluster.owner_of(key_slot(root(name).encode()))
        replica = RunningServer(program, *SETTINGS, port=free_port())
        cluster.servers.append(replica)
        replica.ask("CLUSTER", "MEET", "127.0.0.1", owner.port)
        await until(lambda: _replicates(replica, owner))
        async with queue_at(cluster.url(), name=name) as queue, worker_of(queue, [add]):
            assert await queue.apply("add", a=1, b=1) == 2
            await until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"))
            # It tells those that it knows, and nobody can tell them after it.
            await until(lambda: all(map(_knows_four, cluster.servers)))
            replica.ask("CLUSTER", "FAILOVER", "TAKEOVER")
            await until(lambda: b"role:master" in replica.ask("INFO", "replication"))
            owner.kill()
            await until(lambda: _applied(queue))

    with contextlib.closing(Cluster(program)) as cluster:
        in_real_time(lambda: main(cluster))


def _knows_four(server):
    nodes = server.ask("CLUSTER", "NODES").decode().splitlines()
    return len(nodes) == 4 and not any("handshake" in node for node in nodes)


async def _applied(queue):
    with contextlib.suppress(ServerUnreachableError):  # until the others know of the change
        return await queue.apply("add", a=1, b=2) == 3


def _replicates(replica, owner):
    with contextlib.suppress(SimulationError):  # it does not know the other one yet
        replica.ask("CLUSTER", "REPLICATE", owner.ask("CLUSTER", "MYID"))
        return True

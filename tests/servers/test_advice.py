"""What a worker says at its start about how its server is set."""

from __future__ import annotations

import logging

import pytest

from queuekit import Queue, Worker
from queuekit.store import advice as advising
from tests.servers.patience import in_real_time, queue_at, until, worker_of
from tests.servers.running import running

pytestmark = pytest.mark.slow


async def findings_of(server):
    async with queue_at(server.url) as queue:
        return await advising.advice(queue.store.server)


def test_a_server_that_is_set_well_is_no_matter_for_words(program):
    with running(program, "appendonly yes", "maxmemory-policy noeviction") as server:
        assert in_real_time(lambda: findings_of(server)) == []


def test_eviction_and_a_missing_aof_are_told_with_what_could_happen_and_what_to_do(program):
    with running(program, "appendonly no", "maxmemory-policy allkeys-lru") as server:
        eviction, persistence = in_real_time(lambda: findings_of(server))
    assert "'allkeys-lru'" in eviction
    assert "CONFIG SET maxmemory-policy noeviction" in eviction
    assert "CONFIG SET appendonly yes" in persistence
    for finding in (eviction, persistence):
        assert len(finding.splitlines()) == 3


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ("redis_version:6.0.16\r\n", "Redis 6.0"),
        ("redis_version:5.0.7\r\n", "Redis 5.0"),
        ("redis_version:6.2.5\r\n", ""),
        ("redis_version:10.0.0\r\n", ""),
        ("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\n", ""),
        ("", ""),
    ],
)
def test_a_server_that_is_too_old_is_told(info, told):
    finding = advising._version(info)
    assert told in finding
    assert bool(finding) == bool(told)


def test_a_worker_says_it_once_at_its_start(server, caplog):
    caplog.set_level(logging.DEBUG, logger="queuekit")

    async def add(ctx):
        return 1

    async def main():
        async with queue_at(server.url) as queue, worker_of(queue, [add]):
            await until(lambda: "appendonly" in caplog.text)
            assert await queue.apply("add") == 1

    in_real_time(main)
    assert [r.levelname for r in caplog.records if "appendonly" in r.getMessage()] == ["WARNING"]


def test_a_user_without_the_right_to_look_is_no_warning(server, caplog):
    caplog.set_level(logging.DEBUG, logger="queuekit")
    server.ask("ACL", "SETUSER", "default", "-config", "-info")

    async def main():
        async with queue_at(server.url) as queue:
            assert await advising.advice(queue.store.server) == []

    in_real_time(main)
    assert {r.levelname for r in caplog.records} == {"DEBUG"}
    assert "CONFIG GET appendonly is not known" in caplog.text


async def test_a_simulation_is_not_advised(simulation, caplog):
    simulation.worker(worker=Worker(queue=Queue.from_url("redis://localhost"), functions=[len]))
    await simulation.advance(60)
    assert "appendonly" not in caplog.text


def test_a_server_within_the_process_is_not_advised():
    async def main():
        async with queue_at("fakeredis://dev") as queue:
            return await advising.advice(queue.store.server)

    assert in_real_time(main) == []

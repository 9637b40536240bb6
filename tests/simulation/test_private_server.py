"""Servers of our own, and what a relay does when a server fails it."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from queuekit.simulation import Simulation, SimulationError, link, private_server
from queuekit.simulation.backends import RealServer
from queuekit.simulation.link import Link
from queuekit.simulation.private_server import find_servers, start_private_server


def client():
    return redis.asyncio.Redis(host="h", retry=Retry(NoBackoff(), 0), socket_timeout=None)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, _ in find_servers()])
def test_a_private_server_starts_empty_says_its_version_and_leaves_nothing(name):
    server = start_private_server(dict(find_servers())[name])
    assert server.version.split()[0] in {"redis", "valkey"}
    one = Link(server.address, 0)
    assert one.ask(b"DBSIZE") == 0
    one.ask(b"SET", b"a", b"1")
    one.close()
    server.kill()
    server.restart()
    again = Link(server.address, 0)
    assert again.ask(b"DBSIZE") == 0
    again.close()
    server.close()
    assert not Path(server.address).parent.exists()


def test_without_any_server_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(private_server, "find_servers", list)
    with pytest.raises(SimulationError, match=r"pip install 'queuekit\[server\]'"):
        start_private_server()


def test_nobody_at_an_address_is_an_error_that_names_it():
    with pytest.raises(SimulationError, match=r"no Redis answers at /nowhere/redis\.sock"):
        Link("/nowhere/redis.sock", 0)


@pytest.mark.slow
def test_a_server_that_dies_is_a_lost_connection_to_all_its_clients():
    server = start_private_server()

    async def main():
        r, waiting = client(), client()
        await r.set("a", 1)
        wait = asyncio.create_task(waiting.blpop("q", 60))
        await asyncio.sleep(1)
        server.kill()
        for command in (r.get("a"), wait):
            with pytest.raises(redis.exceptions.ConnectionError):
                await command

    with Simulation(backend=RealServer(server.address, private=True)) as simulation:
        simulation.run(main())
    server.close()


def test_a_server_that_does_not_answer_is_an_error_after_the_limit(monkeypatch, tmp_path):
    monkeypatch.setattr(link, "REAL_LIMIT_S", 0.01)
    address = os.fspath(tmp_path / "silent")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(address)
        silent.listen()
        one = Link(address, 0)
        with pytest.raises(SimulationError, match=r"did not answer within 0\.01 s of real time"):
            one.ask(b"PING")
        one.close()

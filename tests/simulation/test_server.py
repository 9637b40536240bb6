"""The embedded Redis, where only it can be asked."""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.metadata
import weakref

import pytest

from queuekit.errors import MissingDependencyError
from queuekit.simulation import embedded, server


def test_another_fakeredis_is_refused_with_the_versions_that_do(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.41.0")
    with pytest.raises(MissingDependencyError) as raised:
        importlib.reload(server)
    message = str(raised.value)
    assert "fakeredis 2.41.0 is installed" in message
    assert "fakeredis>=2.40,<2.41" in message
    assert "pip install 'queuekit[testing]'" in message


async def use(name, key):
    client = embedded.client(f"fakeredis://{name}")
    before = await client.get(key)
    await client.set(key, 1)
    await client.aclose()
    return before


def test_an_address_names_one_server_for_as_long_as_its_loop_lives():
    async def main():
        assert await use("one", "a") is None
        assert await use("one", "a") == b"1"
        assert await use("other", "a") is None

    asyncio.run(main())
    asyncio.run(main())


def test_a_loop_is_not_kept_by_its_embedded_servers():
    loop = asyncio.new_event_loop()
    loop.run_until_complete(use("one", "a"))
    loop.close()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None


def test_a_client_shakes_hands_once_for_a_connection():
    async def main():
        loop = asyncio.get_running_loop()
        client = embedded.client("fakeredis://one", db=1)
        await client.ping()
        network = loop.__dict__["queuekit_embedded_networks"]["one"]
        peer = network.wires[0].peer
        commands = []
        run = server.Connection._run
        server.Connection._run = lambda self, fields: (
            commands.append(fields[0]),
            run(self, fields),
        )
        try:
            other = embedded.client("fakeredis://one", db=1)
            await other.ping()
            await other.aclose()
        finally:
            server.Connection._run = run
        await client.aclose()
        assert peer.embedded.connections == []
        return commands

    assert asyncio.run(main()).count(b"SELECT") == 1


@pytest.mark.parametrize("name", ["in_real_time", "in_a_simulation"])
async def test_a_fakeredis_address_means_the_worlds_own_server_in_a_simulation(simulation, name):
    await simulation.queue.enqueue("job", key=name)
    client = embedded.client("fakeredis://whatever")
    assert await client.keys("*")
    await client.aclose()

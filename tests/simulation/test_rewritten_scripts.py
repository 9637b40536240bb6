"""Scripts of others that set an expiry: on every server they do as on the embedded one, in virtual time."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
import redis.asyncio

from queuekit.simulation import Simulation
from queuekit.simulation.backends import Embedded, RealServer
from queuekit.simulation.private_server import find_servers, start_private_server
from queuekit.simulation.trace import first_difference

pytestmark = pytest.mark.slow

# Script, keys, arguments. Each is sent by its text, by its hash and in a transaction, in this order.
CASES = [
    ("return redis.call('SETEX', KEYS[1], ARGV[1], 1)", ["k"], [10]),
    ("return redis.call('setex', KEYS[1], 9, 1)", ["k"], []),
    ("return redis.call('PSETEX', KEYS[1], 9500, 1)", ["k"], []),
    ("return redis.call('TTL', KEYS[1])", ["k"], []),
    ("return redis.call('SET', KEYS[1], 1, 'PX', 1500, 'NX')", ["k2"], []),
    ("return redis.call('SET', KEYS[1], 1, ARGV[1], ARGV[2], 'XX', 'GET')", ["k2"], ["ex", 60]),
    ("return redis.call('SET', KEYS[1], 2, 'KEEPTTL')", ["k2"], []),
    (
        "return {redis.call('PTTL', KEYS[1]), redis.call('TTL', KEYS[1]), #ARGV, ARGV[1]}",
        ["k2"],
        ["x"],
    ),
    ("return redis.call('GETEX', KEYS[1], 'EX', 5)", ["k2"], []),
    ("return redis.call('GETEX', KEYS[1], 'PERSIST')", ["k2"], []),
    ("return redis.call('EXPIRE', KEYS[1], ARGV[1])", ["k2"], [60]),
    ("return redis.call('PEXPIRE', KEYS[1], 1)", ["missing"], []),
    ("return redis.call('EXPIREAT', KEYS[1], 1893456070)", ["k2"], []),
    ("return redis.call('PEXPIREAT', KEYS[1], 1893456070500)", ["k2"], []),
    ("return redis.call('RENAME', KEYS[1], 'k3')", ["k2"], []),
    ("return redis.call('PTTL', KEYS[1])", ["k3"], []),
    ("return redis.call('COPY', KEYS[1], 'k4', 'REPLACE')", ["k3"], []),
    ("return redis.call('PERSIST', KEYS[1])", ["k3"], []),
    ("redis.call('SETEX', KEYS[1], 7, 1) return redis.call('PTTL', KEYS[1])", ["k5"], []),
    ("redis.call('SETEX', KEYS[1], 7, 1) return redis.call('INCRBY', KEYS[1], 'x')", ["k6"], []),
    ("redis.call('SETEX', KEYS[1], 7, 1) return redis.pcall('LPUSH', KEYS[1], 'x')", ["k7"], []),
    ("redis.call('SETEX', KEYS[1], 7, 1) return nil", ["k7"], []),
    ("redis.call('SETEX', KEYS[1], 7, 1) return {1, 'a', {true, false, 3}, 2.9}", ["k7"], []),
    ("redis.call('SETEX', KEYS[1], 7, 1) return {1, nil, 3}", ["k7"], []),
    ("redis.call('SETEX', KEYS[1], 7, 1) return redis.status_reply('FINE')", ["k7"], []),
    ("redis.call('SETEX', KEYS[1], 7, 1) return redis.error_reply('MY words')", ["k7"], []),
    ("redis.call('SETEX', KEYS[1], 7, 1) error('boom')", ["k8"], []),
    ("return redis.call('SETEX', KEYS[1], 0, 1)", ["k8"], []),
    ("return redis.call('SETEX', KEYS[1], 'soon', 1)", ["k8"], []),
    ("return redis.call('SET', KEYS[1])", ["k8"], []),
    ("return redis.call('EXPIRE', KEYS[1], -1)", ["k8"], []),
    ("return redis.call('TIME')", [], []),
    ("-- comments\nlocal a = 1\nreturn tostring(#'TTL') -- and at the end", [], []),
]


async def all_cases(protocol):
    """What clients are answered; the codes of errors are in the trace."""
    answers = []

    async def note(answer):
        try:
            answers.append(await answer)
        except redis.ResponseError:
            answers.append("an error")

    async with redis.asyncio.Redis(host="any", protocol=protocol) as client:
        for source, keys, arguments in CASES:
            words = (len(keys), *keys, *arguments)
            await note(client.eval(source, *words))
            sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            assert await client.script_load(source) == sha
            assert await client.script_exists(sha, "0" * 40) == [True, False]
            await note(client.evalsha(sha, *words))
            async with client.pipeline() as pipe:
                pipe.set("z", 1).evalsha(sha, *words).pttl("k")
                done = await pipe.execute(raise_on_error=False)
                answers.append(["an error" if isinstance(d, Exception) else d for d in done])
            answers.append([await client.pttl(key) for key in keys])
        await client.script_flush()
        await note(client.evalsha(sha, 0))
        for _ in range(4):
            await asyncio.sleep(2.5)
            answers.append(sorted(await client.keys("*")))
    return answers


def lived(backend, protocol):
    with Simulation(seed=5, backend=backend, start="2030-01-01") as simulation:
        return simulation.run(all_cases(protocol)), simulation.trace.lines()


@pytest.fixture(scope="module", params=[name for name, _ in find_servers()])
def server(request):
    one = start_private_server(dict(find_servers())[request.param])
    yield one
    one.close()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("private", [True, False])
def test_a_script_does_on_each_server_what_it_does_on_the_embedded_one(server, protocol, private):
    expected, lines = lived(Embedded(), protocol)
    found, others = lived(RealServer(server.address, private=private, flush=True), protocol)
    assert first_difference(lines, others) is None
    assert found == expected
    assert expected[:3] == [b"OK", b"OK", [True, b"OK", 10_000]]
    assert expected[-4:][0] != expected[-1]  # some keys have come to their end on the way


def test_what_a_script_has_set_ends_even_if_it_fails_behind_it(server):
    async def main():
        async with redis.asyncio.Redis(host="any") as client:
            with pytest.raises(redis.ResponseError, match=r"user_script.*boom"):
                await client.eval("redis.call('SETEX', 'k', 7, 1) error('boom')", 0)
            before = await client.get("k")
            await asyncio.sleep(7.5)
            return before, await client.get("k")

    with Simulation(backend=RealServer(server.address, private=True)) as simulation:
        assert simulation.run(main()) == (b"1", None)


def test_the_servers_words_name_the_lines_of_the_script(server):
    async def main():
        async with redis.asyncio.Redis(host="any") as client:
            with pytest.raises(redis.ResponseError, match="user_script:3: boom"):
                await client.eval("redis.call('SETEX', 'k', 7, 1)\n\nerror('boom')", 0)

    with Simulation(backend=RealServer(server.address, private=True)) as simulation:
        simulation.run(main())


@pytest.mark.parametrize("word", ["HEXPIRE", "hpexpire", "RESTORE"])
def test_a_script_that_does_what_cannot_be_kept_virtual_is_refused_by_name(server, word):
    async def main():
        async with redis.asyncio.Redis(host="any") as client:
            for send in (client.eval, lambda source, _: client.script_load(source)):
                with pytest.raises(redis.ResponseError, match=f"uses {word.upper()}, and a real"):
                    await send(f"return redis.call('{word}', 'k', 1)", 0)

    with Simulation(backend=RealServer(server.address, private=True)) as simulation:
        simulation.run(main())


def test_a_library_of_functions_that_sets_an_expiry_is_refused_by_name(server):
    library = "#!lua name=mine\nredis.register_function('f', function(keys) %s end)"

    async def main():
        async with redis.asyncio.Redis(host="any") as client:
            with pytest.raises(redis.ResponseError, match="library '#!lua name=mine' uses EXPIRE"):
                await client.function_load(library % "redis.call('EXPIRE', keys[1], 10)")
            if not server.version.startswith("redis 6"):  # which has none
                assert await client.function_load(library % "return 1") == b"mine"

    with Simulation(backend=RealServer(server.address, private=True)) as simulation:
        simulation.run(main())

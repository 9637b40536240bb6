"""Expiry and the time as the wire tells them: the same on the embedded Redis and on a real server."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


@pytest.fixture(params=[2, 3])
def client(request, simulation):
    clients = []

    def make(**options):
        clients.append(
            redis.asyncio.Redis(
                host="h",
                protocol=request.param,
                retry=Retry(NoBackoff(), 0),
                socket_timeout=None,
                **options,
            )
        )
        return clients[-1]

    make.protocol = request.param
    yield make
    for one in clients:
        simulation.run(one.aclose())


async def test_a_key_that_was_written_anew_has_lost_its_end(client):
    r = client()
    for key in "abc":
        await r.set(key, 1, ex=10)
    await r.set("a", 2)
    await r.mset({"b": 2})
    await r.eval("return redis.call('SET', KEYS[1], '2')", 1, "c")
    await asyncio.sleep(11)
    assert [await r.get(key) for key in "abc"] == [b"2", b"2", b"2"]


@pytest.mark.parametrize(("left_ms", "ttl"), [(499, 0), (500, 1), (1499, 1), (1500, 2), (2500, 3)])
async def test_the_time_left_is_rounded_to_the_nearest_second(client, left_ms, ttl):
    r = client()
    await r.set("k", 1, px=left_ms)
    assert [await r.pttl("k"), await r.ttl("k")] == [left_ms, ttl]


async def test_the_server_tells_the_virtual_time(client, simulation):
    """A real server told its own."""
    r = client()
    await asyncio.sleep(1.25)
    seconds, microseconds = await r.time()
    assert seconds * 1_000_000 + microseconds == simulation.clock.time_ns() // 1000
    async with r.pipeline(transaction=True) as pipe:
        assert await pipe.set("a", 1).time().execute() == [True, (seconds, microseconds)]


async def test_a_span_in_milliseconds_is_kept_to_the_millisecond(client):
    """The embedded server ended it at a whole second of the clock."""
    r = client()
    await asyncio.sleep(0.3)
    await r.execute_command("PSETEX", "a", 1500, 1)
    await r.execute_command("SETEX", "b", 1, 1)
    assert [await r.pttl("a"), await r.pttl("b")] == [1500, 1000]
    await asyncio.sleep(0.9)
    assert await r.exists("a", "b") == 2
    await asyncio.sleep(0.2)
    assert await r.exists("a", "b") == 1


async def test_a_renamed_key_takes_its_end_along(client):
    r = client()
    await r.set("old", 1, ex=10)
    await r.rename("old", "new")
    assert await r.ttl("new") == 10
    await asyncio.sleep(11)
    assert await r.exists("new") == 0


async def test_keys_of_one_name_in_two_databases_end_apart(client):
    one, other = client(db=1), client(db=0)
    await one.set("k", 1, ex=10)
    await other.set("k", 1)
    await asyncio.sleep(11)
    assert [await one.get("k"), await other.get("k")] == [None, b"1"]


async def test_expiry_works_inside_a_transaction(client):
    r = client()
    await r.set("k", 1, ex=10)
    async with r.pipeline(transaction=True) as pipe:
        pipe.ttl("k").set("j", 1.5, ex=5).getex("k", ex=20).ttl("k").zadd("z", {"a": 1.5})
        pipe.zscore("z", "a").hgetall("nothing").persist("k").ttl("k")
        assert await pipe.execute() == [10, True, b"1", 20, 1, 1.5, {}, True, -1]
    await asyncio.sleep(6)
    assert [await r.exists("j"), await r.exists("k")] == [0, 1]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"nx": True}, 10),  # it is there: nothing is set
        ({"xx": True}, 100),
        ({"get": True}, 100),
        ({"get": True, "nx": True}, 10),
        ({"get": True, "xx": True}, 100),
    ],
)
async def test_a_set_that_is_not_done_changes_no_end(client, options, left):
    r = client()
    await r.set("k", 1, ex=10)
    await r.set("k", 2, ex=100, **options)
    assert await r.ttl("k") == left
    await asyncio.sleep(11)
    assert await r.exists("k") == (left == 100)


async def test_conditions_of_expire_are_kept(client):
    r = client()
    await r.set("k", 1)
    assert not await r.expire("k", 10, xx=True)
    assert await r.expire("k", 10, nx=True)
    assert not await r.expire("k", 20, nx=True)
    assert not await r.expire("k", 5, gt=True)
    assert await r.expire("k", 5, lt=True)
    assert await r.ttl("k") == 5


async def test_an_end_that_is_past_ends_the_key_and_a_wrong_one_is_an_error(client):
    r = client()
    await r.set("k", 1)
    assert await r.expire("k", -1)
    assert await r.get("k") is None
    await r.set("k", 1)
    assert await r.pexpireat("k", 1)
    assert await r.get("k") is None
    for command in ("SET k 1 EX 0", "EXPIRE k soon", "SETEX k x 1", "GETEX k EX"):
        with pytest.raises(redis.exceptions.ResponseError):
            await r.execute_command(*command.split())


async def test_a_copied_list_is_a_list_of_its_own(client):
    r = client()
    await r.rpush("one", "a", "b")
    await r.copy("one", "other")
    await r.lpop("other")
    assert await r.lrange("one", 0, -1) == [b"a", b"b"]
    assert await r.lrange("other", 0, -1) == [b"b"]


@pytest.mark.parametrize("waits", [False, True])
async def test_a_pop_of_the_last_element_removes_the_key(client, waits):
    r = client()
    if not waits:
        await r.rpush("q", "a")
    task = asyncio.create_task(client().blmpop(5, 1, "q", direction="LEFT"))
    await asyncio.sleep(1)
    if waits:
        await r.rpush("q", "a")
    assert await task == [b"q", [b"a"]]
    assert await r.exists("q") == 0

"""What was once different on the embedded Redis and on a real server, or wrong on one of them."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from queuekit.simulation import Hop
from queuekit.simulation.resp import encode_command


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


@pytest.fixture
def replies(simulation):
    seen = []
    simulation.observe(
        lambda event: (
            seen.append(event.words)
            if isinstance(event, Hop) and event.direction == "reply" and event.words
            else None
        )
    )
    return seen


async def test_a_blocked_read_of_a_sorted_set_answers_with_its_score(client):
    task = asyncio.create_task(client().bzpopmin(["z"], 5))
    await asyncio.sleep(1)
    await client().zadd("z", {"member": 1.5})
    assert list(await task) == [b"z", b"member", 1.5]


async def test_a_score_is_traced_as_the_server_writes_it(client, replies):
    task = asyncio.create_task(client().bzpopmin(["z"], 5))
    await asyncio.sleep(1)
    await client().zadd("z", {"member": 1})
    await task
    assert replies[-1] == (("[z member 1]",) if client.protocol == 2 else ("[z member 1.0]",))


async def test_each_channel_is_confirmed_by_a_reply_of_its_own(client, replies):
    pubsub = client().pubsub()
    await pubsub.subscribe("a", "b")
    for _ in range(2):
        await pubsub.get_message(timeout=1)
    assert replies == [("[subscribe a 1]",), ("[subscribe b 2]",)]
    await pubsub.aclose()


async def test_a_large_value_arrives_whole_in_one_hop(client, replies):
    r = client()
    await r.set("large", b"x" * 300_000)
    replies.clear()
    assert len(await r.get("large")) == 300_000
    assert len(replies) == 1


@pytest.mark.parametrize("wait_first", [True, False])
async def test_a_large_job_is_taken_whole_by_a_blocking_read(client, wait_first):
    r, large = client(), b"x" * 1_000_000
    if not wait_first:
        await r.rpush("q", large)
    task = asyncio.create_task(client().blpop(["q"], 5))
    await asyncio.sleep(1)
    if wait_first:
        await r.rpush("q", large)
    assert list(await task) == [b"q", large]


async def test_many_messages_at_once_all_arrive_at_that_moment(client):
    pubsub = client().pubsub()
    await pubsub.subscribe("news")
    await pubsub.get_message(timeout=1)
    await client().eval(
        "for n = 1, 300 do redis.call('PUBLISH', 'news', string.rep('x', 1000)) end", 0
    )
    heard = [await pubsub.get_message(timeout=0) for _ in range(300)]
    assert all(message is not None for message in heard)
    await pubsub.aclose()


async def test_a_subscriber_of_resp3_may_publish_to_itself_and_has_its_answer_first(
    client, replies
):
    pubsub = client().pubsub()
    await pubsub.subscribe("news")
    await pubsub.get_message(timeout=1)
    await pubsub.connection.send_command("PUBLISH", "news", "x")
    await asyncio.sleep(1)
    expected = [("1",), ("[message news x]",)] if client.protocol == 3 else [("-ERR",)]
    assert replies[1:] == expected


async def test_messages_are_pushes_under_resp3_and_arrays_under_resp2(client, simulation):
    pubsub = client().pubsub()
    await pubsub.subscribe("news")
    (wire,) = simulation.loop.network.wires
    received, receive = [], wire._protocol.data_received
    wire._protocol.data_received = lambda data: (received.append(data), receive(data))
    await client().publish("news", "x")
    await asyncio.sleep(1)
    assert received[-1][:4] == (b">3\r\n" if client.protocol == 3 else b"*3\r\n")
    await pubsub.aclose()


async def test_a_connection_that_has_subscribed_may_run_a_transaction(client, replies):
    """What the relay sends to look for messages must never join it."""
    pubsub, other = client().pubsub(), client()
    await pubsub.subscribe("news")
    for command in ("UNSUBSCRIBE news", "MULTI", "SET a 1"):
        await pubsub.connection.send_command(*command.split())
        await asyncio.sleep(1)
    await other.publish("news", "x")
    await pubsub.connection.send_command("EXEC")
    await asyncio.sleep(1)
    assert [words for words in replies if words != ("0",)][2:] == [("OK",), ("QUEUED",), ("[OK]",)]
    assert await other.get("a") == b"1"
    await pubsub.aclose()


async def test_a_script_that_fails_is_an_error_and_the_connection_goes_on(client):
    r = client()
    with pytest.raises(redis.exceptions.ResponseError, match="it broke"):
        await r.eval("error('it broke')", 0)
    assert await r.ping()


async def test_an_error_of_a_scripts_own_keeps_its_code(client, replies):
    with pytest.raises(redis.exceptions.ResponseError):
        await client().eval("return redis.error_reply('MINE it is')", 0)
    assert replies[-1] == ("-MINE",)


async def test_waits_are_served_key_by_key_in_the_order_of_the_writes(client):
    """The older wait is on the key that is written last; the younger takes what both could."""
    older = asyncio.create_task(client().blpop(["k1"], 5))
    await asyncio.sleep(0.1)
    younger = asyncio.create_task(client().blpop(["k1", "k2"], 5))
    await asyncio.sleep(0.1)
    r = client()
    await r.eval(
        "redis.call('RPUSH', KEYS[2], 'y') redis.call('RPUSH', KEYS[1], 'x')", 2, "k1", "k2"
    )
    assert list(await younger) == [b"k1", b"x"]
    assert await older is None
    assert await r.lrange("k2", 0, -1) == [b"y"]


@pytest.mark.parametrize(
    "write",
    [
        lambda r: r.rename("other", "awaited"),
        lambda r: r.copy("other", "awaited"),
        lambda r: r.lmove("other", "awaited"),
        lambda r: r.eval("return redis.call('RPUSH', KEYS[1], 'x')", 1, "awaited"),
        lambda r: r.sort("other", by="nosort", store="awaited"),
    ],
)
async def test_whatever_writes_a_list_serves_who_waits_on_it(client, write):
    r = client()
    await r.rpush("other", "x")
    task = asyncio.create_task(client().blpop(["awaited"], 5))
    await asyncio.sleep(1)
    await write(r)
    assert list(await task) == [b"awaited", b"x"]


async def test_a_wait_whose_target_is_no_list_ends_with_an_error_and_takes_nothing(client):
    r = client()
    task = asyncio.create_task(client().blmove("source", "target", 5))
    await asyncio.sleep(1)
    await r.set("target", "text")
    assert await r.rpush("source", "job") == 1
    with pytest.raises(redis.exceptions.ResponseError, match="WRONGTYPE"):
        await task
    assert await r.lrange("source", 0, -1) == [b"job"]


async def test_a_wait_is_ended_by_client_unblock(client):
    waiting, r = client(single_connection_client=True), client()
    number = await waiting.client_id()
    task = asyncio.create_task(waiting.blpop(["q"], 0))
    await asyncio.sleep(1)
    assert await r.client_unblock(number)
    assert await task is None


@pytest.mark.parametrize("timeout", ["-1", "soon"])
async def test_a_wait_for_an_impossible_time_is_refused_at_once(client, timeout):
    with pytest.raises(redis.exceptions.ResponseError, match="timeout is"):
        await client().execute_command("BLPOP", "q", timeout)


async def test_what_was_sent_behind_a_wait_is_not_run_when_its_client_is_gone(simulation, client):
    r = client()
    await r.ping()
    pipe = client().pipeline(transaction=False)
    pipe.execute_command("BLPOP", "q", 0)
    pipe.execute_command("SET", "a", 1)
    task = asyncio.create_task(pipe.execute())
    await asyncio.sleep(1)
    simulation.loop.network.wires[-1].cut()
    with pytest.raises(redis.exceptions.ConnectionError):
        await task
    await r.rpush("q", "job")
    assert await r.lrange("q", 0, -1) == [b"job"]
    assert await r.get("a") is None


async def test_a_wait_on_two_keys_does_not_overtake_on_the_second(client):
    """A move empties the first key and fills the second, where somebody has waited longer."""
    older = asyncio.create_task(client().blpop(["second"], 5))
    await asyncio.sleep(0.1)
    mover = asyncio.create_task(client().blmove("first", "second", 5))
    await asyncio.sleep(0.1)
    younger = asyncio.create_task(client().blpop(["first", "second"], 5))
    await asyncio.sleep(0.1)
    await client().rpush("first", "job")
    assert await mover == b"job"
    assert list(await older) == [b"second", b"job"]
    assert await younger is None


async def test_the_target_of_a_move_is_not_waited_on(client):
    """A write to the younger wait's target must not let it overtake on its source."""
    r = client()
    await r.rpush("target", "a", "b")
    older = asyncio.create_task(client().brpop(["source"], 5))
    await asyncio.sleep(0.1)
    younger = asyncio.create_task(client().blmove("source", "target", 5))
    await asyncio.sleep(0.1)
    assert await r.lmove("target", "source") == b"a"
    assert list(await older) == [b"source", b"a"]
    assert await younger is None


async def test_a_key_that_is_emptied_and_filled_again_comes_after_those_filled_before(client):
    """Moves go source-to-second and first-to-source; the last two wait for what they bring."""
    clients = [client() for _ in range(4)]
    tasks = []
    for wait in (
        lambda r: r.blmove("source", "second", 5),
        lambda r: r.blmove("first", "source", 5),
        lambda r: r.blpop(["second"], 5),
        lambda r: r.blpop(["second", "source"], 5),
    ):
        tasks.append(asyncio.create_task(wait(clients[len(tasks)])))
        await asyncio.sleep(0.1)
    async with client().pipeline(transaction=True) as pipe:
        await pipe.rpush("source", "x").rpush("first", "y").execute()
    moved, moved_too, older, younger = await asyncio.gather(*tasks)
    assert [moved, moved_too] == [b"x", b"y"]
    assert list(older) == [b"second", b"x"]
    assert list(younger) == [b"source", b"y"]


async def test_a_wait_goes_on_when_its_key_becomes_something_else(client):
    r = client()
    task = asyncio.create_task(client().bzpopmin(["z"], 5))
    await asyncio.sleep(1)
    await r.set("z", "text")
    await r.delete("z")
    await r.zadd("z", {"member": 1})
    assert list(await task) == [b"z", b"member", 1.0]


async def test_closed_connections_are_forgotten(simulation, client):
    for _ in range(5):
        r = client()
        await r.ping()
        await r.aclose()
    await asyncio.sleep(0)
    assert simulation.loop.network.wires == []


@pytest.mark.parametrize("command", ["UNSUBSCRIBE", "PUNSUBSCRIBE"])
async def test_who_is_subscribed_to_nothing_is_told_so(client, simulation, command):
    """The embedded server said nothing, and the next reply was taken for this one's."""
    told = []

    def look(event):
        if isinstance(event, Hop) and event.direction == "reply":
            told.append(event.words)

    pubsub = client().pubsub()
    await pubsub.subscribe("news")
    await simulation.run_until_idle()
    simulation.observe(look)
    await pubsub.execute_command(command)
    await pubsub.execute_command(command)
    await simulation.run_until_idle()
    left = "0" if command == "UNSUBSCRIBE" else "1"
    first = f"[{command.lower()} {'news' if left == '0' else 'nil'} {left}]"
    assert told == [(first,), (f"[{command.lower()} nil {left}]",)]
    await pubsub.aclose()


async def test_replies_without_an_order_of_their_own_come_sorted(client, replies):
    r = client()
    names = [
        f"{name}-{'long' * 40}" for name in "gbdaecf"
    ]  # too long for Redis to keep them in a row
    for name in names:
        await r.hset("hash", name, name)
        await r.sadd("set", name)
        await r.sadd("other", name)
    replies.clear()
    found = await r.hgetall("hash")
    assert list(found) == sorted(name.encode() for name in names)
    assert all(key == value for key, value in found.items())
    assert await r.hkeys("hash") == sorted(name.encode() for name in names)
    assert await r.keys("*") == [b"hash", b"other", b"set"]
    await r.smembers("set")
    await r.sinter("set", "other")
    assert replies[-1] == replies[-2]
    members = replies[-1][0].strip("[]").split()
    assert [member[0] for member in members[:2]] == ["a", "b"]


WRITTEN = {
    "SET a 1": b"+OK\r\n",
    "GET a": b"$1\r\n1\r\n",
    "PING": b"+PONG\r\n",
    "CLIENT SETINFO LIB-NAME x": b"+OK\r\n",
    "TYPE a": b"+string\r\n",
    "MULTI": b"+OK\r\n",
    "SET b 2": b"+QUEUED\r\n",
    "GET b": b"+QUEUED\r\n",
    "EXEC": b"*2\r\n+OK\r\n$1\r\n2\r\n",
}


async def test_a_status_and_a_string_are_written_as_a_real_server_writes_them(simulation):
    """Who reads a status reads once, a string twice: a connection that ends between the two shows it."""
    reader, writer = await asyncio.open_connection("anywhere", 6379)
    for command, written in WRITTEN.items():
        writer.write(encode_command([word.encode() for word in command.split()]))
        assert await reader.readexactly(len(written)) == written, command
    script = b"return {redis.status_reply('FINE'), 'text', 3}"
    writer.write(encode_command([b"EVAL", script, b"0"]))
    written = b"*3\r\n+FINE\r\n$4\r\ntext\r\n:3\r\n"
    assert await reader.readexactly(len(written)) == written
    writer.close()

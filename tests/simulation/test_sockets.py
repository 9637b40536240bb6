"""Sync clients of Redis in a simulation: their sockets lead to the simulated server, in virtual time."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
import time

import pytest
import redis

from queuekit.simulation import Hop, RefusedInSimulation, Simulation, SimulationError

URL = "redis://redis.internal:6379/0"


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


def connect(**options):
    """A sync client that hands on each error at once, in all versions of redis-py."""
    never = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    times_out_never = {"socket_timeout": None, "socket_connect_timeout": None}
    return redis.Redis.from_url(URL, **{**times_out_never, "retry": never, **options})


@pytest.fixture
def client(simulation):
    return connect()


def took(function, *arguments, **keywords):
    """A call's result, or the error that it raised, and the seconds that it took."""
    began = time.monotonic()
    try:
        result = function(*arguments, **keywords)
    except redis.RedisError as error:
        result = type(error)
    return result, time.monotonic() - began


# -- in a sync task


async def test_a_sync_task_reads_and_writes(simulation, client):
    def count(ctx):
        with client.pipeline() as pipeline:
            pipeline.incr("n")
            pipeline.rpush("l", "a", "b")
            return pipeline.execute()

    simulation.worker([count])
    assert await simulation.queue.apply("count") == [1, 2]
    assert await asyncio.to_thread(client.lrange, "l", 0, -1) == [b"a", b"b"]


async def test_a_blocking_pop_waits_in_virtual_time(simulation, client):
    assert await asyncio.to_thread(took, client.blpop, "l", 3600) == (None, 3600)


async def test_a_blocking_pop_ends_when_something_comes(simulation, client):
    popped = asyncio.create_task(asyncio.to_thread(took, client.blmove, "from", "to", 3600))
    await simulation.advance(20)
    client.rpush("from", "x")
    assert await popped == (b"x", 20)


async def test_the_time_out_of_a_socket_is_virtual(simulation):
    client = connect(socket_timeout=7)
    assert await asyncio.to_thread(took, client.blpop, "l", 60) == (redis.TimeoutError, 7)


async def test_messages_are_waited_for_in_virtual_time(simulation, client):
    def listen():
        with client.pubsub(ignore_subscribe_messages=True) as channel:
            channel.subscribe("news")
            while channel.get_message(timeout=0.1):
                pass
            return took(channel.get_message, timeout=60), took(channel.get_message, timeout=60)

    heard = asyncio.create_task(asyncio.to_thread(listen))
    await simulation.advance(10.5)
    assert client.publish("news", "rain") == 1
    (message, waited), (nothing, waited_then) = await heard
    assert (message["data"], nothing, waited_then) == (b"rain", None, 60)
    assert 10 <= waited <= 10.5


async def test_two_threads_take_turns_on_connections_of_their_own(simulation, client):
    def consume(key):
        return [took(client.blpop, key, 30) for _ in range(2)]

    first = asyncio.create_task(asyncio.to_thread(consume, "a"))
    second = asyncio.create_task(asyncio.to_thread(consume, "b"))
    await simulation.advance(5)
    await asyncio.to_thread(client.rpush, "b", 1)
    await simulation.advance(5)
    await asyncio.to_thread(client.rpush, "a", 2)
    assert await first == [((b"a", b"2"), 10), (None, 30)]
    assert await second == [((b"b", b"1"), 5), (None, 30)]


# -- faults and processes


async def test_a_lost_reply_is_a_reset_after_execution(simulation, client):
    simulation.inject("lose_reply", command="INCRBY")
    assert await asyncio.to_thread(took, client.incr, "n") == (redis.ConnectionError, 0)
    assert await asyncio.to_thread(client.get, "n") == b"1"


async def test_a_lost_request_was_never_executed(simulation, client):
    simulation.inject("lose_request", command="INCRBY")
    assert await asyncio.to_thread(took, client.incr, "n") == (redis.ConnectionError, 0)
    assert await asyncio.to_thread(client.get, "n") is None


async def test_silence_lasts_until_the_time_out(simulation):
    client = connect(socket_timeout=7)
    simulation.inject("lose_reply", command="INCRBY", how="silence")
    assert await asyncio.to_thread(took, client.incr, "n") == (redis.TimeoutError, 7)
    assert await asyncio.to_thread(client.get, "n") == b"1"


async def test_a_delay_is_waited_for(simulation, client):
    simulation.inject("delay", command="INCRBY", seconds=2)
    assert await asyncio.to_thread(took, client.incr, "n") == (1, 2)


async def test_an_outage_resets_who_waits_and_refuses_who_comes(simulation, client):
    waits = asyncio.create_task(asyncio.to_thread(took, client.blpop, "l", 60))
    await simulation.advance(3)
    simulation.server.outage(5)
    assert await waits == (redis.ConnectionError, 3)
    assert await asyncio.to_thread(took, client.ping) == (redis.ConnectionError, 0)
    await simulation.advance(5)
    assert await asyncio.to_thread(client.ping)


async def test_the_connection_belongs_to_the_process_that_runs_the_thread(simulation, client):
    seen = []
    simulation.observe(lambda event: seen.append(event) if isinstance(event, Hop) else None)
    web = simulation.process("web")
    await web.run(asyncio.to_thread, client.incr, "n")
    hops = [(event.process, event.direction) for event in seen]
    assert set(hops) == {(web.id, "request"), (web.id, "reply")}


async def test_a_partition_holds_it_until_it_is_healed(simulation, client):
    web = simulation.process("web")
    assert await web.run(asyncio.to_thread, client.ping)
    web.partition(seconds=30)
    assert await web.run(asyncio.to_thread, took, client.incr, "n") == (1, 30)


async def test_a_new_connection_across_a_partition_times_out(simulation):
    client = connect(socket_connect_timeout=4)
    web = simulation.process("web")
    web.partition()
    assert await web.run(asyncio.to_thread, took, client.ping) == (redis.TimeoutError, 4)


async def test_a_killed_process_is_silent_while_its_thread_waits(simulation, client):
    unwound = []

    def consume():
        try:
            client.blpop("l", 0)
            client.set("after", 1)
        finally:
            unwound.append(client.set("finally", 1))

    web = simulation.process("web", lambda: asyncio.to_thread(consume))
    await simulation.advance(1)
    wires = list(simulation.loop.network.wires)
    assert [wire.process for wire in wires] == [web.process]
    web.kill()
    assert simulation.loop.network.wires == []
    client.rpush("l", "x")
    await simulation.advance(3600)
    assert (client.lrange("l", 0, -1), client.keys("*")) == ([b"x"], [b"l"])
    assert unwound == []


async def test_a_kill_at_its_command_is_its_last_word(simulation, client):
    web = simulation.process("web")
    simulation.inject("kill", after="INCRBY", process=web)

    def main():
        client.incr("n")
        client.set("after", 1)

    done = asyncio.create_task(web.run(asyncio.to_thread, main))
    await simulation.advance(60)
    assert not web.alive
    with pytest.raises(SimulationError, match="died"):
        await done
    assert client.keys("*") == [b"n"]


async def test_the_clock_of_a_process_that_drifts_times_its_sockets_out_early(simulation, client):
    web = simulation.process("web")
    web.drift(1.0)
    began = simulation.now
    result, seconds = await web.run(asyncio.to_thread, took, client.blpop, "l", 60)
    assert (result, seconds) == (None, 120)
    assert (simulation.now - began).total_seconds() == 60


# -- in a plain test


def test_a_plain_test_reads_and_writes(client):
    with client.pipeline() as pipeline:
        assert pipeline.set("a", 1).incr("a").execute() == [True, 2]
    assert client.get("a") == b"2"


def test_a_blocking_call_of_a_plain_test_lets_the_world_live(simulation, client):
    async def later():
        await asyncio.sleep(20)
        await asyncio.to_thread(client.rpush, "l", "x")

    simulation.process("web", later)
    assert client.blpop("l", 60) == (b"l", b"x")
    assert simulation.clock.monotonic() == 20
    assert client.blpop("l", 60) is None
    assert simulation.clock.monotonic() == 80


def test_sleep_in_a_plain_test_lets_the_world_live(simulation):
    woken = []

    async def later():
        await asyncio.sleep(20)
        woken.append(simulation.clock.monotonic())

    simulation.process("web", later)
    time.sleep(30)
    assert (woken, simulation.clock.monotonic()) == ([20], 30)
    with pytest.raises(ValueError, match="non-negative"):
        time.sleep(-1)


def test_messages_reach_a_plain_test(simulation, client):
    with client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe("news")
        assert channel.get_message(timeout=5) is None
        client.publish("news", "rain")
        assert channel.get_message(timeout=5)["data"] == b"rain"


def test_a_fault_strikes_a_plain_test(simulation, client):
    simulation.inject("lose_reply", command="INCRBY", process="test")
    with pytest.raises(redis.ConnectionError):
        client.incr("n")
    assert client.get("n") == b"1"


# -- on the event loop


async def test_on_the_loop_the_answer_is_there_at_once(simulation, client):
    before = simulation.clock.monotonic()
    with client.pipeline() as pipeline:
        assert pipeline.set("a", 1).incr("a").execute() == [True, 2]
    assert (client.get("a"), simulation.clock.monotonic()) == (b"2", before)


async def test_on_the_loop_nothing_is_waited_for(simulation, client):
    client.ping()
    with pytest.raises(
        SimulationError, match=r"wait for redis\.internal:6379 on the event loop"
    ) as caught:
        client.blpop("l", 1)
    assert "asyncio.to_thread()" in str(caught.value)
    await simulation.run_until_idle()
    assert simulation.loop.network.wires == []
    assert await asyncio.to_thread(client.ping)


async def test_on_the_loop_a_late_answer_is_not_waited_for(simulation, client):
    simulation.inject("delay", command="INCRBY", seconds=1)
    with pytest.raises(SimulationError, match="on the event loop's own thread"):
        client.incr("n")


async def test_on_the_loop_of_a_process_that_is_cut_off_nobody_connects(simulation, client):
    web = simulation.process("web")
    web.partition()
    with pytest.raises(SimulationError, match=r"connect redis\.internal:6379"):
        await web.run(client.ping)


async def test_a_process_that_is_killed_at_a_command_on_its_loop_goes_no_further(
    simulation, client
):
    web = simulation.process("web")
    simulation.inject("kill", after="INCRBY", process=web)

    async def main():
        client.incr("n")
        client.set("after", 1)

    with pytest.raises(SimulationError, match="died"):
        await web.run(main)
    assert client.keys("*") == [b"n"]


async def test_who_waits_hears_of_what_is_sent_on_the_loop(simulation, client):
    waits = asyncio.create_task(asyncio.to_thread(client.blpop, "l", 60))
    await simulation.run_until_idle()
    client.rpush("l", "x")
    assert await waits == (b"l", b"x")


# -- what the address is, and what listens there


@pytest.mark.parametrize("url", ["rediss://redis.internal:6380", "unix:///run/redis.sock"])
async def test_any_kind_of_address_leads_there(simulation, client, url):
    other = redis.Redis.from_url(url)
    other.set("a", 1)
    assert await asyncio.to_thread(other.get, "a") == b"1"
    assert client.get("a") == b"1"


async def test_what_does_not_speak_redis_is_refused_at_its_first_bytes(simulation):
    with (
        socket.create_connection(("api.example.com", 80)) as http,
        pytest.raises(RefusedInSimulation, match=r"api\.example\.com:80 does not speak Redis"),
    ):
        http.sendall(b"GET / HTTP/1.1\r\n\r\n")


async def test_who_waits_for_a_greeting_is_refused(simulation):
    def greeted():
        with socket.create_connection(("mail.example.com", 25)) as mail:
            mail.recv(100)

    with pytest.raises(RefusedInSimulation, match=r"mail\.example\.com:25 waits for the server"):
        await asyncio.to_thread(greeted)


async def test_tls_before_the_connection_is_refused(simulation):
    context = ssl.create_default_context()
    with (
        context.wrap_socket(socket.socket(), server_hostname="a.example.com") as sock,
        pytest.raises(RefusedInSimulation, match=r"a\.example\.com"),
    ):
        sock.connect(("a.example.com", 6380))


async def test_a_socket_that_does_not_block_is_refused(simulation):
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(RefusedInSimulation, match=r"a\.example\.com"):
            sock.connect(("a.example.com", 6380))
        with pytest.raises(RefusedInSimulation, match=r"a\.example\.com"):
            sock.connect_ex(("a.example.com", 6380))


# -- asked by `select`


def asks(client, how, seconds):
    """Whether a subscriber's socket can be read within so long, and the seconds that it took."""
    with client.pubsub() as channel:
        channel.subscribe("news")
        channel.get_message(timeout=1)
        sock = channel.connection._sock
        began = time.monotonic()
        if how == "select":
            found = select.select([sock], [], [], seconds)[0]
        else:
            poller = select.poll()
            poller.register(sock, select.POLLIN)
            found = poller.poll(None if seconds is None else seconds * 1000)
        return bool(found), time.monotonic() - began


@pytest.mark.parametrize("how", ["select", "poll"])
async def test_select_waits_in_virtual_time(simulation, client, how):
    asked = asyncio.create_task(asyncio.to_thread(asks, client, how, 60))
    await simulation.advance(10)
    client.publish("news", "rain")
    assert await asked == (True, 10)
    assert await asyncio.to_thread(asks, client, how, 60) == (False, 60)


@pytest.mark.parametrize("how", ["select", "poll"])
async def test_select_finds_the_end_of_a_connection(simulation, client, how):
    asked = asyncio.create_task(asyncio.to_thread(asks, client, how, None))
    await simulation.advance(10)
    simulation.server.stop()
    assert await asked == (True, 10)


async def test_a_descriptor_shows_what_can_be_read_and_no_more(simulation, client):
    def readable():
        return bool(select.select([sock.fileno()], [], [], 0)[0])

    with client.pubsub() as channel:
        channel.subscribe("news")
        sock = channel.connection._sock
        assert channel.get_message(timeout=0)["type"] == "subscribe"
        assert not readable()
        client.publish("news", "rain")
        await simulation.run_until_idle()
        assert readable()
        assert channel.get_message(timeout=0)["data"] == b"rain"
        assert not readable()


# -- from one world to the next


def test_a_pool_goes_on_in_the_next_world(each_backend):
    client = connect()
    with Simulation(backend=each_backend):
        client.set("a", 1)
    with Simulation(backend=each_backend) as second:
        assert client.get("a") is None
        assert second.run(asyncio.to_thread(client.get, "a")) is None
        assert len(second.loop.network.wires) == 1


def test_what_was_sent_to_one_world_is_not_read_in_the_next():
    client = connect()
    with Simulation():
        channel = client.pubsub()
        channel.subscribe("news")
        sock = channel.connection._sock
        client.publish("news", "rain")
    with Simulation():
        assert sock.recv(100) == b""
        with pytest.raises(ConnectionResetError, match="is over"):
            sock.sendall(b"PING\r\n")
    sock.close()


def test_after_the_simulation_a_client_reaches_the_real_network_again(real_listener):
    client = connect(host="127.0.0.1", port=real_listener.getsockname()[1])
    with Simulation():
        client.set("a", 1)
        real_listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            real_listener.accept()
    client.connection_pool.disconnect()
    with socket.create_connection(real_listener.getsockname()):
        real_listener.accept()[0].close()


def test_a_connection_to_a_real_server_is_not_used_in_a_simulation(real_listener):
    with socket.create_connection(real_listener.getsockname()) as real:
        accepted = real_listener.accept()[0]
        command = b"*1\r\n$4\r\nPING\r\n"
        with (
            Simulation(),
            pytest.raises(RefusedInSimulation, match="was made outside of this simulation"),
        ):
            real.sendall(command)
        real.sendall(command)
        assert accepted.recv(100) == command
        accepted.close()


@pytest.fixture
def real_listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener

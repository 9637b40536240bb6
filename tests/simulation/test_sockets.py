"""What sockets of sync clients do in a simulation: whom they reach, what they read, how long they last."""

from __future__ import annotations

import asyncio
import gc
import select
import selectors
import socket
import ssl
import threading
import time
import warnings

import pytest
import redis

from queuekit.simulation import RefusedInSimulation, Simulation
from tests.simulation.sync_client import connect, took

PING = b"*1\r\n$4\r\nPING\r\n"


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


@pytest.fixture
def client(simulation):
    return connect()


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


HOW = [
    "select",
    "poll",
    "epoll",
    "SelectSelector",
    "PollSelector",
    "EpollSelector",
    "DefaultSelector",
]


def asks(client, how, seconds):
    """Whether a subscriber's socket can be read within so long, and the seconds that it took."""
    with client.pubsub() as channel:
        channel.subscribe("news")
        channel.get_message(timeout=1)
        sock = channel.connection._sock
        began = time.monotonic()
        if how == "select":
            found = select.select([sock], [], [], seconds)[0]
        elif how == "poll":
            poller = select.poll()
            poller.register(sock, select.POLLIN)
            found = poller.poll(None if seconds is None else seconds * 1000)
        elif how == "epoll":
            with select.epoll() as poller:
                poller.register(sock, select.EPOLLIN)
                found = poller.poll(seconds)
                assert not poller.closed
        else:
            with getattr(selectors, how)() as selector:
                selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
                assert selector.select(0)  # it can be written to at any time
                selector.modify(sock, selectors.EVENT_READ)
                found = selector.select(seconds)
                assert all(key.fileobj is sock for key, _ in found)
                selector.unregister(sock)
                assert not selector.select(0)
        return bool(found), time.monotonic() - began


@pytest.mark.parametrize("how", HOW)
async def test_select_waits_in_virtual_time(simulation, client, how):
    asked = asyncio.create_task(asyncio.to_thread(asks, client, how, 60))
    await simulation.advance(10)
    client.publish("news", "rain")
    assert await asked == (True, 10)
    assert await asyncio.to_thread(asks, client, how, 60) == (False, 60)


@pytest.mark.parametrize("how", HOW)
async def test_select_finds_the_end_of_a_connection(simulation, client, how):
    asked = asyncio.create_task(asyncio.to_thread(asks, client, how, None))
    await simulation.advance(10)
    simulation.server.stop()
    assert await asked == (True, 10)


async def test_a_select_of_nothing_is_a_sleep(simulation):
    def rests():
        return select.select([], [], [], 3600), time.monotonic()

    assert await asyncio.to_thread(rests) == (([], [], []), 3600)


def test_selectors_of_real_sockets_are_as_ever(simulation):
    one, other = socket.socketpair()
    with one, other, selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ)
        assert selector.select(0) == []
        other.send(b"!")
        assert [key.fileobj for key, _ in selector.select(60)] == [one]
    assert simulation.loop.time() == 0


async def test_a_descriptor_shows_what_can_be_read_and_no_more(simulation, client):
    def readable():
        return bool(select.select([descriptor], [], [], 0)[0])

    with client.pubsub() as channel:
        channel.subscribe("news")
        sock = channel.connection._sock
        descriptor = sock.fileno()
        assert readable()
        assert channel.get_message(timeout=0)["type"] == "subscribe"
        assert not readable()
        client.publish("news", "rain")
        await simulation.run_until_idle()
        assert readable()
        assert channel.get_message(timeout=0)["data"] == b"rain"
        assert not readable()


# -- what a socket does besides


@pytest.fixture
def sock(simulation):
    with socket.create_connection(("redis.internal", 6379)) as sock:
        yield sock


async def test_bytes_are_read_in_parts_and_looked_at_before(simulation, sock):
    sock.sendall(PING)
    assert sock.recv(3, socket.MSG_PEEK) == b"+PO"
    assert sock.recv(3) == b"+PO"
    room = bytearray(2)
    assert (sock.recv_into(room), bytes(room)) == (2, b"NG")
    assert sock.recv(100) == b"\r\n"
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        sock.recv(100)


async def test_a_reset_is_told_as_one(simulation, sock):
    sock.sendall(PING)
    assert sock.recv(100) == b"+PONG\r\n"
    simulation.server.stop()
    with pytest.raises(ConnectionResetError, match="closed the connection"):
        sock.recv(100)
    with pytest.raises(ConnectionResetError, match="closed the connection"):
        sock.sendall(PING)


async def test_after_a_shutdown_nothing_is_sent_and_the_server_has_hung_up(simulation, sock):
    sock.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        sock.sendall(PING)
    assert sock.recv(100) == b""
    await simulation.run_until_idle()
    assert simulation.loop.network.wires == []


async def test_the_server_hears_of_a_socket_that_is_closed(simulation, sock):
    assert len(simulation.loop.network.wires) == 1
    assert sock.getpeername() == ("redis.internal", 6379)
    sock.close()
    await simulation.run_until_idle()
    assert (simulation.loop.network.wires, sock.fileno()) == ([], -1)


async def test_the_server_hears_of_a_socket_that_is_forgotten(simulation):
    forgotten = [socket.create_connection(("redis.internal", 6379))]
    forgotten.append(forgotten)
    assert len(simulation.loop.network.wires) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del forgotten
        gc.collect()
    await simulation.run_until_idle()
    assert simulation.loop.network.wires == []


async def test_a_socket_connects_once(simulation, sock):
    with pytest.raises(OSError, match="already connected"):
        sock.connect(("redis.internal", 6379))


async def test_a_connection_is_not_used_from_outside_of_its_world(simulation, sock):
    errors = []

    def outside():
        for use in (lambda: sock.sendall(PING), lambda: sock.recv(100)):
            try:
                use()
            except RefusedInSimulation as error:
                errors.append(str(error))

    thread = threading.Thread(target=outside, name="outsider")
    thread.start()
    thread.join()
    assert len(errors) == 2
    assert "in thread 'outsider'" in errors[0]


async def test_a_paused_process_reads_the_answer_when_it_goes_on(simulation, client):
    web = simulation.process("web")
    done = asyncio.create_task(web.run(asyncio.to_thread, took, client.blpop, "l", 60))
    await simulation.advance(5)
    web.pause(seconds=20)
    client.rpush("l", "x")
    assert await done == ((b"l", b"x"), 25)


@pytest.mark.parametrize("schedule", ["random", "pct"])
def test_an_adversarial_schedule_is_the_same_by_its_seed(each_backend, schedule):
    def live():
        client = connect()

        def consume(n):
            return [client.blpop("l", 5) for _ in range(2)], client.incr("n")

        async def main(simulation):
            tasks = [asyncio.create_task(asyncio.to_thread(consume, n)) for n in range(3)]
            for n in range(6):
                await asyncio.to_thread(client.rpush, "l", n)
                await asyncio.sleep(1)
            counts = [(await task)[1] for task in tasks]
            assert sorted(counts) == [1, 2, 3]

        with Simulation(backend=each_backend, schedule=schedule, seed=5) as simulation:
            simulation.run(main(simulation))
            client.close()
            return simulation.trace.digest()

    assert live() == live()


def test_both_servers_answer_a_sync_client():
    client = connect()
    with Simulation(backend="both") as simulation:
        assert client.incr("n") == 1
        assert simulation.run(asyncio.to_thread(client.blpop, "l", 5)) is None
        client.close()


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
            sock.sendall(PING)
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
        with (
            Simulation(),
            pytest.raises(RefusedInSimulation, match="was made outside of this simulation"),
        ):
            real.sendall(PING)
        real.sendall(PING)
        assert accepted.recv(100) == PING
        accepted.close()


@pytest.fixture
def real_listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener

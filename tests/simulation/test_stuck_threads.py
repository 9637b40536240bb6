"""A sync task that waits for what cannot come ends its world with words, and not never."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
import redis

from queuekit.simulation import Simulation, ThreadStuck, threads

pytestmark = pytest.mark.slow

lock = threading.Lock()
client = redis.Redis.from_url("redis://app:6379/2")


@pytest.fixture(autouse=True)
def short_limits(monkeypatch):
    monkeypatch.setattr(threads, "STUCK_LIMIT_S", 0.4)
    monkeypatch.setattr(threads, "REAL_LIMIT_S", 1.2)


def counts(ctx):
    with lock:
        return client.incr("n")


async def main(simulation):
    simulation.worker([counts], concurrency=3)
    for _ in range(3):
        await simulation.queue.enqueue("counts")
    await simulation.drain()


def test_a_plain_lock_around_a_call_to_redis_is_told_with_who_waits_where(on_each_backend, caplog):
    with pytest.raises(ThreadStuck) as told, Simulation(**on_each_backend) as simulation:
        simulation.run(main(simulation))
    message = str(told.value)
    assert message.startswith(
        "a sync task has stood for 0.4 s of real time at test_stuck_threads.py:"
    )
    assert "in counts: with lock:" in message
    assert "Another one waits in virtual time at test_stuck_threads.py:" in message
    assert "in counts: return client.incr" in message
    assert "while it holds a lock that others wait for" in message
    with lock:  # who held it has let go of it, with its world
        pass


def test_it_is_told_once_and_the_next_world_is_as_ever():
    for _ in range(2):
        with Simulation() as simulation, pytest.raises(ThreadStuck):
            simulation.run(main(simulation))
    with Simulation() as simulation:
        simulation.worker([counts])
        assert simulation.run(simulation.queue.apply("counts")) == 1


def test_a_thread_that_a_program_starts_is_named():
    def program():
        own = threading.Lock()
        thread = threading.Thread(target=own.acquire, name="second")
        with own:
            thread.start()
            time.sleep(1)

    with Simulation() as simulation:
        simulation.process("program", lambda: asyncio.to_thread(program))
        with pytest.raises(ThreadStuck, match=r"^thread 'second' has stood"):
            simulation.run(simulation.advance(5))


def test_who_works_on_is_told_of_later_and_otherwise():
    ended = []

    def busy():
        while not ended:
            pass

    with pytest.raises(ThreadStuck) as told, Simulation() as simulation:
        simulation.run(asyncio.to_thread(busy))
    ended.append(1)
    assert "did not give control back within 1.2 s of real time" in str(told.value)
    assert "in busy: while not ended" in str(told.value)


def test_who_works_for_less_than_that_is_let_alone():
    real_time = time.thread_time

    def busy():
        began = real_time()
        while real_time() - began < 0.6:
            pass
        return "done"

    with Simulation() as simulation:
        assert simulation.run(asyncio.to_thread(busy)) == "done"


def test_who_is_in_a_debugger_is_let_alone():
    debugger = {"__name__": "pdb"}
    exec("def prompt(lock): return lock.acquire(timeout=0.8)", debugger)
    held = threading.Lock()
    held.acquire()
    with Simulation() as simulation:
        assert simulation.run(asyncio.to_thread(debugger["prompt"], held)) is False

"""Threads that sync programs of a simulation start, by hand or in executors."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest
import redis

from queuekit.simulation import Simulation, SimulationError

URL = "redis://redis.internal:6379/0"


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


def clock():
    return time.monotonic()


def breaks():
    return 1 / 0


# -- by hand


async def test_a_thread_takes_turns_and_sleeps_in_virtual_time(simulation):
    def main():
        seen = []

        def tick():
            for _ in range(3):
                time.sleep(10)
                seen.append(clock())

        thread = threading.Thread(target=tick)
        thread.start()
        time.sleep(15)
        seen.append("main")
        thread.join(timeout=5)
        alive = thread.is_alive()
        thread.join()
        return seen, alive, thread.is_alive(), clock()

    assert await asyncio.to_thread(main) == ([10, "main", 20, 30], True, False, 30)


async def test_a_thread_belongs_to_the_process_of_who_started_it(simulation):
    client = redis.Redis.from_url(URL, socket_timeout=None)

    def main():
        thread = threading.Thread(target=client.blpop, args=("l", 0))
        thread.start()
        thread.join()

    program = simulation.process("program", lambda: asyncio.to_thread(main))
    await simulation.advance(1)
    assert [wire.process for wire in simulation.loop.network.wires] == [program.process]
    program.kill()
    client.rpush("l", "x")
    await simulation.advance(1)
    assert client.lrange("l", 0, -1) == [b"x"]


async def test_events_queues_and_timers_wait_in_virtual_time(simulation):
    def main():
        asked, answers, stop = queue.Queue(), queue.Queue(), threading.Event()

        def serve():
            while not stop.wait(0):
                answers.put((asked.get(), clock()))

        threading.Thread(target=serve).start()
        timer = threading.Timer(40, stop.set)
        timer.start()
        time.sleep(5)
        asked.put("a")
        first = answers.get(timeout=60)
        with pytest.raises(queue.Empty):
            answers.get(timeout=7)
        waited = (stop.wait(10), clock(), stop.wait(), clock())
        asked.put("last")
        return first, waited, answers.get()

    assert await asyncio.to_thread(main) == (("a", 5), (False, 22, True, 40), ("last", 40))


async def test_redis_pys_own_thread_hears_messages(simulation):
    client = redis.Redis.from_url(URL, socket_timeout=None)
    heard = []

    def main():
        channel = client.pubsub()
        channel.subscribe(news=lambda message: heard.append((message["data"], clock())))
        thread = channel.run_in_thread(sleep_time=60)
        time.sleep(100)
        thread.stop()
        thread.join()
        return clock()

    done = asyncio.create_task(asyncio.to_thread(main))
    await simulation.advance(10)
    client.publish("news", "rain")
    assert await done == 130  # it looks whether it is to stop when a read has ended: at 10, 70, 130
    assert heard == [(b"rain", 10)]


async def test_what_a_thread_raises_is_told_by_pythons_own_hook(simulation, monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)

    def main():
        thread = threading.Thread(target=breaks)
        thread.start()
        thread.join()

    await asyncio.to_thread(main)
    assert [hook.exc_type for hook in told] == [ZeroDivisionError]


def test_threads_that_wait_end_with_their_world():
    before = threading.active_count()
    threads = []

    def main():
        threads.extend(threading.Thread(target=threading.Event().wait) for _ in range(3))
        for thread in threads:
            thread.start()

    with Simulation() as simulation:
        simulation.run(asyncio.to_thread(main))
        assert threading.active_count() > before
    for thread in threads:
        thread.join()
    assert threading.active_count() == before


def test_the_same_seed_gives_the_same_turns():
    def main():
        results = queue.Queue()

        def work(n):
            for _ in range(3):
                time.sleep(n)
                results.put(n)

        threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.5)
        return [results.get() for _ in range(9)]

    def digest():
        with Simulation() as simulation:
            assert simulation.run(asyncio.to_thread(main)) == [1, 2, 1, 3, 1, 2, 3, 2, 3]
            return simulation.trace.digest()

    assert digest() == digest()


# -- executors


async def test_an_executor_of_sync_code_lives_in_the_simulation(simulation):
    client = redis.Redis.from_url(URL)
    names, began = [], []

    def work(seconds):
        began.append((time.monotonic(), names.count(threading.current_thread().name)))
        time.sleep(seconds)
        return client.incr("done")

    def main():
        initializer = lambda: names.append(threading.current_thread().name)  # noqa: E731
        with ThreadPoolExecutor(2, initializer=initializer) as executor:
            assert list(executor.map(work, [10, 20, 30])) == [1, 2, 3]
            assert time.monotonic() == 40
            first = executor.submit(work, 7)
            waits, works = executor.submit(work, 100), executor.submit(work, 5)
            assert not waits.running() or not works.running()
            with pytest.raises(TimeoutError):
                works.result(timeout=3)
            assert [each.result() for each in as_completed([first, works])] == [4, 5]
            assert time.monotonic() == 52
            with pytest.raises(ZeroDivisionError):
                executor.submit(lambda: 1 / 0).result()
        return time.monotonic()

    assert await asyncio.to_thread(main) == 140
    assert began == [(0, 1), (0, 1), (10, 1), (40, 1), (40, 1), (47, 1)]


async def test_an_executor_s_work_dies_with_its_process(simulation):
    client = redis.Redis.from_url(URL)

    def work():
        time.sleep(10)
        client.set("ghost", 1)

    def main():
        with ThreadPoolExecutor() as executor:
            executor.submit(work).result()

    program = simulation.process("program", lambda: asyncio.to_thread(main))
    await simulation.advance(5)
    program.kill()
    await simulation.advance(60)
    assert client.get("ghost") is None


def test_an_executor_that_is_at_work_ends_with_its_world(caplog):
    ended = []

    def work():
        try:
            time.sleep(1000)
        finally:
            ended.append(1)

    def main():
        executor = ThreadPoolExecutor(2)
        executor.submit(time.sleep, 1)
        return executor.submit(work).result()

    with Simulation() as simulation:
        simulation.process("program", lambda: asyncio.to_thread(main))
        simulation.run(simulation.advance(5))
    assert ended == [1]
    assert not caplog.records


# -- and those that live elsewhere


async def test_an_executor_of_others_lives_in_real_time_and_cannot_connect(simulation):
    client = redis.Redis.from_url(URL, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0))
    executor = ThreadPoolExecutor(2)

    def main():
        with executor:
            year = executor.submit(lambda: time.gmtime().tm_year).result()
            assert year != 2030
            return executor.submit(client.ping).result()

    with pytest.raises(redis.ConnectionError, match="was started by hand in a simulation"):
        await asyncio.to_thread(main)


async def test_a_thread_that_the_loop_starts_lives_in_real_time_and_cannot_connect(simulation):
    errors = []

    def main():
        try:
            redis.Redis.from_url(URL).ping()
        except redis.ConnectionError as error:
            errors.append(str(error))

    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
    assert "lives in real time" in errors[0]


async def test_the_loop_does_not_wait_for_a_thread_of_a_sync_task(simulation):
    def main():
        thread = threading.Thread(target=time.sleep, args=(10,))
        thread.start()
        return thread

    thread = await asyncio.to_thread(main)
    with pytest.raises(SimulationError, match="on the event loop's own thread"):
        thread.join()
    await simulation.advance(10)
    thread.join()
    assert not thread.is_alive()

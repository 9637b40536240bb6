"""Sync programs in processes of a simulation: their signals and alarms."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest
import redis

from queuekit.simulation import ProcessDied, RefusedInSimulation, SimulationError

URL = "redis://redis.internal:6379/0"


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


class StopError(Exception):
    """What a handler raises."""


def raise_stop(number, frame):
    raise StopError(number)


def clock():
    return time.monotonic()


# -- signals


async def test_a_handler_runs_in_the_thread_in_the_midst_of_its_wait(simulation):
    seen = []

    def main():
        def note(number, frame):
            seen.append((number, clock(), threading.current_thread().name, frame.f_code.co_name))

        signal.signal(signal.SIGTERM, note)
        time.sleep(60)
        return clock(), threading.current_thread().name

    program = simulation.process("program")
    done = asyncio.create_task(program.run(asyncio.to_thread, main))
    await simulation.advance(10)
    program.terminate()
    ended, thread = await done
    assert (ended, seen) == (60, [(signal.SIGTERM, 10, thread, "wait_for")])


async def test_what_a_handler_raises_ends_the_wait(simulation):
    client = redis.Redis.from_url(URL, socket_timeout=None)

    def main():
        signal.signal(signal.SIGTERM, raise_stop)
        try:
            client.blpop("l", 0)
        except StopError:
            return client.incr("stopped"), clock()

    program = simulation.process("program")
    done = asyncio.create_task(program.run(asyncio.to_thread, main))
    await simulation.advance(10)
    program.terminate()
    assert await done == (1, 10)
    client.rpush("l", "x")
    await simulation.advance(1)
    assert client.lrange("l", 0, -1) == [b"x"]


async def test_a_handler_may_wait_while_what_it_interrupts_comes(simulation):
    def main():
        steps = []

        def slow(number, frame):
            time.sleep(100)
            steps.append(("handled", clock()))

        signal.signal(signal.SIGTERM, slow)
        time.sleep(20)
        steps.append(("slept", clock()))
        time.sleep(5)
        return steps, clock()

    program = simulation.process("program")
    done = asyncio.create_task(program.run(asyncio.to_thread, main))
    await simulation.advance(10)
    program.terminate()
    assert await done == ([("handled", 110), ("slept", 110)], 115)


async def test_a_program_without_a_handler_dies_of_the_signal(simulation):
    def main():
        signal.signal(signal.SIGTERM, raise_stop)
        assert signal.getsignal(signal.SIGTERM) is raise_stop
        assert signal.signal(signal.SIGTERM, signal.SIG_DFL) is raise_stop
        time.sleep(60)

    program = simulation.process("program", lambda: asyncio.to_thread(main))
    await simulation.advance(10)
    program.terminate()
    assert not program.alive


async def test_an_ignored_signal_does_nothing(simulation):
    def main():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
        return clock()

    program = simulation.process("program")
    done = asyncio.create_task(program.run(asyncio.to_thread, main))
    await simulation.advance(10)
    program.terminate()
    assert await done == 60


async def test_a_program_that_signals_itself_reaches_no_other_process(simulation):
    def main():
        signal.signal(signal.SIGINT, raise_stop)
        try:
            os.kill(os.getpid(), 0)  # only asks whether it is there
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        except StopError:
            return clock()

    other = simulation.process("other", lambda: asyncio.sleep(60))
    program = simulation.process("program")
    assert await program.run(asyncio.to_thread, main) == 0
    assert other.running


async def test_the_signals_of_the_test_run_itself_stay_as_they_are(simulation):
    before = signal.getsignal(signal.SIGTERM)
    await simulation.process("program").run(
        asyncio.to_thread, signal.signal, signal.SIGTERM, raise_stop
    )
    assert signal.getsignal(signal.SIGTERM) == before


async def test_a_handler_outlives_the_thread_that_set_it(simulation):
    seen = []
    program = simulation.process("program")
    await program.run(
        asyncio.to_thread, signal.signal, signal.SIGTERM, lambda *_: seen.append(clock())
    )
    await simulation.advance(10)
    program.terminate()
    await simulation.run_until_idle()
    assert (seen, program.alive) == ([10], True)


async def test_what_is_no_handler_and_no_signal_is_refused_as_by_python(simulation):
    with pytest.raises(TypeError, match="SIG_IGN"):
        await asyncio.to_thread(signal.signal, signal.SIGTERM, "stop")
    with pytest.raises(ValueError, match="4711"):
        await asyncio.to_thread(signal.signal, 4711, raise_stop)
    with pytest.raises(OSError, match="Invalid argument"):
        await asyncio.to_thread(signal.signal, signal.SIGKILL, raise_stop)


async def test_a_signal_that_would_end_the_test_run_is_refused(simulation):
    with pytest.raises(SimulationError, match="would end the process of the test itself"):
        await asyncio.to_thread(os.kill, os.getpid(), signal.SIGTERM)


async def test_nobody_waits_any_more_for_what_a_handler_has_ended(simulation):
    def main():
        signal.signal(signal.SIGTERM, raise_stop)
        with pytest.raises(StopError):
            threading.Event().wait()

    program = simulation.process("program", lambda: asyncio.to_thread(main))
    await simulation.advance(10)
    program.terminate()
    await simulation.advance(0)
    assert not program.running
    assert asyncio.all_tasks() == {asyncio.current_task()}


# -- alarms


async def test_an_alarm_rings_in_virtual_time(simulation):
    def main():
        signal.signal(signal.SIGALRM, raise_stop)
        assert signal.alarm(50) == 0
        time.sleep(20)
        assert signal.alarm(30) == 30
        try:
            time.sleep(60)
        except StopError:
            return clock()

    assert await simulation.process("program").run(asyncio.to_thread, main) == 50
    await simulation.advance(100)  # past the end of the sleep that nobody sleeps any more
    assert await asyncio.to_thread(clock) == 150


async def test_an_alarm_that_was_called_off_does_not_ring(simulation):
    def main():
        signal.signal(signal.SIGALRM, raise_stop)
        signal.setitimer(signal.ITIMER_REAL, 1.5)
        assert signal.getitimer(signal.ITIMER_REAL) == (1.5, 0)
        assert signal.setitimer(signal.ITIMER_REAL, 0) == (1.5, 0)
        time.sleep(60)
        return clock()

    assert await simulation.process("program").run(asyncio.to_thread, main) == 60


async def test_an_alarm_may_come_again_and_again(simulation):
    rung = []

    def main():
        signal.signal(signal.SIGALRM, lambda *_: rung.append(clock()))
        signal.setitimer(signal.ITIMER_REAL, 1, 10)
        time.sleep(30)
        signal.alarm(0)
        time.sleep(30)

    await simulation.process("program").run(asyncio.to_thread, main)
    assert rung == [1, 11, 21]


async def test_an_alarm_without_a_handler_ends_the_process(simulation):
    def main():
        signal.alarm(5)
        time.sleep(60)

    program = simulation.process("program")
    with pytest.raises(ProcessDied):
        await program.run(asyncio.to_thread, main)
    assert simulation.clock.monotonic() == 5


async def test_an_alarm_that_would_end_the_test_run_is_refused_where_it_rings(simulation):
    def main():
        signal.alarm(5)
        try:
            time.sleep(60)
        finally:
            rung.append(clock())

    rung = []
    with pytest.raises(SimulationError, match="would end the process of the test itself"):
        await asyncio.to_thread(main)
    assert rung == [5]


async def test_a_paused_program_hears_its_alarm_when_it_goes_on(simulation):
    def main():
        signal.signal(signal.SIGALRM, raise_stop)
        signal.alarm(5)
        try:
            time.sleep(60)
        except StopError:
            return clock()

    program = simulation.process("program")
    done = asyncio.create_task(program.run(asyncio.to_thread, main))
    await simulation.advance(1)
    program.pause(seconds=20)
    assert await done == 21


async def test_a_fork_of_the_test_run_is_refused(simulation):
    with pytest.raises(RefusedInSimulation, match=r"os\.fork\(\) in a simulation would copy"):
        await asyncio.to_thread(os.fork)

"""Whose time is virtual, and whose is real."""

from __future__ import annotations

import asyncio
import datetime as dt
import subprocess
import sys
import textwrap
import threading
import time

import freezegun
import pytest

from queuekit.simulation import RefusedInSimulation, Simulation, SimulationError


def real_year() -> int:
    return dt.datetime.now(dt.UTC).year


async def test_the_package_itself_is_not_left_in_real_time(simulation):
    """freezegun ignores modules whose names begin with `queue`, unless its list is changed."""
    package = {"__name__": "queuekit_lookalike", "time": time}
    exec("def now():\n    return time.time()", package)
    exec("def call(f):\n    return f()", package)
    assert package["now"]() == package["call"](time.time) == 1_893_456_000.0


def test_time_is_real_outside_of_a_running_simulation(simulation):
    before = time.perf_counter()
    assert real_year() < 2030
    assert time.time() < 1_893_456_000
    simulation.run(asyncio.sleep(86_400))
    assert real_year() < 2030
    assert time.perf_counter() - before < 3600


async def test_time_is_real_in_other_threads(simulation):
    seen = []
    thread = threading.Thread(target=lambda: seen.append((real_year(), time.monotonic())))
    thread.start()
    thread.join()
    assert seen[0][0] < 2030
    assert real_year() == 2030


async def test_modules_that_took_the_functions_by_name_follow_too(simulation):
    import calendar  # noqa: PLC0415
    from email.utils import localtime  # noqa: PLC0415

    assert localtime().year == 2030
    assert calendar.datetime.datetime.now(dt.UTC).year == 2030


async def test_freeze_time_inside_a_simulation_is_refused(simulation):
    with pytest.raises(SimulationError, match="two clocks cannot own the same time"):
        freezegun.freeze_time("2020-01-01").start()
    assert real_year() == 2030


def test_freeze_time_elsewhere_in_the_suite_works_as_ever(simulation):
    with freezegun.freeze_time("2020-05-05 12:00") as frozen:
        assert dt.datetime.now(dt.UTC) == dt.datetime(2020, 5, 5, 12, tzinfo=dt.UTC)
        frozen.tick(60)
        assert time.gmtime().tm_min == 1
        assert time.time() == dt.datetime(2020, 5, 5, 12, 1, tzinfo=dt.UTC).timestamp()
    assert real_year() != 2020


def test_a_simulation_does_not_begin_in_frozen_time():
    with (
        freezegun.freeze_time("2020-01-01"),
        pytest.raises(SimulationError, match="frozen the time already"),
    ):
        Simulation().__enter__()


async def test_sleeping_on_the_loops_own_thread_is_refused(simulation):
    with pytest.raises(SimulationError, match="would stop the simulation"):
        time.sleep(1)  # noqa: ASYNC251 (the point)


async def test_a_connection_out_of_the_simulation_is_refused_with_its_address(simulation):
    import socket  # noqa: PLC0415

    with (
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
        pytest.raises(RefusedInSimulation, match=r"192\.0\.2\.1"),
    ):
        datagrams.connect(("192.0.2.1", 514))
    with pytest.raises(RefusedInSimulation, match="getaddrinfo"):
        await asyncio.get_running_loop().getaddrinfo("example.com", 80)


async def test_what_does_not_speak_redis_is_refused(simulation):
    reader, writer = await asyncio.open_connection("api.example.com", 80)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(RefusedInSimulation, match=r"api\.example\.com:80 does not speak Redis"):
        await reader.read()
    writer.close()


@pytest.mark.slow
def test_the_clocks_can_be_given_back():
    code = """
    import datetime, time, freezegun
    from queuekit.simulation import Simulation, wallclock
    def clocks():
        others = time.ctime, time.asctime, time.clock_gettime, time.clock_gettime_ns
        return time.time, time.sleep, datetime.datetime, time.monotonic, *others
    real = clocks()
    with Simulation(): pass
    assert not set(clocks()) & set(real)
    wallclock.uninstall()
    assert clocks() == real
    with Simulation() as s:
        async def main():
            assert time.gmtime().tm_year == 2030
        s.run(main())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


@pytest.mark.slow
def test_local_time_stays_local_outside_of_a_simulation():
    code = """
    import datetime, time
    before = datetime.datetime.now()
    from queuekit.simulation import Simulation
    with Simulation(): pass
    after = datetime.datetime.now()
    assert abs((after - before).total_seconds()) < 60, (before, after)
    assert datetime.datetime.fromtimestamp(0).hour == time.localtime(0).tm_hour == 9
    assert datetime.datetime(1970, 1, 1, 9).timestamp() == 0
    assert datetime.date.today() == after.date()
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, env={"TZ": "Asia/Tokyo"}
    )

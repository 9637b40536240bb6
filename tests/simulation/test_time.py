"""How time moves in a simulation."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, date, datetime, timedelta

import pytest

from queuekit.simulation import (
    JobsFailed,
    SimulationDeadlock,
    SimulationError,
    SimulationLivelock,
    VirtualTimeLimit,
)


async def ok(ctx):
    return "ok"


async def test_one_clock_drives_every_way_to_ask_for_the_time(simulation):
    await asyncio.sleep(3600.5)
    seconds = datetime(2030, 1, 1, 1, 0, 0, 500_000, tzinfo=UTC).timestamp()
    assert time.time() == seconds
    assert time.time_ns() == round(seconds * 1e9)
    assert datetime.now(UTC).timestamp() == seconds
    assert datetime.now() == datetime(2030, 1, 1, 1, 0, 0, 500_000)  # noqa: DTZ001, DTZ005 (the claim)
    assert date.today() == date(2030, 1, 1)  # noqa: DTZ011 (the claim)
    assert time.gmtime().tm_hour == 1
    assert time.monotonic() == time.perf_counter() == asyncio.get_running_loop().time() == 3600.5
    assert time.monotonic_ns() == 3_600_500_000_000


async def test_sleeping_forty_days_is_exact(simulation):
    await asyncio.sleep(40 * 86_400)
    assert time.monotonic() == 40 * 86_400


async def test_a_year_of_uneven_steps_meets_one_leap(simulation):
    met = []

    async def at(seconds):
        await asyncio.sleep(seconds)
        met.append(seconds)

    await asyncio.sleep(31_536_000.1)
    tasks = [asyncio.create_task(at(15.0))]
    await asyncio.sleep(5)
    tasks.append(asyncio.create_task(at(10.0)))
    await simulation.advance(10)
    assert met == [15.0, 10.0]
    assert all(task.done() for task in tasks)


async def test_a_deadline_that_falls_on_the_target_fires_with_all_that_follows(simulation):
    seen = []

    async def chain():
        await asyncio.sleep(5)
        for n in range(10):
            await asyncio.sleep(0)
            seen.append(n)

    task = asyncio.create_task(chain())
    await simulation.advance(5)
    assert seen == list(range(10))
    assert task.done()


async def test_advance_passes_no_timer_and_each_sees_its_own_moment(simulation):
    seen = []

    async def ticking():
        while True:
            await asyncio.sleep(7)
            seen.append(time.monotonic())

    asyncio.create_task(ticking())  # noqa: RUF006 (ends with its world)
    await simulation.advance(30)
    assert seen == [7, 14, 21, 28]


async def test_timers_of_one_moment_fire_in_the_order_of_their_making(simulation):
    seen = []
    loop = asyncio.get_running_loop()
    for n in range(50):
        loop.call_later(1, seen.append, n)
    await asyncio.sleep(1)
    assert seen == list(range(50))


async def test_advance_takes_timedeltas_and_refuses_to_go_back(simulation):
    await simulation.advance(timedelta(minutes=1))
    await simulation.advance(0)
    assert simulation.now == datetime(2030, 1, 1, 0, 1, tzinfo=UTC)
    with pytest.raises(SimulationError, match="time does not run backwards"):
        await simulation.advance(-1)


async def test_advance_to_takes_datetimes_text_and_seconds(simulation):
    await simulation.advance_to(datetime(2030, 1, 2, tzinfo=UTC))
    await simulation.advance_to("2030-01-03T12:00:00+02:00")
    assert simulation.now == datetime(2030, 1, 3, 10, tzinfo=UTC)
    await simulation.advance_to(simulation.now.timestamp() + 1.5)
    assert simulation.now == datetime(2030, 1, 3, 10, 0, 1, 500_000, tzinfo=UTC)
    with pytest.raises(SimulationError, match="already"):
        await simulation.advance_to("2030-01-01")
    with pytest.raises(SimulationError, match="no time zone"):
        await simulation.advance_to(datetime(2031, 1, 1))  # noqa: DTZ001 (the point)
    with pytest.raises(SimulationError, match="no ISO 8601 moment"):
        await simulation.advance_to("soon")


@pytest.mark.queuekit(start="2024-02-29T23:59:59Z")
async def test_the_marker_chooses_where_time_begins(simulation):
    await asyncio.sleep(1)
    assert date.today() == date(2024, 3, 1)  # noqa: DTZ011 (the claim)


async def test_run_until_idle_never_moves_time(simulation):
    simulation.worker([ok])
    await simulation.queue.enqueue("ok", scheduled=timedelta(seconds=1))
    job = await simulation.queue.enqueue("ok")
    await simulation.run_until_idle()
    simulation.assert_completed(job)
    assert simulation.now.second == 0
    simulation.assert_enqueued("ok", scheduled_in=1, count=1)


async def test_run_next_moves_to_the_next_moment_of_the_application(simulation):
    simulation.worker([ok])
    for hours in (5, 9):
        await simulation.queue.enqueue("ok", scheduled=timedelta(hours=hours))
    moments = [(await simulation.run_next()).hour for _ in range(2)]
    assert moments == [5, 9]
    with pytest.raises(SimulationError, match="nothing is to come"):
        await simulation.run_next()


async def test_run_until_stops_at_the_moment_at_which_a_condition_holds(simulation):
    simulation.worker([ok])
    job = await simulation.queue.enqueue("ok", scheduled=timedelta(seconds=77))
    await simulation.run_until(lambda: simulation.record_of(job).finished)
    assert simulation.now.timestamp() == simulation.record_of(job).finished_ms / 1000
    assert (simulation.now.minute, simulation.now.second) == (1, 17)


async def test_run_until_gives_up_at_its_limit_and_says_why(simulation):
    job = await simulation.queue.enqueue("ok")
    with pytest.raises(SimulationError, match="no worker runs for queue 'default'"):
        await simulation.run_until(lambda: simulation.record_of(job).finished, limit=60)


async def test_drain_runs_what_could_run_and_follows_jobs_that_jobs_enqueue(simulation):
    async def parent(ctx, depth):
        await asyncio.sleep(1)
        if depth:
            await ctx["queue"].enqueue("parent", depth=depth - 1)

    simulation.worker([parent, ok])
    await simulation.queue.enqueue("parent", depth=4)
    later = await simulation.queue.enqueue("ok", scheduled=timedelta(hours=1))
    assert await simulation.drain() == {"complete": 5}
    assert simulation.now.second == 5
    assert not simulation.record_of(later).finished
    assert await simulation.drain(scheduled=True) == {"complete": 1}


async def test_drain_raises_on_a_failure_unless_told_to_count(simulation):
    async def fails(ctx):
        raise ValueError("boom")

    simulation.worker([fails])
    await simulation.queue.enqueue("fails")
    with pytest.raises(JobsFailed, match="boom"):
        await simulation.drain()
    await simulation.queue.enqueue("fails")
    assert await simulation.drain(raise_on_failure=False) == {"failed": 1}


async def test_drain_follows_retries_through_their_delays(simulation):
    runs = []

    async def flaky(ctx):
        runs.append(time.monotonic())
        if len(runs) < 3:
            raise ValueError

    simulation.worker([flaky])
    await simulation.queue.enqueue("flaky", retries=3, retry_delay=100)
    assert await simulation.drain() == {"complete": 1}
    assert runs == [0, 100, 200]


async def test_drain_gives_up_at_its_limit_and_says_what_is_left(simulation):
    await simulation.queue.enqueue("ok")
    with pytest.raises(SimulationError, match="1 job"):
        await simulation.drain(limit=10)


def test_a_wait_that_nothing_can_end_is_a_deadlock_that_names_who_waits(simulation):
    async def never():
        simulation.worker([ok])
        await asyncio.Event().wait()

    with pytest.raises(SimulationDeadlock) as caught:
        simulation.run(never())
    assert "never-1" in str(caught.value)
    assert "Event.wait" in str(caught.value)
    assert "worker-1" in str(caught.value)


def test_waiting_for_a_job_that_nobody_runs_is_a_deadlock(simulation):
    async def wait():
        await simulation.queue.apply("ok")

    with pytest.raises(SimulationDeadlock, match="is there a worker"):
        simulation.run(wait())


@pytest.mark.slow
@pytest.mark.queuekit(steps_per_instant=20_000)
def test_turning_without_time_moving_is_a_livelock_that_names_who_turns(simulation):
    async def spin():
        while True:  # noqa: ASYNC110 (the point)
            await asyncio.sleep(0)

    with pytest.raises(SimulationLivelock, match="spin"):
        simulation.run(spin())


def test_waiting_through_years_is_ended(simulation):
    async def centuries():
        await asyncio.sleep(100 * 366 * 86_400)

    with pytest.raises(VirtualTimeLimit, match="732 days"):
        simulation.run(centuries())


async def test_time_does_not_move_while_the_test_works(simulation):
    task = asyncio.create_task(asyncio.sleep(1))
    for _ in range(100):
        await simulation.queue.count("queued")
    assert time.monotonic() == 0
    assert not task.done()
    await task
    assert time.monotonic() == 1


async def test_asyncio_timeouts_are_virtual(simulation):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3600):
            await asyncio.sleep(4000)
    assert time.monotonic() == 3600


async def test_exceptions_that_nobody_awaits_are_kept(simulation):
    simulation.loop.set_exception_handler(lambda loop, context: None)
    simulation.loop.call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
    [unseen] = simulation.loop.unseen
    assert isinstance(unseen["exception"], ZeroDivisionError)


@pytest.mark.parametrize("wrong", ["x", None, float("inf"), float("nan"), 1e30])
async def test_what_is_no_span_of_time_is_refused(simulation, wrong):
    with pytest.raises(SimulationError, match="no span of time"):
        await simulation.advance(wrong)


@pytest.mark.parametrize("wrong", [None, [], float("nan")])
async def test_what_is_no_moment_is_refused(simulation, wrong):
    with pytest.raises(SimulationError, match="is no moment"):
        await simulation.advance_to(wrong)

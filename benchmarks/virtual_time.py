"""Virtual against real time, and what a simulation costs.

python -m benchmarks.virtual_time [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Callable

import fakeredis
from freezegun import api

from queuekit.simulation import Simulation
from queuekit.simulation.clock import VirtualClock
from queuekit.simulation.loop import SimulatedLoop
from queuekit.store import scripts

JOBS = 200
SLEEPS = 20_000
CALLS = 300


def real_seconds() -> float:
    """Real time, inside a simulation too."""
    return api.real_perf_counter()


def main() -> int:
    """Print the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.virtual_time")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    print(f"\nmedians of {rounds} rounds\n")
    for what, unit, measure in (
        ("a test with three attempts, 5 s and 10 s apart", "ms", retry_test),
        ("  virtual seconds in a real one, in that test", "", lambda: 15 / (retry_test() / 1000)),
        ("a world with nothing in it, set-up to tear-down", "ms", empty_world),
        ("a virtual week of an hourly cron job", "ms", hourly_week),
        ("simulated jobs a second", "/s", jobs_a_second),
        ("virtual sleeps a second, 1 task", "/s", lambda: sleeps(1)),
        ("virtual sleeps a second, 100 tasks", "/s", lambda: sleeps(100)),
        ("EVALSHA of a claim, over the wire", "us", claim_over_the_wire),
        ("EVALSHA of a claim, FakeAsyncRedis", "us", claim_on_fakeredis),
    ):
        print(f"  {what:52}{_median(measure, rounds):>14,.1f} {unit}")
    return 0


def _median(measure: Callable[[], float], rounds: int) -> float:
    measure()  # the first one pays for imports and caches
    return statistics.median(measure() for _ in range(rounds))


def _lived(main: Callable[[Simulation], object]) -> float:
    """Real milliseconds of a world, from set-up to tear-down."""
    began = real_seconds()
    with Simulation() as simulation:
        simulation.run(main(simulation))  # type: ignore[arg-type]
    return (real_seconds() - began) * 1000


def retry_test() -> float:
    """The first test of the README."""
    attempts = []

    async def charge(ctx):
        attempts.append(1)
        if len(attempts) < 3:
            raise ConnectionError

    async def test(simulation):
        simulation.worker([charge])
        job = await simulation.queue.enqueue("charge", retries=3, retry_delay=5, retry_backoff=True)
        await simulation.advance(15)
        simulation.assert_completed(job, attempts=3)

    return _lived(test)


def empty_world() -> float:
    async def test(simulation):
        await asyncio.sleep(1)

    return _lived(test)


def hourly_week() -> float:
    from queuekit import CronJob  # noqa: PLC0415 (used here only)

    async def hourly(ctx):
        """Does nothing."""

    async def test(simulation):
        simulation.worker(cron_jobs=[CronJob(hourly, "0 * * * *")])
        await simulation.advance(7 * 86_400)
        simulation.assert_cron_ran(hourly, times=168)

    return _lived(test)


def jobs_a_second() -> float:
    async def noop(ctx):
        """Does nothing."""

    async def test(simulation):
        simulation.worker([noop])
        for _ in range(JOBS):
            await simulation.queue.enqueue("noop")
        await simulation.drain()

    return JOBS / (_lived(test) / 1000)


def sleeps(tasks: int) -> float:
    loop = SimulatedLoop(VirtualClock(0))

    async def sleeper():
        for _ in range(SLEEPS // tasks):
            await asyncio.sleep(1)

    async def all_of_them():
        await asyncio.gather(*(sleeper() for _ in range(tasks)))

    began = real_seconds()
    loop.run_until_complete(all_of_them())
    took = real_seconds() - began
    loop.close()
    return SLEEPS / took


def claim_over_the_wire() -> float:
    taken = []

    async def test(simulation):
        store = simulation.queue.store
        await store.claim("w", "c", 1, 1000, 1000)
        began = real_seconds()
        for n in range(CALLS):
            await store.claim("w", f"c{n}", 1, 1000, 1000)
        taken.append((real_seconds() - began) / CALLS * 1e6)

    _lived(test)
    return taken[0]


def claim_on_fakeredis() -> float:
    script = scripts.load("claim")

    async def test() -> float:
        client = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer(version=(7, 4)), protocol=2)
        await client.script_load(script.text)
        began = real_seconds()
        for n in range(CALLS):
            await client.evalsha(
                script.sha, 1, "qk:{x}", "1893456000000", "w", f"c{n}", 1, 1000, 1000
            )
        took = (real_seconds() - began) / CALLS * 1e6
        await client.aclose()
        return took

    return asyncio.run(test())


if __name__ == "__main__":
    raise SystemExit(main())

"""Searching schedules of plain asyncio code: queuekit beside the generic simulators.

python -m benchmarks.schedules [--rounds 11]

A simulator that is not installed is left out; a search that has no end within 20 s is told as such.
Processor time, not real time: other work on the machine counts less.
"""

# ruff: noqa: PLC0415 (what is not installed is not imported)
from __future__ import annotations

import argparse
import asyncio
import importlib.util
import multiprocessing
import statistics
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

SLEEPS = 10_000
RUNS = 30
SEEDS = 1_000
"Runs of one search, at most."

HEAP = 300_000
"Objects that the application under test has made."

SEARCH_LIMIT_S = 20.0
"Real seconds of one search; some never end."

Main = Callable[[], Coroutine[Any, Any, object]]


@dataclass
class Found:
    """What a search has found, and how small it became."""

    deviations: int | None
    lines: bool
    "Whether source lines are told."


class Queuekit:
    name = "queuekit"
    needs = "queuekit"

    def run(self, main: Main) -> None:
        from queuekit.exploration.races import replay_race

        replay_race(main, [], schedule="fifo")

    def run_traced(self, main: Main) -> None:
        from queuekit.simulation.clock import VirtualClock
        from queuekit.simulation.loop import SimulatedLoop

        loop = SimulatedLoop(VirtualClock(0))
        loop.run_until_complete(main())
        assert loop.trace.count > SLEEPS
        loop.close()

    def search(self, main: Main, seed: int) -> Found | None:
        from queuekit.exploration.races import find_race

        race = find_race(main, first_seed=seed, runs=SEEDS)
        return race and Found(len(race.tape), ".py:" in race.story())


class Detangle:
    name = "detangle"
    needs = "detangle"

    def run(self, main: Main) -> None:
        import detangle

        detangle.run(main)

    def run_traced(self, main: Main) -> None:
        import detangle

        detangle.run(main, trace=True)

    def search(self, main: Main, seed: int) -> Found | None:
        import detangle

        try:
            detangle.explore(main, runs=SEEDS, seed=seed, database=False)
        except detangle.BugFound as found:
            said = str(found)
            return Found(int(said.partition("schedule: ")[2].partition(" ")[0]), ".py:" in said)
        return None


class Simloom:
    name = "simloom"
    needs = "simloom"

    def run(self, main: Main) -> None:
        import simloom

        simloom.run(main, seed=1)

    def search(self, main: Main, seed: int) -> Found | None:
        import simloom

        for scheduler in ("random", "pct"):
            seen = simloom.explore(main, runs=SEEDS // 2, start_seed=seed, scheduler=scheduler)
            if seen.failures:
                shrunk = simloom.shrink(main, seen.first_failure)
                return Found(shrunk.deviations, ".py:" in str(shrunk.describe()))
        return None


class Trio:
    """Virtual time only: its tasks are its own, so sleeps are all that it is asked for."""

    name = "trio"
    needs = "trio"

    def sleep_in(self, tasks: int) -> None:
        import trio
        import trio.testing

        async def sleeper() -> None:
            for _ in range(SLEEPS // tasks):
                await trio.sleep(1)

        async def all_of_them() -> None:
            async with trio.open_nursery() as nursery:
                for _ in range(tasks):
                    nursery.start_soon(sleeper)

        trio.run(all_of_them, clock=trio.testing.MockClock(autojump_threshold=0))


class Looptime:
    """Virtual time only."""

    name = "looptime"
    needs = "looptime"

    def run(self, main: Main) -> None:
        import looptime

        loop = looptime.patch_event_loop(asyncio.new_event_loop(), start=0, end=None)
        loop.run_until_complete(main())
        loop.close()


SIMULATORS: list[Any] = [Queuekit(), Detangle(), Simloom(), Trio(), Looptime()]


# -- what they are given


async def nothing() -> None:
    """Ends at once."""


async def three_that_sleep() -> None:
    async def sleeper() -> None:
        for _ in range(10):
            await asyncio.sleep(1)

    await asyncio.gather(*(sleeper() for _ in range(3)))


async def race() -> None:
    """Three buy two things: the last looks in vain, unless it looks before the second has paid."""
    stock = 2

    async def buy(steps: int) -> None:
        nonlocal stock
        for _ in range(steps):
            await asyncio.sleep(0)
        if stock > 0:
            await asyncio.sleep(0)
            stock -= 1

    await asyncio.gather(*(buy(2 * n) for n in range(3)))
    assert stock >= 0


async def held_back() -> None:
    """Wrong if one task is held back at one place while the other takes 25 of its 50 steps."""
    steps = 0

    async def runs() -> None:
        nonlocal steps
        for _ in range(50):
            steps += 1
            await asyncio.sleep(0)

    async def looks() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        before = steps
        await asyncio.sleep(0)
        assert steps - before < 25

    await asyncio.gather(runs(), looks())


def sleeps(tasks: int) -> Main:
    async def sleeper() -> None:
        for _ in range(SLEEPS // tasks):
            await asyncio.sleep(1)

    async def all_of_them() -> None:
        await asyncio.gather(*(sleeper() for _ in range(tasks)))

    return all_of_them


# -- what is measured


def taken(what: Callable[[], object]) -> float:
    """Milliseconds."""
    began = time.process_time()
    what()
    return (time.process_time() - began) * 1000


def sleeps_a_second(simulator: Any, tasks: int) -> float:
    if hasattr(simulator, "sleep_in"):
        return SLEEPS / taken(lambda: simulator.sleep_in(tasks)) * 1000
    return SLEEPS / taken(lambda: simulator.run(sleeps(tasks))) * 1000


def run_ms(simulator: Any, main: Main) -> float:
    return taken(lambda: [simulator.run(main) for _ in range(RUNS)]) / RUNS


def on_a_heavy_heap(simulator: Any) -> float:
    heap = [{"a": n, "b": [n]} for n in range(HEAP)]
    taken_ms = run_ms(simulator, nothing)
    del heap
    return taken_ms


def traced_sleeps_a_second(simulator: Any, tasks: int) -> float:
    return SLEEPS / taken(lambda: simulator.run_traced(sleeps(tasks))) * 1000


def searches(simulator: Any, main: Main, rounds: int) -> list[tuple[float, Found | None]] | None:
    """Milliseconds and what was found, of searches from different seeds; None if one has no end."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def work() -> None:
        for number in range(rounds):
            began = time.process_time()
            found = simulator.search(main, 1 + number * SEEDS)
            sender.send(((time.process_time() - began) * 1000, found))

    process = context.Process(target=work, daemon=True)
    process.start()
    seen = []
    while len(seen) < rounds:
        if not receiver.poll(SEARCH_LIMIT_S):
            process.kill()
            process.join()
            return None
        seen.append(receiver.recv())
    process.join()
    return seen


def searched(simulator: Any, main: Main, rounds: int) -> str:
    """The median of searches from different seeds, each until the race is found and reduced."""
    seen = searches(simulator, main, rounds)
    if seen is None:
        return f"no end in {SEARCH_LIMIT_S:g} s"
    median_ms = statistics.median(took for took, _ in seen)
    found = [each for _, each in seen if each is not None]
    if not found:
        return f"not in {median_ms:,.0f} ms"
    lines = ", lines" if all(each.lines for each in found) else ""
    missed = f", missed by {rounds - len(found)}" if len(found) < rounds else ""
    size = statistics.median(each.deviations or 0 for each in found)
    return f"{median_ms:.1f} ms to {size:g}{lines}{missed}"


def median(measure: Callable[[], float], rounds: int) -> float:
    measure()  # the first one pays for imports and caches
    return statistics.median(measure() for _ in range(rounds))


def sleep_row(tasks: int) -> Callable[[Any, int], str]:
    return lambda simulator, rounds: (
        f"{median(lambda: sleeps_a_second(simulator, tasks), rounds):,.0f}"
    )


def traced_row(tasks: int) -> Callable[[Any, int], str]:
    return lambda simulator, rounds: (
        f"{median(lambda: traced_sleeps_a_second(simulator, tasks), rounds):,.0f}"
    )


def search_row(main: Main) -> Callable[[Any, int], str]:
    return lambda simulator, rounds: searched(simulator, main, rounds)


ROWS: list[tuple[str, str, Callable[[Any, int], str]]] = [
    ("virtual sleeps a second, 1 task", "", sleep_row(1)),
    ("virtual sleeps a second, 100 tasks", "", sleep_row(100)),
    ("the same with a trace, 1 task", "run_traced", traced_row(1)),
    ("the same with a trace, 100 tasks", "run_traced", traced_row(100)),
    (
        "an empty run, heavy heap, ms",
        "run",
        lambda simulator, rounds: f"{median(lambda: on_a_heavy_heap(simulator), rounds):.3f}",
    ),
    (
        "3 tasks x 10 sleeps, runs a second",
        "run",
        lambda simulator, rounds: (
            f"{1000 / median(lambda: run_ms(simulator, three_that_sleep), rounds):,.0f}"
        ),
    ),
    ("a race of three, found and reduced", "search", search_row(race)),
    ("one held back for 25 of 50 steps", "search", search_row(held_back)),
]
"What, the method that a simulator needs for it, and how it is measured."


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schedules")
    parser.add_argument("--rounds", type=int, default=11)
    report(parser.parse_args().rounds)
    return 0


def report(rounds: int) -> None:
    """Measure, and print the table."""
    there = [each for each in SIMULATORS if importlib.util.find_spec(each.needs)]
    print(f"\nmedians of {rounds} rounds, processor time\n")
    print(f"  {'':36}" + "".join(f"{each.name:>23}" for each in there))
    for what, needs, measure in ROWS:
        can = [not needs or hasattr(each, needs) for each in there]
        cells = [
            measure(each, rounds) if able else "-" for each, able in zip(there, can, strict=True)
        ]
        print(f"  {what:36}" + "".join(f"{cell:>23}" for cell in cells), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())

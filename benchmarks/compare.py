"""queuekit and SAQ in turn, on one real server: what a job costs.

    python -m benchmarks.compare [--rounds 5] [--json FILE]

Each side runs in processes of its own; rounds alternate, so that a busy moment of the machine meets
both. What counts is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

ENQUEUES = 1000
JOBS = 2000
LATENCIES = 400

WARM_UP = 20
"Latencies that do not count: the first jobs meet a worker that still starts and connects."

IDLE_S = 0.005
"Between two latencies, so that the worker has done with the last job: it is to be idle."

MORE_IS_BETTER = {"enqueue one by one /s", "no-op jobs /s, c=10", "no-op jobs /s, c=100"}


# -- one side, in a process of its own


async def noop(ctx: Any) -> None:
    """Does nothing."""


async def measure(side: str, url: str) -> dict[str, float]:
    """All numbers of one side."""
    make_queue, make_worker = _saq(url) if side == "saq" else _queuekit(url)
    return {
        "enqueue one by one /s": await _enqueues(make_queue),
        "no-op jobs /s, c=10": await _throughput(make_queue, make_worker, 10),
        "no-op jobs /s, c=100": await _throughput(make_queue, make_worker, 100),
        **await _latencies(make_queue, make_worker),
    }


def _queuekit(url: str) -> tuple[Callable[[str], Any], Callable[..., Any]]:
    from queuekit import Queue, Worker  # noqa: PLC0415 (one side a process)

    return lambda name: Queue.from_url(url, name=name), Worker


def _saq(url: str) -> tuple[Callable[[str], Any], Callable[..., Any]]:
    from redis.asyncio import Redis  # noqa: PLC0415 (as above)
    from saq import Worker  # noqa: PLC0415
    from saq.queue.redis import RedisQueue  # noqa: PLC0415

    return lambda name: RedisQueue(Redis.from_url(url), name=name), Worker


async def _enqueues(make_queue: Callable[[str], Any]) -> float:
    queue = make_queue("enqueue")
    await queue.connect()
    began = time.perf_counter()
    for _ in range(ENQUEUES):
        await queue.enqueue("noop")
    took = time.perf_counter() - began
    await queue.disconnect()
    return ENQUEUES / took


async def _throughput(
    make_queue: Callable[[str], Any], make_worker: Callable[..., Any], concurrency: int
) -> float:
    """Jobs a second of one worker that finds its queue full, from its start to the last job's end."""
    queue = make_queue(f"throughput-{concurrency}")
    await queue.connect()
    for _ in range(JOBS):
        await queue.enqueue("noop")
    done = asyncio.Event()
    left = JOBS

    async def after(ctx: Any) -> None:
        nonlocal left
        left -= 1
        if not left:
            done.set()

    worker = make_worker(queue, [noop], concurrency=concurrency, after_process=after)
    began = time.perf_counter()
    task = asyncio.create_task(worker.start())
    await done.wait()
    took = time.perf_counter() - began
    await _stop(worker, task, queue)
    return JOBS / took


async def _latencies(
    make_queue: Callable[[str], Any], make_worker: Callable[..., Any]
) -> dict[str, float]:
    """From enqueue to start, and to the result, of one job at a time on an idle worker (ms)."""
    queue = make_queue("latency")
    await queue.connect()
    started = 0.0

    async def stamp(ctx: Any) -> None:
        nonlocal started
        started = time.perf_counter()

    worker = make_worker(queue, [("stamp", stamp)], concurrency=10)
    task = asyncio.create_task(worker.start())
    to_start, to_result = [], []
    for number in range(WARM_UP + LATENCIES):
        await asyncio.sleep(IDLE_S)
        began = time.perf_counter()
        job = await queue.enqueue("stamp")
        await job.refresh(until_complete=10)
        ended = time.perf_counter()
        if number >= WARM_UP:
            to_result.append((ended - began) * 1000)
            to_start.append((started - began) * 1000)
    await _stop(worker, task, queue)
    return {
        "enqueue to start, median ms": statistics.median(to_start),
        "enqueue to start, p99 ms": _p99(to_start),
        "enqueue to result, median ms": statistics.median(to_result),
        "enqueue to result, p99 ms": _p99(to_result),
    }


async def _stop(worker: Any, task: asyncio.Task[Any], queue: Any) -> None:
    await worker.stop()
    await task
    await queue.disconnect()


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


# -- both sides in turn


def main() -> int:
    """Measure, print the table, write JSON."""
    options = _options()
    if options.side:
        print(json.dumps(asyncio.run(measure(options.side, options.url))))
        return 0
    from queuekit.simulation.private_server import start_private_server  # noqa: PLC0415

    server = start_private_server()
    rounds: dict[str, list[dict[str, float]]] = {"saq": [], "queuekit": []}
    try:
        for number in range(options.rounds):
            for side in sorted(rounds, reverse=bool(number % 2)):
                rounds[side].append(_in_process(side, f"unix://{server.address}"))
    finally:
        server.close()
    table = _table(rounds)
    _print(table, server.version, options.rounds)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": _machine(server.version), "table": table}, indent=1)
        )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=["saq", "queuekit"], help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_process(side: str, url: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.compare", "--side", side, "--url", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    numbers: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return numbers


def _table(rounds: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    table = {}
    for what in rounds["saq"][0]:
        saq, ours = (
            statistics.median(numbers[what] for numbers in rounds[side])
            for side in ("saq", "queuekit")
        )
        table[what] = {"saq": saq, "queuekit": ours, "ratio": ours / saq}
    return table


def _print(table: dict[str, dict[str, float]], server: str, rounds: int) -> None:
    print(f"\n{_machine(server)}; medians of {rounds} alternating rounds\n")
    print(f"  {'':32}{'SAQ':>12}{'queuekit':>12}{'ratio':>9}")
    for what, numbers in table.items():
        better = numbers["ratio"] > 1 if what in MORE_IS_BETTER else numbers["ratio"] < 1
        print(
            f"  {what:32}{numbers['saq']:>12,.2f}{numbers['queuekit']:>12,.2f}"
            f"{numbers['ratio']:>8.2f}x{'' if better else '   (behind)'}"
        )


def _machine(server: str) -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("saq", "redis", "hiredis"))
    return f"Python {platform.python_version()}, {server}, {versions}, {platform.machine()}"


if __name__ == "__main__":
    raise SystemExit(main())

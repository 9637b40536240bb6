"""What a run of an unmodified application of SAQ's or arq's costs in the simulation.

python -m benchmarks.foreign [--rounds 20]

Two workers, 20 jobs of half a second, one of which fails at its first try. Beside it, the bare cost of the
same commands: through redis-py's own client of fakeredis, one by one, with nothing simulated. Processor time,
the best of several: a machine that others use makes runs longer, never shorter. Each library where it is
installed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
import time
import warnings
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import fakeredis

from queuekit.simulation import Hop, Simulation

JOBS = 20
FAILING = 7
URL = "redis://redis.internal:6379/0?socket_timeout=86400"
PASSED_OVER = frozenset({b"HELLO", b"CLIENT", b"SELECT", b"BLMOVE"})
"Handshakes, and SAQ's waiting, which ends when the job has come."

Story = Callable[[Simulation], Coroutine[Any, Any, None]]


class Shop:
    """What the jobs do, and have done."""

    def __init__(self) -> None:
        self.done: set[int] = set()
        self._tried: set[int] = set()

    async def work(self, n: int, error: Exception) -> None:
        await asyncio.sleep(0.5)
        if n == FAILING and n not in self._tried:
            self._tried.add(n)
            raise error
        self.done.add(n)

    async def all_done(self, simulation: Simulation) -> None:
        await simulation.run_until(lambda: len(self.done) >= JOBS, limit=60)


async def with_saq(simulation: Simulation) -> None:
    from saq import Queue, Worker  # noqa: PLC0415 (where it is installed)

    shop = Shop()

    async def work(ctx: Any, *, n: int) -> None:
        await shop.work(n, RuntimeError("the first try fails"))

    async def run_worker() -> None:
        await Worker(Queue.from_url(URL), functions=[("work", work)], concurrency=2).start()

    queue = Queue.from_url(URL)
    await queue.connect()
    for n in range(JOBS):
        await queue.enqueue("work", n=n, retries=2, key=f"job-{n}")
    for n in (1, 2):
        simulation.process(f"worker-{n}", run_worker)
    await shop.all_done(simulation)
    await queue.disconnect()


async def with_arq(simulation: Simulation) -> None:
    from arq import Retry, Worker, create_pool, func  # noqa: PLC0415 (where it is installed)
    from arq.connections import RedisSettings  # noqa: PLC0415

    shop, settings = Shop(), RedisSettings(host="redis.internal")

    async def work(ctx: Any, n: int) -> None:
        await shop.work(n, Retry(defer=3))

    async def run_worker() -> None:
        functions = [func(work, name="work")]
        await Worker(functions=functions, redis_settings=settings, max_jobs=2).async_run()

    pool = await create_pool(settings)
    for n in range(JOBS):
        await pool.enqueue_job("work", n)
    for n in (1, 2):
        simulation.process(f"worker-{n}", run_worker)
    await shop.all_done(simulation)
    await pool.aclose()


@dataclass(frozen=True)
class Cost:
    """Processor time of one run, in milliseconds."""

    simulated_ms: float
    bare_ms: float
    commands: int


def measured(story: Story, rounds: int) -> Cost:
    commands: list[list[bytes]] = []

    def note(event: object) -> None:
        if isinstance(event, Hop) and event.direction == "request":
            commands.append(list(event.raw))

    _live(story, observer=note)
    sent = [words for words in commands if words[0].upper() not in PASSED_OVER]
    simulated, bare = [], []
    for _ in range(rounds):  # in turn, so that both meet the same machine
        simulated.append(_cpu_ms(lambda: _live(story)))
        bare.append(_cpu_ms(lambda: asyncio.run(_send(sent))))
    return Cost(min(simulated), min(bare), len(commands))


def _live(story: Story, observer: Callable[[object], None] | None = None) -> None:
    with Simulation(seed=1) as simulation:
        if observer is not None:
            simulation.observe(observer)
        simulation.run(story(simulation))


async def _send(commands: list[list[bytes]]) -> None:
    """Only what it costs counts; without the keys of blocked readers some answers are errors."""
    client = fakeredis.FakeAsyncRedis(server=fakeredis.FakeServer())
    pipe = None
    for words in commands:
        name = words[0].upper()
        if name == b"MULTI":
            pipe = client.pipeline(transaction=True)
        elif name == b"EXEC" and pipe is not None:
            await pipe.execute(raise_on_error=False)
            pipe = None
        elif pipe is not None:
            pipe.execute_command(*words)
        elif name not in (b"WATCH", b"UNWATCH", b"SUBSCRIBE", b"PSUBSCRIBE", b"PUNSUBSCRIBE"):
            await _answer(client, words)
    await client.aclose()


async def _answer(client: Any, words: list[bytes]) -> object:
    try:
        return await client.execute_command(*words)
    except Exception as error:  # an answer as any other: there is no job here
        return error


def _cpu_ms(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return (time.process_time() - began) * 1000


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.foreign")
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    print(f"\nprocessor time, best of {rounds} rounds: 2 workers, {JOBS} jobs, one retry\n")
    print(f"  {'':6}{'simulated':>12}{'bare fakeredis':>17}{'ratio':>8}{'commands':>11}")
    for name, story in (("saq", with_saq), ("arq", with_arq)):
        if importlib.util.find_spec(name) is None:
            print(f"  {name:6}is not installed here")
            continue
        cost = measured(story, rounds)
        ratio = cost.simulated_ms / cost.bare_ms
        print(
            f"  {name:6}{cost.simulated_ms:>9.1f} ms{cost.bare_ms:>14.1f} ms{ratio:>8.2f}{cost.commands:>11}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

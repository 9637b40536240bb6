"""The environment that product code meets inside a simulation."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from queuekit import environment
from queuekit.environment import Environment
from queuekit.simulation.clock import NS
from queuekit.simulation.effects import Running
from queuekit.simulation.process import PROCESS
from queuekit.simulation.scope import OWN_CLOCK, STATE

if TYPE_CHECKING:
    from queuekit.job import Job
    from queuekit.simulation.loop import SimulatedLoop
    from queuekit.simulation.world import Simulation

T = TypeVar("T")

IDLE_WAIT_S = 3600.0
"""How long an idle worker waits: a quiet virtual year costs some thousand looks at the queue, not
millions. What it has to know earlier wakes it: jobs, moments, and leases that may end."""

TROUBLE_S = 600.0
"""For so long after a disturbance, and at its beginning, a world that expects trouble lets idle workers look
as often as in production; after that it is quiet, and a story of a week costs what it did."""

JITTER_STEPS = 1000
"A jittered delay is one of so many parts of its upper bound."


class SimulatedEnvironment(Environment):
    """Time, chance and threads of one simulation."""

    simulated = True

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation = simulation
        self._trouble_expected = False
        self._idle_until_ns = 0
        self._random = random.Random(f"queuekit ids {simulation.seed}")  # noqa: S311 (replayable)

    @property
    def loop(self) -> SimulatedLoop:
        """The world's."""
        return self._simulation.loop

    @property
    def process(self) -> str:
        process = PROCESS.get()
        return process.id if process is not None else ""

    def time_ms(self) -> int:
        clock = OWN_CLOCK.get() or self._simulation.clock
        return clock.time_ns() // 1_000_000

    def monotonic(self) -> float:
        clock = OWN_CLOCK.get() or self._simulation.clock
        return clock.monotonic()

    def script_now(self) -> str:
        # The server says itself when a script arrives (`Wire`); this is for who asks it for the time.
        return str(self._simulation.loop.server_clock.time_ns() // 1_000_000)

    def expect_trouble(self) -> None:
        """Let idle workers look as often as in production, as long as the world is not calm."""
        self._trouble_expected = True

    def idle_wait_s(self) -> float:
        loop, now_ns = self._simulation.loop, self._simulation.clock.elapsed_ns
        last_ns = loop.world_began_ns if loop.disturbed_ns is None else loop.disturbed_ns
        trouble = self._trouble_expected and now_ns - last_ns < TROUBLE_S * NS
        wait_s = environment.IDLE_WAIT_S if trouble else IDLE_WAIT_S
        self._idle_until_ns = max(self._idle_until_ns, now_ns + round(wait_s * NS))
        return wait_s

    def idle_until_ns(self) -> int:
        """When all have looked again that are idle now (of the clock's elapsed time)."""
        now_ns = self._simulation.clock.elapsed_ns
        return max(self._idle_until_ns, now_ns + round(self.idle_wait_s() * NS))

    def mended_by_ns(self) -> int | None:
        """When upkeep has mended what was last broken (of the clock's elapsed time); None: nothing was.

        A lease has ended then, and each worker has looked twice. Until then who waits for a lost job does
        not wait in vain, if somebody lives who takes it up.
        """
        broken_ns = self._simulation.loop.disturbed_ns
        if broken_ns is None:
            return None
        looks_s = TROUBLE_S if self._trouble_expected else 2 * IDLE_WAIT_S
        leases_s = [handle.worker.lease_s for handle in self._simulation.workers()]
        return broken_ns + round((looks_s + max(leases_s, default=0)) * NS)

    def new_id(self) -> str:
        return f"{self._random.getrandbits(64):016x}"

    def jitter(self, upper_s: float) -> float:
        # 0, the boring choice, is the upper bound; chance decides where the test asked for it.
        share = self._simulation.chooser.pick("jitter", JITTER_STEPS + 1) / JITTER_STEPS
        return upper_s * (1 - share)

    @property
    def watched(self) -> bool:
        return True

    async def step(self, name: str, **details: object) -> None:
        simulation = self._simulation
        simulation.journal.note(simulation.clock.time_ns() // 1_000_000, name, details)
        tap = simulation.loop.tap
        if tap is not None:
            tap.moment(name, details)
        await simulation.loop.moment(name, details)

    def effect(self, name: str, details: Mapping[str, object]) -> Awaitable[None]:
        return self._simulation.effects.record(name, **details)

    def running(self, job: Job) -> AbstractContextManager[None]:
        return Running(self._simulation.loop, job)

    def run_in_thread(self, function: Callable[[], T]) -> asyncio.Future[T]:
        return self._simulation.loop.run_in_executor(None, function)

    def wait_from_thread(
        self, loop: asyncio.AbstractEventLoop | None, coroutine: Coroutine[Any, Any, T]
    ) -> T:
        if STATE.baton is None:  # a plain test, or what it calls: the world runs while it waits
            return self._simulation.run(coroutine)
        return self._simulation.loop.wait_from_thread(coroutine)

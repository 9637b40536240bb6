"""How a test lets time pass in a simulation."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from queuekit.job import Status
from queuekit.simulation import diagnosis, lost_data
from queuekit.simulation.assertions import Assertions
from queuekit.simulation.clock import EPOCH, Moment, VirtualClock, epoch_ns
from queuekit.simulation.errors import SimulationError
from queuekit.simulation.given import function, number
from queuekit.simulation.journal import JobRecord, Journal

RUN_UNTIL_LIMIT_S = 24 * 3600.0
"How far `run_until` and `drain` move time when nothing else is said."


MAX_ADVANCE_S = 1000 * 366 * 86_400
"Seconds of one `advance`; clocks and dates end somewhere behind it."


class Passing(Assertions):
    """The part of a `Simulation` that moves time."""

    clock: VirtualClock
    journal: Journal
    _counted: set[int]

    @property
    def now(self) -> datetime:
        """The wall clock."""
        return EPOCH + timedelta(microseconds=self.clock.time_ns() // 1000)

    async def advance(self, seconds: float | timedelta) -> None:
        """Let so much time pass, from timer to timer.

        A deadline that falls on the target fires, and what follows from it at that instant is done
        before this returns.
        """
        if isinstance(seconds, timedelta):
            seconds = seconds.total_seconds()
        if not isinstance(seconds, int | float) or not seconds <= MAX_ADVANCE_S:
            raise SimulationError(
                f"advance({seconds!r}): that is no span of time that could pass here.\n"
                f"  It is seconds, at most {MAX_ADVANCE_S:,} (a thousand years), or a timedelta.\n"
                "  advance_to() takes a moment."
            )
        if not seconds >= 0:
            raise SimulationError(f"advance({seconds!r}): time does not run backwards.")
        await self._settle_at(self.clock.elapsed_ns + round(seconds * 1_000_000_000))

    async def advance_to(self, moment: Moment) -> None:
        """Let time pass until a moment: an aware datetime, ISO text or epoch seconds."""
        target_ns = epoch_ns(moment) - self.clock.time_ns()
        if target_ns < 0:
            raise SimulationError(
                f"advance_to({moment!r}): it is {self.now.isoformat()} already.\n"
                "  Time does not run backwards; start= sets where it begins."
            )
        await self._settle_at(self.clock.elapsed_ns + target_ns)

    async def run_until_idle(self) -> None:
        """Do all that can be done now. Never moves time."""
        await self._simulation.loop.settle()

    async def run_next(self) -> datetime:
        """Move to the next moment at which something of the application happens; which that is.

        Upkeep (renewed leases, an idle worker that looks again) is passed on the way.

        Raises:
            SimulationError: nothing is to come; the message says why no job runs.
        """
        await self.run_until_idle()
        next_ns = self._simulation.loop.next_timer_ns()
        if next_ns is None:
            raise SimulationError(f"nothing is to come.\n{diagnosis.idle(self._simulation)}")
        await self._settle_at(next_ns)
        return self.now

    async def run_until(
        self,
        condition: Callable[[], object | Awaitable[object]],
        *,
        limit: float | timedelta = RUN_UNTIL_LIMIT_S,
    ) -> None:
        """Move on, moment by moment, until a condition holds; stop there.

        Args:
            condition: asked at each moment after everything of it is done; may be async.
            limit: how much time may pass.

        Raises:
            SimulationError: it never held; the message says what was going on.
        """
        seconds = limit.total_seconds() if isinstance(limit, timedelta) else limit
        function("run_until", "condition", condition, hint="run_until(lambda: job.done): uncalled.")
        number("run_until", "limit", seconds, hint="Virtual seconds, or a timedelta.")
        end_ns = self.clock.elapsed_ns + round(seconds * 1_000_000_000)
        while True:
            await self.run_until_idle()
            holds = condition()
            if inspect.isawaitable(holds):
                holds = await holds
            if holds:
                return
            next_ns = self._simulation.loop.next_timer_ns(include_background=True)
            if next_ns is None or next_ns > end_ns:
                raise SimulationError(
                    f"the condition did not hold within {seconds:g} s; it is {self.now.isoformat()}.\n"
                    f"{diagnosis.idle(self._simulation)}"
                )
            await self._settle_at(next_ns)

    async def drain(
        self,
        *,
        scheduled: bool = False,
        raise_on_failure: bool = True,
        limit: float | timedelta = RUN_UNTIL_LIMIT_S,
    ) -> Counter[str]:
        """Run jobs until none is left that could run; time moves as far as they need.

        Follows the jobs that jobs enqueue, and retries. Jobs whose time is still to come are left
        alone, unless `scheduled`; so are jobs that the server has lost with its data.

        Returns:
            How many jobs have ended by status: all of this world that no `drain` has counted before,
            since a worker takes jobs while a test still enqueues others.

        Raises:
            JobsFailed: the first failure, unless `raise_on_failure` is False.
            SimulationError: the limit was reached; the message says what is left.
        """

        def ended() -> list[JobRecord]:
            return [r for r in self.journal if r.finished and id(r) not in self._counted]

        def done() -> bool:
            self._simulation.learn_of_the_dead()
            failed = any(record.status is Status.FAILED for record in ended())
            return (raise_on_failure and failed) or not self._to_be_drained(scheduled)

        await self.run_until(done, limit=limit)
        records = ended()
        self._counted.update(id(record) for record in records)
        if raise_on_failure:
            self._raise_failure(records)
        return Counter(record.status.value for record in records)

    def _to_be_drained(self, scheduled: bool) -> list[JobRecord]:
        lost_data.compare(self._simulation)
        now_ms = self.clock.time_ns() // 1_000_000
        return [
            record
            for record in self.journal
            if not record.over and (scheduled or record.attempts or record.due_ms <= now_ms)
        ]

    async def _settle_at(self, elapsed_ns: int) -> None:
        await self._simulation.loop.settle(elapsed_ns)

"""The turns of a simulated loop: which step is next, and when time moves."""

from __future__ import annotations

import asyncio
import heapq
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Any

from queuekit.simulation import waiting
from queuekit.simulation.chooser import Chooser
from queuekit.simulation.clock import NS, VirtualClock
from queuekit.simulation.errors import (
    SimulationDeadlock,
    SimulationError,
    SimulationLivelock,
    VirtualTimeLimit,
)
from queuekit.simulation.interrupts import Interrupts
from queuekit.simulation.observe import Step
from queuekit.simulation.process import PROCESS, Process, is_dead
from queuekit.simulation.schedule import Pool, Schedule, actor_of
from queuekit.simulation.scope import OWN_CLOCK
from queuekit.simulation.seams import ObservedLoop
from queuekit.simulation.timers import Timer, Timers, grains_after, grains_at
from queuekit.simulation.trace import Trace

STEPS_PER_INSTANT = 200_000
"More steps than this without time moving are a livelock. A thousand jobs at one instant take 40,000."

VIRTUAL_LIMIT_S = 2 * 366 * 24 * 3600
"Two years. More than this in a single wait, and the test waits for what never comes."

_VIRTUAL_LIMIT_NS = VIRTUAL_LIMIT_S * NS

COUNTED_STEPS = 2_000
"The steps before a livelock is declared, in which it is counted who turns."


class TurningLoop(ObservedLoop):
    """The part of a simulated loop that takes steps and moves time.

    Args:
        steps_per_instant: more than this without time moving raises `SimulationLivelock`.
    """

    _ready: deque[asyncio.Handle]

    def __init__(self, *, steps_per_instant: int) -> None:
        super().__init__()
        self.fatal: BaseException | None = None
        "What ends the world at its next step."
        self.interrupted = False
        "Whether somebody has pressed Ctrl-C: what is left takes no leave."
        self._interrupts = Interrupts(self._interrupt)
        self.refused: SimulationError | None = None
        "What a callback has raised that ends the world: `fatal`, until it is told."
        self.steps_per_instant = steps_per_instant
        self._counts_after = steps_per_instant - COUNTED_STEPS
        self.pool: Pool | None = None
        "What is ready, if steps are not taken first in first out."
        self._timers = Timers()
        self._tasks: list[weakref.ref[asyncio.Task[Any]]] = []
        "Those that were made here, oldest first, but for some that have ended."
        self._prune_at = 64
        self._settling: list[tuple[int, int, asyncio.Future[None]]] = []
        self._born = 0
        self.steps_taken = 0
        "In the instants that are over."
        self._instant_steps = 0
        self._turning: Counter[str] = Counter()
        self._wait_began_ns = 0

    def begin_world(self, clock: VirtualClock, *, trace: Trace, chooser: Chooser) -> None:
        super().begin_world(clock, trace=trace, chooser=chooser)
        self.fatal = None
        self.interrupted = False
        self.take_steps_by(None)
        self.at_instants_end: list[Callable[[int], None]] = []
        "Called when all of an instant is done, before time goes to the one that is given (elapsed ns)."
        self.mended_by_ns: Callable[[], int | None] = lambda: None
        """Asked when only upkeep is left: until when that may mend what somebody's meddling broke (elapsed
        ns), and so lead to work; None: there was no meddling."""
        self._wait_began_ns = self.clock.elapsed_ns

    # -- time

    def time(self) -> float:
        return (OWN_CLOCK.get() or self.clock).elapsed_ns / NS

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if self._debug:  # type: ignore[attr-defined]
            return super().call_soon(callback, *args, context=context)
        self._check_closed()  # type: ignore[attr-defined]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Timer:
        own = OWN_CLOCK.get()
        if own is not None and own.rate != 1.0:
            delay /= own.rate
        return self._add_timer(self.clock.elapsed_ns + grains_after(delay), callback, args, context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> Timer:
        when_ns = grains_at(when)
        own = OWN_CLOCK.get()
        if own is not None:
            when_ns = own.true_at(when_ns)
        return self._add_timer(when_ns, callback, args, context)

    def _add_timer(
        self,
        when_ns: int,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> Timer:
        self._check_closed()  # type: ignore[attr-defined]
        timer = Timer(when_ns, callback, args, self, context)
        self._timers.add(timer)
        return timer

    def _timer_handle_cancelled(self, handle: Timer) -> None:
        self._timers.cancelled(handle)

    def resume(self, handles: Iterable[asyncio.Handle]) -> None:
        """Take these steps, which were put off."""
        self._ready.extend(handles)

    def take_timers(self, process: Process) -> list[Timer]:
        """Take out the timers of a process that is killed."""
        return self._timers.take(lambda timer: _process_of(timer) is process)

    def next_timer_ns(self, *, include_background: bool = False) -> int | None:
        """The next moment at which something happens (without `include_background`: other than upkeep)."""
        return self._timers.next_ns() if include_background else self._timers.next_work_ns()

    async def settle(self, at_ns: int | None = None) -> None:
        """Wait until nothing more can be done at a moment (default: now).

        Time moves there from timer to timer. Timers due exactly then have fired, and all that follows
        from them at that instant is done.
        """
        target = self.clock.elapsed_ns if at_ns is None else at_ns
        self._wait_began_ns = self.clock.elapsed_ns
        self._born += 1
        future = self.create_future()
        heapq.heappush(self._settling, (target, self._born, future))
        await future

    # -- tasks

    def _know(self, task: asyncio.Task[Any]) -> None:
        """A task was made here."""
        if len(self._tasks) >= self._prune_at:
            self._tasks = [weakref.ref(known) for known in self.unfinished()]
            self._prune_at = 2 * len(self._tasks) + 64
        self._tasks.append(weakref.ref(task))

    def unfinished(self) -> list[asyncio.Task[Any]]:
        """The tasks that have not ended, oldest first.

        `asyncio.all_tasks` would look through those of all loops that there were: of a world that is over
        they stay until a collector comes by.
        """
        return [task for known in self._tasks if (task := known()) is not None and not task.done()]

    # -- one turn

    def take_steps_by(self, schedule: Schedule | None) -> None:
        """Take steps by a schedule from now on; None is first in first out."""
        if self.pool is not None:
            self._ready.extend(self.pool.take_all())
        self.pool = None if schedule is None else Pool(schedule)

    def _run_once(self) -> None:
        """Turns, until the loop is to stop: asyncio asks for one at a time, which costs more than a step."""
        timers, ready = self._timers, self._ready
        while True:
            if self.fatal is not None:
                raise self.take_refusal() or self.fatal
            if self.pool is not None:
                self._run_pool(self.pool)
            else:
                next_ns = timers.next_ns()
                if next_ns is not None and next_ns <= self.clock.elapsed_ns:
                    ready.extend(timers.pop_due(self.clock.elapsed_ns))
                elif not ready and not self._stopping:  # type: ignore[attr-defined]
                    self._move(next_ns)
                for _ in range(len(ready)):
                    handle = ready.popleft()
                    if not handle._cancelled:
                        self._step(handle)
            if self._stopping:  # type: ignore[attr-defined]
                return

    def take_refusal(self) -> SimulationError | None:
        """What is refused, if that was not told yet; after it the world can be taken down."""
        refused, self.refused = self.refused, None
        if refused is not None:
            self.fatal = None
        return refused

    def _run_pool(self, pool: Pool) -> None:
        """Run the plain callbacks, then one step of those that a schedule chooses from."""
        ready = self._ready
        next_ns = self._timers.next_ns()
        if next_ns is not None and next_ns <= self.clock.elapsed_ns:
            ready.extend(self._timers.pop_due(self.clock.elapsed_ns))
        elif not ready and not pool and not self._stopping:  # type: ignore[attr-defined]
            self._move(next_ns)
        while ready:
            handle = ready.popleft()
            if handle._cancelled:
                continue
            actor = actor_of(handle)
            if actor is None:
                self._step(handle)
            else:
                pool.add(actor, handle)
        if pool and not self._stopping:  # type: ignore[attr-defined]
            handle = pool.take()
            if not handle.cancelled():
                self._step(handle)

    def _move(self, next_ns: int | None) -> None:
        """Nothing is ready: wake whoever waits for that, or let time go to the next timer."""
        if self._settling and (next_ns is None or self._settling[0][0] < next_ns):
            at_ns, _, future = heapq.heappop(self._settling)
            self._move_to(max(at_ns, self.clock.elapsed_ns))
            if not future.done():
                future.set_result(None)
            return
        if next_ns is None or not (
            self._settling or self._timers.has_work or self._may_be_mended(next_ns)
        ):
            held = any(hold.reached and not hold.released for hold in self._holds)
            raise SimulationDeadlock(waiting.deadlock(self, held))
        if next_ns - self._wait_began_ns > _VIRTUAL_LIMIT_NS:
            raise VirtualTimeLimit(waiting.limit(self, VIRTUAL_LIMIT_S))
        self._move_to(next_ns)
        self._ready.extend(self._timers.pop_due(next_ns))

    def _may_be_mended(self, next_ns: int) -> bool:
        until_ns = self.mended_by_ns()
        return until_ns is not None and next_ns <= until_ns

    def _move_to(self, elapsed_ns: int) -> None:
        if elapsed_ns > self.clock.elapsed_ns:
            if self.at_instants_end:
                for look in self.at_instants_end:
                    look(elapsed_ns)
            self.clock.move_to(elapsed_ns)
            self.steps_taken += self._instant_steps
            self._instant_steps = 0
            if self._turning:
                self._turning.clear()
            if self.pool is not None:
                self.pool.schedule.instant()
            if self.trace.keeps:
                self.trace.time(self.now_us())

    def _step(self, handle: asyncio.Handle) -> None:
        process: Process | None = None
        if self.processes:
            process = handle._context.get(PROCESS)  # type: ignore[attr-defined]
            if process is not None and process.stands_still and not process.passes(handle):
                return
        if self.observers or self.trace.keeps or self.watch_steps is not None:
            task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
            if isinstance(task, asyncio.Task) and not self._seen(task, process, handle):
                return
        self._instant_steps += 1
        if self._instant_steps > self._counts_after:
            self._count_turn(handle)
        try:
            handle._run()
        except (SystemExit, KeyboardInterrupt) as exited:
            task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
            if isinstance(task, asyncio.Task):
                task._log_traceback = False  # it is raised here, or told by the process
            # asyncio lets it through. What a process raises ends that, and not the world.
            if process is None or self.interrupted:
                raise
            process.leave(exited)

    def _seen(
        self, task: asyncio.Task[Any], process: Process | None, handle: asyncio.Handle
    ) -> bool:
        """Show a task's step and write it down; whether it is taken now."""
        if self.observers:
            step = Step(task.get_name(), waiting.where(task), process.id if process else "")
            hold = self._show(step)
            if hold is not None:
                hold.catch(lambda: self._ready.append(handle))
                return False
            if is_dead(process):
                return False
        if self.trace.keeps:
            self.trace.step(self.now_us(), task.get_name(), waiting.where(task))
        if self.watch_steps is not None:
            self.watch_steps(task, process)
        return True

    def _count_turn(self, handle: asyncio.Handle) -> None:
        task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
        self._turning[task.get_name() if isinstance(task, asyncio.Task) else "(callbacks)"] += 1
        if self._instant_steps > self.steps_per_instant:
            self._ready.appendleft(handle)  # the world is taken down yet: nothing may be lost
            raise SimulationLivelock(waiting.livelock(self, self._turning))

    def run_forever(self) -> None:
        self._wait_began_ns = self.clock.elapsed_ns
        self._instant_steps = 0
        self._interrupts.listen()
        try:
            super().run_forever()
        finally:
            self._interrupts.leave()

    def _interrupt(self, interrupt: KeyboardInterrupt) -> None:
        self.interrupted = True
        self.fatal = interrupt  # whoever runs may take it in

    def forget_all(self) -> None:
        """Drop every step and timer that there is."""
        self._ready.clear()
        self._timers = Timers()
        self._settling.clear()
        self.pool = None


def _process_of(handle: asyncio.Handle) -> Process | None:
    context: Context = handle._context  # type: ignore[attr-defined]
    return context.get(PROCESS)

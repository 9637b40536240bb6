"""A simulation: one clock, one network with a Redis on it, and the processes that use it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

from queuekit.environment import use
from queuekit.job import Job, Status
from queuekit.queue import Queue
from queuekit.simulation import diagnosis
from queuekit.simulation.ambient import SimulatedEnvironment
from queuekit.simulation.assertions import Assertions
from queuekit.simulation.backends import Backend, require_testing_extra, resolve
from queuekit.simulation.chooser import Chooser, Deviation
from queuekit.simulation.clock import EPOCH, Moment, VirtualClock, epoch_ns
from queuekit.simulation.effects import Effects
from queuekit.simulation.errors import ServersDisagree, SimulationError
from queuekit.simulation.invariants import Invariants
from queuekit.simulation.journal import JobRecord, Journal
from queuekit.simulation.loop import SimulatedLoop
from queuekit.simulation.observe import Observer
from queuekit.simulation.processes import SimulatedProcess, SimulatedWorker
from queuekit.simulation.schedule import schedule_of
from queuekit.simulation.trace import Trace
from queuekit.store.connection import close_all
from queuekit.worker import Worker

if TYPE_CHECKING:
    from queuekit.types import SettingsDict

T = TypeVar("T")
DEFAULT_START = datetime(2030, 1, 1, tzinfo=UTC)
"A Tuesday, 00:00 UTC. Fixed, since a test that depends on today fails some day."

CANCEL_ROUNDS = 5
"How often a task that ignores its cancellation is asked again, when its world ends."

RUN_UNTIL_LIMIT_S = 24 * 3600.0
"How far `run_until` and `drain` move time when nothing else is said."


class Simulation(Assertions):
    """A world in which time belongs to the test.

    Inside it `time`, `datetime`, `asyncio.sleep`, timeouts, blocking Redis commands, key expiry and
    `time.sleep` in sync tasks follow one virtual clock. Time moves only while the test waits, from
    timer to timer, and never jumps over one.

    Used through the pytest fixture `simulation`, or by itself:

        with Simulation(seed=7) as simulation:
            simulation.run(main(simulation))

    Args:
        seed: decides all chance in the world; the same seed gives the same run.
        start: the wall clock's first moment: an aware datetime, ISO text or epoch seconds
            (default 2030-01-01 00:00 UTC).
        backend: "fakeredis", the URL of a real server whose database is empty, "server" (one is
            started for the purpose), or "both" (the two are compared, command by command).
        jitter: "upper" pins each jittered delay to its upper bound; "full" draws it, by the seed.
        schedule: which of the ready steps is next: "fifo", or an adversary by the seed, "random" or
            "pct" (see `schedule.py`).
        choices: the tape of an earlier run (`simulation.chooser.tape`), whose decisions are taken again;
            then the seed decides nothing but ids and `random`.
        loop: the simulated loop of an earlier world to go on with; time never runs backwards on it.
        steps_per_instant: more steps than this without time moving are taken for a livelock.
        flush: empty the database of a real server given by URL, instead of refusing one with keys.

    Raises:
        SimulationError: the world cannot be set up as asked; the message says why.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        start: Moment = DEFAULT_START,
        backend: str | Backend = "fakeredis",
        jitter: str = "upper",
        schedule: str = "fifo",
        choices: Iterable[Deviation] | None = None,
        loop: SimulatedLoop | None = None,
        steps_per_instant: int = 200_000,
        flush: bool = False,
    ) -> None:
        if jitter not in ("upper", "full"):
            raise SimulationError(f"jitter={jitter!r} is unknown; it is 'upper' or 'full'.")
        self.seed = seed
        self.start = start
        self.journal = Journal()
        self.trace = Trace()
        self.chooser = Chooser(seed, choices)
        self.effects = Effects(self)
        self.reached: Counter[str] = Counter()
        "How often each label was reached; see `reach`."
        self._invariants = Invariants(self)
        if jitter == "full":
            self.chooser.draw(["jitter"])
        self._schedule = schedule_of(schedule, self.chooser)
        self._backend = resolve(backend, flush=flush)
        self._given_loop = loop
        self._steps_per_instant = steps_per_instant
        self._exit = contextlib.ExitStack()
        self._loop: SimulatedLoop | None = None
        self._workers: list[SimulatedWorker] = []
        self._processes: list[SimulatedProcess] = []
        self._queues: dict[str, Queue] = {}
        self._counted: set[int] = set()
        "The records that a `drain` has counted; the journal keeps them all alive."

    # -- being there

    def __enter__(self) -> Self:
        require_testing_extra()
        from queuekit.simulation import entropy, wallclock  # noqa: PLC0415 (freezegun is heavy)

        wallclock.install()
        with contextlib.ExitStack() as stack:
            clock = self._clock()
            self._loop = self._make_loop(clock, stack)
            self.clock = self._loop.clock
            self.environment = SimulatedEnvironment(self)
            self._loop.queuekit_environment = self.environment
            self._loop.take_steps_by(self._schedule)
            stack.callback(setattr, self._loop, "queuekit_environment", None)
            stack.enter_context(use(self.environment))  # for sync code, where no loop runs
            stack.enter_context(entropy.seeded(self.seed))
            self._loop.network = self._backend.network(self._loop)
            stack.callback(self._close_network)
            stack.callback(self._end_tasks)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._exit.close()

    def _clock(self) -> VirtualClock:
        return VirtualClock(epoch_ns(self.start))

    def _make_loop(self, clock: VirtualClock, stack: contextlib.ExitStack) -> SimulatedLoop:
        if self._given_loop is not None:
            self._given_loop.begin_world(clock, trace=self.trace, chooser=self.chooser)
            return self._given_loop
        loop = SimulatedLoop(
            clock, trace=self.trace, chooser=self.chooser, steps_per_instant=self._steps_per_instant
        )
        stack.callback(loop.close)
        return loop

    def _close_network(self) -> None:
        assert self._loop is not None
        if self._loop.network is not None:
            self._loop.network.close()
            self._loop.network = None

    def _end_tasks(self) -> None:
        """End what the world still runs. Its own clean-up may run, in virtual time."""
        assert self._loop is not None
        loop = self._loop
        loop.trace = (
            Trace()
        )  # the world's own trace ends here: how it is taken down is not part of it
        loop.release_all()
        loop.take_steps_by(None)
        if isinstance(loop.fatal, ServersDisagree):
            loop.fatal = None  # told; both servers still answer those who take leave
        for process in loop.processes:
            process.heal()
            process.resume()
        if loop.is_running():
            return  # it belongs to somebody who goes on with it
        dead = [process for process in loop.processes if not process.alive]
        for process in dead:
            process.unwind()
        unwound = {task for process in dead for task in process.tasks()}
        for _ in range(CANCEL_ROUNDS):
            tasks = [task for task in asyncio.all_tasks(loop) - unwound if not task.done()]
            for task in sorted(tasks, key=lambda task: task.get_name()):
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.wait(tasks, timeout=60))
        loop.run_until_complete(close_all({process.id for process in dead}))

    @property
    def loop(self) -> SimulatedLoop:
        """The world's event loop."""
        if self._loop is None:
            raise SimulationError(
                "the simulation has not begun.\n"
                "  Use it in a with block, or take the fixture `simulation`."
            )
        return self._loop

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in this world to its end."""
        asyncio.set_event_loop(self.loop)
        try:
            result = self.loop.run_until_complete(main)
        finally:
            asyncio.set_event_loop(None)
        self._invariants.check()
        return result

    # -- what is in it

    @property
    def queue(self) -> Queue:
        """The queue `default` of the simulated Redis."""
        return self.queue_named("default")

    def queue_named(self, name: str, **options: Any) -> Queue:
        """A queue of the simulated Redis."""
        if name not in self._queues:
            self._queues[name] = Queue.from_url("redis://simulated", name=name, **options)
        return self._queues[name]

    def worker(
        self,
        functions: Collection[Any] | None = None,
        *,
        worker: Worker[Any] | None = None,
        settings: SettingsDict | None = None,
        name: str | None = None,
        **options: Any,
    ) -> SimulatedWorker:
        """Start a worker in this world, in a process of its own.

        Args:
            functions: its tasks; further options as for `Worker` (its queue is `simulation.queue`
                unless `queue=` says otherwise).
            worker: one that the application has built.
            settings: the arguments of a `Worker`, as the application keeps them.
            name: of its process (default worker-1, worker-2, ...).
        """
        if worker is None:
            given: dict[str, Any] = dict(settings or {})
            arguments: dict[str, Any] = {"queue": self.queue, **given, **options}
            if functions is not None:
                arguments["functions"] = functions
            arguments.setdefault("functions", [])
            worker = Worker(**arguments)
        number = len(self._workers) + 1
        handle = SimulatedWorker(self, worker, name or f"worker-{number}")
        self._workers.append(handle)
        self._processes.append(handle)
        return handle

    def process(
        self, name: str, main: Callable[[], Coroutine[Any, Any, object]] | None = None
    ) -> SimulatedProcess:
        """Start another process in this world: a web server, a script, a client.

        Args:
            name: for whoever reads.
            main: an async function without arguments that it runs from now on, and again after a restart;
                `run()` has it run others.
        """
        handle = SimulatedProcess(self, name, main)
        self._processes.append(handle)
        return handle

    def processes(self) -> list[SimulatedProcess]:
        """Those that were started in this world, workers among them."""
        return list(self._processes)

    def workers(self) -> list[SimulatedWorker]:
        """Those that were started in this world."""
        return list(self._workers)

    def choose(self, name: str, n: int) -> int:
        """A choice of the story's own, one of 0 to n - 1: how many jobs, how long one takes.

        0, unless the world explores or replays; let it be the least there is, since a failure is
        reduced towards it.
        """
        if n < 1:
            raise SimulationError(f"choose({name!r}, {n!r}): there must be one choice at least.")
        return self.chooser.pick(f"choose:{name}", n)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Show every step, hop, draw and moment to an observer; it may hold them (see `Hold`).

        Returns:
            A function that takes the observer out again.
        """
        observers = self.loop.observers
        observers.append(observer)
        return lambda: observers.remove(observer) if observer in observers else None

    def invariant(self, rule: Callable[..., object], name: str | None = None) -> None:
        """What must hold from now on, whenever all of a moment is done, and at the end.

        Args:
            rule: called without arguments, or with the simulation; it raises, or gives False, when it
                does not hold. It may be async: then it can read queues, which costs no time and leaves
                no trace, and can wait for nothing else.
            name: by which its failure calls it (default: the function's).
        """
        self._invariants.add(rule, name)

    def reach(self, label: str) -> None:
        """Something happened that a test is about: a run in which it did not has proven nothing."""
        self.reached[label] += 1

    # -- time

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
        await self.loop.settle()

    async def run_next(self) -> datetime:
        """Move to the next moment at which something of the application happens; which that is.

        Upkeep (renewed leases, an idle worker that looks again) is passed on the way.

        Raises:
            SimulationError: nothing is to come; the message says why no job runs.
        """
        await self.run_until_idle()
        next_ns = self.loop.next_timer_ns()
        if next_ns is None:
            raise SimulationError(f"nothing is to come.\n{diagnosis.idle(self)}")
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
        end_ns = self.clock.elapsed_ns + round(seconds * 1_000_000_000)
        while True:
            await self.run_until_idle()
            holds = condition()
            if inspect.isawaitable(holds):
                holds = await holds
            if holds:
                return
            next_ns = self.loop.next_timer_ns(include_background=True)
            if next_ns is None or next_ns > end_ns:
                raise SimulationError(
                    f"the condition did not hold within {seconds:g} s; it is {self.now.isoformat()}.\n"
                    f"{diagnosis.idle(self)}"
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
        alone, unless `scheduled`.

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
            failed = any(record.status is Status.FAILED for record in ended())
            return (raise_on_failure and failed) or not self._to_be_drained(scheduled)

        await self.run_until(done, limit=limit)
        records = ended()
        self._counted.update(id(record) for record in records)
        if raise_on_failure:
            self._raise_failure(records)
        return Counter(record.status.value for record in records)

    def _to_be_drained(self, scheduled: bool) -> list[JobRecord]:
        now_ms = self.clock.time_ns() // 1_000_000
        return [
            record
            for record in self.journal
            if not record.finished and (scheduled or record.attempts or record.due_ms <= now_ms)
        ]

    async def _settle_at(self, elapsed_ns: int) -> None:
        await self.loop.settle(elapsed_ns)

    def __repr__(self) -> str:
        when = self.now.isoformat() if self._loop is not None else "not begun"
        return f"Simulation<seed={self.seed}, {when}, {self._backend}>"

    def record_of(self, job: Job | str) -> JobRecord:
        """What the journal knows of a job.

        Raises:
            SimulationError: it never saw that key.
        """
        key = job if isinstance(job, str) else job.key
        queue = job.queue.name if isinstance(job, Job) and job.queue else "default"
        record = self.journal.find(queue, key)
        if record is None:
            known = ", ".join(repr(record.key) for record in self.journal.records[-5:]) or "none"
            raise SimulationError(
                f"no job {key!r} was enqueued into queue {queue!r} in this simulation.\n"
                f"  The latest keys are: {known}."
            )
        return record


__all__ = ["SimulatedWorker", "Simulation"]

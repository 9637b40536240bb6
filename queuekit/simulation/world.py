"""A simulation: one clock, one network with a Redis on it, and the processes that use it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, TypeVar

from queuekit.environment import use
from queuekit.job import TERMINAL_STATUSES, Job, Status
from queuekit.lifecycle import Event
from queuekit.queue import Queue
from queuekit.simulation.ambient import SimulatedEnvironment
from queuekit.simulation.backends import Backend, require_testing_extra, resolve
from queuekit.simulation.chooser import Chooser, Deviation
from queuekit.simulation.clock import Moment, VirtualClock, epoch_ns
from queuekit.simulation.effects import Effects
from queuekit.simulation.ending import end_tasks
from queuekit.simulation.errors import SimulationError
from queuekit.simulation.fault_words import fault_of
from queuekit.simulation.faults import Fault, Faults
from queuekit.simulation.given import function, tape_of, whole
from queuekit.simulation.invariants import Invariants
from queuekit.simulation.journal import JobRecord, Journal
from queuekit.simulation.loop import SimulatedLoop
from queuekit.simulation.observe import Observer
from queuekit.simulation.passing import Passing
from queuekit.simulation.processes import (
    SimulatedProcess,
    SimulatedWorker,
    failed_at_the_end,
    raise_first,
    unseen_failures,
)
from queuekit.simulation.redis_server import SimulatedServer
from queuekit.simulation.schedule import EXPECTED_CHOICES, schedule_of
from queuekit.simulation.scope import STATE
from queuekit.simulation.trace import Trace
from queuekit.store import scripts
from queuekit.worker import Worker

if TYPE_CHECKING:
    from queuekit.types import SettingsDict

T = TypeVar("T")
DEFAULT_START = datetime(2030, 1, 1, tzinfo=UTC)
"A Tuesday, 00:00 UTC. Fixed, since a test that depends on today fails some day."


class Simulation(Passing):
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
        expected_choices: between which "pct" spreads its changes; best as many as a run has.
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
        expected_choices: int = EXPECTED_CHOICES,
        choices: Iterable[Deviation] | None = None,
        loop: SimulatedLoop | None = None,
        steps_per_instant: int = 200_000,
        flush: bool = False,
    ) -> None:
        if jitter not in ("upper", "full"):
            raise SimulationError(f"jitter={jitter!r} is unknown; it is 'upper' or 'full'.")
        whole("Simulation", "seed", seed, hint="The same seed gives the same run.")
        whole("Simulation", "steps_per_instant", steps_per_instant, least=1)
        if loop is not None and not isinstance(loop, SimulatedLoop):
            raise SimulationError(
                f"Simulation(loop={loop!r}): it is the loop of an earlier simulation.\n"
                "  Without loop= each world has one of its own."
            )
        if choices is not None:
            choices = tape_of(choices)
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
        self._schedule = schedule_of(schedule, self.chooser, expected_choices=expected_choices)
        self._backend = resolve(backend, flush=flush)
        self._given_loop = loop
        self._steps_per_instant = steps_per_instant
        self._exit = contextlib.ExitStack()
        self._last_words: list[SimulationError | None] = []
        self._loop: SimulatedLoop | None = None
        self.faults = Faults(self)
        self.server = SimulatedServer(self)
        self._workers: list[SimulatedWorker] = []
        self._processes: list[SimulatedProcess] = []
        self._queues: dict[str, Queue] = {}
        self._counted: set[int] = set()
        "The records that a `drain` has counted; the journal keeps them all alive."

    # -- being there

    def __enter__(self) -> Self:
        require_testing_extra()
        self._refuse_inside_of_another()
        from queuekit.simulation import entropy, wallclock  # noqa: PLC0415 (freezegun is heavy)

        wallclock.install()
        with contextlib.ExitStack() as stack:
            clock = self._clock()
            self._loop = self._make_loop(clock, stack)
            self.clock = self._loop.clock
            self.environment = SimulatedEnvironment(self)
            self._loop.queuekit_environment = self.environment
            self._loop.mended_by_ns = self.environment.mended_by_ns
            self._loop.take_steps_by(self._schedule)
            stack.callback(setattr, self._loop, "queuekit_environment", None)
            stack.enter_context(use(self.environment))  # for sync code, where no loop runs
            stack.enter_context(entropy.seeded(self.seed))
            self._loop.network = self._backend.network(self._loop)
            self._loop.network.load_scripts(scripts.every())
            stack.callback(self._close_network)
            stack.callback(self._hear_the_last)
            stack.callback(end_tasks, self._loop)
            self._exit = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        failed = unseen_failures(self._processes)
        broken = self.loop.take_refusal() or self.loop.broken_callback()
        unasked = self.loop.failed_task()
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self.loop.interrupted = True
        interrupted = self.loop.interrupted
        self._exit.close()
        if kind is None and not interrupted:
            raise_first(failed)
            for error in (broken, unasked, *self._last_words):
                if error is not None:
                    raise error
            self.faults.check()

    def _hear_the_last(self) -> None:
        """What processes and tasks raised that the world's end has ended; nobody else would hear of it."""
        self._last_words = [failed_at_the_end(self._processes), self.loop.failed_task()]

    def _refuse_inside_of_another(self) -> None:
        running = asyncio._get_running_loop()
        if self._loop is not None and not self._loop.is_closed() and self._loop.network is not None:
            where = "is entered already"
        elif STATE.baton is not None:
            where = "is entered in a sync task of another one"
        elif running is not None and running is not self._given_loop:
            inner = "another simulation" if isinstance(running, SimulatedLoop) else "an event loop"
            where = f"is entered inside of a coroutine, which {inner} runs"
        else:
            return
        raise SimulationError(
            f"{self!r} {where}.\n"
            "  A simulation has an event loop of its own, which cannot run inside of another one.\n"
            "  Enter it in a plain function, def test_...(), and run the coroutine in it:"
            " simulation.run(main(simulation)).\n"
            "  A test that has the fixture `simulation` is in one already: use that."
        )

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
        """Run a coroutine in this world to its end.

        Raises:
            SimulationError: it is none, the world is over, or it runs already.
        """
        self._check_run(main)
        asyncio.set_event_loop(self.loop)
        try:
            result = self.loop.run_until_complete(main)
        finally:
            asyncio.set_event_loop(None)
        self._invariants.check()
        return result

    def _check_run(self, main: object) -> None:
        if not inspect.isawaitable(main):
            raise SimulationError(
                f"simulation.run({main!r}): that is no coroutine.\n"
                "  Call the async function: simulation.run(main(simulation))."
            )
        running = asyncio._get_running_loop()
        if self.loop.is_closed() or running is not None:
            if inspect.iscoroutine(main):
                main.close()  # nobody else will
            why = (
                "the simulation is over" if self.loop.is_closed() else "an event loop runs already"
            )
            raise SimulationError(
                f"simulation.run(...) cannot run: {why}.\n"
                "  Run it in the with block, from a plain function; inside of a coroutine, await it."
            )

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
        self,
        name: str,
        main: Callable[[], Coroutine[Any, Any, object]] | None = None,
        *,
        restarts: bool = False,
    ) -> SimulatedProcess:
        """Start another process in this world: a web server, a script, a client.

        Args:
            name: for whoever reads.
            main: an async function without arguments that it runs from now on, and again after a restart;
                `run()` has it run others.
            restarts: whether `heal()` restarts it when it is dead, as somebody does with a worker.
        """
        if not isinstance(name, str) or not name:
            raise SimulationError(
                f"process({name!r}): its name is a text.\n  simulation.process('web', serve)"
            )
        if main is not None:
            function(
                "process",
                "main",
                main,
                hint="simulation.process('web', serve): uncalled, and async.",
            )
        handle = SimulatedProcess(self, name, main)
        handle.restarts = restarts
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
        whole("choose", "n", n, hint="choose('orders', 5) is 0 to 4.")
        if n < 1:
            raise SimulationError(f"choose({name!r}, {n!r}): there must be one choice at least.")
        return self.chooser.pick(f"choose:{name}", n)

    def inject(
        self,
        kind: str,
        *,
        at: float | datetime | str | None = None,
        command: str | None = None,
        before: str | None = None,
        after: str | None = None,
        task: str | None = None,
        nth: int = 1,
        times: int = 1,
        chance: float | None = None,
        process: SimulatedProcess | str | None = None,
        optional: bool = False,
        **arguments: Any,
    ) -> Fault:
        """Let a misfortune happen; docs/faults.md has all kinds.

        Args:
            kind: what happens: "lose_reply", "kill", "outage", ...
            at: when: seconds from now, or a moment of the wall clock.
            command: at which command: a script of queuekit's (claim, commit, renew, enqueue, ...) or a
                command of Redis (BLPOP).
            before, after: when this command is about to be executed, or its reply about to be seen; or
                when this moment is passed (`claimed`, `started`, `committing`, the name of an effect).
            task: at a step of the tasks whose names begin so; only to "cancel" them.
            nth: at the how manieth of them.
            times: at how many of them, one after the other.
            chance: at each of them with this probability, by the seed.
            process: that of whom; "test" is the test's own client. None: whoever comes by.
            optional: do not mind if it never fires.
            arguments: of the kind.

        Raises:
            SimulationError: the words do not fit together.
        """
        fault = fault_of(
            self,
            kind,
            at=at,
            command=command,
            before=before,
            after=after,
            task=task,
            nth=nth,
            times=times,
            chance=chance,
            process=process,
            optional=optional,
            arguments=arguments,
        )
        self.faults.add(fault)
        return fault

    def heal(self) -> None:
        """End all misfortune.

        No fault fires any more, what stood still goes on, who was cut off is joined to the network, the
        server is up, and workers that are dead are restarted; other processes too if they are to. Who was
        told to end, and has ended, stays so.
        """
        self.faults.healed = True
        self.server.start()
        for handle in self._processes:
            handle.heal()
            handle.resume()
        for handle in self._processes:
            if handle.restarts and not handle.alive:
                handle.restart()

    def learn_of_the_dead(self) -> None:
        """Look at the server for jobs whose worker cannot tell how they ended.

        It died between its last command and its telling of it, or had no answer until its lease ended.
        """
        untold = (None, Event.LOST)
        someone_died = not all(process.alive for process in self.loop.processes)
        network = self.loop.network
        assert network is not None
        for record in self.journal:
            if record.over or record.last is None or record.last.outcome not in untold:
                continue
            if record.last.outcome is None and not someone_died:
                continue
            queue = self.queue_named(record.queue)
            place = f"{queue.store.root}:job:{record.key}".encode()
            status, completed, result, error = network.look(
                b"HMGET", place, b"status", b"completed", b"result", b"error"
            )
            if status is not None and Status(status.decode()) in TERMINAL_STATUSES:
                value = queue.codec.decode_value("result", record.key, result) if result else None
                told = error.decode() if error else None
                self.journal.found(record, int(completed), Status(status.decode()), value, told)

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Show every step, hop, draw and moment to an observer; it may hold them (see `Hold`).

        Returns:
            A function that takes the observer out again.
        """
        function("observe", "observer", observer, hint="It is called with each event.")
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

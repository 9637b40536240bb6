"""The processes of a simulation, as a test handles them."""

from __future__ import annotations

import asyncio
import inspect
import signal
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from queuekit.simulation import given
from queuekit.simulation.errors import ProcessDied, ProcessFailed, SimulationError, ThreadEnded
from queuekit.simulation.process import PROCESS, Process

if TYPE_CHECKING:
    from queuekit.simulation.world import Simulation
    from queuekit.worker import Worker

T = TypeVar("T")
Direction = Literal["both", "requests", "replies"]

_DIRECTIONS = {
    "both": frozenset({"request", "reply"}),
    "requests": frozenset({"request"}),
    "replies": frozenset({"reply"}),
}


class SimulatedProcess:
    """A process: tasks, threads, clocks and connections to Redis of its own.

    Args:
        simulation: its world.
        name: for whoever reads; each start of it has an `id` besides.
        main: an async function without arguments that it runs from its start, and again after a restart.
    """

    def __init__(
        self,
        simulation: Simulation,
        name: str,
        main: Callable[[], Coroutine[Any, Any, object]] | None = None,
    ) -> None:
        self.name = name
        self.restarts = False
        "Whether `heal()` restarts it when it is dead."
        self._simulation = simulation
        self._main = main
        self._task: asyncio.Task[object] | None = None
        self._skew_s = 0.0
        self._drift = 0.0
        self._pause_ends: asyncio.TimerHandle | None = None
        self._partition_ends: asyncio.TimerHandle | None = None
        self._starts: list[tuple[Process, asyncio.Task[object]]] = []
        "Each of them, with its main function."
        self._left_behind: list[Process] = []
        "Earlier starts of it whose ends of connections the server still holds open, behind a partition."
        self.process = self._process_to_begin_in()
        self._begin()

    def _process_to_begin_in(self) -> Process:
        loop = self._simulation.loop
        return loop.in_no_process(Process, loop, self.name)

    def _begin(self) -> None:
        self.process.clock.set_skew(self._skew_s)
        self.process.clock.set_rate(1 + self._drift)
        if self._main is not None:
            self._task = self.process.run(self._run_main, self._main)
            self._starts.append((self.process, self._task))
            self._watch(self.process, self._task)

    def _watch(self, process: Process, task: asyncio.Task[object]) -> None:
        """See to it that the process ends when its main function raises."""

        def ended(main: asyncio.Task[object]) -> None:
            # Not asked by exception(): that would count as having been seen.
            if process.alive and not main.cancelled() and main._exception is not None:
                process.leave()

        task.add_done_callback(ended, context=self._simulation.loop.server_context())

    def _run_main(self, main: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        coroutine = main()
        if not inspect.iscoroutine(coroutine):
            raise SimulationError(
                f"process({self.name!r}, main): main gave {coroutine!r}, and no coroutine.\n"
                "  It is an async function without arguments: async def serve(): ..."
            )
        return self._simulation.loop.create_task(coroutine, name=self.name)

    @property
    def id(self) -> str:
        """Of its latest start: the name, made unique. Observers see it in steps and hops."""
        return self.process.id

    @property
    def alive(self) -> bool:
        """Whether it was not killed, nor has died of a signal."""
        return self.process.alive

    @property
    def running(self) -> bool:
        """Whether its main function has not ended."""
        return self.alive and self._task is not None and not self._task.done()

    @property
    def has_main(self) -> bool:
        """Whether it was given a main function."""
        return self._main is not None

    @property
    def paused(self) -> bool:
        """Whether it was paused, and is alive."""
        return self.alive and self.process.paused

    @property
    def partitioned(self) -> bool:
        """Whether the network does not carry all of its traffic."""
        return bool(self.process.cut_off)

    # -- code in it

    async def run(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Any:
        """Run a function in this process, sync or async, and give its result.

        Raises:
            ProcessDied: the process died before the function ended, or is dead already.
        """
        given.function(
            "process.run", "function", function, hint="process.run(queue.enqueue, 'ship')"
        )
        process = self.process
        if not process.alive:
            raise _dead(process)

        async def called() -> Any:
            result = function(*arguments, **keywords)
            return await result if inspect.isawaitable(result) else result

        name = f"{self.name}: {getattr(function, '__name__', 'function')}"
        task = process.run(self._simulation.loop.create_task, called(), name=name)
        try:
            await self._until_over(process, task)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if process.exited is not None:
            how = f"exited with status {process.status}"
            raise ProcessDied(f"{process.id} {how} while it ran {name!r}.", process.id)
        if not task.done() or _was_left(task):
            raise ProcessDied(f"{process.id} died while it ran {name!r}.", process.id)
        return task.result()

    async def wait(self) -> None:
        """Wait until its main function has ended; raises what that raised.

        Raises:
            ProcessDied: the process died before its main function ended, or that was cancelled.
            ProcessFailed: it exited with a status other than 0.
            SimulationError: it has no main function.
        """
        process, task = self.process, self._main_task()
        await self._until_over(process, task)
        if process.exited is not None:
            exited, process.exit_seen = process.exited, True
            if process.status:
                raise _failed(process.id, exited) from exited
        elif task.cancelled():  # not raised as it is: the caller is not cancelled
            raise ProcessDied(f"the main function of {process.id} was cancelled.", process.id)
        elif not task.done() or _was_left(task):
            raise _dead(process)
        else:
            task.result()

    def _main_task(self) -> asyncio.Task[object]:
        if self._task is None:
            raise SimulationError(
                f"{self!r} has no main function whose end could be waited for.\n"
                "  Give it one: simulation.process(name, main); or await what run() runs in it."
            )
        return self._task

    async def _until_over(self, process: Process, task: asyncio.Task[Any]) -> None:
        """Wait until a task of a process has ended, or the process."""
        if task.done() or not process.alive:
            return
        done: asyncio.Future[None] = self._simulation.loop.create_future()

        def over(*_: object) -> None:
            if not done.done():
                done.set_result(None)

        task.add_done_callback(over)
        process.at_death.append(over)
        try:
            await done
        finally:
            process.at_death.remove(over)
            task.remove_done_callback(over)

    # -- what happens to it

    def kill(self) -> None:
        """End it as SIGKILL does: no `finally` runs, and not one more command is sent."""
        self.process.kill()

    def terminate(self) -> None:
        """Send it a (simulated) SIGTERM: its handler runs as a step; without one it dies.

        A worker stops: it takes no new jobs, and ends or hands back those that run.
        """
        self.process.signal(signal.SIGTERM)

    def pause(self, seconds: float | None = None) -> None:
        """Let it stand still, as SIGSTOP or a suspended machine does, until `resume()` or for so long.

        What it has sent arrives; its timers, and what it is sent, wait. Its connections stay open. Of
        several pauses the latest says when it goes on.
        """
        self.process.pause()
        self._pause_ends = self._instead_of(self._pause_ends, seconds, self.resume)

    def resume(self) -> None:
        """Let it go on: all that has become due or has arrived meanwhile happens now."""
        self._pause_ends = self._instead_of(self._pause_ends)
        self.process.resume()

    def partition(self, direction: Direction = "both", seconds: float | None = None) -> None:
        """Cut it off from Redis, until `heal()` or for so long.

        As with packets that are dropped: what is sent waits and arrives later; new connections hang; the
        server does not hear that a client has given up, and keeps its end of the connection open. It
        outlasts a restart. Of several partitions the latest counts.

        Args:
            direction: what does not arrive: its "requests", the "replies" to it, or "both".
            seconds: how long; None is until `heal()`.

        Raises:
            SimulationError: there is no such direction.
        """
        if direction not in _DIRECTIONS:
            raise SimulationError(
                f"partition({direction!r}): there is no such direction.\n"
                f"  It is one of {', '.join(map(repr, _DIRECTIONS))}."
            )
        self.process.partition(_DIRECTIONS[direction])
        self._partition_ends = self._instead_of(self._partition_ends, seconds, self.heal)

    def heal(self) -> None:
        """Join it to the network again: what waited arrives, in its order."""
        self._partition_ends = self._instead_of(self._partition_ends)
        left_behind, self._left_behind = self._left_behind, []
        for process in (*left_behind, self.process):
            process.heal()

    def skew(self, seconds: float) -> None:
        """Set its wall clock so far ahead of the true time (negative: behind). The server keeps its own."""
        self._skew_s = seconds
        self.process.clock.set_skew(seconds)
        self._disturbed("has another wall clock")

    def drift(self, rate: float) -> None:
        """Let its clocks gain so many seconds in each from now on: 0.01 is 1 % fast.

        Its timers follow its own monotonic clock, so they come early or late.
        """
        self.process.clock.set_rate(1 + rate)
        self._drift = rate
        self._disturbed("has a clock that drifts")

    def restart(self) -> None:
        """Kill it unless it is dead, and start it anew: its main function begins again.

        Its host stays as it is: its clocks, and the network around it.
        """
        self.kill()
        self._pause_ends = self._instead_of(self._pause_ends)
        before, self.process = self.process, SimulatedProcess._process_to_begin_in(self)
        if before.cut_off:
            self._left_behind.append(before)
            self.process.partition(before.cut_off)
        self._begin()

    def _instead_of(
        self,
        timer: asyncio.TimerHandle | None,
        seconds: float | None = None,
        function: Callable[[], None] | None = None,
    ) -> asyncio.TimerHandle | None:
        """Another end of a misfortune: one that was meant for an earlier one must not end this."""
        if timer is not None:
            timer.cancel()
        if seconds is None or function is None:
            return None
        loop = self._simulation.loop
        return loop.call_later(seconds, function, context=loop.server_context())

    def _disturbed(self, how: str) -> None:
        self._simulation.loop.disturbed(f"{self.id} {how}")

    def __repr__(self) -> str:
        state = "paused" if self.paused else "alive" if self.alive else "dead"
        return f"{type(self).__name__}<{self.id}, {state}>"


class SimulatedWorker(SimulatedProcess):
    """A process that runs a worker; or, if code of a process has started it, the worker in that one."""

    def __init__(self, simulation: Simulation, worker: Worker[Any], name: str) -> None:
        self.worker = worker
        super().__init__(simulation, name, self._start)
        self.restarts = True

    def _process_to_begin_in(self) -> Process:
        return PROCESS.get() or super()._process_to_begin_in()

    def _start(self) -> Coroutine[Any, Any, None]:
        return self.worker.start()

    def restart(self) -> None:
        """Kill it unless it is dead, and start a worker of the same settings."""
        self.worker = self.worker.anew()
        super().restart()

    def _watch(self, process: Process, task: asyncio.Task[object]) -> None:
        """A worker that ends by an exception may not be all that its process runs."""

    async def stop(self) -> None:
        """Stop it as a deploy does, and wait until it has ended.

        Raises:
            ProcessDied: its process was killed, before or meanwhile.
        """
        process, task = self.process, self._main_task()
        if not self.worker.id:  # it has not had its first step yet
            await asyncio.sleep(0)
        if process.alive:
            self.worker.request_stop()
        await self._until_over(process, task)
        if not task.done():
            raise _dead(process)

    def cancel(self) -> None:
        """Cancel its task, as the end of an application's own loop does."""
        self._main_task().cancel()


def _dead(process: Process) -> ProcessDied:
    return ProcessDied(f"{process.id} is dead; restart() starts it anew.", process.id)


def _failed(process: str, error: BaseException) -> ProcessFailed:
    return ProcessFailed(
        f"process {process} ended by {_how(error)}, and nobody has asked for it.\n"
        "  A process ends by its main function's return, by sys.exit(0), or by what the test does to it.\n"
        "  If it is to fail, wait for it: pytest.raises around `await process.wait()`."
    )


def _how(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"sys.exit({error.code!r})"
    return f"{type(error).__name__}: {error}".rstrip(": ")


def unseen_failures(processes: Iterable[SimulatedProcess]) -> list[tuple[Process, BaseException]]:
    """By what processes have ended that nobody has asked for; it counts as seen from now on."""
    found: list[tuple[Process, BaseException]] = []
    for handle in processes:
        for process, task in handle._starts:
            if process.exited is not None:
                if process.status and not process.exit_seen:
                    found.append((process, process.exited))
                process.exit_seen = True
            elif task.done() and not task.cancelled() and task._log_traceback:
                error = task.exception()
                if error is not None and not isinstance(error, ThreadEnded):
                    found.append((process, error))
    return found


def raise_first(failures: list[tuple[Process, BaseException]]) -> None:
    """Raises ProcessFailed for the first of these, if any."""
    for process, error in failures:
        raise _failed(process.id, error) from error


def failed_at_the_end(processes: Iterable[SimulatedProcess]) -> ProcessFailed | None:
    """What to raise for the first process that its world's end has ended, and that raised thereby.

    It counts as seen from now on.
    """
    for process, error in unseen_failures(processes):
        failed = ProcessFailed(
            f"process {process.id} ended by {_how(error)}.\n"
            "  It still ran when its world ended, which cancels it as Ctrl-C does; what it raises counts.\n"
            "  Mend what it does at its end (a shutdown hook, a finally); or, if that is to fail,\n"
            "  end it in the test: `await worker.stop()`, then pytest.raises around `await worker.wait()`."
        )
        failed.__cause__ = error
        return failed
    return None


def _was_left(task: asyncio.Task[Any]) -> bool:
    """Whether its process died in the midst of one of its steps."""
    return not task.cancelled() and isinstance(task.exception(), ThreadEnded)


async def busy(seconds: float) -> None:
    """Hold the event loop of the process that calls this for so long, as work of the processor does.

    Raises:
        SimulationError: the caller is in no process.
    """
    process = PROCESS.get()
    if process is None:
        raise SimulationError(
            f"busy({seconds!r}) was called by the test itself, whose loop nobody shares.\n"
            "  Call it in a task of a worker, or in what simulation.process(...).run() runs."
        )
    loop = asyncio.get_running_loop()
    process.hold_loop()
    loop.call_later(seconds, process.release_loop, context=process.loop.server_context())
    await asyncio.sleep(0)  # the step behind this one is put off until then

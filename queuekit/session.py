"""What a worker has only while it runs: its tasks, its ear on Redis, its signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from queuekit import upkeep
from queuekit.environment import background, environment
from queuekit.intake import Intake
from queuekit.lifecycle import Event
from queuekit.outage import Backoff
from queuekit.store.redis import STORE_ERRORS
from queuekit.text import one_line

if TYPE_CHECKING:
    from queuekit.worker import Worker

logger = logging.getLogger("queuekit")

CANCEL_AGAIN_S = 0.1
"When a duty that was cancelled has not ended by then, it is cancelled again."


class Session:
    """What exists only while a worker runs; made in its loop."""

    def __init__(self, worker: Worker[Any]) -> None:
        self.attention = asyncio.Event()
        "Set when the main loop is to look again."
        self.changed = asyncio.Event()
        self.stopped = asyncio.Event()
        self.hurry = asyncio.Event()
        self.closing = asyncio.Event()
        "Set when the jobs that still run are handed back."
        self.intake = Intake(worker, self)
        self.upkeep_due = False
        "The moment has come that the last claim told of: leases end, or records."
        self.has_token = False
        "It was told that there is work, and has not looked since."
        self._halt = asyncio.Event()
        self._ear_pauses = Backoff()
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.idle_since: float | None = None
        self.stopping = False
        self._worker = worker
        self._leases: asyncio.Task[None] | None = None
        self._ear: asyncio.Task[None] | None = None
        self.hears_work = False
        self._alarms: list[asyncio.TimerHandle] = []
        self._guard: asyncio.TimerHandle | None = None
        self._cancellations = _cancellations()

    def heed_cancellation(self) -> None:
        """Raise what a command to Redis may have swallowed.

        Python 3.11's wait_for(), which redis-py sends commands with, swallows a cancellation that meets it
        when the answer is there. That it was asked for is still known.
        """
        if _cancellations() > self._cancellations:
            raise asyncio.CancelledError

    def stop(self) -> None:
        self.stopping = True
        self._halt.set()
        self.attention.set()

    def jobs(self) -> list[asyncio.Task[Any]]:
        """The tasks of the runs under way, each until its hooks have ended."""
        return [task for task in self.tasks if task.get_name().startswith("job ")]

    def spawn(self, coroutine: Any, name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(coroutine, name=name)
        self.tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            name = one_line(task.get_name())
            logger.error("%s of worker %s broke", name, self._worker.id, exc_info=error)

    def keep_leases(self, worker: Worker[Any]) -> None:
        if self._leases is None or self._leases.done():
            self._leases = self.spawn(upkeep.renew_leases(worker), "leases")
        if self._guard is None:
            self._guard_leases()

    def _guard_leases(self) -> None:
        """Look at each moment at which a lease would end. A renewal moves it: then nothing happens.

        A timer, not a task: when a process that hung goes on, timers and sockets wake its tasks, and
        this has its turn before theirs.
        """
        now = environment().monotonic()
        runs = list(self._worker.running.values())
        for run in runs:
            if run.lease_end <= now:
                run.lose()
        ends = [run.lease_end for run in runs if run.lease_end > now]
        self._guard = None
        if ends:
            with background():
                self._guard = asyncio.get_running_loop().call_later(
                    min(ends) - now, self._guard_leases
                )

    async def pause(self, seconds: float) -> None:
        """Wait, but not past the worker's stop. Jobs that end meanwhile do not end it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._halt.wait()

    def wake_in(self, *, due_s: float | None, upkeep_s: float) -> None:
        """Look again when a job is due, and when upkeep is; in place of what was set before."""
        self._end_alarms()
        loop = asyncio.get_running_loop()
        if due_s is not None:
            self._alarms.append(loop.call_later(max(due_s, 0.001), self.attention.set))
        # In burst mode the end of the wait is the end of the worker, which somebody waits for.
        with background(not self._worker.burst):
            self._alarms.append(loop.call_later(upkeep_s, self._call_for_upkeep))

    def _call_for_upkeep(self) -> None:
        self.upkeep_due = True
        self.attention.set()

    def _end_alarms(self) -> None:
        for alarm in self._alarms:
            alarm.cancel()
        self._alarms.clear()

    async def listen(self, *, for_work: bool) -> None:
        """Have one blocking read under way: on the control key, and for work if there are slots."""
        if self._ear is not None and not self._ear.done():
            if self.hears_work or not for_work:
                return
            # It listens for messages alone; a word to ourselves ends it, and loses none.
            with contextlib.suppress(*STORE_ERRORS):
                await self._worker.queue.store.nudge(self._worker.address)
            await asyncio.wait([self._ear])
        self.hears_work = for_work
        with background():
            self._ear = self.spawn(self._hear(for_work), "ear")

    async def _hear(self, for_work: bool) -> None:
        worker = self._worker
        seconds = environment().idle_wait_s()
        try:
            message = await worker.queue.store.wait(
                worker.address, for_work=for_work, timeout_s=seconds
            )
        except STORE_ERRORS as error:
            worker.outage.note("listening", error)
            with background():
                await asyncio.sleep(self._ear_pauses.next_s())
            message = None
        else:
            self._ear_pauses.reset()
            worker.outage.over("listening")
        if message and message.startswith("abort\n"):
            _, fence, key, reason = message.split("\n", 3)
            run = worker.running.get(int(fence))
            if run is not None and run.key == key:
                run.interrupt(Event.ABORTED, reason)
        elif message == "":
            self.has_token = True
            if self.stopping:
                await self.give_token_back()
        self.attention.set()

    async def give_token_back(self) -> None:
        """For somebody who has a slot, and goes on."""
        if self.has_token:
            self.has_token = False
            with contextlib.suppress(*STORE_ERRORS):
                await self._worker.queue.store.pass_on()

    async def end_duties(self) -> None:
        """End everything that is no job. A message lost with it concerned jobs that are gone."""
        self._end_alarms()
        if self._guard is not None:
            self._guard.cancel()
        # Again and again: Python 3.11's wait_for(), which redis-py sends its commands with, swallows a
        # cancellation that meets it when the inner task has just ended.
        while duties := [task for task in self.tasks if task is not asyncio.current_task()]:
            for task in duties:
                task.cancel()
            await asyncio.wait(duties, timeout=CANCEL_AGAIN_S)


def _cancellations() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


@contextlib.asynccontextmanager
async def signals_stop(worker: Worker[Any]) -> Any:
    """The first signal stops the worker, a second one hurries it."""
    loop = asyncio.get_running_loop()
    seen = False

    def on_signal() -> None:
        nonlocal seen
        if seen:
            worker.hurry()
        else:
            worker.request_stop()
        seen = True

    handled = []
    for number in worker.SIGNALS:
        # Not in the main thread, or Windows: then signals are the application's.
        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
            loop.add_signal_handler(number, on_signal)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


async def wait_for_all(
    jobs: list[asyncio.Task[Any]], hurry: asyncio.Task[Any], seconds: float
) -> None:
    end = environment().monotonic() + seconds
    while (left := end - environment().monotonic()) > 0:
        pending = [task for task in jobs if not task.done()]
        if not pending or hurry.done():
            return
        await asyncio.wait([*pending, hurry], timeout=left, return_when=asyncio.FIRST_COMPLETED)

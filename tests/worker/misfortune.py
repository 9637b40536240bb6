"""A story of jobs, lived through once for each point at which it can be struck, and what must hold then.

It has one of each: a success, a retry after a delay, a run that tells of its progress, an abort, a group, a
scheduled job, a cron tick, and a client that waits for an answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from queuekit import CronJob, Status
from queuekit.environment import IDLE_WAIT_S
from queuekit.job import TERMINAL_STATUSES
from queuekit.simulation import Hold, Hop, Simulation, Step
from queuekit.simulation.process import Process

LEASE_S = 6
RECOVERY_S = 2
"How long after the end of its lease a job may take to be claimable again."

STORY_S = 12
"So long the story lasts when nothing disturbs it."

SETTLED_S = 45
"By then all is over: a lease, its recovery, a retry's delay, and the longest task."

RESULTS = {
    "good": {"n": 1},
    "flaky": "second time",
    "tells": "told",
    "first": "first",
    "second": "second",
    "later": "later",
    "asked": 42,
}
FAILURES = {"flaky": 1}
DELAY_MS = {"flaky": 3000}
LATER_S = 2
START = "2030-01-01T00:00:55Z"
"Five seconds before a tick; the next one comes when all is over."


@dataclass
class Story:
    """What happened in one life of the story."""

    simulation: Simulation
    struck_ms: int | None = None
    "When the misfortune came; None: not yet."
    runs: list[tuple[str, str, int, int]] = field(default_factory=list)
    "Of each run of a task: job, process, start, and the fence of its claim."
    life: asyncio.Task | None = None
    "The client's."
    answer: object = None
    aborted_ms: int | None = None
    "When the abort was acknowledged."
    leases: dict[str, int] = field(default_factory=dict)
    "When the leases end that are held at the misfortune."
    waiting_ms: dict[str, int] = field(default_factory=dict)

    @property
    def queue(self):
        return self.simulation.queue

    def now_ms(self):
        return self.simulation.environment.time_ms()

    # -- the tasks

    def begin(self, ctx):
        job = ctx["job"]
        self.runs.append((job.key, self.simulation.environment.process, self.now_ms(), job.fence))

    def functions(self):
        async def good(ctx, n):
            self.begin(ctx)
            return {"n": n}

        async def flaky(ctx):
            self.begin(ctx)
            if not ctx["job"].failures:
                raise ValueError("the first time")
            return "second time"

        async def tells(ctx):
            self.begin(ctx)
            await asyncio.sleep(1)
            await ctx["job"].update(progress=0.5, meta={"half": True})
            await asyncio.sleep(2)
            return "told"

        async def endless(ctx):
            self.begin(ctx)
            await asyncio.sleep(1000)

        async def named(ctx):
            self.begin(ctx)
            await asyncio.sleep(0.5)
            return ctx["job"].key

        async def asked(ctx):
            self.begin(ctx)
            await asyncio.sleep(1)
            return 42

        async def tick(ctx):
            self.begin(ctx)

        self.tick = tick
        return [good, flaky, tells, endless, named, asked, tick]

    def start_worker(self, name):
        process = Process(self.simulation.loop, name)
        functions = self.functions()
        process.run(
            self.simulation.worker,
            functions,
            lease_s=LEASE_S,
            cron_jobs=[CronJob(self.tick, "* * * * *")],
        )
        return process

    # -- the client

    async def client(self):
        """What the application does; it does not know of any misfortune."""
        enqueue = self.queue.enqueue
        await enqueue("good", key="good", n=1, retries=1)
        await enqueue("flaky", key="flaky", retries=2, retry_delay=DELAY_MS["flaky"] / 1000)
        await enqueue("tells", key="tells")
        endless = await enqueue("endless", key="endless", timeout=None)
        await enqueue("named", key="first", group_key="g")
        await enqueue("named", key="second", group_key="g")
        await enqueue("named", key="later", scheduled=self.simulation.now.timestamp() + LATER_S)
        waiter = asyncio.create_task(self.ask())
        await asyncio.sleep(3)
        await endless.abort("no more")
        self.aborted_ms = self.now_ms()
        await waiter

    async def ask(self):
        self.answer = await self.queue.apply("asked", key="asked", timeout=60)

    # -- looking

    async def look_at_leases(self):
        """Note, at the misfortune, by when each held job must come back, and that no key can be taken."""
        store = self.queue.store
        for key, end in _pairs(
            await store._command("ZRANGE", f"{store.root}:lease", 0, -1, "WITHSCORES")
        ):
            self.leases[key] = end
        for key, due in _pairs(
            await store._command("ZRANGE", f"{store.root}:scheduled", 0, -1, "WITHSCORES")
        ):
            self.waiting_ms[key] = due

    async def where(self):
        """For each job its status, and the containers that it is in."""
        found = {}
        store = self.queue.store
        inside = {
            name: await store.page(name, 0, 100)
            for name in ("scheduled", "followers", "ready", "suspect", "lease")
        }
        for key in (*RESULTS, "endless"):
            job = await self.queue.job(key)
            if job is not None:
                found[key] = (job.status, [name for name, keys in inside.items() if key in keys])
        return found

    async def check_nothing_is_lost(self):
        """P1 and P7, at this instant."""
        for key, (status, places) in (await self.where()).items():
            if status in TERMINAL_STATUSES:
                assert places == [], f"{key} is {status} and yet in {places}"
            else:
                assert len(places) == 1, f"{key} is {status} and in {places}"
                again = await self.queue.enqueue("good", key=key, n=2)
                assert again is None, f"{key} is {status}, and its key was given away"

    async def states(self):
        jobs = {key: await self.queue.job(key) for key in (*RESULTS, "endless")}
        return {
            key: (job.status, job.result, job.failures, job.losses, job.attempts, job.completed)
            for key, job in jobs.items()
        }

    async def check_the_end(self, *, losses):
        """All promises, when everything is over."""
        for key, wanted in RESULTS.items():
            job = await self.queue.job(key)
            assert (job.status, job.result) == (Status.COMPLETE, wanted), (key, job.info(full=True))
            assert job.failures == FAILURES.get(key, 0), (key, job.failures)
            assert job.losses <= losses, (key, job.losses)
            assert job.attempts == 1 + job.failures + job.losses, (key, job.attempts)
        endless = await self.queue.job("endless")
        assert (endless.status, endless.error) == (Status.ABORTED, "no more"), endless.info()
        assert self.answer == RESULTS["asked"]
        await self.check_nothing_is_lost()
        self.check_runs()
        self.check_ticks()

    def check_runs(self):
        """P2 and P5: no second run before the lease ended, none before its time, none after an abort."""
        seen = {}
        began = self.simulation.record_of("later").enqueued_ms
        for key, process, start, fence in self.runs:
            if key == "later":
                assert start >= began + LATER_S * 1000, (key, start - began)
            if key == "endless" and self.aborted_ms is not None:
                assert start <= self.aborted_ms, "it was aborted, and yet begun"
            if key in seen:
                before_process, before_start, before_fence = seen[key]
                assert fence > before_fence, (key, fence)
                if process != before_process and key in self.leases:
                    end = self.leases[key]
                    latest = end + RECOVERY_S * 1000 + DELAY_MS.get(key, 0)
                    assert end <= start <= latest, (key, start - end)
                elif process == before_process:
                    assert start - before_start >= DELAY_MS.get(key, 0), (key, start - before_start)
            seen[key] = (process, start, fence)

    def runs_of_the_client(self):
        return [run for run in self.runs if not run[0].startswith("cron:")]

    def check_ticks(self):
        """P8: the tick's job is run, and there is one of it."""
        ticks = {key for key, *_ in self.runs if key.startswith("cron:")}
        at_tick = self.struck_ms is not None and self.struck_ms % 60_000 == 0
        # A worker that starts at the very instant of a tick leaves it to those that were up.
        assert len(ticks) == 1 or (at_tick and not ticks), ticks


def _pairs(found):
    names = [key.decode().rpartition("\1")[2] for key in found[::2]]
    return list(zip(names, (int(float(score)) for score in found[1::2]), strict=True))


def any_point(event):
    return isinstance(event, Step | Hop)


def request(event):
    """A command on its way; not a handshake, which is one word."""
    return isinstance(event, Hop) and event.direction == "request" and len(event.words) > 1


def reply(event):
    return isinstance(event, Hop) and event.direction == "reply" and bool(event.words)


class Striker:
    """Calls `strike` with the n-th event of a process, and hands on what holds the event back."""

    def __init__(self, process, at, strike, points=any_point):
        self.events = []
        self.struck = False
        self._process, self._at, self._strike, self._points = process.id, at, strike, points

    def __call__(self, event):
        if not self._points(event) or event.process != self._process or self.struck:
            return None
        self.events.append(event)
        if len(self.events) - 1 != self._at:
            return None
        self.struck = True
        return self._strike(event)


class Hang:
    """Keeps a process from everything, until it is released: it wakes up late."""

    def __init__(self, simulation):
        self.hold = Hold()
        self._simulation = simulation
        self._process = None

    def begin(self, event):
        self._process = event.process
        self._simulation.observe(self._observe)
        return self.hold

    def _observe(self, event):
        mine = isinstance(event, Step | Hop) and event.process == self._process
        return self.hold if mine else None


def cut(simulation, hop):
    """Reset the connection on which this hop travels, before it arrives."""
    [wire] = [wire for wire in simulation.loop.network.wires if wire.number == hop.connection]
    wire.cut()


# -- lives


async def undisturbed(simulation, of="first", points=any_point):
    """The points at which the story can be struck, of its worker or its client."""
    story, processes = begin(simulation)
    striker = Striker(processes[of], None, None, points)
    simulation.observe(striker)
    await simulation.advance(STORY_S)
    found = list(striker.events)
    await simulation.advance(SETTLED_S - STORY_S)
    await story.check_the_end(losses=0)
    return found


def begin(simulation):
    story = Story(simulation)
    client = Process(simulation.loop, "client")
    worker = story.start_worker("first")
    story.life = client.run(simulation.loop.create_task, story.client(), name="client")
    return story, {"first": worker, "client": client}


async def killed(simulation, at):
    """The worker is killed at this point, and another one starts."""
    story, processes = begin(simulation)
    striker = Striker(processes["first"], at, lambda _: processes["first"].kill())
    simulation.observe(striker)
    await simulation.run_until(lambda: striker.struck, limit=STORY_S)
    story.struck_ms = story.now_ms()
    await story.look_at_leases()
    await story.check_nothing_is_lost()
    story.start_worker("second")
    await simulation.advance(SETTLED_S)
    await story.check_the_end(losses=1)


async def hung(simulation, at):
    """The worker hangs from this point on, another one does its work, and then it wakes up.

    Its blocked read may have taken the one token; then the other one looks by itself, as soon as an idle
    worker does in production.
    """
    simulation.environment.idle_wait_s = lambda: IDLE_WAIT_S
    story, processes = begin(simulation)
    hang = Hang(simulation)
    striker = Striker(processes["first"], at, hang.begin)
    simulation.observe(striker)
    await simulation.run_until(lambda: striker.struck, limit=STORY_S)
    story.struck_ms = story.now_ms()
    await story.look_at_leases()
    story.start_worker("second")
    await simulation.advance(SETTLED_S)
    await story.check_the_end(losses=1)
    before, runs = await story.states(), story.runs_of_the_client()
    hang.hold.release()
    await simulation.advance(SETTLED_S / 2)
    assert await story.states() == before, "a run that lost its lease has changed something"
    assert story.runs_of_the_client() == runs, "it has begun a job that was over"


async def cut_off(simulation, at, of, points):
    """A command of the worker or the client is lost with its connection, or its reply is."""
    story, processes = begin(simulation)
    striker = Striker(processes[of], at, lambda hop: cut(simulation, hop), points)
    simulation.observe(striker)
    await simulation.advance(SETTLED_S)
    assert striker.struck
    await story.check_the_end(losses=0)

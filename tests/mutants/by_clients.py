"""Stories of what clients ask for: aborts, keys that are taken, groups, later moments, records."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import timedelta

from queuekit import effect
from queuekit.errors import (
    DuplicateJobError,
    JobNotFoundError,
    JobStateError,
)
from queuekit.job import TERMINAL_STATUSES, Status
from tests.mutants.tasks import insist, slow, worker
from tests.mutants.web import bring, calm, ended, job_of, put, seen


async def aborts(simulation):
    """Jobs are aborted while they wait, are due later, run, are about to end, or have ended."""
    worker(simulation, concurrency=4)
    worker(simulation, concurrency=1)
    web, queue = simulation.process("web"), simulation.queue

    async def stop(key):
        job = await seen(queue, key)
        try:
            await insist(job.abort, f"{key}: no more")
        except JobStateError:
            assert job.status in TERMINAL_STATUSES
            return None
        except JobNotFoundError:
            raise AssertionError(f"{key} is not there to be aborted") from None
        return job

    async def asks():
        await bring(queue, "slow", key="running", seconds=30, timeout=60)
        await bring(queue, "stubborn", key="stubborn", seconds=10, timeout=60, group_key="g")
        await bring(queue, "slow", key="follows", group_key="g")
        await bring(queue, "slow", key="follows too", group_key="g")
        await bring(queue, "slow", key="ends", seconds=1 + simulation.choose("ends", 4))
        await bring(queue, "ok", key="done")
        await bring(queue, "ok", key="later", scheduled=timedelta(seconds=30))
        await bring(queue, "fails", key="rests", retries=2, retry_delay=30)
        await asyncio.sleep(1 + simulation.choose("when", 3))
        began = asyncio.get_running_loop().time()
        stopped = [
            await stop(key)
            for key in ("running", "ends", "done", "later", "rests", "follows", "stubborn")
        ]
        keys = [job.key for job in stopped if job is not None]
        for key in ("later", "rests"):
            job = await seen(queue, key)
            assert job is not None
            assert job.status is Status.ABORTED or not calm(simulation), f"{key} is {job.status}"
        for job in await ended(queue, *keys):
            # What was acknowledged as an abort ends aborted.
            assert job.status is Status.ABORTED, f"{job.key} was aborted, and is {job.status}"
            assert "no more" in job.error, job.error
        took = asyncio.get_running_loop().time() - began
        assert not calm(simulation) or took < 4, f"the aborts took {took} s"
        if calm(simulation):
            assert [job is None for job in stopped] == [
                False,
                stopped[1] is None,
                True,
                *[False] * 4,
            ]
        await ended(queue, "follows too")

    await web.run(asks)


async def unique(simulation):
    """Two web processes enqueue the same keys, while their jobs wait, run, rest or have ended."""
    worker(simulation, concurrency=2)
    queue = simulation.queue
    firsts = []

    async def asks():
        for round_ in range(3):
            for key, options in (
                ("a", {"seconds": 1}),
                ("b", {"seconds": 5}),
            ):
                if await put(queue, "slow", key=key, **options):
                    firsts.append((round_, key))
            await put(queue, "fails", key="rests", retries=2, retry_delay=3)
            await put(queue, "ok", key="later", scheduled=timedelta(seconds=4))
            await asyncio.sleep(2 + simulation.choose("between", 3))

    async def checks():
        await put(queue, "slow", key="held", seconds=4)
        taken = job_of("slow", key="held")
        try:
            await insist(queue.enqueue, taken, on_duplicate="raise")
        except DuplicateJobError as error:
            holder = error.job
        else:
            assert not calm(simulation), "held was accepted twice"
            holder = taken
        assert holder.function == "slow"
        assert holder.status in ("queued", "active"), holder
        holder = await insist(
            queue.enqueue, job_of("slow", key="held", priority=3), on_duplicate="return"
        )
        assert holder is not None
        assert holder.priority == 0 or not calm(simulation)
        await ended(queue, "held")
        again = await put(queue, "ok", key="held", answer=7)
        assert again is not None or not calm(simulation), "the key of an ended job is taken"
        [job] = await ended(queue, "held")
        assert job.result == 7 or not calm(simulation)

    one, two = simulation.process("web"), simulation.process("web-2")
    both = [asyncio.create_task(one.run(asks)), asyncio.create_task(two.run(asks))]
    await simulation.process("web-3").run(checks)
    for each in both:
        await each


async def overtaken(simulation):
    """An enqueue whose answer is lost is sent again when its job has ended, and another had its key since."""
    worker(simulation)
    one, two, queue = simulation.process("web"), simulation.process("web-2"), simulation.queue
    lost = simulation.inject(
        "lose_reply", command="enqueue", process="web", how="silence", optional=True
    )
    asking = asyncio.create_task(one.run(put, queue, "ok", key="a"))
    await asyncio.sleep(0.5 + simulation.choose("when", 2) / 4)
    again = await two.run(put, queue, "slow", key="a", seconds=30)
    job = await asking
    if len(simulation.faults.struck) == len(lost.fired) == 1:
        assert again is not None, "the key of an ended job is taken"
        assert job is not None, "an enqueue that was accepted is told as refused"
    await two.run(ended, queue, "a")


async def groups(simulation):
    """Jobs of a group run one at a time, in their order; some fail, are aborted, or are due later."""
    worker(simulation, concurrency=3)
    worker(simulation, concurrency=3)
    web, queue = simulation.process("web"), simulation.queue
    size = 3 + simulation.choose("size", 3)

    async def asks():
        for number in range(size):
            for group in "ab":
                await bring(queue, "slow", key=f"{group}{number}", group_key=group, seconds=1)
        await bring(queue, "fails", key="c0", group_key="c", retries=3, retry_delay=2)
        await bring(queue, "slow", key="c1", group_key="c", seconds=3)
        await bring(queue, "slow", key="c2", group_key="c", scheduled=timedelta(seconds=2))
        await bring(queue, "slow", key="d0", group_key="d", seconds=2)
        await bring(queue, "slow", key="d1", group_key="d", seconds=1)
        await bring(queue, "slow", key="d2", group_key="d", seconds=1, priority=-1)
        job = await seen(queue, f"a{size - 1}")
        try:
            await insist(job.abort, "no more")
        except JobStateError:
            assert not calm(simulation)
        keys = [f"{group}{number}" for group in "ab" for number in range(size)]
        await ended(queue, *keys, "c0", "c1", "c2", "d0", "d1", "d2")
        done = [effect.details["key"] for effect in simulation.effects("done")]
        if calm(simulation):
            for group in "ab":
                mine = [key for key in done if key.startswith(group)]
                assert mine == sorted(mine), f"done in the order {mine}"
            mine = [key for key in done if key.startswith("d")]
            assert mine in (["d0", "d2", "d1"], ["d2", "d0", "d1"]), mine
            # Beside each other: a group takes as long as its own jobs.
            took = asyncio.get_running_loop().time()
            assert took < 16, f"the groups took {took} s"

    await web.run(asks)


async def scheduled(simulation):
    """Jobs that are due later, alone and together, and workers that sleep until then."""
    worker(simulation, concurrency=2)
    worker(simulation, concurrency=2)
    web, queue = simulation.process("web"), simulation.queue
    late = simulation.choose("late", 3)

    async def asks():
        await bring(queue, "ok", key="in 20", scheduled=timedelta(seconds=20))
        await asyncio.sleep(2)
        await bring(queue, "ok", key="in 5", scheduled=timedelta(seconds=5))
        await bring(queue, "ok", key="at 7", scheduled=simulation.now.timestamp() + 5)
        for number in range(4 + late):
            await bring(queue, "slow", key=f"n{number}", scheduled=timedelta(seconds=9.25))
        job = await seen(queue, "in 20")
        assert job is not None
        assert job.status is Status.QUEUED or not calm(simulation)
        assert job.scheduled == 0 or job.scheduled > 1e9
        await ended(queue, "in 20", "in 5", "at 7")

    await web.run(asks)


async def records(simulation):
    """Records are kept for their ttl, and not longer; progress and meta are told from outside too."""
    worker(simulation)
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        await bring(queue, "ok", key="short", ttl=5, answer=1)
        await bring(queue, "ok", key="for ever", ttl=0, answer=2)
        await bring(queue, "fails", key="none", ttl=-1)
        await bring(queue, "slow", key="told", seconds=6, ttl=100)
        await asyncio.sleep(1)
        told = await seen(queue, "told")
        if told is None:
            assert not calm(simulation)
            return
        try:
            await insist(told.update, progress=0.25, meta={"from": "outside"})
        except JobStateError:
            assert not calm(simulation), "a job that runs cannot be updated"
        else:
            before, told = told, await seen(queue, "told")
            said = {"from": "outside"}
            assert not calm(simulation) or (told.progress, told.meta) == (0.25, said)
            assert not calm(simulation) or told.touched == before.started + 1000, told.touched
        if calm(simulation):
            short = await seen(queue, "short")
            assert short.result == 1
            assert await seen(queue, "none") is None
            again = await put(queue, "ok", key="none", ttl=20, answer=3)
            assert again is not None
        await ended(queue, "for ever")
        while True:
            job = await seen(queue, "told")
            if job is None or job.status in TERMINAL_STATUSES:  # or it ended long ago
                break
            await asyncio.sleep(1)
        await asyncio.sleep(8)
        assert await seen(queue, "short") is None or not calm(simulation), "short outlives its ttl"
        if calm(simulation):
            again = await seen(queue, "none")
            assert again is not None
            assert again.result == 3
            try:
                await told.abort("late")
                raise AssertionError("a finished job was aborted")
            except JobStateError:
                pass
            try:
                await insist(told.update, progress=0.5)
                raise AssertionError("a finished job was updated")
            except JobStateError:
                pass
        await asyncio.sleep(130)
        assert await seen(queue, "told") is None or not calm(simulation), "told outlives its ttl"
        if calm(simulation):
            assert (await seen(queue, "for ever")).result == 2
            only_one_is_left(simulation, queue, "for ever")

    await web.run(asks)


def only_one_is_left(simulation, queue, key):
    root = queue.store.root
    left = {name for name, *_ in simulation.loop.network.contents(root)}
    wanted = {f"{root}:job:{key}".encode(), f"{root}:call:{key}".encode()}
    jobs = {name for name in left if b":job:" in name or b":call:" in name}
    assert jobs == wanted, f"{jobs} are left"


async def listening(simulation):
    """Who listens to jobs is told of each status that they come to, in the moment in which they do."""

    async def cleans_up(ctx):
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.5)
            await ctx["job"].update(progress=0.9)  # a run that is to end still holds its job
            await effect("cleaned")

    async def fails_late(ctx):
        await asyncio.sleep(1.1)  # no whole second, in which a listener would look by itself
        failed_at.append(asyncio.get_running_loop().time())
        raise ValueError("too late")

    worker(simulation, tasks=[cleans_up, slow, fails_late], lease_s=60.0)
    web, queue = simulation.process("web"), simulation.queue
    told = {key: [] for key in ("stopped", "runs", "fails")}
    times, failed_at, queued_at = [], [], []

    def callback(key, status):
        told[key].append(str(status))
        times.append(asyncio.get_running_loop().time())
        if (key, str(status)) == ("fails", "queued"):
            queued_at.append(times[-1])
        return all(said and said[-1] in TERMINAL_STATUSES for said in told.values())

    async def asks():
        await bring(queue, "cleans_up", key="stopped", timeout=60, scheduled=timedelta(seconds=2))
        await bring(queue, "slow", key="runs", seconds=2, scheduled=timedelta(seconds=2))
        await bring(
            queue,
            "fails_late",
            key="fails",
            retries=2,
            retry_delay=3,
            scheduled=timedelta(seconds=2),
        )
        listens = asyncio.create_task(insist(queue.listen, list(told), callback))
        await asyncio.sleep(5)
        with contextlib.suppress(JobStateError):
            await insist((await seen(queue, "stopped")).abort, "no more")
        try:
            await listens
        except TimeoutError:
            assert not calm(simulation), f"nothing more was heard than {told}"
        if calm(simulation):
            assert told == {
                "stopped": ["queued", "active", "aborting", "aborted"],
                "runs": ["queued", "active", "complete"],
                "fails": ["queued", "active", "queued", "active", "failed"],
            }, told
            assert times == sorted(times)
            late = queued_at[1] - failed_at[0]
            assert late < 0.01, f"that it is queued again was told {late} s later"
            simulation.effects("cleaned").happened(times=1)

    await web.run(asks)


async def waiting(simulation):
    """What is said of jobs that wait, in their order; nobody works yet."""
    web, queue = simulation.process("web"), simulation.queue

    async def asks():
        at = simulation.now.timestamp()
        for key, priority in (("last", 32_767), ("a", 0), ("first", -32_768), ("second", -32_767)):
            await bring(queue, "slow", key=key, seconds=1, priority=priority)
        await bring(queue, "slow", key="now", seconds=1, scheduled=at)
        await bring(queue, "slow", key="later", seconds=2, scheduled=at + 5, priority=-99)
        for key in ("leader", "stopped", "follows"):
            await bring(queue, "slow", key=key, seconds=1, group_key="g")
        stopped = await seen(queue, "stopped")
        try:
            await insist(stopped.abort, "no more")
        except JobStateError:
            assert not calm(simulation), "a job that waits cannot be aborted"
        counts = [await insist(queue.count, kind) for kind in ("queued", "scheduled")]
        assert counts == [7, 1] or not calm(simulation), f"{counts} wait of 7 and 1"
        jobs = await insist(queue.jobs, ["a", "now", "later"])
        if calm(simulation):
            assert [job.scheduled for job in jobs] == [0, 0, at + 5], jobs
            kept = {name for name, *_ in simulation.loop.network.contents(queue.store.root)}
            name = f"{queue.store.root}:job:a".encode()
            assert name not in kept, "what was only enqueued has no more than its call"

    await web.run(asks)
    worker(simulation, concurrency=1)
    await asyncio.sleep(6)
    later = await web.run(seen, queue, "later")
    if calm(simulation):
        assert (later.status, later.scheduled) == (Status.ACTIVE, 0), later
    wanted = ["first", "second", "a", "now", "leader", "later", "follows", "last"]
    await web.run(ended, queue, *wanted)
    done = [each.key for each in simulation.effects("done")]
    assert not calm(simulation) or done == wanted, f"done in the order {done}, wanted {wanted}"


async def told_of(simulation):
    """Who listens is told of each status in the moment in which it comes, of jobs that come later too."""

    async def cleans_up(ctx):
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.5)

    web, queue = simulation.process("web"), simulation.queue
    begin = asyncio.get_running_loop().time()
    told = []

    def callback(key, status):
        told.append((round(asyncio.get_running_loop().time() - begin, 2), key, str(status)))
        return status in TERMINAL_STATUSES

    async def asks():
        await bring(queue, "slow", key="there", scheduled=timedelta(seconds=99), timeout=60)
        listens = asyncio.create_task(insist(queue.listen, ["there", "comes"], callback))
        await asyncio.sleep(1)
        await bring(queue, "cleans_up", key="comes", timeout=60)
        await asyncio.sleep(2)
        with contextlib.suppress(JobStateError):
            await insist((await seen(queue, "comes")).abort, "no more")
        with contextlib.suppress(TimeoutError):
            await listens
        with contextlib.suppress(JobStateError):
            await insist((await seen(queue, "there")).abort, "enough")

    going = asyncio.create_task(web.run(asks))
    await asyncio.sleep(2)
    worker(simulation, tasks=[cleans_up, slow], lease_s=60.0)
    await going
    if calm(simulation):
        assert told == [
            (0, "there", "queued"),
            (1, "comes", "queued"),
            (2, "comes", "active"),
            (3, "comes", "aborting"),
            (3.5, "comes", "aborted"),
        ], told

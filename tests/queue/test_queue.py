"""The queue as applications see it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from queuekit import Job, JobError, Queue, Status
from queuekit.errors import (
    InvalidOptionError,
    InvalidUrlError,
    JobNotFoundError,
    JobStateError,
    ServerUnreachableError,
)


async def add(ctx, a, b):
    return a + b


async def fails(ctx, a=0, b=0):
    raise ValueError("no")


async def slow(ctx):
    await asyncio.sleep(5)
    return "slept"


async def test_enqueue_takes_a_name_a_function_or_a_job(simulation):
    simulation.worker([add])
    jobs = [
        await simulation.queue.enqueue("add", a=1, b=2),
        await simulation.queue.enqueue(add, a=3, b=4),
        await simulation.queue.enqueue(Job("add", kwargs={"a": 5, "b": 6})),
    ]
    await simulation.run_until_idle()
    for job, result in zip(jobs, (3, 7, 11), strict=True):
        simulation.assert_completed(job, result=result)


async def test_enqueue_returns_none_while_an_unfinished_job_has_the_key(simulation):
    assert await simulation.queue.enqueue("add", key="k", a=1, b=2)
    assert await simulation.queue.enqueue("add", key="k", a=3, b=4) is None
    simulation.worker([add])
    await simulation.run_until_idle()
    again = await simulation.queue.enqueue("add", key="k", a=3, b=4)
    await simulation.run_until_idle()
    simulation.assert_completed(again, result=7)


async def test_a_refused_enqueue_writes_nothing(simulation):
    with pytest.raises(InvalidOptionError):
        await simulation.queue.enqueue("add", timeout=-1)
    assert await simulation.queue.count("incomplete") == 0


async def test_a_job_knows_when_it_was_enqueued_and_for_when(simulation):
    now = simulation.environment.time_ms()
    at_once = await simulation.queue.enqueue("add")
    later = await simulation.queue.enqueue("add", scheduled=timedelta(minutes=1))
    at = await simulation.queue.enqueue("add", scheduled=datetime(2030, 1, 2, tzinfo=UTC))
    assert (at_once.status, at_once.queued, at_once.scheduled) == (Status.QUEUED, now, 0)
    assert later.scheduled == now / 1000 + 60
    stored = await simulation.queue.job(at.key)
    assert stored.scheduled == datetime(2030, 1, 2, tzinfo=UTC).timestamp()


async def test_job_options_come_back_as_they_were_given(simulation):
    options = {
        "timeout": 33,
        "heartbeat": 4,
        "retries": 5,
        "ttl": 6,
        "retry_delay": 0.5,
        "retry_backoff": 9.5,
        "meta": {"who": "me"},
    }
    job = await simulation.queue.enqueue("add", a=1, b=2, **options)
    stored = await simulation.queue.job(job.key)
    assert {name: getattr(stored, name) for name in options} == options
    assert stored.to_dict()["kwargs"] == {"a": 1, "b": 2}
    assert "function: add" in stored.info()


async def test_apply_returns_the_result(simulation):
    simulation.worker([add])
    assert await simulation.queue.apply("add", a=1, b=2) == 3


async def test_apply_waits_exactly_as_long_as_the_job_takes(simulation):
    simulation.worker([slow])
    start = simulation.now
    assert await simulation.queue.apply("slow") == "slept"
    assert (simulation.now - start).total_seconds() == 5


async def test_apply_raises_a_job_error_that_has_the_job(simulation):
    simulation.worker([fails])
    with pytest.raises(JobError) as caught:
        await simulation.queue.apply("fails")
    assert caught.value.job.status is Status.FAILED
    assert "ValueError: no" in caught.value.job.error


async def test_apply_gives_up_after_its_timeout_and_the_job_goes_on(simulation):
    simulation.worker([slow])
    with pytest.raises(TimeoutError):
        await simulation.queue.apply(Job("slow", key="k"), timeout=4)
    assert simulation.record_of("k").status is Status.ACTIVE


async def test_map_returns_all_results_in_order(simulation):
    simulation.worker([add], concurrency=7)
    assert await simulation.queue.map("add", [{"a": n} for n in range(150)], b=1) == [
        n + 1 for n in range(150)
    ]


async def test_map_raises_the_first_failure_or_returns_it(simulation):
    simulation.worker([fails])
    with pytest.raises(JobError):
        await simulation.queue.map(fails, [{"a": 1}, {"a": 2}])
    results = await simulation.queue.map(fails, [{"a": 1}], return_exceptions=True)
    assert isinstance(results[0], JobError)


async def test_map_refuses_two_jobs_of_one_key(simulation):
    with pytest.raises(InvalidOptionError, match="the same key"):
        await simulation.queue.map("add", [{"a": 1}, {"a": 2}], key="k")


async def test_batch_aborts_its_jobs_when_the_block_raises(simulation):
    async def broken():
        async with simulation.queue.batch():
            await simulation.queue.enqueue("add", key="child")
            raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        await broken()
    simulation.assert_aborted("child", error="cancelled")


async def test_batch_aborts_only_what_its_block_has_enqueued(simulation):
    queue = simulation.queue
    inside, go_on = asyncio.Event(), asyncio.Event()
    await queue.enqueue("add", key="taken")
    await queue.enqueue("add", key="another life", ttl=0)

    async def broken():
        async with queue.batch():
            assert await queue.enqueue("add", key="taken") is None
            await queue.enqueue("add", key="mine")
            await asyncio.gather(queue.enqueue("add", key="in a task"), queue.map(add, []))
            ended = await queue.enqueue("add", key="ended")
            await ended.abort("by somebody")
            inside.set()
            await go_on.wait()
            raise ValueError("boom")

    block = asyncio.create_task(broken())
    await inside.wait()
    await queue.enqueue("add", key="bystander")
    await queue.enqueue("add", key="ended")
    go_on.set()
    with pytest.raises(ValueError, match="boom"):
        await block
    jobs = [job async for job in queue.iter_jobs()]
    assert {job.key: job.status.value for job in jobs} == {
        "taken": "queued",
        "another life": "queued",
        "bystander": "queued",
        "ended": "queued",
        "mine": "aborted",
        "in a task": "aborted",
    }


async def test_a_task_that_was_begun_in_a_batch_may_outlive_it(simulation):
    queue = simulation.queue

    async def later():
        await asyncio.sleep(10)
        await queue.enqueue("add", key="late")

    async def broken():
        async with queue.batch():
            tasks.append(asyncio.create_task(later()))
            raise ValueError("boom")

    tasks = []
    with pytest.raises(ValueError, match="boom"):
        await broken()
    await simulation.run_until(tasks[0].done, limit=20)
    assert (await queue.job("late")).status is Status.QUEUED


async def test_batch_keeps_its_jobs_when_the_block_ends(simulation):
    async with simulation.queue.batch():
        job = await simulation.queue.enqueue("add")
    after = await simulation.queue.enqueue("add")
    assert simulation.all_enqueued() == [simulation.record_of(job), simulation.record_of(after)]


async def test_before_enqueue_sees_each_job_and_may_refuse_it(simulation):
    seen = []

    async def stamp(job):
        if job.function == "fails":
            raise PermissionError("not that one")
        job.meta["stamp"] = len(seen)
        seen.append(job.key)

    simulation.queue.register_before_enqueue(stamp)
    job = await simulation.queue.enqueue("add")
    with pytest.raises(PermissionError):
        await simulation.queue.enqueue("fails")
    simulation.queue.unregister_before_enqueue(stamp)
    await simulation.queue.enqueue("fails")
    assert seen == [job.key]
    assert (await simulation.queue.job(job.key)).meta == {"stamp": 0}


async def test_jobs_are_read_by_key_and_missing_ones_are_none(simulation):
    job = await simulation.queue.enqueue("add", key="a")
    assert await simulation.queue.jobs(["a", "nope"]) == [job, None]
    assert await simulation.queue.job("nope") is None


async def test_iter_jobs_finds_each_job_once_in_whatever_status(simulation):
    simulation.worker([add, slow], concurrency=2)
    for n in range(230):
        await simulation.queue.enqueue("add", key=f"done-{n}", a=n, b=0)
    await simulation.run_until_idle()
    await simulation.queue.enqueue("slow", key="running")
    await simulation.queue.enqueue("add", key="later", scheduled=timedelta(hours=1))
    await simulation.run_until_idle()
    found = [job.key async for job in simulation.queue.iter_jobs(batch_size=50)]
    assert len(found) == len(set(found)) == 232
    active = [job.key async for job in simulation.queue.iter_jobs([Status.ACTIVE])]
    assert active == ["running"]


@pytest.mark.parametrize("size", [1, 7, 10])
async def test_iter_jobs_misses_none_that_stays_while_others_leave(simulation, size):
    queue, keys = simulation.queue, [f"k{n:02}" for n in range(40)]
    for key in keys:
        await queue.enqueue("slow", key=key)
    found = []
    async for job in queue.iter_jobs(batch_size=size):
        found.append(job.key)
        if len(found) == 20:
            simulation.worker([slow], concurrency=20)
            await simulation.advance(1)
    assert sorted(found) == keys


@pytest.mark.parametrize("size", [1, 7, 10])
async def test_iter_jobs_gives_each_though_each_leaves_when_it_is_given(simulation, size):
    """First waiting jobs, each at a place of its own; then finished ones, all at the same."""
    queue = simulation.queue
    for n in range(30):
        await queue.enqueue("add", key=f"k{n}", ttl=0)
    async for job in queue.iter_jobs([Status.QUEUED], batch_size=size):
        await job.abort("purged")
    assert await queue.count("incomplete") == 0
    async for job in queue.iter_jobs([Status.ABORTED], batch_size=size):
        await job.retry("again")
    assert await queue.count("queued") == 30


async def test_iter_jobs_gives_each_once_though_others_come_in_front(simulation):
    queue = simulation.queue
    for n in range(30):
        await queue.enqueue("add", key=f"k{n}")
    found = []
    async for job in queue.iter_jobs(batch_size=5):
        found.append(job.key)
        if len(found) == 10:
            for n in range(12):
                await queue.enqueue("add", key=f"first{n}", priority=-1)
    assert sorted(found) == sorted(f"k{n}" for n in range(30))


async def test_iter_jobs_gives_those_that_ran_when_it_began_though_they_are_put_back(simulation):
    queue = simulation.queue
    handle = simulation.worker([slow], concurrency=5, shutdown_grace_period_s=0)
    for n in range(10):
        await queue.enqueue("slow", key=f"k{n}")
    await simulation.advance(1)
    found = []
    async for job in queue.iter_jobs(batch_size=2):
        found.append(job.key)
        if len(found) == 8:
            await handle.stop()
    assert sorted(found) == [f"k{n}" for n in range(10)]


async def test_counts_and_info_tell_what_is_where(simulation):
    simulation.worker([slow], concurrency=1)
    for key in "ab":
        await simulation.queue.enqueue("slow", key=key)
    await simulation.queue.enqueue("slow", key="c", scheduled=timedelta(hours=1))
    await simulation.run_until_idle()
    counts = [
        await simulation.queue.count(kind)
        for kind in ("queued", "active", "scheduled", "incomplete")
    ]
    assert counts == [1, 1, 1, 3]
    info = await simulation.queue.info(jobs=True)
    assert [info[kind] for kind in ("name", "queued", "active", "scheduled")] == [
        "default",
        1,
        1,
        1,
    ]
    assert [job["key"] for job in info["jobs"]] == ["a", "b", "c"]
    with pytest.raises(ValueError, match="cannot count 'nope'"):
        await simulation.queue.count("nope")


async def test_listen_is_told_of_each_status_until_it_has_heard_enough(simulation):
    simulation.worker([slow])
    heard = []
    job = await simulation.queue.enqueue("slow")

    def callback(key, status):
        heard.append((key, status, simulation.now.second))
        return status is Status.COMPLETE

    await simulation.queue.listen([job.key], callback)
    assert [(status, second) for _, status, second in heard if status is not Status.QUEUED] == [
        (Status.ACTIVE, 0),
        (Status.COMPLETE, 5),
    ]


async def test_listen_gives_up_after_its_timeout(simulation):
    job = await simulation.queue.enqueue("slow")
    with pytest.raises(TimeoutError):
        await simulation.queue.listen([job.key], lambda key, status: False, timeout=3)
    assert simulation.now.second == 3


async def test_refresh_waits_until_the_job_is_finished(simulation):
    simulation.worker([slow])
    job = await simulation.queue.enqueue("slow")
    await job.refresh(until_complete=10)
    assert (job.status, job.result) == (Status.COMPLETE, "slept")
    await job.refresh(until_complete=0)


async def test_refresh_gives_up_after_its_limit(simulation):
    job = await simulation.queue.enqueue("slow")
    with pytest.raises(TimeoutError):
        await job.refresh(until_complete=2)


async def test_a_job_that_is_gone_cannot_be_refreshed(simulation):
    job = await simulation.queue.enqueue("add", ttl=-1, a=1, b=2)
    simulation.worker([add])
    await simulation.run_until_idle()
    with pytest.raises(JobNotFoundError, match="there is no job"):
        await job.refresh()


async def test_progress_and_meta_can_be_updated_from_outside_until_the_end(simulation):
    job = await simulation.queue.enqueue("add", a=1, b=2)
    await job.update(meta={"note": "hi"})
    assert (await simulation.queue.job(job.key)).meta == {"note": "hi"}
    with pytest.raises(TypeError, match="status cannot be updated"):
        await job.update(status="complete")
    simulation.worker([add])
    await simulation.run_until_idle()
    with pytest.raises(JobStateError, match="cannot be updated"):
        await job.update(progress=0.1)


async def test_two_queues_of_one_server_do_not_meet(simulation):
    other = simulation.queue_named("other")
    await simulation.queue.enqueue("add", key="k", a=1, b=2)
    assert await other.enqueue("add", key="k", a=3, b=4)
    simulation.worker([add], queue=other)
    await simulation.run_until_idle()
    assert (await other.job("k")).result == 7
    assert (await simulation.queue.job("k")).status is Status.QUEUED


async def test_a_job_of_another_queue_is_refused(simulation):
    job = await simulation.queue.enqueue("add")
    with pytest.raises(InvalidOptionError, match="belongs to queue 'default'"):
        await simulation.queue_named("other").enqueue(job)


async def test_a_queue_can_be_used_again_after_disconnecting(simulation):
    await simulation.queue.connect()
    await simulation.queue.disconnect()
    assert await simulation.queue.enqueue("add")


async def test_a_job_object_can_enqueue_itself_and_becomes_what_has_its_key(simulation):
    first = Job("add", kwargs={"a": 1, "b": 2}, key="k", queue=simulation.queue)
    await first.enqueue()
    second = Job("add", kwargs={"a": 3, "b": 4}, key="k", queue=simulation.queue)
    await second.enqueue()
    assert second.kwargs == {"a": 1, "b": 2}


@pytest.mark.parametrize("url", ["localhost", "http://localhost", "postgres://x", "", "redis"])
def test_an_address_of_no_known_scheme_is_refused_with_those_that_are(url, simulation):
    with pytest.raises(
        InvalidUrlError,
        match="Known are redis://, rediss://, unix://, sentinel://, rediscluster://, fakeredis://",
    ):
        Queue.from_url(url)


def test_a_password_shows_in_no_repr_and_no_error(simulation):
    queue = Queue.from_url("redis://user:s3cret@localhost:6379/0?password=s3cret")
    assert "s3cret" not in repr(queue)
    assert "s3cret" not in str(queue.store.connections)
    with pytest.raises(InvalidUrlError) as caught:
        Queue.from_url("http://user:s3cret@localhost")
    assert "s3cret" not in str(caught.value)


def test_dump_without_load_is_refused(simulation):
    with pytest.raises(InvalidOptionError, match="belong together"):
        Queue.from_url("redis://localhost", dump=str)


def test_a_job_without_a_queue_says_what_to_do():
    with pytest.raises(TypeError, match="belongs to no queue yet"):
        Job("add").get_queue()


async def test_a_hundred_who_wait_at_once_all_hear(simulation):
    simulation.worker([add])
    results = await asyncio.gather(*(simulation.queue.apply("add", a=n, b=0) for n in range(100)))
    assert results == list(range(100))


@pytest.mark.parametrize("steps", range(8))
async def test_who_waits_hears_though_another_was_cancelled_while_it_subscribed(simulation, steps):
    job = await simulation.queue.enqueue("add", a=1, b=2, scheduled=timedelta(seconds=58))
    await simulation.queue.disconnect()
    cancelled, waiting = [
        asyncio.create_task(each.refresh(until_complete=0))
        for each in (job, await simulation.queue.job(job.key))
    ]
    for _ in range(steps):
        await asyncio.sleep(0)
    cancelled.cancel()
    simulation.worker([add])
    await simulation.advance(58)
    assert waiting.done(), "by a hint, not by looking for itself after a while"
    await waiting


async def test_an_argument_may_be_called_function(simulation):
    async def name_of(ctx, function):
        return function

    simulation.worker([name_of])
    assert await simulation.queue.apply("name_of", function="f") == "f"


async def test_a_job_object_whose_enqueue_was_not_acknowledged_can_be_enqueued_again(
    simulation, monkeypatch
):
    runs = []

    async def work(ctx):
        runs.append(ctx["job"].key)

    store = simulation.queue.store
    genuine = store.enqueue

    async def unheard(*arguments):
        await genuine(*arguments)
        raise ServerUnreachableError("the reply was lost", may_have_happened=True)

    job = Job("work")
    monkeypatch.setattr(store, "enqueue", unheard)
    with pytest.raises(ServerUnreachableError):
        await simulation.queue.enqueue(job)
    monkeypatch.setattr(store, "enqueue", genuine)
    simulation.worker([work])
    await simulation.run_until_idle()
    assert runs == [job.key]
    assert await simulation.queue.enqueue(job) is job
    await simulation.run_until_idle()
    assert runs == [job.key], "it was that enqueue again"
    await simulation.queue.enqueue(job)
    await simulation.run_until_idle()
    assert runs == [job.key] * 2, "once acknowledged, it is another life"

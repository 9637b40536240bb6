"""What a queue refuses writes nothing, costs no other job anything, and says what to do."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import timedelta

import pytest

from queuekit import CronJob, Job, JobError, Queue, Status, Worker
from queuekit.errors import (
    DuplicateJobError,
    InvalidOptionError,
    InvalidOptionTypeError,
    JobNotFoundError,
    NotSerializableError,
    QueueFullError,
)
from tests.rules.refusals import in_three_parts, refused_later


async def ok(ctx, **arguments):
    return arguments


async def hold(ctx):
    await asyncio.sleep(5)


async def nothing_written(simulation):
    return await simulation.queue.store._command("DBSIZE") == 0


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"timeout": "abc"}, TypeError, "timeout='abc'"),
        ({"scheduled": "tomorrow"}, TypeError, "is no moment"),
        ({"status": "queued"}, TypeError, "only queuekit sets a job's status"),
        ({"kwargs": 5}, TypeError, "kwargs=5"),
        ({"key": ""}, ValueError, "1 to 512 bytes"),
        ({"x": {1, 2}}, TypeError, "kwargs['x']"),
        ({"x": "\ud800"}, TypeError, "kwargs['x']"),
        ({"x": float("nan")}, TypeError, "kwargs['x']"),
        ({"x": "y" * 2**20}, ValueError, "takes 1,048,6"),
        ({"meta": {"x": "y" * 2**16}}, ValueError, "meta takes"),
        ({"on_duplicate": "replace"}, ValueError, "It is 'none', 'return' or 'raise'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
async def test_a_refused_enqueue_writes_nothing_and_the_next_one_is_fine(
    simulation, arguments, kind, words
):
    queue = simulation.queue
    job = Job("ok", key="mine")
    await refused_later(kind, words, queue.enqueue("ok", **arguments))
    await refused_later(kind, words, queue.enqueue(job, **arguments))
    assert job.queue is None, "it belongs to no queue that has refused it"
    if "on_duplicate" not in arguments:
        await refused_later(kind, words, queue.map("ok", [{"a": 1}, arguments, {"a": 2}]))
        await refused_later(kind, words, queue.apply("ok", **{"timeout": 5, **arguments}))
    assert await queue.count("incomplete") == 0
    assert await nothing_written(simulation)
    simulation.worker([ok])
    assert await queue.apply("ok", a=1) == {"a": 1}


@pytest.mark.parametrize(
    "key",
    [
        "{a}",
        "a}b{",
        "* ? [a-z]",
        "with spaces",
        "\N{PARTY POPPER}",
        "'\"\\",
        "x" * 512,
        "a:b:c",
        "%s",
        "~1",
    ],
)
async def test_any_other_key_works_from_enqueue_to_abort(simulation, key):
    queue = simulation.queue
    simulation.worker([ok])
    assert await queue.apply(Job("ok", key=key, kwargs={"a": 1})) == {"a": 1}
    assert (await queue.job(key)).status is Status.COMPLETE
    waiting = await queue.enqueue("ok", key=key, scheduled=timedelta(hours=1), group_key=key[:256])
    assert await queue.enqueue("ok", key=key) is None
    await queue.abort(waiting, "no more")
    simulation.assert_aborted(key, error="no more")
    assert [job.key async for job in queue.iter_jobs()] == [key]


async def test_names_of_options_and_of_pythons_own_reach_a_task_through_kwargs(simulation):
    simulation.worker([ok])
    given = {"timeout": 3, "key": "x", "retries": 0, "self": 1, "function": "f", "status": "s"}
    assert await simulation.queue.apply("ok", kwargs={**given, "kwargs": 1}) == {
        **given,
        "kwargs": 1,
    }
    assert await simulation.queue.apply("ok", self=1, function="f", job_or_func=2) == {
        "self": 1,
        "function": "f",
        "job_or_func": 2,
    }


async def test_a_hook_that_makes_a_job_invalid_is_an_error_of_that_enqueue_alone(simulation):
    queue = simulation.queue

    def spoil(job):
        job.retries = "many"

    async def spoil_later(job):
        job.kwargs = {"x": object()}

    for hook, kind, words in (
        (spoil, InvalidOptionTypeError, "retries='many'"),
        (spoil_later, NotSerializableError, "kwargs['x']"),
    ):
        queue.register_before_enqueue(hook)
        job = Job("ok")
        await refused_later(kind, words, queue.enqueue(job))
        assert job.queue is None
        queue.unregister_before_enqueue(hook)
    assert await nothing_written(simulation)
    with pytest.raises(InvalidOptionTypeError) as caught:
        queue.register_before_enqueue("hook")
    in_three_parts(caught.value)
    queue.unregister_before_enqueue("hook")


async def test_a_hook_that_refuses_one_job_of_a_map_leaves_none_behind(simulation):
    def only_even(job):
        if job.kwargs["n"] % 2:
            raise PermissionError(job.kwargs["n"])

    simulation.queue.register_before_enqueue(only_even)
    with pytest.raises(PermissionError):
        await simulation.queue.map("ok", [{"n": 0}, {"n": 1}])
    assert await nothing_written(simulation)


async def test_a_batch_in_which_an_enqueue_is_refused_aborts_what_came_before(simulation):
    queue = simulation.queue

    async def two():
        async with queue.batch():
            await queue.enqueue("ok", key="child")
            await queue.enqueue("ok", retries="many")

    await refused_later(InvalidOptionTypeError, "retries='many'", two())
    simulation.assert_aborted("child")
    assert queue.before_enqueues == {}


async def test_a_job_object_can_be_enqueued_again_when_its_run_is_over_and_not_before(simulation):
    queue = simulation.queue
    simulation.worker([ok])
    job = await queue.enqueue("ok", key="k", a=1)
    assert await queue.enqueue(job) is None
    await simulation.run_until_idle()
    assert await queue.enqueue(job) is job
    assert (job.status, job.attempts) == (Status.QUEUED, 0)
    await simulation.run_until_idle()
    simulation.assert_completed(job, attempts=1, result={"a": 1})
    await refused_later(
        InvalidOptionError,
        "belongs to queue 'default'",
        simulation.queue_named("other").enqueue(job),
    )


async def test_a_job_that_its_own_run_enqueues_again_is_a_duplicate(simulation):
    async def again(ctx):
        return await ctx["queue"].enqueue(ctx["job"])

    simulation.worker([again])
    assert await simulation.queue.apply("again", key="k") is None
    simulation.assert_completed("k", attempts=1)


async def test_who_holds_the_key_can_be_told_returned_or_raised(simulation):
    queue = simulation.queue
    holder = await queue.enqueue("ok", key="k", a=1)
    assert await queue.enqueue("ok", key="k") is None
    assert await queue.enqueue("ok", key="k", on_duplicate="none") is None
    returned = await queue.enqueue("ok", key="k", a=2, on_duplicate="return")
    assert (returned.kwargs, returned.status, returned.queue) == ({"a": 1}, Status.QUEUED, queue)
    error = await refused_later(
        DuplicateJobError,
        "job 'k' is queued already (ok)",
        queue.enqueue("ok", key="k", on_duplicate="raise"),
    )
    assert error.job == holder
    simulation.worker([ok])
    await error.job.refresh(until_complete=5)
    assert error.job.result == {"a": 1}
    assert (await queue.enqueue("ok", key="k", on_duplicate="raise")).status is Status.QUEUED


@pytest.mark.parametrize("on_duplicate", ["return", "raise"])
async def test_a_holder_whose_record_cannot_be_read_is_still_the_holder(simulation, on_duplicate):
    queue = simulation.queue
    await queue.enqueue("ok", key="k")
    await queue.store._command("SET", "qk:{default}:call:k", b"id 5\n[]")
    try:
        holder = await queue.enqueue("ok", key="k", on_duplicate=on_duplicate)
    except DuplicateJobError as error:
        holder = error.job
    assert "cannot be read" in holder.unreadable
    assert (holder.key, holder.status) == ("k", Status.QUEUED)


async def test_a_full_queue_refuses_one_job_more_until_there_is_room(simulation):
    queue = simulation.queue_named("small", max_waiting=2)
    await queue.enqueue("ok", key="a")
    await queue.enqueue("ok", key="b", scheduled=timedelta(hours=1))
    job = Job("ok", key="c")
    await refused_later(QueueFullError, "1 of 1 jobs were not stored", queue.enqueue(job))
    assert job.queue is None
    assert await queue.enqueue("ok", key="a") is None, "a duplicate is no new job"
    await refused_later(QueueFullError, "3 of 3 jobs", queue.map("ok", [{}, {}, {}]))
    assert await queue.count("incomplete") == 2
    simulation.worker([ok], queue=queue)
    await simulation.run_until_idle()
    assert await queue.enqueue(job) is job


async def test_a_full_queue_compares_no_jobs_with_each_other(simulation, monkeypatch):
    """Of thousands, each with each, that took seconds."""
    compared = []
    queue = simulation.queue_named("small", max_waiting=1)
    monkeypatch.setattr(Job, "__eq__", lambda self, other: compared.append(other) or self is other)
    with pytest.raises(QueueFullError):
        await queue.map("ok", [{}] * 50)
    assert compared == []


WRONG = [
    (
        "refresh",
        lambda queue, job: queue.refresh(job, until_complete="5"),
        TypeError,
        "until_complete='5'",
    ),
    ("refresh nan", lambda queue, job: job.refresh(float("nan")), ValueError, "until_complete=nan"),
    (
        "refresh -1",
        lambda queue, job: job.refresh(until_complete=-1),
        ValueError,
        "until_complete=-1",
    ),
    ("listen", lambda queue, job: queue.listen([job.key], 5), TypeError, "callback=5 (int)"),
    ("listen x", lambda queue, job: queue.listen([job.key], print, "x"), TypeError, "timeout='x'"),
    ("listen text", lambda queue, job: queue.listen("abc", print), TypeError, "no list of keys"),
    ("apply", lambda queue, job: queue.apply("ok", timeout="x"), TypeError, "timeout='x'"),
    ("map", lambda queue, job: queue.map("ok", [], timeout=-1), ValueError, "timeout=-1"),
    ("map 5", lambda queue, job: queue.map("ok", 5), TypeError, "iter_kwargs=5"),
    ("abort", lambda queue, job: job.abort(5), TypeError, "error=5 (int) is no text"),
    ("job", lambda queue, job: queue.job(5), TypeError, "5 (int) is no list of keys"),
    ("jobs", lambda queue, job: queue.jobs("abc"), TypeError, "'abc' (str) is no list of keys"),
    ("jobs None", lambda queue, job: queue.jobs(None), TypeError, "None (NoneType)"),
    ("restore", lambda queue, job: queue.restore(job), TypeError, "is no list of keys"),
    ("discard", lambda queue, job: queue.discard(None), TypeError, "is no list of keys"),
    ("count", lambda queue, job: queue.count("nope"), ValueError, "cannot count 'nope'"),
    ("info", lambda queue, job: queue.info(jobs=True, limit=-1), ValueError, "limit=-1"),
    ("info x", lambda queue, job: queue.info(jobs=True, offset="x"), TypeError, "offset='x'"),
    ("quarantined", lambda queue, job: queue.quarantined(limit=10**6), ValueError, "limit=1000000"),
    (
        "iter_jobs",
        lambda queue, job: anext(queue.iter_jobs(["nope"])),
        ValueError,
        "are no statuses",
    ),
    ("iter_jobs 5", lambda queue, job: anext(queue.iter_jobs(5)), ValueError, "are no statuses"),
    (
        "batch_size",
        lambda queue, job: anext(queue.iter_jobs(batch_size=0)),
        ValueError,
        "batch_size=0",
    ),
    ("update", lambda queue, job: job.update(progress="x"), TypeError, "progress='x'"),
    ("update 2", lambda queue, job: job.update(progress=2), ValueError, "progress=2"),
    ("update meta", lambda queue, job: job.update(meta=5), TypeError, "meta=5 (int) is no mapping"),
    ("update set", lambda queue, job: job.update(meta={"x": {1}}), TypeError, "['x']"),
    (
        "update status",
        lambda queue, job: job.update(status="x"),
        TypeError,
        "status cannot be updated",
    ),
    ("finish", lambda queue, job: job.finish("queued"), ValueError, "status='queued' is no end"),
    ("finish 5", lambda queue, job: job.finish(Status.FAILED, error=5), TypeError, "error=5"),
]


@pytest.mark.parametrize(
    ("call", "kind", "words"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
async def test_what_a_method_cannot_work_with_is_refused_and_changes_nothing(
    simulation, call, kind, words
):
    job = await simulation.queue.enqueue("ok", key="k", meta={"m": 1})
    before = dataclasses.replace(job)
    await refused_later(kind, words, call(simulation.queue, job))
    assert dataclasses.asdict(dataclasses.replace(job, queue=None)) == dataclasses.asdict(
        dataclasses.replace(before, queue=None)
    )
    stored = await simulation.queue.job("k")
    assert (stored.status, stored.meta, stored.progress) == (Status.QUEUED, {"m": 1}, 0)


async def test_a_job_that_was_never_enqueued_can_be_neither_aborted_nor_read(simulation):
    queue, job = simulation.queue, Job("ok", key="k")
    for word in (
        queue.abort(job, "no"),
        queue.refresh(job),
        queue.refresh(job, until_complete=1),
        queue.update(job, progress=0.5),
        queue.retry(job, None),
        queue.history(job),
    ):
        await refused_later(JobNotFoundError, "there is no job", word)
    with pytest.raises(TypeError, match="belongs to no queue yet"):
        await job.abort("no")
    assert await nothing_written(simulation)


async def test_a_callback_of_listen_that_raises_ends_it_and_leaves_nothing_behind(simulation):
    queue = simulation.queue
    job = await queue.enqueue("ok")

    def broken(key, status):
        raise LookupError(key)

    async def broken_later(key, status):
        raise LookupError(key)

    for callback in (broken, broken_later):
        with pytest.raises(LookupError, match=job.key):
            await queue.listen([job.key], callback)
    simulation.worker([ok])
    await simulation.run_until_idle()
    simulation.assert_completed(job)
    assert queue.store.connections.current().hints._waiters == {}


async def test_a_result_that_is_too_large_fails_the_job_once(simulation):
    ran = []

    async def large(ctx):
        ran.append(1)
        return "y" * 2**20

    simulation.worker([large])
    job = await simulation.queue.enqueue("large", retries=5)
    await simulation.run_until_idle()
    simulation.assert_failed(job, error="ran, but result takes 1,048,588 bytes", attempts=1)
    assert ran == [1]
    with pytest.raises(JobError, match="At most 1,048,576 are stored"):
        await simulation.queue.apply("large")


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda queue, job: queue.job("\ud800"), "is no list of keys"),
        (lambda queue, job: queue.count([]), "cannot count"),
        (lambda queue, job: queue.finish(job, []), "that is no status"),
        (lambda queue, job: queue.finish(None, Status.COMPLETE), "that is no job"),
        (lambda queue, job: queue.abort(None, "why"), "that is no job"),
    ],
)
async def test_what_is_no_key_kind_status_or_job_is_refused_with_words(simulation, call, told):
    job = await simulation.queue.enqueue("ok")
    with pytest.raises((InvalidOptionError, InvalidOptionTypeError), match=told):
        await call(simulation.queue, job)


@pytest.mark.parametrize("wrong", ["a", 0, -1, True, float("nan")])
def test_a_time_out_that_is_none_is_refused(wrong):
    with pytest.raises(InvalidOptionError, match="is no time-out"):
        Queue.from_url("redis://h", socket_timeout=wrong)


@pytest.mark.parametrize("wrong", [[ok], CronJob(ok, "* * * * *"), 3])
def test_what_is_no_list_of_cron_jobs_is_refused(wrong):
    with pytest.raises(InvalidOptionTypeError, match="is no list of cron jobs"):
        Worker(queue=Queue.from_url("redis://h"), functions=[ok], cron_jobs=wrong)

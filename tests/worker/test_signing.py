"""Signed records on a Redis that others can write to."""

from __future__ import annotations

import pytest

from queuekit import JobError, Queue, Status
from queuekit.errors import UnreadableRecordError

OLD, NEW = "an old secret of 16+", "a new secret of 16+"
ROOT = "qk:{signed}"


async def ok(ctx, **arguments):
    ran = ctx["job"].meta.get("ran", 0)
    await ctx["job"].update(meta={"ran": ran + 1})
    return arguments


@pytest.fixture
def queue_with(simulation):
    """The queue as users with these keys see it; kept, with its connections, as long as the world."""
    kept = {}

    def queue(*keys):
        if keys not in kept:
            url = "redis://simulated"
            kept[keys] = Queue.from_url(url, name="signed", signing_keys=keys)
        return kept[keys]

    return queue


@pytest.fixture
def redis(queue_with):
    """Send a command, as anybody can who reaches the server."""
    return queue_with().store._command


async def test_signed_jobs_run_and_give_their_results(simulation, queue_with, redis):
    simulation.worker([ok], queue=queue_with(OLD))
    assert await queue_with(OLD).apply("ok", a=1) == {"a": 1}
    raw = await redis("KEYS", f"{ROOT}:job:*")
    fields = await redis("HMGET", raw[0], "result", "meta")
    assert all(field.startswith(b"hmac-sha256:") for field in fields)


async def test_what_is_not_signed_is_set_aside_unrun_and_the_signed_ones_go_on(
    simulation, queue_with
):
    handle = simulation.worker([ok], queue=queue_with(OLD))
    for producer, key in (
        (queue_with(), "unsigned"),
        (queue_with(NEW), "strange"),
        (queue_with(OLD), "good"),
    ):
        await producer.enqueue("ok", key=key)
    await simulation.run_until_idle()
    queue = queue_with(OLD)
    aside = {each.key: each.reason for each in await queue.quarantined()}
    assert "is not signed" in aside.pop("unsigned")
    assert "signed with a key that is not known here" in aside.pop("strange")
    assert aside == {}
    assert (await queue.job("good")).status is Status.COMPLETE
    assert handle.worker.stats["complete"] == 1


async def test_a_worker_without_keys_runs_nothing_that_is_signed(simulation, queue_with):
    await queue_with(OLD).enqueue("ok", key="signed")
    simulation.worker([ok], queue=queue_with())
    await simulation.run_until_idle()
    assert [each.key for each in await queue_with().quarantined()] == ["signed"]


async def test_a_call_copied_to_another_job_is_set_aside(simulation, queue_with, redis):
    queue = queue_with(OLD)
    await queue.enqueue("ok", key="pay", amount=1000)
    await queue.enqueue("ok", key="other")
    paid = await redis("GET", f"{ROOT}:call:pay")
    await redis("SET", f"{ROOT}:call:other", paid)
    simulation.worker([ok], queue=queue)
    await simulation.run_until_idle()
    assert [each.key for each in await queue.quarantined()] == ["other"]


async def test_keys_can_be_changed_while_jobs_wait(simulation, queue_with):
    await queue_with(OLD).enqueue("ok", key="early")
    await queue_with(OLD, NEW).enqueue("ok", key="between")
    await queue_with(NEW, OLD).enqueue("ok", key="late")
    simulation.worker([ok], queue=queue_with(NEW, OLD))
    await simulation.run_until_idle()
    for key in ("early", "between", "late"):
        job = await queue_with(NEW).job(key)
        if key == "late":
            assert job.status is Status.COMPLETE
        else:
            assert "key that is not known here" in job.unreadable


async def test_what_was_set_aside_for_its_key_runs_once_the_key_is_known(simulation, queue_with):
    await queue_with(NEW).enqueue("ok", key="k", a=1)
    first = simulation.worker([ok], queue=queue_with(OLD))
    await simulation.run_until_idle()
    await first.worker.stop()
    queue = queue_with(OLD, NEW)
    await queue.restore("k")
    simulation.worker([ok], queue=queue)
    await simulation.run_until_idle()
    assert (await queue.job("k")).result == {"a": 1}


@pytest.mark.parametrize(
    "result", [b'{"value":"forged"}', b"hmac-sha256:" + b"0" * 64 + b':{"value":1}']
)
async def test_a_result_that_was_tampered_with_is_an_error_for_whoever_waits(
    simulation, queue_with, redis, result
):
    queue = queue_with(OLD)
    simulation.worker([ok], queue=queue)
    job = await queue.enqueue("ok", key="k", a=1)
    await simulation.run_until_idle()
    await redis("HSET", f"{ROOT}:job:k", "result", result)
    with pytest.raises(UnreadableRecordError, match="is complete, but its record cannot be read"):
        await job.refresh(until_complete=5)
    assert job.result is None
    shown = await queue.job("k")
    assert (shown.status, shown.result) == (Status.COMPLETE, None)
    assert "the result of job 'k'" in shown.unreadable
    assert [found.unreadable for found in await queue.jobs(["k"])] == [shown.unreadable]
    assert (await queue.history(job))[-1].outcome == "completed"


async def test_meta_that_was_tampered_with_sets_a_waiting_job_aside(simulation, queue_with, redis):
    queue = queue_with(OLD)
    job = await queue.enqueue("ok", key="k", meta={"limit": 1})
    await job.update(meta={"limit": 2})
    await redis("HSET", f"{ROOT}:job:k", "meta", b'{"value":{"limit":1000}}')
    simulation.worker([ok], queue=queue)
    with pytest.raises(JobError, match="the meta of job 'k' is not signed"):
        await queue.apply("ok", key="k")
    assert [each.key for each in await queue.quarantined()] == ["k"]


async def test_no_key_shows_in_a_record_a_log_or_a_repr(simulation, queue_with, caplog):
    caplog.set_level(0)
    queue = queue_with(OLD)
    simulation.worker([ok], queue=queue)
    await queue.apply("ok")
    await queue_with().enqueue("ok")
    await simulation.run_until_idle()
    assert OLD not in caplog.text + repr(queue) + repr(queue.codec) + str(await queue.quarantined())

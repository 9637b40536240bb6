"""Jobs whose records cannot be read: set aside, where they can be seen, and nobody else is delayed."""

from __future__ import annotations

import asyncio
import json

import pytest

from queuekit import JobError, Queue, Status, results
from queuekit.errors import JobNotFoundError, UnreadableRecordError
from queuekit.store.codec import MAX_PAYLOAD_BYTES
from tests.rules.refusals import in_three_parts

pytestmark = pytest.mark.spoils_records

ROOT = "qk:{default}"
DEEP = b"[" * 101 + b"]" * 101
GOOD = b'{"v":1,"function":"ok"}'


async def ok(ctx, **arguments):
    return "done"


def call(**fields):
    return json.dumps({"v": 1, "function": "ok", **fields}).encode()


async def redis(simulation, *command):
    return await simulation.queue.store._command(*command)


async def lay(simulation, key="bad", payload=GOOD, *, head=b"an-id 5\n", **state):
    """A job as somebody else might have written it, among those that could start."""
    await redis(simulation, "SET", f"{ROOT}:call:{key}", head + payload)
    if state:
        flat = [part for pair in state.items() for part in pair]
        await redis(simulation, "HSET", f"{ROOT}:job:{key}", *flat)
    await redis(simulation, "ZADD", f"{ROOT}:ready", 2**36 - 50, key)


PAYLOADS = {
    "no text": b"\xff\xfe",
    "empty": b"",
    "a pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01x\x94.",
    "a list": b"[]",
    "no version": b'{"function":"ok"}',
    "version of text": b'{"v":"1","function":"ok"}',
    "version zero": b'{"v":0,"function":"ok"}',
    "version true": b'{"v":true,"function":"ok"}',
    "newer": b'{"v":2,"function":"ok"}',
    "no function": b'{"v":1}',
    "function of a number": b'{"v":1,"function":5}',
    "function with a newline": b'{"v":1,"function":"ok\\nFORGED"}',
    "arguments in a list": b'{"v":1,"function":"ok","kwargs":[1]}',
    "too large": call(kwargs={"x": "y" * MAX_PAYLOAD_BYTES}),
    "too deep": b'{"v":1,"function":"ok","kwargs":{"x":' + DEEP + b"}}",
    "very deep": b"[" * 200_000,
    "timeout of text": call(timeout="abc"),
    "endless timeout": b'{"v":1,"function":"ok","timeout":NaN}',
    "retries of text": call(retries="3"),
    "losses of text": call(max_lost="2"),
    "ttl of a list": call(ttl=[1]),
    "backoff of text": call(retry_backoff="x"),
    "delay below zero": call(retry_delay=-1),
    "group of a number": call(group_key=5),
    "priority of text": call(priority="high"),
    "meta of text": call(meta="x"),
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
async def test_what_is_no_record_is_set_aside_and_delays_nothing(simulation, payload):
    await simulation.queue.enqueue("ok", key="before")
    await lay(simulation, payload=payload)
    await simulation.queue.enqueue("ok", key="after")
    handle = simulation.worker([ok], concurrency=10)
    await simulation.run_until_idle()
    for key in ("before", "after"):
        simulation.assert_completed(key, result="done")
    [aside] = await simulation.queue.quarantined()
    assert (aside.key, aside.raw) == ("bad", payload)
    assert "cannot be read" in aside.reason
    await simulation.queue.enqueue("ok", key="later")
    await simulation.run_until_idle()
    simulation.assert_completed("later")
    assert handle.running


STATES = {
    "attempts": {"attempts": "many"},
    "failures": {"failures": "x"},
    "unknown": {"unknown": "x"},
    "status": {"status": "paused"},
    "progress": {"progress": "half"},
    "meta": {"meta": b"\xff"},
    "result": {"result": b"["},
    "exception": {"exception": "[1"},
    "exception of another shape": {"exception": "[1,2,3]"},
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
async def test_a_state_that_is_not_queuekits_is_set_aside_and_delays_nothing(simulation, state):
    await simulation.queue.enqueue("ok", key="before")
    await lay(simulation, **{"status": "queued", **state})
    await simulation.queue.enqueue("ok", key="after")
    simulation.worker([ok], concurrency=10)
    await simulation.run_until_idle()
    for key in ("before", "after"):
        simulation.assert_completed(key, attempts=1)
    assert [aside.key for aside in await simulation.queue.quarantined()] == ["bad"]
    assert await simulation.queue.count("incomplete") == 0


@pytest.mark.parametrize(
    "spoil",
    [
        ("DEL", f"{ROOT}:call:bad"),
        ("HSET", f"{ROOT}:job:bad", "expires", "never"),
        ("HSET", f"{ROOT}:job:bad", "priority", "high", "group", "g", "follows", "x"),
        ("HSET", f"{ROOT}:job:bad", "due", "tomorrow"),
        ("ZADD", f"{ROOT}:ready", 1, b"\xff\xfe"),
        ("ZADD", f"{ROOT}:scheduled", 1, b"\xff\xfe"),
        ("ZADD", f"{ROOT}:lease", 1, b"\xff\xfe"),
        ("ZADD", f"{ROOT}:followers", 0, b"g\x01no place"),
    ],
    ids=lambda command: " ".join(str(word).rpartition(":")[2] for word in command[:3]),
)
async def test_whatever_lies_in_redis_the_queue_goes_on_and_can_be_looked_at(simulation, spoil):
    queue = simulation.queue
    await queue.enqueue("ok", key="first", group_key="g")
    await queue.enqueue("ok", key="bad", scheduled=simulation.now.timestamp() + 5)
    await redis(simulation, *spoil)
    simulation.worker([ok])
    await queue.enqueue("ok", key="second", group_key="g")
    for pause in (0, 60):
        await queue.info(jobs=True)
        await queue.jobs(["first", "bad", "second"])
        assert "first" in [job.key async for job in queue.iter_jobs()]
        await queue.quarantined()
        await simulation.advance(pause)
    for key in ("first", "second"):
        simulation.assert_completed(key, result="done")
    assert (await queue.job("bad")).finished, "it is lost from no list: done, or set aside"
    for aside in await queue.quarantined():
        await queue.discard(aside.key)
    assert await queue.quarantined() == []


@pytest.mark.parametrize("told", ["no json", b"\xff", "[1]", "[" * 100_000], ids=len)
async def test_what_is_no_statistics_of_a_worker_is_left_out(simulation, told):
    simulation.worker([ok])
    await simulation.run_until_idle()
    await redis(simulation, "ZADD", f"{ROOT}:workers", 2_000_000_000_000, "stranger")
    await redis(simulation, "HSET", f"{ROOT}:info", "stranger", told)
    info = await simulation.queue.info()
    assert len(info["workers"]) == 1


@pytest.mark.parametrize("kind", ["RPUSH", "SADD", "SET"])
@pytest.mark.parametrize("part", ["call", "job"])
async def test_something_of_another_type_in_place_of_a_record_is_set_aside(simulation, kind, part):
    await lay(simulation)
    await redis(simulation, "DEL", f"{ROOT}:{part}:bad")
    await redis(simulation, kind, f"{ROOT}:{part}:bad", "x")
    await simulation.queue.enqueue("ok", key="good")
    simulation.worker([ok])
    await simulation.run_until_idle()
    simulation.assert_completed("good")
    [aside] = await simulation.queue.quarantined()
    assert aside.key == "bad"
    await simulation.queue.discard("bad")
    left = await redis(simulation, "KEYS", "*bad*")
    assert left == []


@pytest.mark.parametrize("fence", ["x", ""])
async def test_a_lease_of_what_is_no_run_holds_up_no_recovery(simulation, fence):
    await lay(simulation, status="active", fence=fence, claim="c")
    await redis(simulation, "ZREM", f"{ROOT}:ready", "bad")
    await redis(simulation, "ZADD", f"{ROOT}:lease", 1, "bad")
    await simulation.queue.enqueue("ok", key="lost")
    await simulation.queue.store.claim("dead", "c1", 1, 1000, 60_000)
    await simulation.advance(2)
    simulation.worker([ok])
    await simulation.run_until_idle()
    simulation.assert_completed("lost")
    assert [aside.key for aside in await simulation.queue.quarantined()] == ["bad"]


async def test_a_lost_job_whose_record_was_spoilt_is_set_aside_and_the_others_recovered(simulation):
    for key in ("good", "bad"):
        await simulation.queue.enqueue("ok", key=key)
    await simulation.queue.store.claim("dead", "c1", 2, 1000, 60_000)
    await redis(simulation, "SET", f"{ROOT}:call:bad", b"id 5\n" + call(max_lost="x"))
    await simulation.advance(2)
    simulation.worker([ok])
    await simulation.run_until_idle()
    simulation.assert_completed("good")
    assert [aside.key for aside in await simulation.queue.quarantined()] == ["bad"]


async def test_a_newer_record_waits_in_quarantine_for_the_upgrade(simulation, monkeypatch):
    await lay(
        simulation,
        payload=b'{"v":2,"function":"ok","kwargs":{"a":1}}',
        priority="3",
        status="queued",
    )
    simulation.worker([ok])
    await simulation.run_until_idle()
    [aside] = await simulation.queue.quarantined()
    assert "has format 2" in aside.reason
    assert "Upgrade its workers, then queue.restore() the job" in aside.reason
    assert aside.since == simulation.environment.time_ms()
    monkeypatch.setattr("queuekit.store.codec.FORMAT", 2)  # the upgrade
    await simulation.queue.restore("bad")
    await simulation.run_until_idle()
    job = await simulation.queue.job("bad")
    assert (job.status, job.result, job.kwargs) == (Status.COMPLETE, "done", {"a": 1})
    assert await simulation.queue.quarantined() == []


async def test_restoring_and_discarding_say_what_is_not_there(simulation):
    for word in (simulation.queue.restore, simulation.queue.discard):
        with pytest.raises(JobNotFoundError, match=r"'default:nope' is not in quarantine"):
            await word("nope")
    await lay(simulation)
    await redis(simulation, "DEL", f"{ROOT}:call:bad")
    simulation.worker([ok])
    await simulation.run_until_idle()
    with pytest.raises(JobNotFoundError, match="what it was to run is gone"):
        await simulation.queue.restore("bad")
    await simulation.queue.discard("bad")
    assert await simulation.queue.job("bad") is None


async def test_what_is_set_aside_is_listed_newest_first_and_in_pages(simulation):
    simulation.worker([ok])
    for n in range(5):
        await lay(simulation, f"bad-{n}", b"[]")
        await redis(simulation, "RPUSH", f"{ROOT}:wake", "1")
        await simulation.advance(1)
    keys = [aside.key for aside in await simulation.queue.quarantined(offset=1, limit=3)]
    assert keys == ["bad-3", "bad-2", "bad-1"]


@pytest.mark.slow
async def test_a_job_that_is_set_aside_counts_as_failed_and_is_kept_for_thirty_days(simulation):
    await lay(simulation, payload=b"[]")
    simulation.worker([ok])
    await simulation.run_until_idle()
    await simulation.advance(30 * 86_400 - 1)
    assert (await simulation.queue.job("bad")).status is Status.FAILED
    await simulation.advance(2)
    assert await simulation.queue.job("bad") is None


async def test_its_key_is_free_for_a_new_job(simulation):
    await lay(simulation, payload=b"[]")
    simulation.worker([ok])
    await simulation.run_until_idle()
    await simulation.queue.enqueue("ok", key="bad")
    await simulation.run_until_idle()
    simulation.assert_completed("bad")
    assert await simulation.queue.quarantined() == []


async def test_those_who_wait_for_a_job_that_is_set_aside_are_told(simulation):
    queue = simulation.queue
    jobs = {key: await queue.enqueue("ok", key=key) for key in ("apply", "refresh", "listen")}
    heard = []
    waiting = [
        asyncio.create_task(queue.apply("ok", key="apply")),
        asyncio.create_task(jobs["refresh"].refresh(until_complete=60)),
        asyncio.create_task(queue.listen(["listen"], lambda key, status: heard.append(status))),
    ]
    await simulation.run_until_idle()
    for key in jobs:
        await redis(simulation, "SET", f"{ROOT}:call:{key}", b"id 5\n[]")
    simulation.worker([ok])
    await simulation.run_until_idle()
    with pytest.raises(JobError, match="record cannot be read"):
        await waiting[0]
    await asyncio.gather(*waiting[1:])
    refreshed = jobs["refresh"]
    assert (refreshed.status, refreshed.function) == (Status.FAILED, "ok")
    assert "no record of queuekit's" in refreshed.error
    assert heard[-1] is Status.FAILED


async def test_a_result_that_cannot_be_read_is_an_error_and_never_a_wrong_value(simulation):
    simulation.worker([ok])
    job = await simulation.queue.enqueue("ok", key="k")
    await simulation.run_until_idle()
    await redis(simulation, "HSET", f"{ROOT}:job:k", "result", "no record")
    gathered = results.gather(simulation.queue, ["k"], return_exceptions=False)
    for wait in (job.refresh(), job.refresh(until_complete=5), gathered):
        with pytest.raises(
            UnreadableRecordError, match=r"'k' is complete, but its record cannot be read"
        ):
            await wait
    assert (job.status, job.function, job.result) == (Status.COMPLETE, "ok", None)
    [value] = await results.gather(simulation.queue, ["k"], return_exceptions=True)
    assert isinstance(value, UnreadableRecordError)
    in_three_parts(value)
    shown = await simulation.queue.job("k")
    assert "cannot be read" in shown.unreadable
    assert "cannot be read" in shown.to_dict()["unreadable"]


async def test_a_history_that_is_not_queuekits_does_not_hide_the_job(simulation):
    simulation.worker([ok])
    job = await simulation.queue.enqueue("ok", key="k")
    await simulation.run_until_idle()
    await redis(simulation, "HSET", f"{ROOT}:job:k", "log", b"\xff no log\n1\t2")
    assert [attempt.outcome for attempt in await job.history()] == ["completed"]


async def test_a_custom_load_that_raises_sets_the_job_aside_with_its_words(simulation):
    def load(raw):
        raise OSError("the key server does not answer")

    queue = simulation.queue_named("odd", dump=json.dumps, load=load)
    await queue.enqueue("ok", key="k")
    handle = simulation.worker([ok], queue=queue)
    await simulation.run_until_idle()
    await handle.worker.stop()
    [aside] = await queue.quarantined()
    assert "the key server does not answer" in aside.reason
    mended = Queue.from_url("redis://localhost", name="odd")
    await mended.restore("k")
    simulation.worker([ok], queue=mended)
    await simulation.run_until_idle()
    assert (await mended.job("k")).status is Status.COMPLETE


def unfit(_):
    raise ValueError("an older release")


async def set_aside_by_a_wrong_load(simulation):
    """The record is whole; whoever reads with this queue cannot read it."""
    queue = simulation.queue
    await queue.enqueue("ok", key="k", a=1, retries=3)
    wrong = Queue.from_url("redis://localhost", dump=json.dumps, load=unfit)
    handle = simulation.worker([ok], queue=wrong)
    await simulation.run_until_idle()
    await handle.stop()
    assert [aside.key for aside in await queue.quarantined()] == ["k"]
    return wrong, await redis(simulation, "GET", f"{ROOT}:call:k")


AGAIN = {
    "job.retry": lambda queue, job: job.retry("again"),
    "queue.retry": lambda queue, job: queue.retry(job, None),
    "job.enqueue": lambda queue, job: job.enqueue(),
    "queue.enqueue": lambda queue, job: queue.enqueue(job, on_duplicate="return"),
}


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
async def test_what_cannot_be_read_is_not_written_anew(simulation, again):
    wrong, record = await set_aside_by_a_wrong_load(simulation)
    job = await wrong.job("k")
    with pytest.raises(UnreadableRecordError, match="restore") as refused:
        await again(wrong, job)
    in_three_parts(refused.value)
    assert await redis(simulation, "GET", f"{ROOT}:call:k") == record
    await simulation.queue.restore("k")
    restored = await simulation.queue.job("k")
    assert (restored.function, restored.kwargs, restored.retries) == ("ok", {"a": 1}, 3)


async def test_a_new_call_may_take_the_key_of_one_that_cannot_be_read(simulation):
    wrong, _ = await set_aside_by_a_wrong_load(simulation)
    assert await wrong.enqueue("ok", key="k", a=2)
    assert (await simulation.queue.job("k")).kwargs == {"a": 2}

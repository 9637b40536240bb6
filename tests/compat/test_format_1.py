"""Today's code claims, runs, reads and shows what was written in format 1, and writes no other."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from queuekit import Queue, Status
from queuekit.errors import JobNotFoundError
from queuekit.store import scripts
from queuekit.store.codec import FORMAT
from tests.compat import format_1 as v1


@pytest.fixture
def queue(simulation):
    return simulation.queue_named("compat")


async def lay(queue, commands):
    for command in commands:
        await queue.store._command(*command)


async def seen(ctx, **arguments):
    return arguments


TASKS = [("echo", seen)]


async def test_a_waiting_job_runs(simulation, queue):
    await lay(queue, v1.WAITING)
    job = await queue.job("waiting")
    assert (job.status, job.function, job.kwargs, job.queued) == (
        Status.QUEUED,
        "echo",
        {"a": 1},
        v1.NOW,
    )
    simulation.worker(TASKS, queue=queue)
    await simulation.run_until_idle()
    job = await queue.job("waiting")
    assert (job.status, job.result, job.attempts) == (Status.COMPLETE, {"a": 1}, 1)


async def test_each_option_means_what_it_meant(simulation, queue):
    await lay(queue, v1.ALL_OPTIONS)
    job = await queue.job("options")
    shown = {
        name: getattr(job, name)
        for name in json.loads(v1.ALL_OPTIONS[0][2].partition(b"\n")[2])
        if name != "v"
    }
    assert shown == {
        "function": "echo",
        "kwargs": {"a": 1},
        "timeout": 60,
        "heartbeat": 5,
        "retries": 3,
        "ttl": 3600,
        "retry_delay": 1.5,
        "retry_backoff": 60,
        "max_lost": 1,
        "priority": -5,
        "group_key": "g",
        "meta": {"m": 1},
    }


async def test_what_is_left_out_has_the_defaults_that_it_had(queue):
    await lay(queue, v1.SCHEDULED)
    job = await queue.job("scheduled")
    assert (job.timeout, job.heartbeat, job.retries, job.ttl, job.retry_delay) == (10, 0, 1, 600, 0)
    assert (job.retry_backoff, job.max_lost, job.priority, job.group_key) == (False, 2, 0, None)
    assert (job.kwargs, job.meta, job.progress, job.result, job.error) == (None, {}, 0, None, None)


async def test_order_and_groups_hold(simulation, queue):
    await lay(queue, [*v1.WAITING, *v1.ALL_OPTIONS, *v1.FOLLOWER])
    order = []

    async def echo(ctx, **arguments):
        order.append(ctx["job"].key)

    assert await queue.count("queued") == 3
    simulation.worker([echo], queue=queue, concurrency=1)
    await simulation.run_until_idle()
    assert order == ["options", "waiting", "follower"]


async def test_a_scheduled_and_a_retried_job_come_at_their_time_with_what_they_knew(
    simulation, queue
):
    await lay(queue, [*v1.SCHEDULED, *v1.RETRIED])
    told = {}

    async def echo(ctx, **arguments):
        told[ctx["job"].key] = (
            simulation.now.timestamp() - v1.NOW / 1000,
            ctx["exception"],
            ctx["job"],
        )

    simulation.worker([echo], queue=queue)
    await simulation.advance(60)
    late, previous, job = told["retried"]
    assert (late, previous.type_name, previous.message) == (5, "ValueError", "no")
    assert (job.attempts, job.failures, job.losses, job.abandoned, job.meta) == (
        3,
        1,
        1,
        1,
        {"step": 2},
    )
    assert told["scheduled"][0] == 60
    assert [(a.number, a.outcome, a.worker) for a in await queue.history(job)][:2] == [
        (1, "lost", "old~m1"),
        (2, "retried", "old~m1"),
    ]


async def test_a_job_that_an_older_worker_holds_is_shown_and_left_to_it_until_its_lease_ends(
    simulation, queue
):
    await lay(queue, [*v1.ACTIVE, *v1.ABORTING])
    job = await queue.job("active")
    assert (job.status, job.worker_id, job.progress) == (Status.ACTIVE, "old", 0.5)
    info = await queue.info(jobs=True)
    assert info["workers"]["old"]["metadata"] == {"host": "a"}
    assert sorted(job["key"] for job in info["jobs"]) == ["aborting", "active"]
    simulation.worker(TASKS, queue=queue)
    await simulation.advance(19)
    assert (await queue.job("active")).status is Status.ACTIVE
    aborted = await queue.job("aborting")
    assert (aborted.status, aborted.error) == (Status.ABORTED, "no more")
    await simulation.advance(2)
    job = await queue.job("active")
    assert (job.status, job.attempts, job.losses) == (Status.COMPLETE, 2, 1)


async def test_a_suspect_runs(simulation, queue):
    await lay(queue, v1.SUSPECT)
    simulation.worker(TASKS, queue=queue)
    await simulation.run_until_idle()
    job = await queue.job("suspect")
    assert (job.status, job.attempts, job.losses) == (Status.COMPLETE, 3, 2)


async def test_finished_jobs_are_shown_until_their_time_is_over(simulation, queue):
    await lay(queue, [*v1.COMPLETE, *v1.FAILED])
    complete, failed = await queue.jobs(["complete", "failed"])
    assert (complete.result, complete.progress, complete.duration("process")) == ({"a": 1}, 1, 3000)
    assert (failed.status, failed.error, failed.failures) == (Status.FAILED, "ValueError: no", 1)
    await simulation.advance(601)
    assert await queue.jobs(["complete", "failed"]) == [None, None]


async def test_what_was_set_aside_is_listed_and_restored(simulation, queue):
    await lay(queue, v1.QUARANTINED)
    [aside] = await queue.quarantined()
    assert (aside.key, aside.since, aside.raw) == (
        "quarantined",
        v1.NOW - 1000,
        b'{"v":1,"function":"echo"}',
    )
    await queue.restore("quarantined")
    simulation.worker(TASKS, queue=queue)
    await simulation.run_until_idle()
    assert (await queue.job("quarantined")).status is Status.COMPLETE


async def test_a_signed_job_is_accepted_with_its_key(simulation):
    queue = Queue.from_url("redis://simulated", name="compat", signing_keys=[v1.KEY])
    await lay(queue, v1.SIGNED)
    simulation.worker(TASKS, queue=queue)
    await simulation.run_until_idle()
    job = await queue.job("signed")
    assert (job.status, job.result, job.meta) == (Status.COMPLETE, {"a": 1}, {"m": 1})


async def test_fields_that_a_later_release_may_add_are_ignored(simulation, queue):
    await lay(queue, v1.UNKNOWN_FIELDS)
    simulation.worker(TASKS, queue=queue)
    await simulation.run_until_idle()
    job = await queue.job("unknown")
    assert (job.status, job.result) == (Status.COMPLETE, {"a": 1})


async def test_a_newer_format_is_set_aside_and_the_others_run(simulation, queue):
    await lay(queue, v1.ALL)
    simulation.worker(TASKS, queue=queue, concurrency=20)
    await simulation.advance(90)
    keys = {each.key for each in await queue.quarantined()}
    assert keys == {"newer", "quarantined"}
    assert await queue.count("incomplete") == 0
    with pytest.raises(JobNotFoundError):
        await queue.discard("waiting")


async def everything_of(queue, key):
    """What lies in Redis of a job: call, state, and the containers that have it."""
    command = queue.store._command
    call = await command("GET", f"{queue.store.root}:call:{key}")
    flat = await command("HGETALL", f"{queue.store.root}:job:{key}")
    state = flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2], strict=True))
    places = {}
    for container in ("ready", "suspect", "scheduled", "lease", "finished", "quarantine"):
        score = await command("ZSCORE", f"{queue.store.root}:{container}", key)
        if score is not None:
            places[container] = float(score)
    return call.partition(b"\n")[2], {name.decode(): value for name, value in state.items()}, places


@pytest.mark.parametrize(
    ("key", "commands", "options"),
    [
        ("waiting", v1.WAITING, {"kwargs": {"a": 1}}),
        ("scheduled", v1.SCHEDULED, {"scheduled": v1.NOW / 1000 + 60}),
        (
            "options",
            v1.ALL_OPTIONS,
            {
                "kwargs": {"a": 1},
                "timeout": 60,
                "heartbeat": 5,
                "retries": 3,
                "ttl": 3600,
                "retry_delay": 1.5,
                "retry_backoff": 60,
                "max_lost": 1,
                "priority": -5,
                "group_key": "g",
                "meta": {"m": 1},
            },
        ),
        ("signed", v1.SIGNED, {"kwargs": {"a": 1}, "meta": {"m": 1}}),
    ],
)
async def test_what_is_enqueued_today_is_what_an_older_worker_expects(
    simulation, key, commands, options
):
    keys = [v1.KEY] if key == "signed" else []
    ours = Queue.from_url("redis://simulated", name="compat", signing_keys=keys)
    await lay(ours, commands)
    expected = await everything_of(ours, key)
    await ours.store._command("FLUSHALL")
    await ours.enqueue("echo", key=key, **options)
    assert await everything_of(ours, key) == expected
    await ours.disconnect()


async def test_what_a_worker_leaves_today_is_what_an_older_reader_expects(simulation, queue):
    await lay(queue, v1.COMPLETE)
    _, expected, places = await everything_of(queue, "complete")
    await queue.store._command("FLUSHALL")
    simulation.worker(TASKS, queue=queue, id="old")
    await queue.enqueue("echo", key="complete", kwargs={"a": 1})
    await simulation.run_until_idle()
    _, state, found = await everything_of(queue, "complete")
    assert state.keys() == expected.keys()
    assert (state["status"], state["result"]) == (expected["status"], expected["result"])
    assert found.keys() == places.keys()


def test_the_format_is_still_the_one_that_is_pinned_here():
    assert FORMAT == 1, (
        "Pin the new format in a file of its own, and keep this one: CONTRIBUTING.md says how."
    )


async def test_scripts_of_two_generations_work_on_one_queue(simulation, queue, monkeypatch):
    """Each release sends its own: a script is named by its text, so neither runs the other's."""
    genuine, turn, sent = scripts.load, Counter(), set()

    def alternating(name):
        script = genuine(name)
        turn[name] += 1
        text = f"{script.text}\n-- of another release" if turn[name] % 2 else script.text
        other = scripts.Script(name, text, scripts.sha_of(text))
        sent.add((name, other.sha))
        return other

    monkeypatch.setattr(scripts, "load", alternating)

    async def echo(ctx, **arguments):
        await ctx["job"].update(progress=0.5)
        if ctx["job"].attempts < 2:
            raise ValueError
        return arguments

    simulation.worker([echo], queue=queue, concurrency=3)
    simulation.worker([echo], queue=queue, concurrency=3)
    for n in range(20):
        await queue.enqueue("echo", key=f"k{n}", retries=2, retry_delay=1, group_key=f"g{n % 3}")
    await simulation.advance(60)
    jobs = await queue.jobs([f"k{n}" for n in range(20)])
    assert [(job.status, job.attempts) for job in jobs] == [(Status.COMPLETE, 2)] * 20
    await queue.jobs(["k0"])
    for name in ("enqueue", "claim", "commit", "update", "read"):
        assert len({sha for script, sha in sent if script == name}) == 2

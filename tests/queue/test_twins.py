"""`queue.sync` and `job.sync`: the same methods, blocking."""

from __future__ import annotations

import inspect

import pytest

from queuekit import Job, JobError, Queue, Status
from queuekit.job import Job as JobClass
from queuekit.sync import SyncJob, SyncQueue

FOR_QUEUEKIT_ALONE = {"show"}
"Async methods of a queue that applications do not call."


async def ok(ctx, **arguments):
    return arguments


def waits(method):
    """Whether it is to be awaited, iterated or entered asynchronously."""
    plain = inspect.unwrap(method)
    return inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain)


def methods(kind, wanted=lambda method: True):
    return {
        name: method
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and wanted(method)
    }


@pytest.mark.parametrize(("kind", "twin"), [(Queue, SyncQueue), (JobClass, SyncJob)])
def test_each_method_that_is_awaited_has_a_twin_of_the_same_signature(kind, twin):
    awaited = methods(kind, waits)
    twins = methods(twin)
    assert sorted(twins) == sorted(awaited.keys() - FOR_QUEUEKIT_ALONE)
    for name, method in twins.items():
        assert not waits(method)
        theirs, ours = inspect.signature(awaited[name]), inspect.signature(method)
        assert list(ours.parameters.values()) == list(theirs.parameters.values()), name


async def test_the_twins_do_what_the_methods_do(simulation):
    told = {}

    def script(ctx):
        queue = ctx["queue"].sync
        queue.connect()
        job = queue.enqueue("ok", key="k", a=1)
        told["taken"] = queue.enqueue("ok", key="k", on_duplicate="return").kwargs
        told["applied"] = queue.apply("ok", key="applied", self=2)
        told["mapped"] = queue.map("ok", [{"n": 1}, {"n": 2}])
        queue.refresh(job, until_complete=5)
        job.sync.refresh()
        told["status"] = queue.job("k").status
        told["outcomes"] = [a.outcome for a in queue.history(job) + job.sync.history()]
        told["keys"] = [found.key for found in queue.iter_jobs([Status.COMPLETE], batch_size=1)]
        told["heard"] = []
        queue.listen(["k"], lambda key, status: told["heard"].append((key, status)))
        told["quarantined"] = queue.quarantined()
        queue.update(ctx["job"], meta={"seen": True})
        told["meta"] = queue.job(ctx["job"].key).meta
        try:
            with queue.batch():
                queue.enqueue("ok", key="child", scheduled=2_000_000_000)
                raise LookupError
        except LookupError:
            told["child"] = queue.job("child").status
        with queue.batch():
            queue.enqueue("ok", key="kept", scheduled=2_000_000_000)
        told["kept"] = queue.job("kept").status
        queue.retry(job, None)
        told["again"] = job.status

    simulation.worker([ok, script])
    await simulation.queue.apply(Job("script", timeout=None))
    assert {"k", "applied"} <= set(told.pop("keys"))
    assert told == {
        "taken": {"a": 1},
        "applied": {"self": 2},
        "mapped": [{"n": 1}, {"n": 2}],
        "status": Status.COMPLETE,
        "outcomes": ["completed", "completed"],
        "heard": [("k", Status.COMPLETE)],
        "quarantined": [],
        "meta": {"seen": True},
        "child": Status.ABORTED,
        "kept": Status.QUEUED,
        "again": Status.QUEUED,
    }


async def test_the_twins_raise_what_the_methods_raise(simulation):
    def script(ctx):
        ctx["queue"].sync.restore("nope")

    simulation.worker([script])
    with pytest.raises(JobError, match="is not in quarantine"):
        await simulation.queue.apply("script")

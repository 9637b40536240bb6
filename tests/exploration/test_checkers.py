"""Each promise's checker finds what breaks it, and nothing in the queue as it is."""

from __future__ import annotations

import asyncio
import functools

import pytest

from queuekit import Queue, Status, lifecycle, upkeep
from queuekit.execution import Execution
from queuekit.exploration import Watch, check
from queuekit.intake import Intake
from queuekit.session import Session
from queuekit.simulation import Simulation
from tests.exploration import stories
from tests.exploration.defects import DEFECTS
from tests.exploration.planting import broken_by, live

STORIES = {
    name: getattr(stories, name)
    for name in (
        "plain", "idle_first", "killed", "hung", "long_run", "killer", "late_abort", "same_key",
        "ticking", "late_tick", "in_line", "gives_back", "gone",
        "midway", "room", "many_lives",
    )
} | {
    f"cut {name}": functools.partial(stories.cut, script=name)
    for name in ("enqueue", "claim", "commit")
}  # fmt: skip


@pytest.mark.parametrize("name", STORIES)
def test_the_queue_as_it_is_breaks_no_promise(name, on_each_backend):
    _, broken = live(STORIES[name], **on_each_backend)
    assert broken == []


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found_by_the_checker_of_its_promise(defect, plant):
    promise, story, script, old, new = DEFECTS[defect]
    plant(old, new, script=script)
    assert promise in broken_by(STORIES[story])


# -- defects in the rules, and in the worker


def test_one_run_more_than_allowed_is_found(monkeypatch):
    def after_failure(policy, failures):
        return lifecycle.Event.RETRIED if failures <= policy.retries else lifecycle.Event.FAILED

    monkeypatch.setattr(lifecycle, "after_failure", after_failure)
    assert broken_by(stories.plain) == {"P4"}


def test_a_run_less_than_allowed_is_found(monkeypatch):
    monkeypatch.setattr(lifecycle, "after_failure", lambda *_: lifecycle.Event.FAILED)
    assert broken_by(stories.plain) == {"P4"}


def test_a_job_that_kills_without_end_is_found(monkeypatch):
    monkeypatch.setattr(lifecycle, "after_loss", lambda *_: Status.QUEUED)
    assert broken_by(stories.killer) == {"P4"}


def test_a_killer_that_takes_neighbours_along_is_found(monkeypatch):
    monkeypatch.setattr(lifecycle, "runs_alone", lambda losses: False)
    assert broken_by(stories.killer) == {"P4"}


def test_a_retry_without_its_pause_is_found(monkeypatch):
    monkeypatch.setattr(Queue, "next_delay_ms", lambda *_: 0)
    assert broken_by(stories.plain) == {"P5"}


def test_a_retry_that_comes_too_late_is_found(monkeypatch):
    monkeypatch.setattr(Queue, "next_delay_ms", lambda *_: 60_000)
    assert broken_by(stories.plain) == {"P6"}


def test_a_worker_that_begins_what_has_gone_on_without_it_is_found(monkeypatch):
    story = functools.partial(stories.hung, moment="started")
    assert broken_by(story) == set()
    monkeypatch.setattr(Execution, "_check_ours", lambda self: None)
    monkeypatch.setattr(Execution, "lose", lambda self: None)
    assert "P2" in broken_by(story)


def test_a_recovery_that_does_not_wait_for_the_end_of_a_lease_is_found(monkeypatch, plant):
    plant("'-inf', exact(now), 'LIMIT'", "'-inf', '+inf', 'LIMIT'", script="expired")
    plant("<= now end", "<= now + 1e9 end", script="commit")
    monkeypatch.setattr(upkeep, "after_claim", lambda worker, _: upkeep.recover(worker))
    assert "P2" in broken_by(stories.long_run)


def test_a_worker_that_does_not_renew_is_found(monkeypatch):
    async def never(worker):
        await asyncio.sleep(1e9)

    monkeypatch.setattr(upkeep, "renew_leases", never)
    assert "P4" in broken_by(stories.long_run)


def test_a_worker_that_commits_what_its_task_did_not_return_is_found(monkeypatch):
    async def call(self, function):
        return "as if"

    monkeypatch.setattr(Execution, "_call", call)
    assert broken_by(stories.plain) == {"P1"}


def test_a_task_that_runs_on_when_its_job_was_handed_back_is_found(monkeypatch):
    async def story(simulation):
        handle = simulation.worker(stories.TASKS)
        await simulation.queue.enqueue("long", key="a", timeout=60)
        await simulation.advance(1)
        simulation.worker(stories.TASKS)
        await handle.stop()
        await simulation.advance(60)

    async def end(self, inner):
        """Leaves it running, and tells nobody."""

    assert broken_by(story) == set()
    monkeypatch.setattr(Execution, "_end", end)
    assert "P2" in broken_by(story)


def test_a_worker_that_runs_more_than_its_concurrency_is_found(monkeypatch):
    async def story(simulation):
        simulation.worker(stories.TASKS, concurrency=2)
        for _ in range(5):
            await simulation.queue.enqueue("long", timeout=60)
        await simulation.drain()

    room = Intake.room
    assert broken_by(story) == set()
    monkeypatch.setattr(Intake, "room", lambda self: room(self) + 1)
    assert "P2" in broken_by(story)


def test_a_worker_that_does_not_listen_for_work_is_found(monkeypatch):
    listen = Session.listen
    monkeypatch.setattr(Session, "listen", lambda self, *, for_work: listen(self, for_work=False))
    assert broken_by(stories.idle_first) == {"P6"}


def test_a_worker_that_sleeps_through_due_moments_is_found(monkeypatch):
    wake_in = Session.wake_in

    def asleep(self, *, due_s, upkeep_s):
        wake_in(self, due_s=None, upkeep_s=upkeep_s)

    monkeypatch.setattr(Session, "wake_in", asleep)
    assert broken_by(stories.plain) == {"P6"}


# -- what is not judged


def test_a_queue_that_somebody_has_written_to_is_not_judged_and_says_so():
    async def story(simulation):
        await simulation.queue.enqueue("ok", key="a")
        await simulation.queue.store._command("ZREM", "qk:{default}:ready", "a")
        await simulation.advance(1)

    with Simulation() as simulation:
        watch = Watch(simulation)
        simulation.run(story(simulation))
        assert watch.broken() == []
        assert watch.unchecked == {"default": "ZREM has written to its keys"}


def test_jobs_that_went_with_the_servers_data_are_not_missed_and_later_ones_are_watched(plant):
    async def story(simulation):
        await simulation.queue.enqueue("ok", key="a")
        await simulation.queue.store._command("FLUSHALL")
        await stories.plain(simulation)

    assert broken_by(story) == set()
    plant("HINCRBY', job, counter, 1", "HINCRBY', job, counter, 2", script="commit")
    assert "P4" in broken_by(story)


def test_a_watch_that_comes_late_begins_with_what_is_there():
    async def before(simulation):
        stories.worker(simulation)
        await simulation.queue.enqueue("fails", key="a", retries=3, retry_delay=20)
        await simulation.queue.enqueue("long", key="b", timeout=60)
        await simulation.advance(5)

    async def after(simulation):
        await simulation.queue.enqueue("ok", key="c")
        await simulation.advance(60)

    with Simulation() as simulation:
        simulation.run(before(simulation))
        watch = Watch(simulation)
        simulation.run(after(simulation))
        assert watch.broken() == []
        assert watch.unfinished() == []


def test_a_job_that_was_handed_back_and_left_no_record_breaks_nothing():
    async def story(simulation):
        handle = simulation.worker(stories.TASKS)
        await simulation.queue.enqueue("long", key="a", timeout=60, ttl=-1)
        await simulation.advance(1)
        await handle.stop()
        simulation.worker(stories.TASKS)
        await simulation.advance(60)

    assert broken_by(story) == set()


def test_unfinished_jobs_are_named():
    async def story(simulation):
        await simulation.queue.enqueue("ok", key="a")

    with Simulation() as simulation:
        watch = Watch(simulation)
        simulation.run(story(simulation))
        assert watch.unfinished() == ["a"]
        assert check(simulation) == []


def test_a_thorough_watch_sees_what_has_passed_again_by_the_end(plant):
    """The record of a finished job is there again when it is looked at late."""

    async def story(simulation):
        store = simulation.queue.store
        await simulation.queue.enqueue("ok", key="a")
        await simulation.advance(1)
        network = simulation.loop.network
        network.look(b"ZREM", b"qk:{default}:ready", b"a")
        await simulation.advance(1)
        network.look(b"ZADD", f"{store.root}:ready".encode(), b"68719476736", b"a")
        await simulation.advance(1)

    for thorough, found in ((False, set()), (True, {"P1"})):
        with Simulation() as simulation:
            watch = Watch(simulation, thorough=thorough)
            simulation.run(story(simulation))
            assert {each.promise for each in watch.broken()} == found


def test_a_watch_changes_nothing_of_a_run(on_each_backend):
    def run(watched):
        with Simulation(seed=5, **on_each_backend) as simulation:
            watch = Watch(simulation) if watched else None
            simulation.run(stories.killer(simulation))
            assert watch is None or watch.broken() == []
            return simulation.trace.digest()

    assert run(watched=True) == run(watched=False)

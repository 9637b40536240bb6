"""Each built-in label can be reached, by a story that is about it; and is not reached by one that is not."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from queuekit import CronJob
from queuekit.exploration import labels
from queuekit.simulation import Hold, Hop
from tests.exploration import stories
from tests.exploration.planting import live
from tests.exploration.stories import worker


async def reply_of_a_commit_is_lost(simulation):
    await stories.cut(simulation, "commit")


async def two_idle_workers(simulation):
    for name in ("first", "second"):
        worker(simulation, name, concurrency=1)
    await simulation.advance(1)
    await simulation.queue.enqueue("long", key="a", timeout=60)
    await simulation.queue.enqueue("long", key="b", timeout=60)
    await simulation.advance(30)


async def retry_comes_due_behind_a_kill(simulation):
    first = worker(simulation, "first")
    await simulation.queue.enqueue("fails", key="a", retries=2, retry_delay=10)
    await simulation.advance(3)
    first.kill()
    await simulation.advance(20)
    worker(simulation, "second")
    await simulation.advance(10)


async def handed_back(simulation):
    handle = simulation.worker(stories.TASKS)
    await simulation.queue.enqueue("long", key="a", timeout=60)
    await simulation.advance(1)
    await handle.stop()


async def abort_behind_the_end(simulation):
    """The task has ended, its commit is on its way, and the abort overtakes it."""
    held = Hold()

    def observer(event):
        is_commit = isinstance(event, Hop) and event.words[1:2] == ("commit",)
        return held if is_commit and event.direction == "request" else None

    worker(simulation)
    job = await simulation.queue.enqueue("ok", key="a")
    simulation.observe(observer)
    await simulation.advance(1)
    await job.abort("too late")
    held.release()
    await simulation.advance(5)


async def stubborn(simulation):
    async def ignores(ctx):
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                return await asyncio.sleep(30)

    worker(simulation, tasks=[ignores])
    await simulation.queue.enqueue("ignores", key="a", timeout=2)
    await simulation.advance(90)


async def unknown(simulation):
    worker(simulation)
    await simulation.queue.enqueue("nobody_has_this", key="a")
    await simulation.advance(1000)


async def overlap(simulation):
    """A worker is cut off; another one takes its job up, while the first one's task goes on."""
    simulation.environment.idle_wait_s = lambda: 5.0
    held = Hold()
    first = worker(simulation, "first")
    await simulation.queue.enqueue("long", key="a", timeout=60)
    await simulation.advance(1)

    def observer(event):  # the process stands still, with its task in the midst of its sleep
        return held if getattr(event, "process", "") == first.id else None

    simulation.observe(observer)
    worker(simulation, "second")
    await simulation.advance(60)
    held.release()
    await simulation.advance(30)


async def ticks(simulation):
    for name in ("first", "second"):
        worker(simulation, name, cron_jobs=[CronJob(stories.tick, "* * * * *")])
    await simulation.advance(70)


REACHED_BY = {
    labels.TWO_CLAIMED: two_idle_workers,
    labels.REPLY_LOST: reply_of_a_commit_is_lost,
    labels.SENT_TWICE: reply_of_a_commit_is_lost,
    labels.LEASE_LOST_IN_COMMIT: stories.hung,
    labels.LATE_WORKER: stories.hung,
    labels.KILLED_HOLDER: stories.killed,
    labels.RECOVERED: stories.killed,
    labels.LOST_TOO_OFTEN: stories.killer,
    labels.ALONE: stories.killer,
    labels.RETRY_WHILE_AWAY: retry_comes_due_behind_a_kill,
    labels.RETRIED: stories.plain,
    labels.HANDED_BACK: handed_back,
    labels.ABORTED_RUNNING: stories.late_abort,
    labels.ABORT_RACED: abort_behind_the_end,
    labels.ABANDONED: stubborn,
    labels.OVERLAP: overlap,
    labels.GROUP_WAITED: stories.plain,
    labels.KEY_TAKEN: stories.same_key,
    labels.TICK_SEEN_TWICE: ticks,
    labels.UNKNOWN_FUNCTION: unknown,
}


def test_there_is_a_story_for_each_label():
    assert set(REACHED_BY) == set(labels.LABELS)


@pytest.mark.parametrize("label", REACHED_BY)
def test_a_label_is_reached_and_nothing_is_broken_by_that(label, on_each_backend):
    simulation, broken = live(REACHED_BY[label], **on_each_backend)
    assert simulation.reached[label] > 0, dict(simulation.reached)
    assert broken == []


def test_a_plain_life_reaches_none_of_the_misfortunes():
    async def story(simulation):
        worker(simulation)
        await simulation.queue.enqueue("ok")
        await simulation.advance(10)

    simulation, _ = live(story)
    assert simulation.reached == {}


def test_a_retry_that_came_due_beside_its_living_worker_is_no_misfortune():
    async def story(simulation):
        first = worker(simulation, "first")
        await simulation.queue.enqueue("fails", key="a", retries=2, retry_delay=10)
        await simulation.advance(12)
        first.kill()
        await simulation.advance(5)

    simulation, _ = live(story)
    assert simulation.reached == {labels.RETRIED: 1}

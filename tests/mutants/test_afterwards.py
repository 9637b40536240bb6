"""When all is over, and every record has ended, a known few keys are left of each story, and no more."""

from __future__ import annotations

import asyncio
import functools

import pytest

from queuekit.exploration import Terms, run_once
from queuekit.exploration.explore import Portfolio
from queuekit.exploration.swarm import checked
from queuekit.simulation.contents import snapshot_of
from queuekit.simulation.schedule import SCHEDULES
from tests.mutants.stories import STORIES
from tests.mutants.tasks import worker

QUEUES = ("default", "bounded")
"Of all stories."

AT_REST = {"fence", "wake"}
"A number, and a token for whoever comes next."

OF_SCHEDULES = {"ticked", "timetable", "cronjob"}
"One entry for each, until another one ticks when they have not for 400 days (the story `forgotten`)."

LAST_JOBS_S = 900
"What nobody was there for before is done, put back and failed within that."

RECORDS_S = 40 * 86_400
"The longest that ends is kept for 30 days."


async def visit(simulation, seconds):
    """Workers that come and look, and go."""
    queues = [simulation.queue, *(simulation.queue_named(name) for name in QUEUES[1:])]
    there = [worker(simulation, queue=queue) for queue in queues]
    await asyncio.sleep(seconds)
    for each in there:
        each.terminate()
    await asyncio.sleep(60)


async def to_the_end(simulation):
    """Everybody goes, or is long gone; then others look twice."""
    simulation.heal()
    await asyncio.sleep(5)
    for each in simulation.processes():
        each.restart = lambda: None
        if each.alive:
            each.terminate() if each in simulation.workers() else each.kill()
    await asyncio.sleep(120)
    await visit(simulation, LAST_JOBS_S)
    await asyncio.sleep(RECORDS_S)
    await visit(simulation, 5)


def left(simulation, queue):
    """The names of keys, but for records that are kept for ever."""
    root = f"qk:{{{queue}}}"
    snapshot = snapshot_of(simulation.loop.network.contents(root), root)
    kept = {key for key, end in snapshot.scores("finished").items() if end == float("inf")}
    names = set(snapshot.contents) - {f"{kind}:{key}" for kind in ("job", "call") for key in kept}
    return names - ({"finished"} if kept == set(snapshot.scores("finished")) else set())


def left_of(story, number, **options):
    """What is left of a run of a story, by its queue."""
    found = {}

    @functools.wraps(story)
    async def all_of_it(simulation):
        try:
            await story(simulation)
        finally:
            await to_the_end(simulation)
            found.update({queue: left(simulation, queue) for queue in QUEUES})

    run_once(all_of_it, Portfolio(SCHEDULES, checked(None), 0).plan(number), Terms(**options))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", STORIES)
def test_nothing_of_a_story_is_left(name):
    found = left_of(STORIES[name], 0)
    assert found["default"] - OF_SCHEDULES <= AT_REST
    assert found["bounded"] <= AT_REST


@pytest.mark.slow
@pytest.mark.parametrize("name", ["damaged", "groups", "hung", "left_behind", "records"])
def test_nothing_of_a_story_with_misfortunes_is_left_on_either_server(name, on_each_backend):
    for number in (2, 3):
        assert left_of(STORIES[name], number, **on_each_backend)["default"] <= AT_REST


@pytest.mark.slow
def test_what_is_left_is_seen(monkeypatch):
    from queuekit.store import redis  # noqa: PLC0415 (one of many of that name)

    async def deregister(self, worker):
        """Says nothing."""

    monkeypatch.setattr(redis.Store, "deregister", deregister)
    assert left_of(STORIES["errands"], 0)["default"] - AT_REST == {"info", "workers"}

"""Misfortunes for which a promise is suspended, and no more than that: clocks, cancellations, lost data."""

from __future__ import annotations

import asyncio
import functools

import pytest

from queuekit import effect
from queuekit.exploration import run_once, runs, swarm
from queuekit.exploration.ledger import Ledger
from queuekit.exploration.living import Plan
from queuekit.exploration.swarm import COMMON_KINDS, KINDS, RARE_KINDS, Profile, drawn
from queuekit.simulation import Simulation
from queuekit.simulation.chooser import Deviation
from tests.exploration import stories
from tests.exploration.planting import live


def certain(kind, strikes=1, losses=2):
    """A run in which the first place is struck at which it can be."""
    return Plan(3, "fifo", Profile({kind: 1.0}, strikes, losses))


def struck(kind, place, nth=1, value=1):
    """A run in which one strike happens."""
    tape = (Deviation(f"swarm.{kind}:{place}", nth, value),)
    return Plan(3, "fifo", swarm.anything([kind]), tape)


# -- which run meets them


def test_a_share_of_the_runs_meets_the_rare_kinds_and_the_others_are_as_before():
    everything, common = tuple(KINDS), COMMON_KINDS
    rare = [seed for seed in range(400) if set(drawn(seed, everything).rates) & set(RARE_KINDS)]
    assert 50 < len(rare) < 130
    for seed in range(100):
        both, alone = drawn(seed, everything), drawn(seed, common)
        assert {**both.rates, **alone.rates} == dict(both.rates)
        assert both.strikes == alone.strikes
    assert {kind for seed in rare for kind in drawn(seed, everything).rates} == set(KINDS)


def test_kinds_that_are_asked_for_are_drawn_for_each_run():
    asked = ("kill", *RARE_KINDS)
    drew = [set(drawn(seed, asked).rates) for seed in range(40)]
    assert all(drew)
    assert sum("cancel" in each for each in drew) > 10
    assert set().union(*drew) == set(asked)


def test_what_cannot_strike_any_more_is_not_on_the_tape():
    run = run_once(stories_with_retries, certain("kill", strikes=3, losses=1))
    assert run.broken is None
    assert [each.site.partition(":")[0] for each in run.tape] == ["swarm.kill"]
    again = Plan(3, "fifo", swarm.anything(["kill"]), tuple(run.tape))
    assert run_once(stories_with_retries, again).trace == run.trace


async def stories_with_retries(simulation):
    simulation.worker(stories.TASKS)
    for _ in range(3):
        await simulation.queue.enqueue("ok", retries=3)


# -- the server's clock


async def stepped(simulation, seconds, **when):
    """The server's clock is set once, while others look at the same jobs."""
    simulation.inject("step_clock", seconds=seconds, **when)
    simulation.worker(stories.TASKS, lease_s=6, concurrency=1)
    simulation.worker(stories.TASKS, lease_s=6, concurrency=1)
    await simulation.queue.enqueue("fails", key="a", retries=3)
    await simulation.queue.enqueue("long", key="b", timeout=60, max_lost=9)
    await asyncio.sleep(100)


@pytest.mark.parametrize("command", ["claim", "commit", "renew", "enqueue"])
@pytest.mark.parametrize("seconds", [60, -60])
def test_a_server_whose_clock_is_set_breaks_no_promise(command, seconds):
    for nth in (1, 2, 3):
        story = functools.partial(stepped, seconds=seconds, after=command, nth=nth, optional=True)
        assert run_once(story).broken is None


def test_a_lease_that_the_servers_clock_has_ended_is_what_its_worker_cannot_know(monkeypatch):
    story = functools.partial(stepped, seconds=60, after="claim")
    assert run_once(story).broken is None
    monkeypatch.setattr(runs, "_cannot_know", lambda ledger, run: False)
    assert run_once(story).broken.promise == "P2"


def test_a_job_that_was_due_before_the_clock_was_set_back_is_not_early(monkeypatch):
    story = functools.partial(stepped, seconds=-60, after="commit")
    assert run_once(story).broken is None
    monkeypatch.setattr(Ledger, "_set_back", lambda self, now_ms: None)
    assert run_once(story).broken.promise == "P5"


# -- what the server has lost


async def waits_for_its_effect(simulation):
    simulation.worker([charge])
    await simulation.queue.enqueue("charge")
    await asyncio.sleep(30)
    return lambda: simulation.effects("charged").happened(times=1)


async def charge(ctx):
    await asyncio.sleep(5)
    await effect("charged")


async def loses_by_itself(simulation):
    simulation.inject("restart_server", after="enqueue", data="lost")
    return await waits_for_its_effect(simulation)


def test_what_a_story_expects_of_lost_data_is_excused_unless_it_has_lost_it_by_itself():
    profile = Profile({"lose_data": 1.0}, strikes=8, losses=2)
    runs_ = [run_once(waits_for_its_effect, Plan(seed, "fifo", profile)) for seed in range(6)]
    assert [run.broken for run in runs_] == [None] * 6
    assert any("charged" in run.excused for run in runs_)
    assert run_once(loses_by_itself).broken.promise.startswith("story:AssertionError")


def test_a_story_that_waits_for_what_is_lost_is_cut_off():
    async def story(simulation):
        simulation.worker([charge])
        await simulation.queue.enqueue("charge", scheduled=simulation.now.timestamp() + 60)
        await asyncio.Event().wait()  # of somebody who tells when it is done

    assert run_once(story).broken.promise == "deadlock"
    run = run_once(story, struck("lose_data", "worker-1:BLPOP", nth=2, value=2))
    assert run.broken is None
    assert run.excused.startswith("RecordGone")


async def claims_again(simulation):
    """The server goes back to where a claim was made whose answer was lost; it is asked again."""
    simulation.inject("lose_reply", command="claim", nth=2, how="silence")
    simulation.worker(stories.TASKS)
    await simulation.advance(1)
    await simulation.queue.enqueue("ok")
    await simulation.advance(1)
    simulation.server.checkpoint()
    simulation.server.restart("stale")
    await simulation.advance(30)


def test_a_claim_from_before_a_stale_restart_is_known_when_it_is_sent_again(on_each_backend):
    _, broken = live(claims_again, **on_each_backend)
    assert broken == []


# -- cancellations


@pytest.mark.parametrize("retries", [1, 5])
def test_a_task_that_is_cancelled_has_failed_and_the_story_is_excused(retries):
    async def story(simulation):
        simulation.worker([charge])
        await simulation.queue.enqueue("charge", retries=retries)
        return lambda: simulation.effects("charged").happened(times=1)

    run = run_once(story, struck("cancel", "worker-1:task"))
    assert run.broken is None
    assert len(run.tape) == 1
    assert bool(run.excused) == (retries == 1)


@pytest.mark.parametrize(
    ("options", "excuses"), [({}, False), ({"chance": 1.0}, True)], ids=["planned", "by chance"]
)
@pytest.mark.parametrize("ends", ["raises", "must hold in the end"])
def test_a_cancellation_that_the_story_has_planned_excuses_nothing(ends, options, excuses):
    async def story(simulation):
        simulation.worker([charge])
        simulation.inject("cancel", task="task 42", **options)
        if ends == "raises":
            await simulation.queue.apply("charge", key="42")
        else:
            await simulation.queue.enqueue("charge", key="42")
        return lambda: simulation.effects("charged").happened(times=1)

    run = run_once(story)
    assert bool(run.excused) is excuses
    assert (run.broken is None) is excuses
    if not excuses:
        assert run.broken.promise.startswith("story:")


def test_a_wait_for_a_job_whose_worker_dies_is_no_standstill():
    """Only upkeep is left then: the lease ends, and somebody finds that out."""
    with Simulation() as simulation:
        simulation.inject("kill", after="started", process="worker-1")
        simulation.worker(stories.TASKS, lease_s=6)
        simulation.worker(stories.TASKS, lease_s=6, concurrency=2)
        assert simulation.run(simulation.queue.apply("ok")) == "done"


def test_the_end_of_a_misfortune_is_no_upkeep_when_upkeep_was_struck():
    with Simulation() as simulation:
        simulation.inject("pause", command="BLPOP", seconds=700, process="worker-1")
        simulation.worker(stories.TASKS)
        assert simulation.run(simulation.queue.apply("ok")) == "done"

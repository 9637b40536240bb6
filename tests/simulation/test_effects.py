"""Effects are counted as they happen, with whoever made them; labels say what a run has reached."""

from __future__ import annotations

import asyncio
import time

import pytest

from queuekit import effect
from queuekit.simulation import Hold, Moment, SimulationError
from queuekit.simulation.process import Process


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


async def charge(ctx, order):
    effect("charged", order=order)
    if ctx["job"].attempts == 1:
        raise ValueError("the answer got lost")


async def test_each_effect_is_counted_with_the_run_that_made_it(simulation):
    simulation.worker([charge])
    await simulation.queue.enqueue("charge", key="a", order=42, retries=2, retry_delay=3)
    await simulation.queue.enqueue("charge", key="b", order=43)
    await simulation.drain(raise_on_failure=False)
    made = simulation.effects("charged", order=42)
    made.happened(times=2)
    simulation.effects("charged").happened(times=3)
    simulation.effects("refunded").happened(times=0)
    assert [(each.key, each.queue, each.attempt) for each in made] == [
        ("a", "default", 1),
        ("a", "default", 2),
    ]
    first, second = made
    assert second.at_ms - first.at_ms == 3000


async def test_a_wrong_number_of_effects_is_told_with_each_time_and_the_story_of_the_job(
    simulation,
):
    simulation.worker([charge])
    await simulation.queue.enqueue("charge", key="a", order=42, retries=2, retry_delay=3)
    await simulation.drain()
    with pytest.raises(AssertionError) as caught:
        simulation.effects("charged", order=42).happened(times=1)
    text = str(caught.value)
    assert "expected charged(order=42) to have happened exactly 1 time(s)." in text
    assert "it happened 2 time(s):" in text
    assert "2030-01-01 00:00:03 charged(order=42) by job 'a', attempt 2" in text
    assert "retried, again in 3 s: ValueError: the answer got lost" in text


async def test_what_never_happened_is_told_with_what_nearly_did(simulation):
    simulation.effects.record("charged", order=41)
    with pytest.raises(AssertionError, match=r"\(never\); others of that name:\n.*order=41"):
        simulation.effects("charged", order=42).happened()
    with pytest.raises(AssertionError, match=r"\(never\); what did happen:\n.*order=41"):
        simulation.effects("sent").happened()


async def test_at_most_and_at_least_bound_the_number(simulation):
    simulation.effects.record("sent", to="a")
    simulation.effects.record("sent", to="b")
    simulation.effects("sent").at_most(2)
    simulation.effects("sent").at_least(2)
    with pytest.raises(AssertionError, match=r"at most 1 time"):
        simulation.effects("sent").at_most(1)
    with pytest.raises(AssertionError, match=r"at least 3 time"):
        simulation.effects("sent").at_least(3)


async def test_a_sync_task_in_its_thread_makes_effects_too(simulation):
    def charge_and_rest(ctx):
        time.sleep(2)
        effect("charged", order=1)

    simulation.worker([charge_and_rest])
    await simulation.queue.enqueue("charge_and_rest", key="a")
    await simulation.drain()
    [made] = simulation.effects("charged")
    assert (made.key, made.attempt) == ("a", 1)


async def test_what_a_process_did_before_it_was_killed_counts_and_nothing_after(simulation):
    async def charge_twice(ctx):
        await effect("charged", order=1)
        effect("charged", order=2)
        await asyncio.sleep(1)
        effect("charged", order=3)

    process = Process(simulation.loop, "victim")
    simulation.observe(
        lambda event: (
            process.kill() if isinstance(event, Moment) and event.name == "charged" else None
        )
    )
    process.run(simulation.worker, [charge_twice])
    await simulation.queue.enqueue("charge_twice", key="a")
    await simulation.advance(5)
    [made] = simulation.effects("charged")
    assert (made.details["order"], made.process) == (1, process.id)


async def test_without_await_a_killed_process_ends_at_its_next_await(simulation):
    went_on = []

    async def charge_once(ctx):
        effect("charged")
        went_on.append("in the same step")
        await asyncio.sleep(1)
        went_on.append("after it")

    process = Process(simulation.loop, "victim")
    simulation.observe(
        lambda event: (
            process.kill() if isinstance(event, Moment) and event.name == "charged" else None
        )
    )
    process.run(simulation.worker, [charge_once])
    await simulation.queue.enqueue("charge_once")
    await simulation.advance(5)
    assert went_on == ["in the same step"]
    simulation.effects("charged").happened(times=1)


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_an_observer_holds_a_run_behind_its_effect(simulation, kind):
    hold, after = Hold(), []

    async def in_a_task(ctx):
        await effect("charged")
        after.append(simulation.now.second)

    def in_a_thread(ctx):
        effect("charged")
        after.append(simulation.now.second)

    simulation.observe(
        lambda event: hold if isinstance(event, Moment) and event.name == "charged" else None
    )
    simulation.worker([("charge", in_a_task if kind == "async" else in_a_thread)])
    await simulation.queue.enqueue("charge")
    await simulation.advance(4)
    assert after == []
    hold.release()
    await simulation.run_until_idle()
    assert after == [4]


async def test_a_sync_task_of_a_killed_process_does_nothing_behind_its_effect(simulation):
    after = []

    def charge_once(ctx):
        effect("charged")
        after.append("went on")

    process = Process(simulation.loop, "victim")
    simulation.observe(
        lambda event: (
            process.kill() if isinstance(event, Moment) and event.name == "charged" else None
        )
    )
    process.run(simulation.worker, [charge_once])
    await simulation.queue.enqueue("charge_once")
    await simulation.advance(5)
    assert after == []


async def test_an_effect_is_on_the_timeline_and_in_the_trace(simulation):
    simulation.worker([charge])
    await simulation.queue.enqueue("charge", key="a", order=42, retries=2)
    await simulation.drain()
    assert any(" m charged " in line and "order=42" in line for line in simulation.trace.lines())
    assert "effect charged(order=42)" in [entry.moment for entry in simulation.journal.entries]


@pytest.mark.parametrize("name", ["", 3, "committed"])
async def test_an_effect_without_a_word_of_its_own_is_refused(simulation, name):
    with pytest.raises(SimulationError, match="an effect cannot be called"):
        simulation.effects.record(name)


async def test_labels_are_counted(simulation):
    simulation.reach("a customer came back")
    simulation.reach("a customer came back")
    assert simulation.reached == {"a customer came back": 2}

"""What a test says must always hold is asked at the end of each moment, and costs no time and no trace."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from queuekit.simulation import InvariantBroken, Simulation, SimulationError


@pytest.fixture
def config(on_each_backend):
    return on_each_backend


def run(config, story, **options):
    with Simulation(seed=3, **config, **options) as simulation:
        simulation.run(story(simulation))
        return simulation


def test_an_invariant_is_asked_whenever_all_of_a_moment_is_done(config):
    asked = []

    async def story(simulation):
        simulation.invariant(lambda: asked.append(simulation.clock.elapsed_ns // 1_000_000_000))
        await asyncio.sleep(1)
        await asyncio.sleep(0)
        await asyncio.sleep(2)

    run(config, story)
    assert asked == [0, 1, 3]


def test_a_broken_invariant_ends_the_run_with_its_name_the_moment_and_what_happened(config):
    stock = [1]

    async def sell(ctx):
        await asyncio.sleep(5)
        stock[0] -= 1

    async def story(simulation):
        simulation.invariant(lambda: stock[0] >= 0, name="no negative stock")
        simulation.worker([sell])
        await simulation.queue.enqueue("sell", key="one")
        await simulation.queue.enqueue("sell", key="two", timeout=60)
        await simulation.advance(60)
        raise AssertionError("the run went on")

    with pytest.raises(InvariantBroken) as caught:
        run(config, story)
    text = str(caught.value)
    assert caught.value.name == "no negative stock"
    assert "the invariant 'no negative stock' does not hold at 2030-01-01T00:00:05+00:00" in text
    assert "completed  two" in text


def test_an_invariant_that_raises_is_broken_and_says_why(config):
    async def story(simulation):
        def rule(world):
            assert world is simulation
            raise AssertionError("not at all")

        simulation.invariant(rule)
        await asyncio.sleep(1)

    with pytest.raises(InvariantBroken, match=r"'rule' does not hold .*: not at all"):
        run(config, story)


def test_the_end_of_a_run_is_looked_at_too(config):
    async def story(simulation):
        simulation.invariant(lambda: simulation.reached["end"] == 0)
        await asyncio.sleep(1)
        simulation.reach("end")

    with pytest.raises(InvariantBroken):
        run(config, story)


async def task(ctx):
    await asyncio.sleep(2)


async def some_jobs(simulation):
    simulation.worker([task], concurrency=2)
    for number in range(3):
        await simulation.queue.enqueue("task", key=f"job {number}")
    await simulation.advance(5)


def test_an_async_invariant_reads_queues_and_leaves_no_trace(config):
    seen = []

    async def look(simulation):
        queue = simulation.queue
        job = await queue.job("job 2")
        keys = [job.key async for job in queue.iter_jobs()]
        info = await queue.info(jobs=True)
        seen.append(
            (await queue.count("active"), job and job.status.value, len(keys), len(info["jobs"]))
        )

    def story(looks):
        async def watched(simulation):
            if looks:
                simulation.invariant(look)
            await some_jobs(simulation)

        return watched

    with_it, without = run(config, story(looks=True)), run(config, story(looks=False))
    assert with_it.trace.digest() == without.trace.digest()
    assert with_it.clock.elapsed_ns == without.clock.elapsed_ns
    assert seen[0] == (2, "queued", 3, 3)
    assert (1, "active", 3, 1) in seen
    assert seen[-1] == (0, "complete", 3, 0)


def test_an_async_invariant_that_does_not_hold_ends_the_run(config):
    async def look(simulation):
        assert await simulation.queue.count("active") < 2, "two at once"

    async def story(simulation):
        simulation.invariant(look)
        await some_jobs(simulation)

    with pytest.raises(InvariantBroken, match="two at once"):
        run(config, story)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda queue: asyncio.sleep(1), "waits for something"),
        (lambda queue: queue.enqueue("task"), "may only look"),
        (lambda queue: queue.discard("job 0"), "may only look"),
    ],
)
def test_an_async_invariant_that_would_change_or_wait_is_refused(config, what, words):
    async def look(simulation):
        await what(simulation.queue)

    async def story(simulation):
        simulation.invariant(look)
        await some_jobs(simulation)

    with pytest.raises(SimulationError, match=words):
        run(config, story)


def test_an_invariant_must_be_a_function(config):
    async def story(simulation):
        simulation.invariant(True)

    with pytest.raises(SimulationError, match="an invariant is a function, and True is none"):
        run(config, story)


def test_what_has_a_default_keeps_it(config):
    asked = []

    async def story(simulation):
        for n in (5, 7):
            simulation.invariant(lambda most=n: asked.append(most))
        simulation.invariant(lambda world, most=9: asked.append((world is simulation, most)))

    run(config, story)
    assert asked[:3] == [5, 7, (True, 9)]


def test_a_rule_has_the_same_name_in_each_process(config):
    def few(simulation, most):
        return False

    class Rule:
        def __call__(self, simulation):
            return False

    for rule, name in ((partial(few, most=3), "few"), (Rule(), "Rule")):
        with pytest.raises(InvariantBroken) as caught:
            run(config, lambda simulation, rule=rule: asked_of(simulation, rule))
        assert caught.value.name == name


async def asked_of(simulation, rule):
    simulation.invariant(rule)

"""What the tape of a drawn run holds is what has struck in it."""

from __future__ import annotations

import asyncio

import pytest

from queuekit.exploration import run_once
from queuekit.exploration.explore import Portfolio
from queuekit.exploration.failures import plan_of

pytestmark = pytest.mark.slow

RUNS = 40


async def work(ctx, order):
    await asyncio.sleep(0.2)


async def orders(simulation):
    simulation.worker([work])
    for order in range(2):
        await simulation.queue.enqueue("work", order=order, retries=3)


@pytest.mark.parametrize("kinds", [("kill",), ("pause", "partition"), ("kill", "reset", "delay")])
def test_a_drawn_run_is_the_same_when_its_own_tape_is_lived(kinds):
    """Also one that has struck as often as it may: what was drawn beyond that must not strike later."""
    portfolio = Portfolio(("fifo", "random", "pct"), kinds, first_seed=0)
    differ, strikes = [], 0
    for number in range(1, RUNS):
        plan = portfolio.plan(number)
        run = run_once(orders, plan)
        strikes += len([d for d in run.tape if d.site.startswith("swarm.")])
        again = run_once(orders, plan_of(plan.seed, plan.schedule, kinds, run.tape))
        if again.trace != run.trace:
            differ.append(number)
    assert strikes > 30
    assert differ == []

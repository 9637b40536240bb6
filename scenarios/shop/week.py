"""A week of the shop.

The misfortune: a gateway that fails now and then, and is away for forty minutes on Wednesday.
What must hold: every order is charged once and receipted once, nothing is left undone.
"""

from __future__ import annotations

import random
import time
from datetime import timedelta

from queuekit.simulation import Simulation
from scenarios.shop import gateway, tasks

ORDERS_A_DAY = 48
VISITS_A_DAY = 60


async def week(simulation: Simulation) -> None:
    """Monday to Sunday."""
    reset()
    simulation.worker(settings=tasks.settings)
    order = 1000
    for day in range(7):
        events = sorted(
            [(random.uniform(6, 24) * 3600, "order") for _ in range(ORDERS_A_DAY)]
            + [(random.uniform(6, 24) * 3600, "visit") for _ in range(VISITS_A_DAY)]
        )
        now = 0.0
        for at, event in events:
            await simulation.advance(at - now)
            now = at
            if event == "order":
                order += 1
                await place_order(order)
            else:
                await visit(f"customer-{random.randrange(40)}")
        if day in (3, 6):
            await tasks.queue.enqueue(
                tasks.export_orders,
                key=f"export-{day}",
                week=f"day {day}",
                timeout=3600,
                heartbeat=60,
            )
        await simulation.advance(24 * 3600 - now)
    await simulation.drain(scheduled=True, raise_on_failure=False)


async def place_order(order: int) -> None:
    """An order is paid in the background: tries for up to an hour."""
    await tasks.queue.enqueue(
        tasks.charge_card,
        key=f"charge:{order}",
        order=order,
        amount=random.randrange(5, 200),
        retries=12,
        retry_delay=5,
        retry_backoff=600,
    )


async def visit(customer: str) -> None:
    """A visit without an order: a reminder in two hours, unless one is on its way already."""
    tasks.baskets[customer] = time.time()
    await tasks.queue.enqueue(
        tasks.remind,
        key=f"remind:{customer}",
        customer=customer,
        scheduled=timedelta(hours=2),
    )


def reset() -> None:
    """The application's own state, as in a process that has just started."""
    tasks.gateway = gateway.Gateway()
    tasks.outbox = gateway.Outbox()
    tasks.baskets.clear()

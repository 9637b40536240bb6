"""A small application with a defect, and stories of it that a command can import."""

from __future__ import annotations

from queuekit import effect


async def charge(ctx, order):
    """Charges again when it is run again: not idempotent."""
    await effect("charged", order=order)


async def ship(ctx, order):
    """Harmless."""


async def charged_once(simulation):
    """One order, which must be charged once whatever happens."""
    simulation.worker([charge])
    await simulation.queue.enqueue("charge", key="order-42", order=42, retries=3)
    return lambda: simulation.effects("charged", order=42).happened(times=1)


async def charged(simulation):
    """The same, and nobody asks how often."""
    simulation.worker([charge])
    await simulation.queue.enqueue("charge", key="order-42", order=42, retries=3)


async def sound(simulation):
    """Two workers, three jobs, and nothing wrong."""
    for _ in range(2):
        simulation.worker([ship])
    for order in range(3):
        await simulation.queue.enqueue("ship", key=f"order-{order}", order=order, retries=3)

"""The shop's tasks, as an application writes them. Nothing here knows of simulations.

Queue and settings are built at import time, as in production:

    worker = Worker(**settings)
    await worker.start()
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from queuekit import Context, CronJob, Queue
from scenarios.shop.gateway import Gateway, Outbox

queue = Queue.from_url(os.environ.get("REDIS_URL", "redis://localhost"), name="shop")
gateway = Gateway()
outbox = Outbox()
baskets: dict[str, float] = {}
"When each customer's basket was last touched, in epoch seconds."


async def charge_card(ctx: Context, *, order: int, amount: int) -> dict[str, Any]:
    """Charge a card; when that is done, send the receipt and have the invoice drawn."""
    outcome = gateway.charge(order, amount)
    await ctx["queue"].enqueue(send_mail, to=f"customer-{order}", template="receipt", retries=3)
    await ctx["queue"].enqueue(draw_invoice, order=order, timeout=30)
    return {"order": order, "outcome": outcome, "attempts": ctx["job"].attempts}


async def send_mail(ctx: Context, *, to: str, template: str) -> None:
    """Hand a mail over."""
    await asyncio.sleep(0.2)
    outbox.deliver(to, template)


async def remind(ctx: Context, *, customer: str) -> None:
    """Remind of a forgotten basket: enqueued at each visit, under one key, so it is one mail."""
    await asyncio.sleep(0.1)
    outbox.deliver(customer, "forgotten basket")


def draw_invoice(ctx: Context, *, order: int) -> str:
    """Draw a PDF: blocking work in a library that knows nothing of asyncio."""
    for page in (1, 2):
        time.sleep(1.5)
        ctx["job"].sync.update(progress=page / 2)
    return f"invoice-{order}.pdf"


async def export_orders(ctx: Context, *, week: str) -> int:
    """A long export, chunk by chunk; each chunk is a sign of life."""
    chunks = 90
    for chunk in range(1, chunks + 1):
        await asyncio.sleep(20)
        await ctx["job"].update(progress=chunk / chunks, meta={"week": week, "chunk": chunk})
    return chunks


async def clean_up(ctx: Context) -> int:
    """Every night: forget the baskets of yesterday."""
    old = [customer for customer, at in baskets.items() if at < time.time() - 24 * 3600]
    for customer in old:
        del baskets[customer]
    return len(old)


settings: dict[str, Any] = {
    "queue": queue,
    "functions": [charge_card, send_mail, remind, draw_invoice, export_orders],
    "cron_jobs": [CronJob(clean_up, cron="30 3 * * *")],
    "concurrency": 20,
}

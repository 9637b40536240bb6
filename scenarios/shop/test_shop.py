"""The shop's own tests, as its developers write them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from scenarios.shop import tasks
from scenarios.shop.gateway import GatewayDown
from scenarios.shop.week import reset, visit


@pytest.fixture(autouse=True)
def fresh_shop():
    reset()


@pytest.fixture
def gateway_fails(monkeypatch):
    """Let the next charges fail."""

    def fail(times):
        real, left = tasks.gateway.charge, [times]

        def charge(order, amount):
            if left[0]:
                left[0] -= 1
                raise GatewayDown("no answer")
            return real(order, amount)

        monkeypatch.setattr(tasks.gateway, "charge", charge)
        monkeypatch.setattr("random.random", lambda: 0.5)

    return fail


async def test_a_card_is_charged_when_the_gateway_is_back(simulation, gateway_fails):
    simulation.worker(settings=tasks.settings)
    gateway_fails(3)
    job = await tasks.queue.enqueue(
        tasks.charge_card, order=1, amount=50, retries=5, retry_delay=5, retry_backoff=60
    )

    await simulation.advance(5 + 10 + 20)

    simulation.assert_completed(job, attempts=4)
    simulation.assert_retried(job, delays=[5, 10, 20])
    assert tasks.gateway.charges == {1: 50}


async def test_a_charged_order_gets_a_receipt_and_an_invoice(simulation, gateway_fails):
    simulation.worker(settings=tasks.settings)
    gateway_fails(0)
    await tasks.queue.enqueue(tasks.charge_card, order=1, amount=50)

    assert await simulation.drain() == {"complete": 3}

    assert tasks.outbox.sent == [("customer-1", "receipt")]
    [invoice] = [record for record in simulation.journal if record.function == "draw_invoice"]
    simulation.assert_completed(invoice, result="invoice-1.pdf")
    assert [progress for _, progress in invoice.updates] == [0.5, 1.0]


async def test_two_visits_make_one_reminder(simulation):
    simulation.worker(settings=tasks.settings)
    await visit("ada")
    await simulation.advance(3600)
    await visit("ada")

    simulation.assert_enqueued("remind", customer="ada", count=1, scheduled_in=3600)
    await simulation.advance(timedelta(hours=3))

    assert tasks.outbox.sent == [("ada", "forgotten basket")]


async def test_a_long_export_lives_by_its_signs_of_life(simulation):
    simulation.worker(settings=tasks.settings)
    job = await tasks.queue.enqueue(tasks.export_orders, week="1", timeout=3600, heartbeat=60)

    await simulation.advance(timedelta(minutes=15))
    assert (await tasks.queue.job(job.key)).progress == 0.5
    await simulation.advance(timedelta(minutes=15))

    simulation.assert_completed(job, result=90)


async def test_old_baskets_are_forgotten_in_the_second_night(simulation):
    simulation.worker(settings=tasks.settings)
    await visit("ada")

    await simulation.advance_to("2030-01-02T03:30:00")
    [first, *_] = simulation.assert_cron_ran("clean_up", times=2)
    assert first.result == 0

    assert tasks.baskets == {}

"""The token, which says that there is work: whoever gets it and cannot use it passes it on."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from queuekit.simulation import Hold, Hop


async def nap(ctx, seconds=0.0):
    await asyncio.sleep(seconds)


async def two_workers(simulation, slots):
    """Both wait for the token; the first one has waited for longer."""
    both = []
    for _ in range(2):
        both.append(simulation.worker([nap], concurrency=slots, shutdown_grace_period_s=60))
        await simulation.advance(0.1)
    return both


async def until_one_is_told_during_its_claim(simulation):
    """The first worker claims a job that is due, and hears of another one before it has the answer."""
    await simulation.queue.enqueue("nap", seconds=50, timeout=0, scheduled=timedelta(seconds=1))
    answer = Hold()

    def hold_the_answer(event):
        claimed = isinstance(event, Hop) and event.command == "claim" and "nap" in str(event.words)
        return answer if claimed and event.direction == "reply" and not answer.reached else None

    simulation.observe(hold_the_answer)
    await simulation.advance(1.1)
    assert answer.reached
    await simulation.queue.enqueue("nap", key="next")
    await simulation.advance(0.1)
    assert not (await simulation.queue.job("next")).started, "the other one was told"
    return answer


async def waited_s(simulation):
    await simulation.advance(3)
    job = await simulation.queue.job("next")
    assert job.started, "it has not begun, though a worker is idle"
    return (job.started - job.queued) / 1000


async def test_a_token_that_comes_before_the_answer_that_fills_its_worker_is_passed_on(simulation):
    await two_workers(simulation, 1)
    answer = await until_one_is_told_during_its_claim(simulation)
    answer.release()
    assert await waited_s(simulation) < 0.2


async def test_a_token_that_comes_before_the_answer_to_a_worker_that_stops_is_passed_on(simulation):
    first, _ = await two_workers(simulation, 2)
    answer = await until_one_is_told_during_its_claim(simulation)
    first.worker.request_stop()
    answer.release()
    assert await waited_s(simulation) < 0.2
    assert first.running, "its job has its time to end"


async def test_a_token_that_comes_to_a_worker_that_stops_is_passed_on(simulation):
    first, second = await two_workers(simulation, 2)
    long = await simulation.queue.enqueue("nap", seconds=50, timeout=0)
    await simulation.advance(0.1)
    assert (await simulation.queue.job(long.key)).worker_id == first.worker.address
    for _ in range(2):  # until the second one was told last: now the first has waited for longer
        quick = await simulation.queue.enqueue("nap")
        await simulation.advance(0.1)
        done = simulation.record_of(quick).attempts[-1]
        if done.worker == second.worker.address:
            break
    first.worker.request_stop()
    await simulation.advance(0.1)
    await simulation.queue.enqueue("nap", key="next")
    assert await waited_s(simulation) < 0.01
    assert first.running, "its job has its time to end"

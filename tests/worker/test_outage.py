"""A worker while Redis is away: few tries, few words, and back by itself."""

from __future__ import annotations

import asyncio
import logging

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from queuekit import Queue, Status, Worker
from queuekit.errors import ServerUnreachableError
from queuekit.outage import MAX_PAUSE_S, SAME_OUTAGE_S, SAY_AGAIN_S, Backoff, Outage


class Door:
    """Counts who knocks, and lets nobody in while it is shut."""

    def __init__(self, queue):
        address = queue.store.connections.address
        self.open, self.knocks, self.inside = True, [], []
        real, door = address.connection, self

        def connection(**options):
            made = real(**options)
            connect = made.connect

            async def knock():
                if not made.is_connected:
                    door.knocks.append(asyncio.get_running_loop().time())
                if not door.open:
                    raise RedisConnectionError("the door is shut")
                await connect()

            made.connect = knock
            door.inside.append(made)
            return made

        object.__setattr__(address, "connection", connection)

    async def shut(self):
        self.open = False
        for connection in self.inside:
            await connection.disconnect(nowait=True)


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="queuekit")

    def texts(*levels):
        return [r.getMessage() for r in caplog.records if r.levelname in levels]

    return texts


async def add(ctx, a, b):
    return a + b


@pytest.mark.slow
@pytest.mark.by_hand
async def test_a_long_outage_costs_few_tries_and_few_lines(simulation, said):
    queue = Queue.from_url("redis://localhost")
    door = Door(queue)
    simulation.worker(worker=Worker(queue=queue, functions=[add], id="w"))
    await simulation.advance(10)
    await door.shut()
    await simulation.queue.enqueue("add", a=1, b=2)
    before = len(door.knocks)
    await simulation.advance(900)
    tries = len(door.knocks) - before
    # Two knocks a try, a pause of at least half of the longest one after each.
    assert tries <= 2 * 900 / (MAX_PAUSE_S / 2) + 20
    assert tries >= 900 / MAX_PAUSE_S, "it goes on trying"
    lines = said("WARNING", "ERROR")
    assert 2 <= len(lines) <= 900 / SAY_AGAIN_S + 1
    assert "worker w cannot use Redis" in lines[0]
    assert "the door is shut" in lines[1]


@pytest.mark.slow
@pytest.mark.by_hand
async def test_a_worker_carries_on_within_two_seconds_of_the_return_of_redis(simulation, said):
    queue = Queue.from_url("redis://localhost")
    door = Door(queue)
    simulation.worker(worker=Worker(queue=queue, functions=[add], id="w"))
    await simulation.advance(10)
    await door.shut()
    await simulation.advance(600)
    job = await simulation.queue.enqueue("add", a=1, b=2)
    door.open = True
    await simulation.advance(2)
    await job.refresh()
    assert (job.status, job.result) == (Status.COMPLETE, 3)
    [back] = [line for line in said("INFO") if "back" in line]
    assert back.startswith("worker w has Redis back after 60")


async def test_a_worker_stops_at_once_although_redis_is_away(simulation):
    queue = Queue.from_url("redis://localhost")
    door = Door(queue)
    worker = Worker(queue=queue, functions=[add])
    simulation.worker(worker=worker)
    await simulation.advance(10)
    await door.shut()
    await simulation.advance(60)
    await asyncio.wait_for(worker.stop(), 5)


async def test_pauses_double_up_to_their_limit_and_begin_short_again(simulation):
    pauses = Backoff()
    made = [pauses.next_s() for _ in range(20)]
    assert made[0] <= 0.05
    assert all(0.5 * MAX_PAUSE_S <= pause <= MAX_PAUSE_S for pause in made[6:])
    pauses.reset()
    assert pauses.next_s() <= 0.05


async def test_an_outage_lasts_as_long_as_any_duty_fails(simulation, said):
    outage, error = Outage("w"), ServerUnreachableError("gone\nmore of it")
    outage.note("claiming", error)
    outage.note("renewing", error)
    outage.over("claiming")
    assert outage.lasts
    assert not said("INFO")
    await asyncio.sleep(7)
    outage.over("renewing")
    assert not outage.lasts
    assert said("WARNING") == ["worker w cannot use Redis (claiming): gone. It goes on trying."]
    assert said("INFO") == ["worker w has Redis back after 7.0 s"]
    outage.over("renewing")
    assert len(said("INFO")) == 1


async def test_an_outage_that_flaps_is_one_and_a_new_one_is_told_at_once(simulation, said):
    outage, error = Outage("w"), ServerUnreachableError("gone")
    for _ in range(100):
        outage.note("claiming", error)
        outage.over("claiming")
        await asyncio.sleep(0.1)
    assert len(said("WARNING", "INFO")) == 2
    await asyncio.sleep(SAME_OUTAGE_S + 1)
    outage.note("claiming", error)
    assert len(said("WARNING")) == 2


async def test_a_blocking_read_that_is_refused_alone_does_not_turn_the_worker_round(
    simulation, said
):
    """Claims work, listening does not: the worker looks now and then, and says so once."""
    queue = Queue.from_url("redis://localhost")
    claims = []
    claim = queue.store.claim

    async def counted(*arguments, **options):
        claims.append(arguments)
        return await claim(*arguments, **options)

    async def refused(*arguments, **options):
        raise ServerUnreachableError("no connection to spare")

    queue.store.claim, queue.store.wait = counted, refused
    simulation.worker(worker=Worker(queue=queue, functions=[add], id="w"))
    job = await simulation.queue.enqueue("add", a=1, b=2)
    await simulation.advance(60)
    await job.refresh()
    assert job.status is Status.COMPLETE
    assert 60 / MAX_PAUSE_S <= len(claims) <= 60 / (MAX_PAUSE_S / 2) + 10
    assert len(said("WARNING")) <= 60 / SAY_AGAIN_S + 1
    assert not [line for line in said("INFO") if "back" in line]


async def test_a_task_tells_of_its_progress_although_redis_is_away_for_a_while(simulation):
    async def tells(ctx):
        await asyncio.sleep(5)
        await ctx["job"].update(progress=0.5)
        return ctx["job"].attempts

    queue = Queue.from_url("redis://localhost")
    door = Door(queue)
    simulation.worker([tells], queue=queue)
    job = await simulation.queue.enqueue("tells", retries=1)
    await simulation.advance(1)
    await door.shut()
    await simulation.advance(8)
    door.open = True
    await simulation.advance(5)
    simulation.assert_completed(job, result=1)


async def test_it_waits_no_longer_than_its_lease_may_hold(simulation):
    heard = []

    async def tells(ctx):
        await asyncio.sleep(5)
        try:
            await ctx["job"].update(progress=0.5)
        except (ServerUnreachableError, asyncio.CancelledError) as error:
            heard.append((type(error).__name__, simulation.loop.time()))
            raise

    queue = Queue.from_url("redis://localhost")
    door = Door(queue)
    simulation.worker([tells], queue=queue)
    await simulation.queue.enqueue("tells", timeout=None)
    await simulation.advance(1)
    began = simulation.loop.time() - 1
    await door.shut()
    await simulation.advance(60)
    [(_, at)] = heard
    assert 29 <= at - began <= 31


async def test_an_outage_that_met_the_statistics_alone_is_over_when_redis_is_back(simulation):
    queue = Queue.from_url("redis://localhost")
    door = Door(queue)
    worker = Worker(queue=queue, functions=[add])
    simulation.worker(worker=worker)
    await simulation.queue.enqueue("add", a=1, b=2)
    await simulation.advance(1)
    await door.shut()
    worker.changed.set()
    await simulation.advance(30)
    assert worker.outage.lasts
    door.open = True
    await simulation.advance(3)
    await simulation.queue.store.nudge(worker.address)  # the ear has something to hear
    await simulation.advance(1)
    assert not worker.outage.lasts

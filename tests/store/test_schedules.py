"""What Redis keeps of schedules: taken up, handed over, forgotten."""

from __future__ import annotations

import pytest

from queuekit.store.redis import NewJob
from queuekit.store.schedules import adopt

DAY_S = 86_400
MINUTE_MS = 60_000


@pytest.fixture
def store(simulation):
    return simulation.queue.store


async def bring(store, tick_ms, timetable="a", worker="w1", schedule="s"):
    job = NewJob(f"cron:{schedule}:{tick_ms}", f"{worker}{tick_ms}", b"{}")
    verdict, _ = await store.cron(
        schedule, tick_ms, unique=False, job=job, timetable=timetable, worker=worker
    )
    return verdict


async def up_to(store, timetable="a", worker="w1", schedule="s"):
    _, [since] = await adopt(store, worker, [(schedule, timetable)])
    return since


async def test_a_new_schedule_begins_when_it_is_taken_up_first(store, simulation):
    begin = simulation.environment.time_ms()
    assert await adopt(store, "w1", [("s", "a"), ("t", "b")]) == (begin, [begin, begin])
    await simulation.advance(60)
    assert await up_to(store, worker="w2") == begin
    assert await up_to(store) == begin, "sent twice it is the same"


async def test_more_schedules_than_a_script_may_work_on_are_taken_up_in_order(store, simulation):
    begin = simulation.environment.time_ms()
    await up_to(store, schedule="150")
    await simulation.advance(1)
    _, since = await adopt(store, "w1", [(str(number), "a") for number in range(250)])
    assert [at - begin for at in since] == [1000] * 150 + [0] + [1000] * 99


async def test_a_handled_tick_is_how_far_the_schedule_has_come(store, simulation):
    begin = await up_to(store)
    await simulation.advance(120)
    assert await bring(store, begin + MINUTE_MS) == "enqueued"
    assert await up_to(store) == begin + MINUTE_MS
    assert await bring(store, begin + MINUTE_MS, worker="w2") == "handled"
    assert await bring(store, begin + 1, worker="w2") == "handled", "it is behind that"


async def test_a_schedule_with_another_timetable_begins_now(store, simulation):
    begin = await up_to(store)
    await simulation.advance(60)
    assert await up_to(store, timetable="b") == begin + MINUTE_MS


async def test_a_handled_tick_stays_handled_when_the_servers_clock_is_set_back(
    store, simulation, monkeypatch
):
    begin = await up_to(store)
    await simulation.advance(60)
    assert await bring(store, begin + MINUTE_MS) == "enqueued"
    monkeypatch.setattr(simulation.environment, "script_now", lambda: str(begin))
    assert await up_to(store, timetable="b") == begin + MINUTE_MS


async def test_a_tick_by_the_old_timetable_is_refused_while_a_worker_with_the_new_one_is_alive(
    store, simulation
):
    begin = await up_to(store)
    await store.register("w2", 100 * MINUTE_MS)
    await up_to(store, timetable="b", worker="w2")
    await simulation.advance(60)
    assert await bring(store, begin + MINUTE_MS) == "replaced"
    assert await bring(store, begin + MINUTE_MS, timetable="b", worker="w2") == "enqueued"
    # Whoever ticks by it answers for it: not only the one that has brought it.
    await store.register("w3", 100 * MINUTE_MS)
    await simulation.advance(60)
    assert await bring(store, begin + 2 * MINUTE_MS, timetable="b", worker="w3") == "enqueued"
    await store.deregister("w2")
    await simulation.advance(60)
    assert await bring(store, begin + 3 * MINUTE_MS) == "replaced"


@pytest.mark.parametrize("workers", [2, 16])
async def test_whoever_of_a_deploy_is_left_keeps_the_old_timetable_away(store, simulation, workers):
    begin = await up_to(store)
    for number in range(workers):
        await store.register(f"new {number}", 100 * MINUTE_MS)
        await up_to(store, timetable="b", worker=f"new {number}")
    for number in range(1, workers):  # all but the one that was the first
        await store.deregister(f"new {number}")
    await simulation.advance(60)
    assert await bring(store, begin + MINUTE_MS) == "replaced"
    await store.deregister("new 0")
    assert await bring(store, begin + MINUTE_MS) == "enqueued"


async def test_of_many_workers_with_one_timetable_the_last_to_come_or_to_tick_are_known(
    store, simulation
):
    begin = await up_to(store)
    for number in range(20):
        await store.register(f"new {number}", 100 * MINUTE_MS)
        await up_to(store, timetable="b", worker=f"new {number}")
    for number in range(4, 20):
        await store.deregister(f"new {number}")
    await simulation.advance(60)
    tick = begin + MINUTE_MS
    assert await bring(store, tick, timetable="b", worker="new 0") == "enqueued"
    await simulation.advance(60)
    assert await bring(store, tick + MINUTE_MS) == "replaced"
    [told] = await store._pipeline(("HGET", f"{store.root}:timetable", "s"))
    assert told.decode().splitlines() == ["b", *(f"new {n}" for n in range(5, 20)), "new 0"]


@pytest.mark.parametrize("ends", ["stops", "dies"])
async def test_a_timetable_whose_last_worker_is_gone_gives_way(store, simulation, ends):
    begin = await up_to(store)
    await store.register("w2", 10 * MINUTE_MS)
    await up_to(store, timetable="b", worker="w2")
    if ends == "stops":
        await store.deregister("w2")
    await simulation.advance(11 * 60)
    assert await bring(store, begin + 11 * MINUTE_MS) == "enqueued"
    assert await up_to(store) == begin + 11 * MINUTE_MS, "and holds again"


async def test_a_timetable_may_hold_any_character_but_is_told_apart_as_a_whole(store, simulation):
    await store.register("w\n2", 100 * MINUTE_MS)
    begin = await up_to(store, timetable="a b%w")
    await simulation.advance(60)
    assert await up_to(store, timetable="a b%w") == begin
    assert await up_to(store, timetable="a b%") == begin + MINUTE_MS


async def test_schedules_that_nobody_has_any_more_are_forgotten_a_few_at_a_tick(store, simulation):
    tick = simulation.environment.time_ms()
    for number in range(15):
        assert await bring(store, tick, schedule=f"old {number}") == "enqueued"
    await simulation.advance(399 * DAY_S)
    for expected in (15, 5, 0):
        await bring(store, simulation.environment.time_ms(), schedule="new")
        counts = await store._pipeline(
            ("ZCARD", f"{store.root}:ticked"),
            ("HLEN", f"{store.root}:timetable"),
            ("HLEN", f"{store.root}:cronjob"),
        )
        assert counts == [expected + 1] * 3
        await simulation.advance(DAY_S)


async def test_a_tick_of_a_forgotten_time_is_not_handled_again(store, simulation):
    begin = simulation.environment.time_ms()
    assert await bring(store, begin) == "enqueued"
    await simulation.advance(400 * DAY_S)
    await bring(store, begin + 400 * DAY_S * 1000, schedule="new")
    assert await bring(store, begin, worker="sleeper") == "handled"

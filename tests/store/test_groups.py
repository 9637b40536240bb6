"""Groups: one of each runs at a time, its mates wait apart, and nobody else waits for them."""

from __future__ import annotations

import pytest

from queuekit.job import Status


async def test_of_a_group_one_job_is_active_at_a_time(hand):
    await hand.enqueue("a", "b", group="g")
    [held] = await hand.claim()
    assert await hand.claim_keys() == []
    await hand.end(held)
    assert await hand.claim_keys() == ["b"]


async def test_a_blocked_group_stands_in_nobodys_way(hand):
    await hand.enqueue("g1", "g2", group="g")
    await hand.enqueue("h1", "h2", group="h")
    await hand.enqueue("alone")
    assert await hand.claim_keys() == ["g1", "h1", "alone"]


async def test_those_who_follow_come_in_the_order_of_their_enqueue(hand):
    # The names run backwards, and the row of those who could start is empty all the time.
    await hand.enqueue("z", group="g")
    [held] = await hand.claim()
    await hand.enqueue("y", group="g")
    await hand.enqueue("x", "w", group="g")
    order = []
    while held:
        order.append(held.key)
        await hand.end(held)
        held = next(iter(await hand.claim()), None)
    assert order == ["z", "y", "x", "w"]


async def test_nobody_overtakes_those_who_follow_though_the_row_ran_empty_meanwhile(hand):
    await hand.enqueue("leads", group="g")
    [held] = await hand.claim()
    await hand.enqueue("o1", "o2", "o3")
    await hand.enqueue("b", group="g")
    await hand.claim()
    await hand.enqueue("a", group="g")
    await hand.end(held)
    assert await hand.claim_keys() == ["b"]


async def test_a_more_urgent_mate_overtakes_the_one_that_waits(hand):
    await hand.enqueue("usual", group="g")
    await hand.enqueue("urgent", group="g", priority=-1)
    [held] = await hand.claim()
    assert held.key == "urgent"
    await hand.end(held)
    assert await hand.claim_keys() == ["usual"]


async def test_a_more_urgent_mate_does_not_overtake_the_one_that_runs(hand):
    await hand.enqueue("usual", group="g")
    [held] = await hand.claim()
    await hand.enqueue("calm", group="g", priority=1)
    await hand.enqueue("urgent", group="g", priority=-1)
    assert await hand.claim_keys() == []
    await hand.end(held)
    [held] = await hand.claim()
    assert held.key == "urgent"
    await hand.end(held)
    assert await hand.claim_keys() == ["calm"]


async def test_one_that_follows_waits_its_turn_among_the_others_by_its_priority(hand):
    await hand.enqueue("leads", group="g")
    [held] = await hand.claim()
    await hand.enqueue("urgent", group="g", priority=-1)
    await hand.enqueue("other")
    await hand.end(held)
    assert await hand.claim_keys() == ["urgent", "other"]


@pytest.mark.parametrize("victim", ["leads", "second", "third"])
async def test_aborting_any_of_a_group_that_waits_leaves_the_others_in_order(hand, victim):
    await hand.enqueue("leads", "second", "third", group="g")
    assert await hand.abort(victim) == "aborted"
    order = []
    while claimed := await hand.claim():
        order += [held.key for held in claimed]
        await hand.end(claimed[0])
    assert order == [key for key in ("leads", "second", "third") if key != victim]


async def test_the_last_of_a_group_leaves_nothing_of_it_behind(hand):
    await hand.enqueue("a", "b", group="g")
    await hand.abort("a")
    [held] = await hand.claim()
    await hand.end(held)
    found = await hand.look()
    assert not {"groups", "leaders", "followers"} & set(found.contents)


async def test_aborting_the_active_one_frees_its_group_when_its_run_has_ended(hand):
    await hand.enqueue("a", "b", group="g")
    [held] = await hand.claim()
    assert await hand.abort("a") == "aborting"
    assert await hand.claim_keys() == []
    await hand.end(held, Status.ABORTED)
    assert await hand.claim_keys() == ["b"]


async def test_a_retry_delay_frees_the_group_and_the_job_comes_back_behind_it(hand, simulation):
    await hand.enqueue("a", "b", "c", group="g")
    [held] = await hand.claim()
    await hand.retry(held, delay_ms=5000)
    [second] = await hand.claim()
    assert second.key == "b"
    await simulation.advance(5)
    assert await hand.claim_keys() == [], "it is promoted, and follows"
    await hand.end(second)
    [third] = await hand.claim()
    await hand.end(third)
    assert [third.key, *await hand.claim_keys()] == ["c", "a"]


async def test_a_retry_without_a_delay_lets_those_who_waited_go_first(hand):
    await hand.enqueue("a", "b", group="g")
    [held] = await hand.claim()
    await hand.retry(held)
    [second] = await hand.claim()
    await hand.end(second)
    assert [second.key, *await hand.claim_keys()] == ["b", "a"]


async def test_a_released_job_is_the_first_of_its_group_again(hand):
    await hand.enqueue("c", "b", "a", group="g")
    [held] = await hand.claim()
    await hand.release(held)
    assert await hand.claim_keys() == ["c"]


async def test_a_released_job_of_a_group_is_before_its_mates_of_an_older_row(hand):
    await hand.enqueue("leads", group="g")
    [held] = await hand.claim()
    await hand.enqueue("urgent", group="g", priority=-1)
    await hand.enqueue("mate", group="g")
    await hand.release(held)
    [first] = await hand.claim()
    await hand.end(first)
    assert [first.key, *await hand.claim_keys()] == ["urgent", "leads"]


async def test_a_lost_job_frees_its_group(hand, simulation):
    await hand.enqueue("a", "b", group="g")
    [held] = await hand.claim()
    await simulation.advance(31)
    await hand.lose(held)
    [second] = await hand.claim()
    await hand.end(second)
    assert [second.key, *await hand.claim_keys()] == ["b", "a"]


@pytest.mark.slow
async def test_a_hundred_of_one_group_in_one_batch_come_one_by_one_in_order(hand):
    keys = [f"k{n}" for n in reversed(range(100))]
    await hand.enqueue(*keys, group="g")
    order = []
    for _ in keys:
        [held] = await hand.claim(100)
        order.append(held.key)
        await hand.end(held)
    assert order == keys


async def test_a_scheduled_one_does_not_hold_its_group(hand, simulation):
    await hand.enqueue("timed", group="g", due_ms=hand.now_ms + 5000)
    await hand.enqueue("now", group="g")
    [held] = await hand.claim()
    assert held.key == "now"
    await simulation.advance(5)
    assert await hand.claim_keys() == []
    await hand.end(held)
    assert await hand.claim_keys() == ["timed"]


async def test_the_end_of_a_run_wakes_somebody_for_the_mate_that_follows(hand):
    await hand.enqueue("a", "b", group="g")
    [held] = await hand.claim()
    await hand.token()
    await hand.end(held)
    assert await hand.token()


async def test_groups_whose_names_begin_alike_are_apart(hand):
    await hand.enqueue("a1", "a2", group="g")
    await hand.enqueue("b1", "b2", group="g:h")
    await hand.enqueue("c1", group="gg")
    held = await hand.claim()
    assert [each.key for each in held] == ["a1", "b1", "c1"]
    await hand.end(held[2])
    assert await hand.claim_keys() == []
    await hand.end(held[0])
    assert await hand.claim_keys() == ["a2"]


DAMAGES = ("call overwritten", "call deleted", "state overwritten", "state deleted")


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("place", ["leads", "second", "active"])
async def test_a_damaged_job_does_not_hold_up_its_group(hand, simulation, how, place):
    await hand.enqueue("leads", "second", "third", group="g")
    active = await hand.claim() if place == "active" else []
    await hand.damage("leads" if active else place, how)
    await simulation.advance(31)
    seen = []
    for _ in range(6):
        for orphan in await hand.store.expired():
            await hand.lose(orphan)
        for held in await hand.claim():
            seen.append(held.key)
            await hand.end(held)
    expected = {"leads", "second", "third"} - hand.damaged
    assert expected <= set(seen), f"only {seen} came"
    assert (await hand.look()).fields("groups") == {}


@pytest.mark.parametrize("how", DAMAGES)
async def test_the_end_of_a_run_is_accepted_whatever_lies_at_its_mates_record(hand, how):
    await hand.enqueue("a", "b", "c", group="g")
    [held] = await hand.claim()
    await hand.damage("b", how)
    assert await hand.end(held) == "ok"
    assert await hand.status("a") == "complete"


@pytest.mark.parametrize("how", DAMAGES)
async def test_a_more_urgent_mate_is_accepted_whatever_lies_at_the_leaders_record(hand, how):
    await hand.enqueue("usual", group="g")
    await hand.damage("usual", how)
    assert await hand.enqueue("urgent", group="g", priority=-1) == ["new"]
    assert await hand.claim_keys() == ["urgent"]


async def test_aborting_one_that_follows_and_lost_its_state_blocks_nobody(hand):
    await hand.enqueue("a", "b", "c", group="g")
    [held] = await hand.claim()
    await hand.damage("b", "state deleted")
    assert await hand.abort("b") == "aborted"
    await hand.end(held)
    assert await hand.claim_keys() == ["c"]


async def test_a_new_life_of_a_leader_whose_records_are_gone_sets_its_old_group_free(hand):
    await hand.enqueue("a", "b", group="g")
    await hand.damage("a", "call deleted")
    await hand.damage("a", "state deleted")
    assert await hand.enqueue("a", delay_ms=1000) == ["new"]
    hand.damaged.clear()
    await hand.look()
    assert await hand.claim_keys() == ["b"]


async def test_a_group_goes_on_though_the_way_back_from_its_leader_is_lost(hand):
    await hand.enqueue("a", "b", group="g")
    [held] = await hand.claim()
    await hand.command("DEL", f"{hand.store.root}:leaders")
    assert await hand.end(held) == "ok"
    assert await hand.claim_keys() == ["b"]

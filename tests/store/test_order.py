"""Who is next: the more urgent first, and among equals whoever came first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from queuekit.job import Status

CLAIM_BYTES = 4 * 1024 * 1024
"Of calls: an answer takes in no further job when it has so many."


async def test_of_two_priorities_the_lower_number_goes_first(hand):
    await hand.enqueue("calm", priority=1)
    await hand.enqueue("usual")
    await hand.enqueue("urgent", priority=-1)
    assert await hand.claim_keys() == ["urgent", "usual", "calm"]


async def test_within_a_priority_whoever_came_first_goes_first(hand):
    # Keys in no order of their own, so that the order of their names would be seen.
    await hand.enqueue("m", "b", "z")
    await hand.enqueue("a")
    assert await hand.claim_keys() == ["m", "b", "z", "a"]


async def test_the_extremes_of_priority_keep_their_order_among_themselves(hand):
    for key, priority in (("z1", 32767), ("m1", 0), ("a1", -32768), ("a0", -32768), ("z0", 32767)):
        await hand.enqueue(key, priority=priority)
    assert await hand.claim_keys() == ["a1", "a0", "m1", "z1", "z0"]


async def test_neighbouring_priorities_do_not_mix_however_many_come_and_go(hand):
    for round_ in range(5):
        await hand.enqueue(f"low{round_}", priority=1)
        await hand.enqueue(f"high{round_}", priority=0)
        [held] = await hand.claim(1)
        assert held.key == f"high{round_}"
        await hand.end(held)
    assert await hand.claim_keys() == [f"low{n}" for n in range(5)]


@pytest.mark.parametrize("priority", [-32768, 0, 32767])
async def test_a_released_job_is_the_first_of_its_priority_again(hand, priority):
    await hand.enqueue("b", "a", "c", priority=priority)
    first, second = await hand.claim(2)
    await hand.release(second)
    await hand.release(first)
    assert await hand.claim_keys() == ["b", "a", "c"]


async def test_a_released_job_does_not_overtake_a_more_urgent_one(hand):
    await hand.enqueue("calm", priority=5)
    [held] = await hand.claim()
    await hand.enqueue("urgent", priority=4)
    await hand.release(held)
    assert await hand.claim_keys() == ["urgent", "calm"]


async def test_a_retried_job_goes_to_the_end_of_its_priority(hand):
    await hand.enqueue("a", "b")
    await hand.enqueue("later", priority=1)
    [held] = await hand.claim(1)
    await hand.retry(held)
    assert await hand.claim_keys() == ["b", "a", "later"]


async def test_a_lost_job_goes_to_the_end_of_its_priority(hand, simulation):
    await hand.enqueue("a")
    [held] = await hand.claim()
    await simulation.advance(31)
    await hand.enqueue("b")
    assert await hand.lose(held) == "ok"
    assert await hand.claim_keys() == ["b", "a"]


async def test_a_scheduled_job_comes_with_its_priority_when_its_time_has_come(hand, simulation):
    await hand.enqueue("timed", priority=-3, due_ms=hand.now_ms + 5000)
    await hand.enqueue("usual", "other")
    await simulation.advance(5)
    assert await hand.claim_keys() == ["timed", "usual", "other"]


async def test_scheduled_jobs_come_in_the_order_of_their_moments(hand, simulation):
    await hand.enqueue("second", due_ms=hand.now_ms + 2000)
    await hand.enqueue("first", due_ms=hand.now_ms + 1000)
    await simulation.advance(3)
    assert await hand.claim_keys() == ["first", "second"]


async def test_more_jobs_than_one_script_promotes_come_with_the_next_claims(hand, simulation):
    keys = [f"k{n:03}" for n in range(150)]
    await hand.enqueue(*keys, delay_ms=1000)
    await simulation.advance(1)
    claimed = [key for _ in range(3) for key in await hand.claim_keys(100)]
    assert claimed == keys


async def test_a_retried_job_keeps_its_priority_through_its_delay(hand, simulation):
    await hand.enqueue("urgent", priority=-1)
    [held] = await hand.claim()
    await hand.retry(held, delay_ms=2000)
    await hand.enqueue("usual")
    await simulation.advance(2)
    assert await hand.claim_keys() == ["urgent", "usual"]


async def test_a_new_life_of_a_key_has_nothing_of_the_priority_before(hand):
    await hand.enqueue("a", priority=9, group="g")
    [held] = await hand.claim()
    await hand.end(held, Status.FAILED)
    await hand.enqueue("b", priority=1)
    await hand.enqueue("a")
    assert await hand.claim_keys() == ["a", "b"]
    assert ((await hand.state("a"))["priority"], (await hand.state("a"))["group"]) == (None, None)


async def test_a_full_queue_refuses_what_exceeds_it_and_says_which(hand):
    await hand.enqueue("timed", due_ms=hand.now_ms + 9000)
    await hand.enqueue("leads", "follows", group="g")
    jobs = [hand.new("a"), hand.new("b")]
    verdicts = [each.verdict for each in await hand.store.enqueue(jobs, max_waiting=4)]
    assert verdicts == ["new", "full"]
    again = [each.verdict for each in await hand.store.enqueue(jobs, max_waiting=4)]
    assert again == ["same", "full"], "what was accepted stays so, however full it is"


async def test_jobs_that_run_take_no_place_in_a_full_queue(hand):
    await hand.enqueue("a")
    await hand.claim()
    [accepted] = await hand.store.enqueue([hand.new("b")], max_waiting=1)
    assert accepted.verdict == "new"


@pytest.mark.slow
@pytest.mark.parametrize(("bytes_more", "jobs"), [(0, 4), (-1, 5)])
async def test_a_claim_is_answered_with_some_megabytes_and_not_with_all_that_waits(
    hand, bytes_more, jobs
):
    each = CLAIM_BYTES // 4
    for number in range(6):
        new = hand.new(f"n{number}")
        head = f"{new.id} {hand.now_ms}\n"
        size = each - len(head) + (bytes_more if number == 0 else 0)
        await hand.store.enqueue([replace(new, call=b"x" * size)])
    assert await hand.claim_keys(9) == [f"n{number}" for number in range(jobs)]
    assert await hand.token(), "what is left is for another one"
    assert await hand.claim_keys(9) == [f"n{number}" for number in range(jobs, 6)]

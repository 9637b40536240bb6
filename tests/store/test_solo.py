"""Jobs that were lost twice run alone: one worker at a time, and nothing else beside them."""

from __future__ import annotations

from queuekit.job import Status
from tests.store.hand import ROOM_MS


async def test_a_suspect_is_handed_out_alone_to_a_worker_that_runs_nothing(hand):
    await hand.suspects("s")
    await hand.enqueue("a", "b")
    assert await hand.claim_keys(idle=True) == ["s"]
    assert (await hand.state("s"))["solo"] == "1"


async def test_a_busy_worker_is_asked_to_make_room_and_gets_nothing_meanwhile(hand):
    await hand.suspects("s")
    await hand.enqueue("a")
    asked = await hand.ask()
    assert (asked.make_room, asked.jobs) == (True, [])


async def test_while_one_worker_makes_room_the_others_work_on(hand):
    await hand.suspects("s")
    await hand.enqueue("a")
    assert (await hand.ask(worker="first")).make_room
    other = await hand.ask(worker="second", idle=True)
    assert (other.make_room, [held.key for held in other.jobs]) == (False, ["a"])


async def test_the_worker_that_made_room_is_handed_the_suspect(hand):
    await hand.suspects("s")
    await hand.ask(worker="first")
    assert await hand.claim_keys(worker="first", idle=True) == ["s"]


async def test_of_two_suspects_the_second_waits_until_the_first_has_ended(hand):
    await hand.suspects("s", "t")
    [first] = await hand.claim(worker="w1", idle=True)
    assert await hand.claim_keys(worker="w2", idle=True) == []
    await hand.end(first)
    assert await hand.claim_keys(worker="w2", idle=True) == ["t"]


async def test_the_end_of_a_suspects_run_wakes_somebody_for_the_next_one(hand):
    await hand.suspects("s", "t")
    [first] = await hand.claim(idle=True)
    await hand.token()
    await hand.end(first)
    assert await hand.token()


async def test_a_suspect_whose_lease_has_ended_keeps_nobody_waiting(hand, simulation):
    await hand.suspects("s", "t")
    [first] = await hand.claim(worker="w1", idle=True)
    await simulation.advance(31)
    await hand.lose(first)
    assert await hand.claim_keys(worker="w2", idle=True) == ["t"]


async def test_a_worker_that_never_gets_there_loses_its_turn(hand, simulation):
    await hand.suspects("s")
    asked = await hand.ask(worker="first")
    assert asked.lease_end_ms == hand.now_ms + ROOM_MS, "whoever waits knows by when to look"
    await simulation.advance(ROOM_MS / 1000 - 0.001)
    assert await hand.claim_keys(worker="second", idle=True) == []
    await simulation.advance(0.001)
    assert await hand.claim_keys(worker="second", idle=True) == ["s"]


async def test_a_worker_that_leaves_gives_its_turn_away_and_says_so(hand):
    await hand.suspects("s")
    await hand.ask(worker="first")
    await hand.token()
    await hand.store.deregister("first")
    assert await hand.token()
    assert await hand.claim_keys(worker="second", idle=True) == ["s"]


async def test_a_worker_that_was_killed_gives_its_turn_away_when_it_counts_as_gone(hand):
    await hand.suspects("s")
    await hand.store.register("first", 1000)
    await hand.store.claim("first", "c", 1, 30_000, 1000, room_ms=9_000_000)
    await hand.simulation.advance(2)
    await hand.store.register("second", 60_000)
    assert await hand.claim_keys(worker="second", idle=True) == ["s"]


async def test_a_worker_without_a_free_slot_is_asked_too(hand):
    await hand.suspects("s")
    assert (await hand.ask(0)).make_room


async def test_a_worker_that_will_make_no_room_is_not_asked(hand):
    await hand.suspects("s")
    await hand.token()
    assert not (await hand.ask(0, room_ms=0)).make_room
    assert await hand.token(), "the token is for somebody who will"


async def test_a_suspect_is_a_suspect_again_after_a_retry(hand, simulation):
    await hand.suspects("s")
    [held] = await hand.claim(idle=True)
    await hand.retry(held, delay_ms=1000)
    await simulation.advance(1)
    assert (await hand.ask()).make_room


async def test_a_new_life_of_a_suspects_key_does_not_run_alone(hand):
    await hand.suspects("s", "t")
    [held] = await hand.claim(idle=True)
    await hand.end(held, Status.FAILED)
    await hand.enqueue("s")
    assert await hand.claim_keys(idle=True) == ["t"]
    assert await hand.claim_keys(worker="w2") == ["s"]


async def test_a_new_life_of_an_old_suspect_keeps_no_other_suspect_waiting(hand):
    await hand.suspects("s")
    [held] = await hand.claim(idle=True)
    await hand.end(held)
    await hand.enqueue("s")
    assert await hand.claim_keys() == ["s"]
    await hand.enqueue("t")
    [held] = await hand.claim()
    await hand.end(held, Status.QUEUED, charge="losses", solo=True)
    assert await hand.claim_keys(worker="w2", idle=True) == ["t"]


async def test_aborting_a_suspect_ends_it(hand):
    await hand.suspects("s")
    assert await hand.abort("s") == "aborted"
    await hand.enqueue("a")
    assert await hand.claim_keys() == ["a"]


async def test_suspects_come_by_priority_too(hand):
    await hand.enqueue("calm", priority=1)
    await hand.enqueue("urgent", priority=-1)
    for held in await hand.claim():
        await hand.end(held, Status.QUEUED, charge="losses", solo=True)
    assert await hand.claim_keys(idle=True) == ["urgent"]


async def test_a_suspect_of_a_group_waits_for_its_mate_and_runs_alone_then(hand):
    await hand.enqueue("s", "mate", group="g")
    [held] = await hand.claim()
    await hand.end(held, Status.QUEUED, charge="losses", solo=True)
    [mate] = await hand.claim(idle=True)
    assert mate.key == "mate", "it came first, now that the suspect goes to the end"
    await hand.end(mate)
    assert (await hand.ask()).make_room
    assert await hand.claim_keys(idle=True) == ["s"]


async def test_a_suspect_whose_record_was_lost_keeps_no_other_suspect_waiting(hand, simulation):
    await hand.suspects("s", "t")
    await hand.claim(worker="w1", idle=True)
    await hand.damage("s", "state deleted")
    await hand.token()
    await simulation.advance(31)
    assert await hand.store.expired() == []
    assert await hand.token()
    assert await hand.claim_keys(worker="w2", idle=True) == ["t"]

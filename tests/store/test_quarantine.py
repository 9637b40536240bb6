"""Records that are damaged: set aside where they can be seen, and nobody else waits for them."""

from __future__ import annotations

import pytest

from queuekit.job import Status
from queuekit.store.codec import payload_of
from tests.store.hand import PAYLOAD

DAY_S = 86_400
DAMAGES = {
    "call deleted": "its record cannot be read: its call is gone",
    "state overwritten": (
        "its record cannot be read: its state is no hash, something else was written to its key"
    ),
}
"What a claim sets aside by itself; a call that was overwritten is met by the worker that decodes it."

FOREIGN = b"\x00foreign\xff"


async def aside(hand):
    return [key for key, _ in await hand.store.quarantined(0, 10)]


async def foreign_bytes(hand, key):
    return await hand.command("GET", f"{hand.store.root}:foreign:{key}")


@pytest.mark.parametrize("how", DAMAGES)
async def test_a_damaged_job_is_set_aside_by_the_claim_that_meets_it(hand, how):
    await hand.enqueue("bad")
    await hand.damage("bad", how)
    assert await hand.claim_keys() == []
    assert await hand.store.quarantined(0, 10) == [("bad", hand.now_ms)]
    state = await hand.state("bad")
    assert (state["status"], state["error"]) == ("failed", DAMAGES[how])


@pytest.mark.parametrize("how", DAMAGES)
async def test_the_others_come_with_the_same_claim(hand, how):
    await hand.enqueue("a", "bad", "b", "c")
    await hand.damage("bad", how)
    assert await hand.claim_keys(2) == ["a", "b"]
    assert await hand.claim_keys() == ["c"]


@pytest.mark.parametrize("how", DAMAGES)
async def test_a_damaged_suspect_does_not_keep_the_next_one_waiting(hand, how):
    await hand.suspects("bad", "s")
    await hand.damage("bad", how)
    assert await hand.claim_keys(idle=True) == ["s"]
    assert await aside(hand) == ["bad"]


@pytest.mark.parametrize("how", [*DAMAGES, "state deleted"])
async def test_a_damaged_scheduled_job_holds_up_no_other(hand, simulation, how):
    await hand.enqueue("bad", "b", delay_ms=1000)
    await hand.damage("bad", how)
    await simulation.advance(1)
    assert "b" in await hand.claim_keys()


async def test_a_call_that_was_overwritten_is_handed_out_as_it_is_for_its_worker_to_set_aside(hand):
    await hand.enqueue("bad")
    await hand.damage("bad", "call overwritten")
    [held] = await hand.claim()
    assert held.call == FOREIGN
    verdict = await hand.end(held, Status.FAILED, quarantine=True, error=b"cannot be read")
    assert verdict == "ok"
    assert await aside(hand) == ["bad"]
    assert (await hand.state("bad"))["error"] == "cannot be read"


async def test_a_job_whose_state_was_evicted_runs_with_what_is_left(hand):
    await hand.enqueue("a", priority=3)
    await hand.damage("a", "state deleted")
    [held] = await hand.claim()
    assert (held.key, payload_of(held.call)) == ("a", PAYLOAD)
    assert await hand.end(held) == "ok"


@pytest.mark.parametrize("how", ["state overwritten", "state deleted"])
async def test_a_damaged_run_is_set_aside_when_its_lease_has_ended(hand, simulation, how):
    await hand.enqueue("bad", "b")
    _, other = await hand.claim()
    await hand.damage("bad", how)
    await simulation.advance(31)
    assert [orphan.key for orphan in await hand.store.expired()] == ["b"]
    assert await aside(hand) == ["bad"]
    assert (await hand.state("bad"))["error"] == "its state is gone, though it ran under a lease"
    assert await hand.lose(other) == "ok"


@pytest.mark.parametrize("how", ["state overwritten", "state deleted"])
async def test_a_run_whose_state_is_gone_is_told_that_it_is_lost(hand, how):
    await hand.enqueue("bad")
    [held] = await hand.claim()
    await hand.damage("bad", how)
    assert await hand.end(held) == "lost"
    news = await hand.store.renew([(held.key, held.fence, held.claim_id)], 30_000)
    assert news == [(held.fence, "lost", "")]
    assert (await hand.store.update(held.key, held.fence, held.claim_id, "1", b""))[0] == "lost"


async def test_what_lay_in_place_of_a_state_is_kept_as_it_is(hand):
    await hand.enqueue("bad")
    await hand.damage("bad", "state overwritten")
    await hand.claim()
    assert await foreign_bytes(hand, "bad") == FOREIGN


async def test_a_foreign_list_is_kept_as_it_is_too(hand):
    await hand.enqueue("bad")
    hand.damaged.add("bad")
    await hand.command("RPUSH", f"{hand.store.root}:job:bad", "x", "y")
    await hand.claim()
    kept = await hand.command("LRANGE", f"{hand.store.root}:foreign:bad", 0, -1)
    assert kept == [b"x", b"y"]


async def test_a_call_that_is_no_string_counts_as_gone(hand):
    await hand.enqueue("bad", "b")
    hand.damaged.add("bad")
    await hand.command("DEL", f"{hand.store.root}:call:bad")
    await hand.command("RPUSH", f"{hand.store.root}:call:bad", "x")
    assert await hand.claim_keys() == ["b"]
    assert (await hand.state("bad"))["error"] == "its record cannot be read: its call is gone"


async def test_a_restored_job_is_queued_as_it_was_enqueued(hand):
    await hand.enqueue("bad", priority=2, group="g", due_ms=hand.now_ms + 1)
    await hand.simulation.advance(1)
    [held] = await hand.claim()
    await hand.end(held, Status.FAILED, quarantine=True)
    assert await hand.store.restore("bad", "r1") == "restored"
    await hand.look()
    assert await aside(hand) == []
    await hand.enqueue("first", priority=1)
    first, again = await hand.claim()
    assert (first.key, again.key, payload_of(again.call)) == ("first", "bad", PAYLOAD)
    state = await hand.state("bad")
    assert (state["attempts"], state["priority"], state["group"]) == ("1", "2", "g")


async def test_restoring_what_was_overwritten_keeps_its_bytes(hand):
    await hand.enqueue("bad")
    await hand.damage("bad", "call overwritten")
    [held] = await hand.claim()
    await hand.end(held, Status.FAILED, quarantine=True)
    assert await hand.store.restore("bad", "r1") == "restored"
    [again] = await hand.claim()
    assert payload_of(again.call) == FOREIGN


async def test_restoring_takes_away_what_lay_in_place_of_the_state(hand):
    await hand.enqueue("bad")
    await hand.damage("bad", "state overwritten")
    await hand.claim()
    assert await hand.store.restore("bad", "r1") == "restored"
    assert await foreign_bytes(hand, "bad") is None
    assert await hand.claim_keys() == ["bad"]


async def test_restoring_sent_twice_is_done_once(hand):
    await hand.enqueue("bad")
    await hand.damage("bad", "state overwritten")
    await hand.claim()
    answers = [await hand.store.restore("bad", "r1") for _ in range(2)]
    assert answers == ["restored", "restored"]
    assert await hand.claim_keys() == ["bad"]
    assert await hand.store.restore("bad", "r2") == "missing"


async def test_what_has_no_call_left_cannot_be_restored(hand):
    await hand.enqueue("bad")
    await hand.damage("bad", "call deleted")
    await hand.claim()
    assert await hand.store.restore("bad", "r1") == "gone"
    assert await aside(hand) == ["bad"]


async def test_only_what_is_in_quarantine_is_restored_or_discarded(hand):
    await hand.enqueue("a")
    assert await hand.store.restore("a", "r1") == "missing"
    assert not await hand.store.discard("a")
    assert await hand.claim_keys() == ["a"]


async def test_discarding_leaves_nothing_behind(hand):
    await hand.enqueue("bad")
    await hand.damage("bad", "state overwritten")
    await hand.claim()
    assert await hand.store.discard("bad")
    assert not await hand.store.discard("bad")
    assert await hand.store.read(["bad"]) == [None]
    assert set((await hand.look()).contents) <= {"workers", "wake", "fence"}


async def test_a_record_in_quarantine_is_removed_after_thirty_days_with_all_that_belongs_to_it(
    hand, simulation
):
    await hand.enqueue("bad")
    await hand.damage("bad", "state overwritten")
    await hand.claim()
    await simulation.advance(30 * DAY_S - 0.001)
    assert await hand.store.expire() == 0
    await simulation.advance(0.001)
    assert await hand.store.expire() == 1
    assert await aside(hand) == []
    assert await foreign_bytes(hand, "bad") is None
    assert set((await hand.look()).contents) <= {"workers", "wake", "fence"}


async def test_those_that_were_set_aside_are_listed_newest_first(hand, simulation):
    for key in ("old", "new", "newest"):
        await hand.enqueue(key)
        await hand.damage(key, "call deleted")
        await hand.claim(1)
        await simulation.advance(1)
    assert [key for key, _ in await hand.store.quarantined(0, 2)] == ["newest", "new"]
    assert [key for key, _ in await hand.store.quarantined(2, 2)] == ["old"]


async def test_an_enqueue_of_its_key_begins_a_new_life_and_ends_its_quarantine(hand):
    await hand.enqueue("bad")
    await hand.damage("bad", "state overwritten")
    await hand.claim()
    assert await hand.enqueue("bad") == ["new"]
    hand.damaged.clear()
    await hand.look()
    assert await aside(hand) == []
    assert await foreign_bytes(hand, "bad") is None


@pytest.mark.parametrize("running", [False, True])
async def test_the_key_of_a_job_whose_state_was_overwritten_is_taken(hand, running):
    await hand.enqueue("bad")
    if running:
        await hand.claim()
    await hand.damage("bad", "state overwritten")
    [taken] = await hand.store.enqueue([hand.new("bad")])
    assert (taken.verdict, taken.holder.state) == ("taken", None)


async def test_a_key_whose_running_job_lost_its_call_is_taken(hand):
    await hand.enqueue("bad")
    [held] = await hand.claim()
    await hand.damage("bad", "call deleted")
    assert await hand.enqueue("bad") == ["taken"]
    assert await hand.end(held) == "ok"


async def test_a_new_life_has_nothing_of_the_place_of_one_whose_records_are_gone(hand, simulation):
    await hand.enqueue("bad", "b")
    await hand.damage("bad", "call deleted")
    assert await hand.enqueue("bad", delay_ms=1000) == ["new"]
    hand.damaged.clear()
    assert await hand.claim_keys() == ["b"]
    await simulation.advance(1)
    assert await hand.claim_keys() == ["bad"]


async def test_a_new_life_is_not_ended_by_the_lease_of_one_whose_records_are_gone(hand, simulation):
    await hand.enqueue("bad")
    await hand.claim()
    await hand.damage("bad", "call deleted")
    await hand.damage("bad", "state deleted")
    assert await hand.enqueue("bad") == ["new"]
    hand.damaged.clear()
    await simulation.advance(31)
    assert await hand.store.expired() == []
    assert await hand.claim_keys() == ["bad"]


@pytest.mark.parametrize("where", ["ready", "scheduled", "suspect", "lease"])
async def test_a_job_whose_state_was_overwritten_can_be_aborted_wherever_it_stands(hand, where):
    if where == "suspect":
        await hand.suspects("bad")
    else:
        await hand.enqueue("bad", delay_ms=1000 if where == "scheduled" else 0)
    if where == "lease":
        await hand.claim()
    await hand.damage("bad", "state overwritten")
    assert await hand.abort("bad") == "aborted"
    hand.damaged.clear()
    await hand.look()
    assert await foreign_bytes(hand, "bad") == FOREIGN
    assert await hand.status("bad") == "aborted"


async def test_an_update_of_a_job_whose_state_was_overwritten_finds_none(hand):
    await hand.enqueue("bad")
    await hand.damage("bad", "state overwritten")
    assert await hand.store.update("bad", 0, "", "0.5", b"") == ("missing", "", 0)


async def test_a_finished_job_whose_lease_came_back_stays_as_it_is(hand, simulation):
    await hand.enqueue("a")
    [held] = await hand.claim()
    await hand.end(held)
    await hand.command("ZADD", f"{hand.store.root}:lease", hand.now_ms, "a")
    assert await hand.store.expired() == []
    await hand.look()
    assert await hand.status("a") == "complete"


async def test_an_entry_of_a_job_that_runs_is_no_second_run(hand):
    await hand.enqueue("a")
    [held] = await hand.claim()
    await hand.command("ZADD", f"{hand.store.root}:ready", 2**36, "a")
    assert await hand.claim_keys() == []
    assert await hand.end(held) == "ok"

"""The store's moves, one by one: atomic, fenced, and safe to be sent twice."""

from __future__ import annotations

import dataclasses

import pytest

from queuekit.job import Status
from queuekit.store.codec import STATE_FIELDS, payload_of
from queuekit.store.redis import Move, NewJob

LEASE_MS = 30_000
CALL = b'{"v":1,"function":"f"}'


@pytest.fixture
def store(simulation):
    return simulation.queue.store


def new(key="a", id="e1", **options):  # noqa: A002 (the field's name)
    return NewJob(key, id, CALL, **options)


async def claim(store, claim_id="c1", limit=10, worker="w"):
    return await store.claim(worker, claim_id, limit, LEASE_MS, 60_000)


def move(held, target, **options):
    return Move(held.key, held.fence, held.claim_id, target, **options)


def field(stored, name):
    return stored.state[STATE_FIELDS.index(name)]


async def status_of(store, key="a"):
    [found] = await store.read([key])
    return (found.state[0] or b"queued").decode() if found else None


async def test_an_enqueued_job_is_queued(store):
    [accepted] = await store.enqueue([new()])
    assert accepted.verdict == "new"
    assert await store.counts() == {"queued": 1, "scheduled": 0, "active": 0}


async def test_an_enqueue_sent_twice_is_one_job(store):
    await store.enqueue([new()])
    [again] = await store.enqueue([new()])
    assert again.verdict == "same"
    assert (await store.counts())["queued"] == 1


async def test_an_enqueue_sent_again_after_the_job_has_run_is_still_the_same(store):
    await store.enqueue([new()])
    [held] = (await claim(store)).jobs
    await store.commit([move(held, Status.COMPLETE, ttl_ms=-1000)])
    [again] = await store.enqueue([new()])
    assert again.verdict == "same"
    assert await store.read(["a"]) == [None]


async def test_another_enqueue_of_the_key_of_an_unfinished_job_is_refused(store):
    await store.enqueue([new()])
    [taken] = await store.enqueue([new(id="e2")])
    await claim(store)
    [still] = await store.enqueue([new(id="e3")])
    assert (taken.verdict, still.verdict) == ("taken", "taken")


async def test_a_finished_job_frees_its_key_for_a_new_life(store):
    await store.enqueue([new()])
    [held] = (await claim(store)).jobs
    await store.commit([move(held, Status.FAILED, ttl_ms=600_000, error=b"no")])
    [accepted] = await store.enqueue([new(id="e2")])
    assert accepted.verdict == "new"
    [stored] = await store.read(["a"])
    assert stored.state[0] == b"queued"
    assert not any(stored.state[1:]), "counters, times and the error begin anew"


async def test_a_claim_starts_lease_attempt_and_fence_in_one_go(store, simulation):
    await store.enqueue([new()])
    claimed = await claim(store)
    [held] = claimed.jobs
    assert payload_of(held.call) == CALL
    assert (held.state[0], held.state[1]) == (b"active", b"1")
    assert claimed.lease_end_ms == simulation.environment.time_ms() + LEASE_MS
    assert await store.counts() == {"queued": 0, "scheduled": 0, "active": 1}


async def test_jobs_are_claimed_in_the_order_of_their_enqueue(store):
    await store.enqueue([new(key=f"k{n}", id=f"e{n}") for n in range(250)])
    claimed = await claim(store, limit=100)
    assert [held.key for held in claimed.jobs] == [f"k{n}" for n in range(100)]


async def test_a_claim_sent_twice_is_answered_with_the_same_jobs(store):
    await store.enqueue([new(key=f"k{n}", id=f"e{n}") for n in range(5)])
    first = await claim(store, limit=2)
    again = await claim(store, limit=2)
    assert [h.key for h in again.jobs] == [h.key for h in first.jobs] == ["k0", "k1"]
    assert [h.fence for h in again.jobs] == [h.fence for h in first.jobs]
    assert (await store.counts())["active"] == 2


async def test_a_claim_sent_again_after_a_commit_leaves_that_job_out(store):
    await store.enqueue([new(key=f"k{n}", id=f"e{n}") for n in range(2)])
    first = await claim(store)
    await store.commit([move(first.jobs[0], Status.COMPLETE)])
    assert [h.key for h in (await claim(store)).jobs] == ["k1"]


async def test_fences_only_grow(store):
    await store.enqueue([new(key=f"k{n}", id=f"e{n}") for n in range(4)])
    fences = [h.fence for c in ("c1", "c2") for h in (await claim(store, c, 2)).jobs]
    assert fences == sorted(set(fences))


async def test_a_scheduled_job_is_not_claimed_before_its_time(store, simulation):
    due = simulation.environment.time_ms() + 5000
    await store.enqueue([new(due_ms=due)])
    early = await claim(store)
    assert (early.jobs, early.due_ms) == ([], due)
    await simulation.advance(4.999)
    assert not (await claim(store, "c2")).jobs
    await simulation.advance(0.001)
    assert [h.key for h in (await claim(store, "c3")).jobs] == ["a"]


async def test_a_delay_counts_from_the_servers_now(store, simulation):
    [accepted] = await store.enqueue([new(delay_ms=2500)])
    assert accepted.due_ms == simulation.environment.time_ms() + 2500


@pytest.mark.parametrize("target", [Status.COMPLETE, Status.FAILED, Status.QUEUED])
async def test_a_commit_sent_twice_is_done_once(store, target):
    await store.enqueue([new()])
    [held] = (await claim(store)).jobs
    it = move(held, target, ttl_ms=1000, charge="failures", delay_ms=9000)
    assert await store.commit([it]) == [("ok", target.value)]
    [(verdict, _)] = await store.commit([it])
    assert verdict == "done"
    [stored] = await store.read(["a"])
    assert field(stored, "failures") == b"1", "charged once"


@pytest.mark.parametrize("wrong", [{"fence": 99}, {"claim_id": "other"}])
async def test_a_commit_under_a_wrong_fence_or_claim_changes_nothing(store, wrong):
    await store.enqueue([new()])
    [held] = (await claim(store)).jobs
    stale = dataclasses.replace(move(held, Status.COMPLETE), **wrong)
    assert await store.commit([stale]) == [("lost", "active")]
    assert await status_of(store) == "active"


async def test_a_commit_for_a_job_that_is_gone_is_lost(store):
    assert await store.commit([Move("nope", 1, "c", Status.COMPLETE)]) == [("lost", "missing")]


async def test_a_terminal_status_never_changes_again(store):
    await store.enqueue([new()])
    [held] = (await claim(store)).jobs
    await store.commit([move(held, Status.COMPLETE)])
    other = dataclasses.replace(move(held, Status.FAILED), fence=held.fence + 1)
    assert await store.commit([other]) == [("lost", "complete")]
    assert await store.abort("a", b"why", 1000, "id") == "final complete"
    assert await store.update("a", held.fence, held.claim_id, "0.5", b"") == ("lost", "complete", 0)
    assert await status_of(store) == "complete"


async def test_a_batch_of_commits_has_a_verdict_each(store):
    await store.enqueue([new(key=f"k{n}", id=f"e{n}") for n in range(3)])
    held = (await claim(store)).jobs
    moves = [move(h, Status.COMPLETE) for h in held]
    moves[1] = dataclasses.replace(moves[1], fence=77)
    assert [verdict for verdict, _ in await store.commit(moves)] == ["ok", "lost", "ok"]


async def test_a_retried_job_waits_out_its_delay(store, simulation):
    await store.enqueue([new()])
    [held] = (await claim(store)).jobs
    await store.commit([move(held, Status.QUEUED, delay_ms=5000, charge="failures")])
    assert await store.counts() == {"queued": 0, "scheduled": 1, "active": 0}
    await simulation.advance(5)
    assert (await claim(store, "c2")).jobs


async def test_a_released_job_is_the_first_in_line(store):
    await store.enqueue([new(key=f"k{n}", id=f"e{n}") for n in range(2)])
    [held] = (await claim(store, limit=1)).jobs
    await store.commit([move(held, Status.QUEUED, front=True)])
    assert [h.key for h in (await claim(store, "c2")).jobs] == ["k0", "k1"]


async def test_aborting_a_waiting_job_ends_it_wherever_it_waits(store, simulation):
    later = simulation.environment.time_ms() + 9000
    await store.enqueue([new(), new(key="b", id="e2", due_ms=later)])
    assert [await store.abort(key, b"why", 1000, key) for key in "ab"] == ["aborted", "aborted"]
    assert await store.counts() == {"queued": 0, "scheduled": 0, "active": 0}
    await simulation.advance(10)
    assert not (await claim(store)).jobs


async def test_after_an_acknowledged_abort_a_run_can_only_end_aborted(store):
    await store.enqueue([new()])
    [held] = (await claim(store)).jobs
    assert await store.abort("a", b"why", 1000, "id") == "aborting"
    assert await store.commit([move(held, Status.COMPLETE)]) == [("aborting", "why")]
    assert await store.commit([move(held, Status.QUEUED)]) == [("aborting", "why")]
    assert await store.commit([move(held, Status.ABORTED)]) == [("ok", "aborted")]


async def test_an_abort_is_told_to_the_worker_that_holds_the_job(store):
    await store.enqueue([new()])
    [held] = (await claim(store)).jobs
    await store.abort("a", b"why\nnot", 1000, "id")
    word = await store.wait("w", for_work=False, timeout_s=1)
    assert word == f"abort\n{held.fence}\na\nwhy\nnot"


async def test_aborting_what_is_not_there_says_so(store):
    assert await store.abort("nope", b"why", 1000, "id") == "missing"


async def test_a_renewed_lease_holds_and_an_unrenewed_one_ends(store, simulation):
    await store.enqueue([new(), new(key="b", id="e2")])
    a, b = (await claim(store)).jobs
    await simulation.advance(20)
    assert await store.renew([(a.key, a.fence, a.claim_id)], LEASE_MS) == []
    await simulation.advance(10)
    assert [orphan.key for orphan in await store.expired()] == ["b"]
    assert (await store.expired())[0].claim_id == b.claim_id


async def test_renewing_tells_what_is_lost_and_what_is_to_be_aborted(store):
    await store.enqueue([new(), new(key="b", id="e2")])
    a, b = (await claim(store)).jobs
    await store.commit([move(a, Status.QUEUED)])
    await store.abort("b", b"why", 1000, "id")
    news = await store.renew([(h.key, h.fence, h.claim_id) for h in (a, b)], LEASE_MS)
    assert news == [(a.fence, "lost", ""), (b.fence, "aborting", "why")]
    assert (await store.counts())["active"] == 1, "a lost lease is not made again"


@pytest.mark.parametrize(("fence", "claim_id"), [(99, "c1"), (1, "other")])
async def test_under_a_wrong_fence_or_claim_nothing_is_renewed_or_updated(
    store, simulation, fence, claim_id
):
    await store.enqueue([new()])
    await claim(store)
    await simulation.advance(20)
    assert await store.renew([("a", fence, claim_id)], LEASE_MS) == [(fence, "lost", "")]
    assert (await store.update("a", fence, claim_id, "0.5", b""))[0] == "lost"
    await simulation.advance(10)
    assert [orphan.key for orphan in await store.expired()] == ["a"]


async def test_recovery_moves_only_what_has_expired_and_only_once(store, simulation):
    await store.enqueue([new()])
    await claim(store)
    await simulation.advance(31)
    [orphan] = await store.expired()
    it = move(orphan, Status.QUEUED, charge="losses", expired_only=True)
    assert await store.commit([it]) == [("ok", "queued")]
    assert (await store.commit([it]))[0][0] == "done"
    [held] = (await claim(store, "c2")).jobs
    too_early = move(held, Status.QUEUED, charge="losses", expired_only=True)
    assert await store.commit([too_early]) == [("lost", "active")]


async def test_an_update_from_the_run_is_fenced_and_one_from_outside_is_not(store):
    await store.enqueue([new()])
    [held] = (await claim(store)).jobs
    assert (await store.update("a", held.fence, held.claim_id, "0.5", b""))[0] == "ok"
    assert (await store.update("a", 99, "x", "0.9", b""))[0] == "lost"
    assert (await store.update("a", 0, "", "", b'{"value":{"m":1}}'))[0] == "ok"
    [stored] = await store.read(["a"])
    assert (field(stored, "progress"), field(stored, "meta")) == (b"0.5", b'{"value":{"m":1}}')


async def test_a_record_is_invisible_after_its_ttl_and_then_removed(store, simulation):
    await store.enqueue([new(), new(key="b", id="e2")])
    a, b = (await claim(store)).jobs
    await store.commit([move(a, Status.COMPLETE, ttl_ms=5000), move(b, Status.COMPLETE, ttl_ms=0)])
    await simulation.advance(4.999)
    assert await status_of(store) == "complete"
    await simulation.advance(0.001)
    assert await status_of(store) is None
    assert await status_of(store, "b") == "complete", "ttl 0 keeps a record for ever"
    assert await store.expire() == 1
    assert await store.page("finished", 0, 10) == ["b"]


async def test_at_most_one_token_lies_there_however_many_jobs_come(store):
    await store.enqueue([new(key=f"k{n}", id=f"e{n}") for n in range(9)])
    assert await store.wait("w", for_work=True, timeout_s=1) == ""
    assert await store.wait("w", for_work=True, timeout_s=1) is None


async def test_a_claim_that_leaves_jobs_behind_passes_the_token_on(store):
    await store.enqueue([new(key=f"k{n}", id=f"e{n}") for n in range(2)])
    await store.wait("w", for_work=True, timeout_s=1)
    await claim(store, limit=1)
    assert await store.wait("w2", for_work=True, timeout_s=1) == ""


async def test_the_first_lease_of_a_queue_is_told_to_a_neighbour_who_waits(store):
    await store.register("neighbour", 60_000)
    await store.enqueue([new(), new(key="b", id="e2")])
    await store.wait("w", for_work=True, timeout_s=1)
    await claim(store, limit=2)
    assert await store.wait("neighbour", for_work=True, timeout_s=1) == ""
    await store.enqueue([new(key="c", id="e3")])
    await store.wait("w", for_work=True, timeout_s=1)
    await claim(store, "c2")
    assert await store.wait("neighbour", for_work=True, timeout_s=1) is None, "it knows already"


async def test_a_new_earliest_moment_wakes_whoever_waits_and_a_later_one_does_not(
    store, simulation
):
    now = simulation.environment.time_ms()
    await store.enqueue([new(due_ms=now + 9000)])
    assert await store.wait("w", for_work=True, timeout_s=1) == ""
    await store.enqueue([new(key="b", id="e2", due_ms=now + 99_000)])
    assert await store.wait("w", for_work=True, timeout_s=1) is None


async def test_a_worker_that_leaves_passes_the_token_on_and_leaves_nothing_behind(store):
    await store.register("w", 60_000, b"{}")
    await store.wait("w", for_work=True, timeout_s=1)
    await store.nudge("w")
    await store.deregister("w")
    assert await store.workers(0) == {}
    assert await store.wait("other", for_work=True, timeout_s=1) == ""
    assert await store.wait("w", for_work=False, timeout_s=0.5) is None


async def test_a_word_that_comes_when_its_worker_has_left_is_not_kept(store):
    await store.register("w", 60_000, b"{}")
    await store.deregister("w")
    await store.nudge("w")
    assert await store.wait("w", for_work=False, timeout_s=0.5) is None


async def test_a_tick_is_enqueued_once_however_many_workers_bring_it(store, simulation):
    tick = simulation.environment.time_ms()
    first, _ = await store.cron("s", tick, unique=True, job=new(key="cron:s:1"))
    second, _ = await store.cron("s", tick, unique=True, job=new(key="cron:s:1", id="e2"))
    assert (first, second) == ("enqueued", "handled")
    assert (await store.counts())["queued"] == 1


async def test_a_tick_never_comes_early(store, simulation):
    tick = simulation.environment.time_ms() + 1
    assert (await store.cron("s", tick, unique=True, job=new()))[0] == "early"
    assert (await store.counts())["queued"] == 0


async def test_a_unique_schedule_skips_a_tick_while_its_last_job_is_unfinished(store, simulation):
    tick = simulation.environment.time_ms()
    await store.cron("s", tick, unique=True, job=new(key="c1"))
    await simulation.advance(60)
    verdict, _ = await store.cron("s", tick + 60_000, unique=True, job=new(key="c2", id="e2"))
    assert verdict == "overlap"
    verdict, _ = await store.cron("s", tick + 60_000, unique=False, job=new(key="c2", id="e2"))
    assert verdict == "handled", "the skipped tick is over"


async def test_a_unique_schedule_goes_on_when_its_last_job_has_ended(store, simulation):
    tick = simulation.environment.time_ms()
    await store.cron("s", tick, unique=True, job=new(key="c1"))
    [held] = (await claim(store)).jobs
    await store.commit([move(held, Status.COMPLETE, ttl_ms=600_000)])
    await simulation.advance(60)
    verdict, _ = await store.cron("s", tick + 60_000, unique=True, job=new(key="c2", id="e2"))
    assert verdict == "enqueued"


async def test_finished_jobs_leave_only_a_fixed_number_of_keys(store, simulation):
    await store.enqueue([new(key=f"k{n}", id=f"e{n}") for n in range(50)])
    held = (await claim(store, limit=50)).jobs
    await store.commit([move(h, Status.COMPLETE, ttl_ms=1000) for h in held])
    await simulation.advance(2)
    await store.expire()
    keys = {key.decode() for key in await store._command("KEYS", "*")}
    assert {key.rpartition(":")[2] for key in keys} <= {"fence", "wake", "claims", "workers"}

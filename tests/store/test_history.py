"""The log of a job's attempts, and what is remembered of a job after its end."""

from __future__ import annotations

import pytest

from queuekit.history import MAX_ATTEMPTS, attempts_of, note_of
from queuekit.job import Job, Status
from queuekit.store.codec import Codec


async def log_of(hand, key="a"):
    [stored] = await hand.store.read([key])
    return stored.log.decode()


async def attempts(hand, key="a"):
    """The history as applications see it."""
    [stored] = await hand.store.read([key])
    job = Codec().decode_job(key, stored.call, stored.state)
    worker = (await hand.state(key))["worker"] or ""
    return attempts_of(job, stored.log.decode(), worker)


async def test_a_job_that_never_failed_has_no_log_and_one_attempt(hand):
    await hand.enqueue("a")
    [held] = await hand.claim()
    await hand.end(held)
    assert await log_of(hand) == ""
    [only] = await attempts(hand)
    assert (only.number, only.outcome, only.started) == (1, "completed", hand.now_ms)


async def test_a_line_has_number_start_end_worker_outcome_and_note(hand, simulation):
    await hand.enqueue("a")
    [held] = await hand.claim(worker="w7")
    started = hand.now_ms
    await simulation.advance(3)
    await hand.retry(held, note="ValueError: no")
    line = f"1\t{started}\t{started + 3000}\tretried\tw7\tValueError: no"
    assert await log_of(hand) == line


async def test_each_way_of_coming_back_has_its_outcome(hand, simulation):
    await hand.enqueue("a")
    [held] = await hand.claim()
    await hand.retry(held, outcome="retried")
    [held] = await hand.claim()
    await hand.release(held)
    [held] = await hand.claim()
    await simulation.advance(31)
    await hand.lose(held, outcome="lost")
    [held] = await hand.claim()
    await hand.end(held, Status.FAILED, error=b"Boom: at last\nmore", charge="failures")
    told = [(each.number, each.outcome) for each in await attempts(hand)]
    assert told == [(1, "retried"), (2, "released"), (3, "lost"), (4, "failed")]
    state = await hand.state("a")
    assert (state["attempts"], state["failures"], state["losses"]) == ("4", "2", "1")


async def test_of_many_attempts_the_last_twenty_are_kept(hand):
    await hand.enqueue("a")
    for _ in range(25):
        [held] = await hand.claim()
        await hand.retry(held)
    [held] = await hand.claim()
    await hand.end(held)
    assert [each.number for each in await attempts(hand)] == list(range(7, 27))
    assert (await log_of(hand)).count("\n") + 2 == MAX_ATTEMPTS


async def test_the_log_has_exactly_what_fits_at_its_limit(hand):
    await hand.enqueue("a")
    for runs in range(1, 22):
        [held] = await hand.claim()
        await hand.retry(held)
        lines = (await log_of(hand)).split("\n")
        assert len(lines) == min(runs, MAX_ATTEMPTS - 1)
        assert lines[-1].startswith(f"{runs}\t")


@pytest.mark.parametrize("error", ["a\tb", "a\nb", "a\r\nb", "a\x1c\x85\u2028b", "\0"])
async def test_no_error_breaks_the_lines_of_the_log(hand, error):
    await hand.enqueue("a")
    for _ in range(2):
        [held] = await hand.claim()
        await hand.retry(held, note=note_of(error))
    told = [(each.number, each.outcome) for each in await attempts(hand)]
    assert told == [(1, "retried"), (2, "retried")]


async def test_a_commit_sent_twice_has_one_line(hand):
    await hand.enqueue("a")
    [held] = await hand.claim()
    assert [await hand.retry(held), await hand.retry(held)] == ["ok", "done"]
    assert (await log_of(hand)).count("\n") == 0


async def test_a_refused_commit_has_no_line(hand):
    await hand.enqueue("a")
    [held] = await hand.claim()
    await hand.abort("a")
    assert await hand.retry(held) == "aborting"
    assert await log_of(hand) == ""


async def test_a_new_life_begins_with_an_empty_history(hand):
    await hand.enqueue("a")
    [held] = await hand.claim()
    await hand.retry(held)
    await hand.abort("a")
    assert await hand.enqueue("a") == ["new"]
    assert (await log_of(hand), await attempts(hand)) == ("", [])


async def test_a_retried_job_shows_nothing_of_the_run_before_but_its_error(hand):
    await hand.enqueue("a")
    [held] = await hand.claim()
    await hand.store.update("a", held.fence, held.claim_id, "0.5", b"")
    await hand.retry(held, error=b"no", exception=b'["E","m"]')
    state = await hand.state("a")
    assert (state["started"], state["progress"], state["worker"]) == (None, None, None)
    assert (state["error"], state["exception"]) == ("no", '["E","m"]')


async def test_the_end_of_a_job_keeps_what_its_run_told(hand, simulation):
    await hand.enqueue("a")
    [held] = await hand.claim()
    await hand.store.update("a", held.fence, held.claim_id, "", b'{"value":{"m":1}}')
    await simulation.advance(1)
    await hand.end(held, result=b"r", error=b"e", exception=b"x")
    state = await hand.state("a")
    assert [state[name] for name in ("meta", "result", "error", "exception")] == [
        '{"value":{"m":1}}',
        "r",
        "e",
        "x",
    ]
    assert state["completed"] == state["touched"] == str(hand.now_ms)


async def test_an_abandoned_run_is_counted(hand):
    await hand.enqueue("a")
    [held] = await hand.claim()
    await hand.retry(held, abandoned=True)
    assert (await hand.state("a"))["abandoned"] == "1"


async def test_a_function_that_was_unknown_is_counted_apart_from_failures(hand):
    await hand.enqueue("a")
    [held] = await hand.claim()
    await hand.retry(held, charge="unknown")
    state = await hand.state("a")
    assert (state["unknown"], state["failures"]) == ("1", None)


# -- tombstones: what is left for a minute of a job that keeps no record


async def buried(hand, **options):
    """The run of a job that ended and keeps no record."""
    job = hand.new("a")
    await hand.store.enqueue([job])
    [held] = await hand.claim()
    assert await hand.end(held, ttl_ms=-1, **options) == "ok"
    return job, held


async def test_a_job_that_keeps_no_record_is_gone_for_readers(hand):
    await buried(hand, result=b"r")
    assert await hand.store.read(["a"]) == [None]
    assert await hand.abort("a") == "final complete"


async def test_a_tombstone_holds_no_payload_result_or_log(hand):
    await hand.enqueue("a")
    [held] = await hand.claim()
    await hand.retry(held, note="n")
    [held] = await hand.claim()
    await hand.store.update("a", held.fence, held.claim_id, "", b"meta")
    await hand.end(held, ttl_ms=-1, result=b"r", error=b"e", exception=b"x")
    found = await hand.look()
    assert "call:a" not in found.contents
    left = set(found.contents["job:a"])
    assert not {"result", "error", "exception", "meta", "log"} & left


async def test_a_commit_sent_again_finds_the_tombstone(hand):
    _, held = await buried(hand)
    assert await hand.end(held, ttl_ms=-1) == "done"


async def test_an_enqueue_sent_again_finds_the_tombstone(hand):
    job, _ = await buried(hand)
    [again] = await hand.store.enqueue([job])
    assert again.verdict == "same"
    assert await hand.claim_keys() == []


async def test_a_tombstone_does_not_keep_its_key_from_a_new_life(hand):
    await buried(hand)
    assert await hand.enqueue("a") == ["new"]
    assert await hand.claim_keys() == ["a"]


async def test_a_tombstone_is_removed_after_a_minute(hand, simulation):
    _, held = await buried(hand)
    await simulation.advance(59.999)
    assert await hand.store.expire() == 0
    await simulation.advance(0.001)
    assert await hand.store.expire() == 1
    assert await hand.end(held, ttl_ms=-1) == "lost"
    assert not [name for name in (await hand.look()).contents if name.endswith(":a")]


async def test_an_aborted_job_may_leave_a_tombstone_too(hand):
    job = hand.new("a")
    await hand.store.enqueue([job])
    assert await hand.abort("a", ttl_ms=-1) == "aborted"
    assert await hand.store.read(["a"]) == [None]
    [again] = await hand.store.enqueue([job])
    assert again.verdict == "same"


@pytest.mark.parametrize("ttl_ms", [1000, -1])
async def test_an_abort_that_is_sent_twice_is_one(hand, ttl_ms):
    await hand.enqueue("a")
    assert await hand.abort("a", ttl_ms, abort_id="one") == "aborted"
    assert await hand.abort("a", ttl_ms, abort_id="one") == "aborted"
    assert await hand.abort("a", ttl_ms, abort_id="other") == "final aborted"
    await hand.enqueue("a")  # another life, of which that abort says nothing
    [held] = await hand.claim()
    await hand.end(held)
    assert await hand.abort("a", abort_id="one") == "final complete"


async def test_an_abort_is_known_when_the_run_that_it_stopped_has_ended(hand):
    await hand.enqueue("a")
    [held] = await hand.claim()
    assert await hand.abort("a", abort_id="one") == "aborting"
    assert await hand.end(held, Status.ABORTED) == "ok"
    assert await hand.abort("a", abort_id="one") == "aborted"
    assert await hand.abort("a", abort_id="other") == "final aborted"


async def test_a_record_is_final_only_while_its_time_lasts(hand, simulation):
    await hand.enqueue("a")
    [held] = await hand.claim()
    await hand.end(held, ttl_ms=1000)
    assert await hand.abort("a") == "final complete"
    assert await hand.store.update("a", 0, "", "1", b"") == ("final", "complete", 0)
    await simulation.advance(1)
    assert await hand.abort("a") == "missing"
    assert await hand.store.update("a", 0, "", "1", b"") == ("missing", "", 0)


async def test_expiry_removes_no_more_than_it_is_asked_to(hand, simulation):
    await hand.enqueue("a", "b", "c")
    for held in await hand.claim():
        await hand.end(held, ttl_ms=1000)
    await simulation.advance(1)
    assert [await hand.store.expire(2), await hand.store.expire(2)] == [2, 1]


def test_the_history_of_a_job_that_waits_is_its_log():
    job = Job(function="f", key="a")
    [told] = attempts_of(job, "3\t5\t8\tretried\tw\tno", "w")
    assert (told.number, told.started, told.ended, told.error) == (3, 5, 8, "no")

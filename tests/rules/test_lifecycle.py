"""The table of transitions and the arithmetic of retries."""

import re
from importlib import resources

import pytest

from queuekit.job import TERMINAL_STATUSES, Job, Status
from queuekit.lifecycle import (
    MAX_RETRY_DELAY_MS,
    TRANSITIONS,
    Event,
    RetryPolicy,
    after_failure,
    after_loss,
    allowed,
    refusal,
    retry_delay_ms,
)


def test_no_arrow_leads_out_of_a_terminal_status():
    assert not [arrow for arrow in TRANSITIONS if arrow[0] in TERMINAL_STATUSES]


def test_every_status_can_reach_an_end():
    reached = set(TERMINAL_STATUSES)
    for _ in Status:
        reached |= {s for (s, _), targets in TRANSITIONS.items() if reached & set(targets)}
    assert reached == set(Status)


def test_after_an_acknowledged_abort_a_job_ends_aborted_only():
    targets = {t for (s, _), ts in TRANSITIONS.items() if s is Status.ABORTING for t in ts}
    assert targets == {Status.ABORTING, Status.ABORTED}


def test_a_queued_job_cannot_complete_unclaimed():
    assert not allowed(Status.QUEUED, Event.COMPLETED)
    assert allowed(Status.QUEUED, Event.CLAIMED)


def _moves(text: str) -> set[tuple[str, str]]:
    head = re.search(r"^-- Moves:\s+(.*)$", text, re.MULTILINE)
    assert head is not None
    moves = set()
    for arrow in head.group(1).split(","):
        if "->" in arrow:
            source, targets = arrow.split("->")
            moves |= {(source.strip(), target.strip()) for target in targets.split("|")}
    return moves


def test_scripts_make_the_moves_of_the_table_and_no_others():
    folder = resources.files("queuekit.store")
    scripts = [f for f in folder.iterdir() if f.name.endswith(".lua") and f.name != "prelude.lua"]
    made = set().union(*(_moves(script.read_text()) for script in scripts))
    table = {
        (source.value, target.value)
        for (source, _), targets in TRANSITIONS.items()
        for target in targets
    }
    assert made == table


@pytest.mark.parametrize(
    ("failures", "event"), [(1, Event.RETRIED), (2, Event.RETRIED), (3, Event.FAILED)]
)
def test_retries_is_the_number_of_runs_that_may_fail(failures, event):
    assert after_failure(RetryPolicy(3, 0, backoff=False), failures) is event


def test_the_default_of_one_retry_means_no_second_run():
    assert after_failure(RetryPolicy.of(Job("f")), 1) is Event.FAILED


def test_zero_retries_runs_once_too():
    assert after_failure(RetryPolicy(0, 0, backoff=False), 1) is Event.FAILED


@pytest.mark.parametrize(
    ("losses", "status"), [(1, Status.QUEUED), (2, Status.QUEUED), (3, Status.FAILED)]
)
def test_the_third_loss_fails_a_job(losses, status):
    assert after_loss(losses, max_lost=2) is status


def test_at_most_once_is_max_lost_zero():
    assert after_loss(1, max_lost=0) is Status.FAILED


@pytest.mark.parametrize(("nth", "delay"), [(1, 5000), (2, 10_000), (3, 20_000), (4, 40_000)])
def test_backoff_doubles_after_each_failure(nth, delay):
    assert retry_delay_ms(RetryPolicy(9, 5000, backoff=True), nth) == (delay, True)


def test_backoff_stops_at_its_maximum():
    assert retry_delay_ms(RetryPolicy(9, 5000, backoff=12_000), 3) == (12_000, True)


def test_without_backoff_the_delay_is_constant_and_not_jittered():
    assert retry_delay_ms(RetryPolicy(9, 5000, backoff=False), 7) == (5000, False)


def test_backoff_after_ten_thousand_failures_is_still_a_delay():
    assert retry_delay_ms(RetryPolicy(10_000, 1, backoff=True), 10_000) == (
        MAX_RETRY_DELAY_MS,
        True,
    )


def test_refusal_of_a_finished_job_says_that_it_is_final():
    error = refusal("mail:42", Status.COMPLETE, "aborted")
    assert str(error) == (
        "job 'mail:42' is complete and cannot be aborted.\n"
        "  'complete' is final: a finished job never changes.\n"
        "  To run it again, enqueue its key anew or call retry()."
    )


def test_refusal_of_an_unfinished_job_says_what_is_possible():
    assert "is queued and cannot be retried" in str(refusal("k", Status.QUEUED, "retried"))

"""Every script may be sent twice: the second time changes nothing, and says so.

The scripts are found where they lie. One that has no entry in `TWICE` fails the first test.
"""

from __future__ import annotations

import pytest

from tests.store.cases import (
    ALIVE_MS,
    ALREADY,
    LATER,
    NOW,
    TWICE,
    claim,
    enqueue,
    held,
    move,
    new,
)
from tests.store.servers import ROOT, SCRIPTS, Embedded, real_server

CASES = [
    pytest.param(script, *case, id=f"{script}-{number}-{case[0].__name__}")
    for script, cases in TWICE.items()
    for number, case in enumerate(cases)
]


@pytest.fixture(scope="module")
def servers():
    with real_server() as server:
        yield {"fakeredis": Embedded(), "server": server}


@pytest.fixture
def server(servers, on_each_backend):
    """A server that answers at once, without a simulation."""
    backend = on_each_backend["backend"]
    server = servers["fakeredis" if backend == "fakeredis" else "server"]
    server.ask("FLUSHALL")
    return server


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_tried_twice(script):
    assert script in TWICE, (
        f"{script}.lua has no case in TWICE (cases.py).\n"
        "Every script may be sent twice, since a reply may be lost.\n"
        "Say what is there before, what is sent, and what the second answer is."
    )


@pytest.mark.parametrize(("script", "before", "words", "second"), CASES)
def test_a_script_sent_twice_acts_once_and_says_so(server, script, before, words, second):
    before(server)
    first = server.run(script, *words)
    once = server.read_all()
    again = server.run(script, *words)
    assert server.read_all() == once
    assert again == (first if second is ALREADY else second)


@pytest.mark.parametrize("target", ["complete", "failed", "queued"])
def test_a_move_is_answered_as_done_after_the_job_has_gone_on(server, target):
    held(server)
    server.run("abort", NOW, "b", "because", 1000, "id")
    sent = move("a", 1, target, ttl=-1)
    server.run("commit", NOW, *sent)
    if target == "queued":
        claim(server, "c2")
    once = server.read_all()
    assert server.run("commit", NOW + 1, *sent)[0][0] == b"done"
    assert server.read_all() == once


def sent(server, number):
    """What an enqueue of `a` is answered; its id is as long as those of the queue."""
    return server.run("enqueue", NOW, "", *new("a", f"enqueue-{number:06d}"))[0][0]


def live(server, number):
    """A life of `a`, to its end."""
    assert sent(server, number) == b"new"
    (job,) = claim(server, f"claim-{number}")
    server.run("commit", NOW, *move("a", job[1], "complete", claim_id=f"claim-{number}"))


def test_an_enqueue_sent_again_is_known_when_its_key_has_had_other_jobs_since(server):
    """Its client stood still after it was sent; its job has ended, and others have enqueued the key."""
    for number in range(9):
        live(server, number)
    assert sent(server, 0) == b"same"
    assert sent(server, 7) == b"same"
    live(server, 9)
    assert sent(server, 0) == b"new", "eight are remembered"


def test_a_run_does_not_take_the_recovery_of_its_lease_for_its_own_end(server):
    held(server)
    server.run("commit", LATER, *move("a", 1, "queued", flags="e"))
    assert server.run("commit", LATER, *move("a", 1, "queued"))[0][0] == b"lost"


def test_a_claim_of_another_worker_under_the_same_id_is_one_of_its_own(server):
    enqueue(server, "a", "b")
    claim(server, wanted=1)
    [job] = claim(server, wanted=1, worker="other")
    assert job[0] == b"b"


def test_a_claim_id_that_begins_like_the_last_one_is_another_claim(server):
    enqueue(server, "a", "b")
    claim(server, "c10", wanted=1)
    [job] = claim(server, "c1", wanted=1)
    assert job[0] == b"b"


def test_a_claim_sent_again_leaves_out_a_job_that_somebody_else_has_claimed_since(server):
    enqueue(server, "a")
    claim(server)
    server.run("commit", NOW, *move("a", 1, "queued", flags="f"))
    [job] = claim(server, "c2", worker="other")
    assert job[0] == b"a"
    assert claim(server) == [], "that run is the other worker's"


def test_a_claim_sent_again_answers_with_jobs_that_are_to_be_aborted(server):
    held(server)
    server.run("abort", NOW, "a", "because", 1000, "id")
    [job] = claim(server)
    assert (job[0], job[3][0]) == (b"a", b"aborting")


def test_an_abort_after_the_word_was_read_is_said_again(server):
    held(server)
    for _ in range(2):
        server.run("abort", NOW, "a", "because", 1000, "id")
        assert server.ask("LPOP", f"{ROOT}:control:w") is not None


def test_an_abort_says_nothing_to_a_worker_that_is_gone(server):
    held(server)
    assert server.run("abort", NOW + ALIVE_MS, "a", "because", 1000, "id") == b"aborting"
    assert server.ask("LPOP", f"{ROOT}:control:w") is None

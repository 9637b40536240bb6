"""Without a `now` of the simulation's: the server's own clock and expiry, on every one here."""

from __future__ import annotations

import pytest

from tests.store.cases import PAYLOAD, move
from tests.store.invariants import violations
from tests.store.servers import PROGRAMS, ROOT, real_server

HOUR_MS = 3_600_000
NEW = (PAYLOAD, 0, 0, 0, "")


@pytest.fixture(scope="module", params=PROGRAMS)
def any_server(request):
    with real_server(PROGRAMS[request.param]) as server:
        yield server


@pytest.fixture
def server(any_server):
    any_server.ask("FLUSHALL")
    return any_server


def run(server, script, *words):
    """Run a script in the server's own time; the rules hold afterwards."""
    answer = server.run(script, "", *words)
    assert violations(server.read_all(), virtual=False) == []
    return answer


def claim(server, claim_id="c1"):
    return run(server, "claim", "w", claim_id, 10, 30_000, 60_000, "1", 1000)[5]


def ttls(server, key="a"):
    found = server.read_all().ttls_ms
    return [found.get(f"{part}:{key}") for part in ("job", "call")]


def started(server):
    run(server, "enqueue", "", "a", "e1", *NEW)
    return claim(server)


def server_ms(server):
    seconds, microseconds = server.ask("TIME")
    return int(seconds) * 1000 + int(microseconds) // 1000


def test_moments_are_the_servers(server):
    before = server_ms(server)
    [[_, queued, _]] = run(server, "enqueue", "", "a", "e1", *NEW)
    assert before <= queued <= server_ms(server)
    now, _, lease_end, *_ = run(server, "claim", "w", "c1", 1, 30_000, 60_000, "", 0)
    assert (lease_end, queued <= now <= server_ms(server)) == (now + 30_000, True)


def test_nothing_that_is_unfinished_expires_by_itself(server):
    started(server)
    assert ttls(server) == [-1, -1]
    run(server, "commit", *move("a", 1, "queued", delay=5))
    assert ttls(server) == [-1, -1]


@pytest.mark.parametrize("target", ["complete", "failed"])
def test_a_finished_record_is_freed_by_the_server_when_its_time_is_over(server, target):
    started(server)
    run(server, "commit", *move("a", 1, target, ttl=HOUR_MS))
    assert all(HOUR_MS - 60_000 < ttl <= HOUR_MS for ttl in ttls(server))


def test_a_record_that_is_kept_for_ever_has_no_expiry(server):
    started(server)
    run(server, "commit", *move("a", 1, "complete", ttl=0))
    assert ttls(server) == [-1, -1]


def test_a_tombstone_is_freed_after_a_minute(server):
    started(server)
    run(server, "commit", *move("a", 1, "complete", ttl=-1))
    [job, call] = ttls(server)
    assert (0 < job <= 60_000, call) == (True, None)


def test_an_aborted_job_expires_too(server):
    run(server, "enqueue", "", "a", "e1", *NEW)
    run(server, "abort", "a", "because", HOUR_MS, "id")
    assert all(0 < ttl <= HOUR_MS for ttl in ttls(server))


def test_a_new_life_takes_the_expiry_of_the_old_one_away(server):
    started(server)
    run(server, "commit", *move("a", 1, "complete", ttl=HOUR_MS))
    run(server, "enqueue", "", "a", "e2", *NEW)
    assert ttls(server) == [-1, -1]  # the state keeps the ids of its earlier lives


def test_a_record_in_quarantine_is_kept_for_thirty_days(server):
    run(server, "enqueue", "", "a", "e1", *NEW)
    server.ask("DEL", f"{ROOT}:call:a")
    assert claim(server) == []
    [job, call] = ttls(server)
    assert (29 * 24 * HOUR_MS < job <= 30 * 24 * HOUR_MS, call) == (True, None)


def test_a_restored_job_does_not_expire(server):
    started(server)
    run(server, "commit", *move("a", 1, "failed", flags="q"))
    run(server, "restore", "a", "r1")
    assert ttls(server) == [-1, -1]  # the state keeps the ids of its earlier lives


def test_what_the_server_has_freed_is_forgotten_by_expiry_and_keeps_no_key(server):
    started(server)
    run(server, "commit", *move("a", 1, "complete", ttl=HOUR_MS))
    # As if its time were over, and the server had come first.
    server.ask("DEL", f"{ROOT}:job:a", f"{ROOT}:call:a")
    server.ask("ZADD", f"{ROOT}:finished", 1, "a")
    assert server.run("read", "", "a") == [None]
    assert run(server, "enqueue", "", "a", "e2", *NEW)[0][0] == b"new"
    assert server.ask("ZCARD", f"{ROOT}:finished") == 0


def test_a_given_moment_leaves_expiry_to_the_simulation(server):
    server.run("enqueue", 1000, "", "a", "e1", *NEW)
    server.run("claim", 1000, "w", "c1", 10, 30_000, 60_000, "1", 1000)
    server.run("commit", 1000, *move("a", 1, "complete", ttl=HOUR_MS))
    assert ttls(server) == [-1, -1]

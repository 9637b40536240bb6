"""What a job costs Redis: bytes while it waits, and time while a script holds the server."""

from __future__ import annotations

import json
import re

import pytest

from queuekit.environment import environment
from queuekit.job import Job
from queuekit.store.codec import Codec
from tests.store.cases import ALIVE_MS, LEASE_MS, NOW, ROOM_MS
from tests.store.servers import PROGRAMS, real_server

pytestmark = pytest.mark.slow

JOBS = 20_000
MAX_BYTES = 500
"A queued job with 100 bytes of arguments, all keys and entries of it, the allocator's waste too."

ORPHANS = 10_000
BATCH = 100
MAX_US = 10_000
"Redis serves nobody else meanwhile."

RUNS = 5
"""The server's own measure is of the time that passes, and the machine is not ours alone: of equal calls
the fastest tells what the script takes."""


@pytest.fixture(scope="module", params=PROGRAMS)
def server(request):
    with real_server(PROGRAMS[request.param]) as server:
        yield server


def records(count):
    """Jobs as a queue writes them: random keys and ids, 100 bytes of arguments."""
    arguments = {"address": "somebody@example.com", "subject": "s" * 53}
    assert len(json.dumps(arguments, separators=(",", ":"))) == 100
    codec, world = Codec(), environment()
    for _ in range(count):
        key = world.new_id()
        yield (
            key,
            world.new_id(),
            codec.encode_call(Job(function="send_mail", kwargs=arguments, key=key)),
        )


def enqueue(server, count, *, group=""):
    flat = []
    for key, enqueue_id, call in records(count):
        flat += [key, enqueue_id, call, 0, 0, 0, group]
        if len(flat) == 7 * BATCH:
            server.run("enqueue", NOW, "", *flat)
            flat = []


def used_memory(server):
    return int(re.search(rb"used_memory:(\d+)", server.ask("INFO", "memory"))[1])


def test_a_queued_job_with_100_bytes_of_arguments_takes_at_most_500_bytes(server):
    server.ask("FLUSHALL")
    before = used_memory(server)
    enqueue(server, JOBS)
    each = (used_memory(server) - before) / JOBS
    assert each <= MAX_BYTES, f"{server.server.version}: {each:.0f} bytes a job"


def claim(server, number, *, now=NOW):
    words = ("w", f"c{number}", BATCH, LEASE_MS, ALIVE_MS, "1", ROOM_MS)
    return server.run("claim", now, *words)[5]


def commits(jobs, target, flags="e", ttl=1000):
    moves = []
    for key, fence, _, state in jobs:
        told = ("losses", flags, "lost", "its worker died", "", "e" * 100, "")
        moves += [key, fence, state[16], target, 0, ttl, *told]
    return moves


def durations(server):
    """Microseconds of each script since the last look, by the server's own count."""
    log = server.ask("SLOWLOG", "GET", "-1")
    server.ask("SLOWLOG", "RESET")
    return [entry[2] for entry in reversed(log) if entry[3][0] == b"EVALSHA"]


def measured(server, call):
    """How long the longest of the scripts that `call` runs takes, each the least of equal ones."""
    runs = []
    for _ in range(RUNS):
        server.ask("SLOWLOG", "RESET")
        call()
        runs.append(durations(server))
    return max(min(equal) for equal in zip(*runs, strict=True))


@pytest.fixture
def watched(server):
    """A server that logs how long each command takes; 10,000 jobs run whose leases have ended."""
    server.ask("FLUSHALL")
    server.ask("CONFIG", "SET", "slowlog-max-len", "1000")
    enqueue(server, ORPHANS)
    for number in range(ORPHANS // BATCH):
        claim(server, number)
    server.ask("CONFIG", "SET", "slowlog-log-slower-than", "0")
    yield server
    server.ask("CONFIG", "SET", "slowlog-log-slower-than", "10000")


def recover(server, target, flags="e"):
    jobs = server.run("expired", NOW + LEASE_MS, BATCH)
    assert len(jobs) == BATCH
    server.run("commit", NOW + LEASE_MS, *commits(jobs, target, flags))


def test_no_script_holds_the_server_for_10_ms_with_10000_orphans(watched):
    numbers = iter(range(1000, 2000))
    moments = iter(range(NOW + LEASE_MS + 1000, NOW + 10**9))
    took = {
        "recovery to the queue": measured(watched, lambda: recover(watched, "queued")),
        "recovery of suspects": measured(watched, lambda: recover(watched, "queued", "es")),
        "recovery that fails": measured(watched, lambda: recover(watched, "failed")),
        "claim": measured(watched, lambda: claim(watched, next(numbers))),
        "enqueue": measured(watched, lambda: enqueue(watched, BATCH)),
        "enqueue of a group": measured(watched, lambda: enqueue(watched, BATCH, group="g")),
        "expiry": measured(watched, lambda: watched.run("expire", next(moments), BATCH)),
    }
    assert max(took.values()) < MAX_US, f"{watched.server.version}: {took}"


def test_claiming_100_jobs_whose_time_has_come_takes_less_than_10_ms(watched):
    flat = []
    for key, enqueue_id, call in records(BATCH * (RUNS + 1)):
        flat += [key, enqueue_id, call, NOW + 10, 0, 0, ""]
    for start in range(0, len(flat), 7 * BATCH):
        watched.run("enqueue", NOW, "", *flat[start : start + 7 * BATCH])
    numbers = iter(range(3000, 4000))
    took = measured(watched, lambda: claim(watched, next(numbers), now=NOW + 10))
    assert took < MAX_US, f"{watched.server.version}: {took} us"

"""For each script: what may be there before it is sent, what is sent, and what the second answer is.

Used where a script is sent twice, cancelled, or meets a server whose memory is full.
"""

from __future__ import annotations

from tests.store.servers import ROOT

NOW = 1_700_000_000_000
LEASE_MS, ALIVE_MS, ROOM_MS = 30_000, 60_000, 40_000
PAYLOAD = '{"v":1,"function":"f"}'


def new(key, enqueue_id="e", *, due=0, group=""):
    return key, f"{enqueue_id}-{key}", PAYLOAD, due, 0, 0, group


def enqueue(server, *keys, now=NOW, **options):
    for key in keys:
        server.run("enqueue", now, "", *new(key, **options))


def claim(server, claim_id="c1", wanted=10, *, now=NOW, worker="w", idle="1"):
    words = (worker, claim_id, wanted, LEASE_MS, ALIVE_MS, idle, ROOM_MS)
    return server.run("claim", now, *words)[5]


def move(key, fence, target, *, delay=0, ttl=1000, charge="", flags="", claim_id="c1"):
    return (key, fence, claim_id, target, delay, ttl, charge, flags, "o", "n", "r", "e", "x")


def held(server):
    """Job `a`, which runs under fence 1; its mate `b` follows."""
    enqueue(server, "a", "b", group="g")
    claim(server)


def suspects(server):
    enqueue(server, "s", "t")
    claim(server)
    moves = [*move("s", 1, "queued", flags="s"), *move("t", 2, "queued", flags="s")]
    server.run("commit", NOW, *moves)


def set_aside(server):
    enqueue(server, "a")
    server.ask("SET", f"{ROOT}:job:a", "something else")
    claim(server)


def finished(server):
    enqueue(server, "a", "b")
    claim(server)
    server.run("commit", NOW, *move("a", 1, "complete"), *move("b", 2, "complete", ttl=-1))


def damaged_runs(server):
    held(server)
    server.ask("SET", f"{ROOT}:job:a", "something else")


def registered(server):
    server.run("register", NOW - ALIVE_MS, "gone", ALIVE_MS, "{}")
    suspects(server)
    claim(server, "c2", idle="")


def waiting(server):
    enqueue(server, "a", "b")
    enqueue(server, "later", due=NOW + 500)


def nothing(server):
    """The queue is empty."""


ALREADY = object()
"The second answer is the first one once more."

LATER = NOW + LEASE_MS + 1
TWICE = {
    # script: [(what is there before, now and arguments, the second answer)]
    "enqueue": [
        (nothing, (NOW, "", *new("a"), *new("b")), [[b"same", NOW, 0], [b"same", NOW, 0]]),
        (nothing, (NOW, "", *new("a", due=NOW + 9)), [[b"same", NOW, NOW + 9]]),
        (nothing, (NOW, 1, *new("a"), *new("b")), [[b"same", NOW, 0], [b"full", 0, 0]]),
        (held, (NOW, "", *new("a", "other")), ALREADY),
        (finished, (NOW, "", *new("b")), [[b"same", NOW, 0]]),
        (finished, (NOW, "", *new("a", "other")), [[b"same", NOW, 0]]),
    ],
    "claim": [
        (waiting, (NOW, "w", "c1", 1, LEASE_MS, ALIVE_MS, "", ROOM_MS), ALREADY),
        (waiting, (NOW + 500, "w", "c1", 9, LEASE_MS, ALIVE_MS, "1", ROOM_MS), ALREADY),
        (waiting, (NOW, "w", "c1", 0, LEASE_MS, ALIVE_MS, "", ROOM_MS), ALREADY),
        (suspects, (NOW, "w", "c2", 2, LEASE_MS, ALIVE_MS, "1", ROOM_MS), ALREADY),
        (suspects, (NOW, "w", "c2", 2, LEASE_MS, ALIVE_MS, "", ROOM_MS), ALREADY),
    ],
    "commit": [
        (held, (NOW, *move("a", 1, "complete")), [[b"done", b"complete"]]),
        (held, (NOW, *move("a", 1, "failed", ttl=-1, charge="failures")), [[b"done", b"failed"]]),
        (held, (NOW, *move("a", 1, "failed", flags="qa")), [[b"done", b"failed"]]),
        (held, (NOW, *move("a", 1, "queued", charge="failures")), [[b"done", b"queued"]]),
        (held, (NOW, *move("a", 1, "queued", delay=5)), [[b"done", b"queued"]]),
        (held, (NOW, *move("a", 1, "queued", flags="f")), [[b"done", b"queued"]]),
        (held, (LATER, *move("a", 1, "queued", flags="es")), [[b"done", b"queued"]]),
        (held, (NOW, *move("a", 9, "complete")), ALREADY),
    ],
    "renew": [(held, (NOW + 5, LEASE_MS, "a", 1, "c1", "b", 9, "c1"), ALREADY)],
    "update": [
        (held, (NOW + 5, "a", 1, "c1", "0.5", "m"), ALREADY),
        (waiting, (NOW + 5, "a", "", "", "0.5", "m"), ALREADY),
    ],
    "abort": [
        (held, (NOW, "a", "because", 1000, "id"), ALREADY),
        (held, (NOW, "b", "because", 1000, "id"), b"aborted"),
        (waiting, (NOW, "a", "because", -1, "id"), b"aborted"),
        (waiting, (NOW, "later", "because", 0, "id"), b"aborted"),
        (suspects, (NOW, "s", "because", 1000, "id"), b"aborted"),
        (damaged_runs, (NOW, "a", "because", 1000, "id"), b"aborted"),
    ],
    "expired": [(held, (LATER, 100), ALREADY), (damaged_runs, (LATER, 100), [])],
    "expire": [(finished, (NOW + 1000, 100), 0), (set_aside, (NOW + 31 * 86_400_000, 100), 0)],
    "restore": [(set_aside, (NOW, "a", "r1"), ALREADY)],
    "discard": [(set_aside, (NOW, "a"), 0)],
    "register": [
        (registered, (NOW, "new", ALIVE_MS, "{}"), ALREADY),
        (registered, (NOW, "w", 0, ""), ALREADY),
    ],
    "pass_on": [(nothing, (NOW, ""), ALREADY), (registered, (NOW, "w"), ALREADY)],
    "cron": [
        (nothing, (NOW, "s", NOW, "1", "k", "e", PAYLOAD, "t", "w"), [b"handled", NOW]),
        (held, (NOW, "s", NOW, "", "a", "e9", PAYLOAD, "t", "w"), ALREADY),
        (nothing, (NOW, "s", NOW + 1, "1", "k", "e", PAYLOAD, "t", "w"), ALREADY),
    ],
    "adopt": [
        (nothing, (NOW, "w", "s", "t", "other", "u"), ALREADY),
        (nothing, (NOW, "w"), ALREADY),
    ],
    "read": [(finished, (NOW, "a", "b", "nope"), ALREADY)],
}

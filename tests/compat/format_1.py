"""Jobs of format 1 as they lie in Redis, byte by byte. Nothing here is made by the code that it tests.

These lines are never changed, as long as jobs of this format may wait somewhere: what they say is what
older releases have written, and what they expect to find. A new format gets a file of its own.
"""

from __future__ import annotations

NOW = 1_893_456_000_000
"2030-01-01, when a simulation begins."

ROOT = "qk:{compat}"
KEY = "a secret of sixteen bytes"

MIDDLE = 2**36
BAND = 2**37

DONE_LATER = NOW + 600_000


def head(moment: int = NOW) -> bytes:
    return b"enqueue-id %d\n" % moment


WAITING = [
    ("SET", f"{ROOT}:call:waiting", head() + b'{"v":1,"function":"echo","kwargs":{"a":1}}'),
    ("ZADD", f"{ROOT}:ready", MIDDLE, "waiting"),
]

ALL_OPTIONS = [
    (
        "SET",
        f"{ROOT}:call:options",
        head()
        + b'{"v":1,"function":"echo","kwargs":{"a":1},"timeout":60,"heartbeat":5,"retries":3,"ttl":3600,'
        b'"retry_delay":1.5,"retry_backoff":60,"max_lost":1,"priority":-5,"group_key":"g","meta":{"m":1}}',
    ),
    ("HSET", f"{ROOT}:job:options", "status", "queued", "priority", "-5", "group", "g"),
    ("ZADD", f"{ROOT}:ready", -5 * BAND + MIDDLE, "options"),
    ("HSET", f"{ROOT}:groups", "g", "options"),
    ("HSET", f"{ROOT}:leaders", "options", "g"),
]

FOLLOWER = [
    ("SET", f"{ROOT}:call:follower", head() + b'{"v":1,"function":"echo","group_key":"g"}'),
    (
        "HSET",
        f"{ROOT}:job:follower",
        *("status", "queued", "group", "g", "follows", str(MIDDLE + 1)),
    ),
    ("ZADD", f"{ROOT}:followers", 0, b"g\x01%017d\x01follower" % (MIDDLE + 1 + 2**52)),
]

SCHEDULED = [
    ("SET", f"{ROOT}:call:scheduled", head() + b'{"v":1,"function":"echo"}'),
    ("HSET", f"{ROOT}:job:scheduled", "status", "queued", "due", NOW + 60_000),
    ("ZADD", f"{ROOT}:scheduled", NOW + 60_000, "scheduled"),
]

RETRIED = [
    ("SET", f"{ROOT}:call:retried", head(NOW - 5000) + b'{"v":1,"function":"echo","retries":3}'),
    (
        "HSET",
        f"{ROOT}:job:retried",
        *("status", "queued", "attempts", "2", "failures", "1", "losses", "1", "abandoned", "1"),
        *("touched", NOW - 1000, "due", NOW + 5000, "fence", "4", "claim", "old~m1.4"),
        *("ended", "4:old~m1.4", "meta", b'{"value":{"step":2}}'),
        *("error", "Traceback ...\nValueError: no", "exception", '["ValueError", "no"]'),
        "log",
        (
            f"1\t{NOW - 4000}\t{NOW - 3000}\tlost\told~m1\tits lease ended\n"
            f"2\t{NOW - 2000}\t{NOW - 1000}\tretried\told~m1\tValueError: no"
        ),
    ),
    ("ZADD", f"{ROOT}:scheduled", NOW + 5000, "retried"),
]

ACTIVE = [
    ("SET", f"{ROOT}:call:active", head(NOW - 5000) + b'{"v":1,"function":"echo"}'),
    (
        "HSET",
        f"{ROOT}:job:active",
        *("status", "active", "attempts", "1", "started", NOW - 4000, "touched", NOW - 4000),
        *("worker", "old~m1", "fence", "7", "claim", "old~m1.7", "progress", "0.5"),
    ),
    ("ZADD", f"{ROOT}:lease", NOW + 20_000, "active"),
    ("SET", f"{ROOT}:fence", "7"),
    ("HSET", f"{ROOT}:claims", "old~m1", "old~m1.7\nactive"),
    ("ZADD", f"{ROOT}:workers", NOW + 50_000, "old~m1"),
    (
        "HSET",
        f"{ROOT}:info",
        "old~m1",
        (
            '{"stats": {"complete": 1, "failed": 0, "retried": 0, "aborted": 0, "uptime": 20000}, '
            '"queue_key": "compat", "metadata": {"host": "a"}}'
        ),
    ),
]

ABORTING = [
    ("SET", f"{ROOT}:call:aborting", head(NOW - 5000) + b'{"v":1,"function":"echo"}'),
    (
        "HSET",
        f"{ROOT}:job:aborting",
        *("status", "aborting", "attempts", "1", "started", NOW - 4000, "touched", NOW - 4000),
        *("worker", "old~m1", "fence", "6", "claim", "old~m1.6", "error", "no more"),
    ),
    ("ZADD", f"{ROOT}:lease", NOW + 10_000, "aborting"),
]

SUSPECT = [
    ("SET", f"{ROOT}:call:suspect", head(NOW - 90_000) + b'{"v":1,"function":"echo"}'),
    (
        "HSET",
        f"{ROOT}:job:suspect",
        *("status", "queued", "attempts", "2", "losses", "2", "touched", NOW - 1000, "solo", "1"),
        *("fence", "5", "claim", "old~m1.5", "ended", "5:old~m1.5:lost"),
    ),
    ("ZADD", f"{ROOT}:suspect", MIDDLE, "suspect"),
]

COMPLETE = [
    ("SET", f"{ROOT}:call:complete", head(NOW - 5000) + b'{"v":1,"function":"echo"}'),
    (
        "HSET",
        f"{ROOT}:job:complete",
        *("status", "complete", "attempts", "1", "started", NOW - 4000, "touched", NOW - 1000),
        *("worker", "old~m1", "fence", "3", "claim", "old~m1.3", "ended", "3:old~m1.3"),
        *("completed", NOW - 1000, "result", b'{"value":{"a":1}}', "expires", DONE_LATER),
    ),
    ("ZADD", f"{ROOT}:finished", DONE_LATER, "complete"),
]

FAILED = [
    ("SET", f"{ROOT}:call:failed", head(NOW - 5000) + b'{"v":1,"function":"echo"}'),
    (
        "HSET",
        f"{ROOT}:job:failed",
        *("status", "failed", "attempts", "1", "failures", "1", "started", NOW - 4000),
        *("touched", NOW - 1000, "completed", NOW - 1000, "worker", "old", "fence", "2"),
        *("claim", "old.2", "ended", "2:old.2", "error", "ValueError: no"),
        *("exception", '["ValueError", "no"]', "expires", DONE_LATER),
    ),
    ("ZADD", f"{ROOT}:finished", DONE_LATER, "failed"),
]

QUARANTINED = [
    ("SET", f"{ROOT}:call:quarantined", head(NOW - 5000) + b'{"v":1,"function":"echo"}'),
    (
        "HSET",
        f"{ROOT}:job:quarantined",
        *("status", "failed", "attempts", "1", "completed", NOW - 1000, "touched", NOW - 1000),
        *("error", "its record cannot be read: ...", "expires", NOW + 2_592_000_000),
    ),
    ("ZADD", f"{ROOT}:finished", NOW + 2_592_000_000, "quarantined"),
    ("ZADD", f"{ROOT}:quarantine", NOW - 1000, "quarantined"),
]

SIGNED = [
    (
        "SET",
        f"{ROOT}:call:signed",
        head() + b"hmac-sha256:c98a6ab21a468c1a5134412678b6fa140090bbfd7a04a18dc509d1d127cef11f:"
        b'{"v":1,"function":"echo","kwargs":{"a":1},"meta":{"m":1}}',
    ),
    ("ZADD", f"{ROOT}:ready", MIDDLE, "signed"),
]

UNKNOWN_FIELDS = [
    (
        "SET",
        f"{ROOT}:call:unknown",
        head()
        + b'{"v":1,"function":"echo","kwargs":{"a":1},"colour":"red","deadline":[1,{"x":null}]}',
    ),
    ("HSET", f"{ROOT}:job:unknown", "status", "queued", "colour", "red", "weight", "\x00"),
    ("ZADD", f"{ROOT}:ready", MIDDLE + 1, "unknown"),
]

NEWER = [
    ("SET", f"{ROOT}:call:newer", head() + b'{"v":2,"does":["echo",{"a":1}],"function":"echo"}'),
    ("ZADD", f"{ROOT}:ready", MIDDLE - 1, "newer"),
]

ALL = [
    *(*WAITING, *ALL_OPTIONS, *FOLLOWER, *SCHEDULED, *RETRIED, *ACTIVE, *ABORTING, *SUSPECT),
    *(*COMPLETE, *FAILED, *QUARANTINED, *UNKNOWN_FIELDS, *NEWER),
]

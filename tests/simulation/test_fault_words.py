"""What is said of words for a fault that do not fit together."""

from __future__ import annotations

import pytest

from queuekit.errors import ServerError
from queuekit.simulation import SimulationError


@pytest.mark.parametrize(
    ("kind", "words", "told"),
    [
        ("lose_replies", {"command": "claim"}, "there is no fault 'lose_replies'"),
        ("kill", {}, "with no moment"),
        ("kill", {"before": "claim", "after": "claim"}, "with before and after"),
        ("lose_reply", {"at": 3}, "no command to strike"),
        ("outage", {"at": 3, "nth": 2, "seconds": 1}, "nor an nth"),
        ("kill", {"before": "claim", "nth": 0}, "count from 1"),
        ("kill", {"before": "claim", "chance": 0}, "above 0 and at most 1"),
        ("delay", {"before": "claim"}, "missing: seconds"),
        ("kill", {"before": "claim", "secnods": 2}, "unknown: secnods"),
        ("kill", {"at": 3}, "needs process="),
        ("lose_reply", {"after": "committing"}, "is a moment"),
        ("cancel", {"after": "committing"}, "a task is what a cancellation strikes"),
        ("kill", {"task": "job"}, "a task is what a cancellation strikes"),
        ("lose_request", {"after": "claim"}, "strikes before its command"),
        ("lose_reply", {"before": "claim"}, "strikes after its command"),
        ("error", {"after": "claim", "error": "BUSY"}, "strikes before its command"),
        ("lose_reply", {"command": "claim", "how": "softly"}, "one of reset, silence"),
        ("error", {"command": "BLPOP", "error": "OOM"}, "whose memory is full lets BLPOP through"),
        ("error", {"command": "commit", "error": "OOM"}, "Name one of those, or command="),
        ("error", {"before": "read", "error": "READONLY"}, "It refuses writes, and scripts that"),
        ("error", {"command": "GET", "error": "MISCONF"}, "Redis 8 that cannot save lets GET"),
        (
            "error",
            {"command": "BLPOP", "error": "NOSCRIPT"},
            "has forgotten its scripts lets BLPOP",
        ),
        ("error", {"command": "claim", "error": "TRYAGAIN"}, "queuekit's scripts name one"),
        ("error", {"command": "SELECT", "error": "LOADING"}, "reads its data lets SELECT through"),
        ("error", {"command": "HELLO", "error": "BUSY"}, "does not end lets HELLO through"),
        ("error", {"command": "TIME", "error": "CLUSTERDOWN"}, "commands that have a key"),
        ("error", {"command": "BLPOP", "error": "MASTERDOWN"}, "to a write it says READONLY"),
        (
            "error",
            {"command": "claim", "error": "NOREPLICAS", "server": "redis 6.2"},
            "a Redis 6.2 whose replicas are too few lets claim through",
        ),
        ("error", {"command": "NOSUCH", "error": "OOM"}, "there is no command NOSUCH, as far as"),
        ("error", {"command": "GTE", "error": "MISCONF"}, "in capitals, or the name of a script"),
        ("error", {"command": "enqueue", "error": "oom"}, "are in capitals.\n  Say error='OOM'"),
        (
            "error",
            {"command": "*", "error": "Loading"},
            "more words than one, for a text of your own",
        ),
        ("error", {"command": "claim", "error": "BUSY", "server": "redis 5"}, "one of redis 8, "),
        ("restart_server", {"at": 1, "data": "gone"}, "one of kept, lost, stale"),
        ("outage", {"at": 1, "seconds": -1}, "a number, 0 or more"),
        ("step_clock", {"at": 1, "seconds": "1"}, "seconds is a number"),
    ],
)
async def test_words_that_do_not_fit_are_refused(simulation, kind, words, told):
    with pytest.raises(SimulationError, match=told):
        simulation.inject(kind, **words)
    assert simulation.faults.planned == []


async def test_a_text_of_ones_own_may_be_in_small_letters(simulation):
    for text in ("busy, ask later", "gone"):
        simulation.inject("error", command="claim", error=text, optional=True)


@pytest.mark.parametrize("at", [-1, "2029-12-31T23:59:59Z", float("inf")])
async def test_what_has_passed_cannot_be_struck(simulation, at):
    with pytest.raises(SimulationError, match="what has passed cannot be struck"):
        simulation.inject("outage", at=at, seconds=1)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("expire", "READONLY"),
        ("enqueue", "OOM READONLY BUSY NOSCRIPT"),
        ("BLPOP", "READONLY TRYAGAIN LOADING CLUSTERDOWN"),
        ("XGROUP", "OOM"),
        ("CLIENT", "BUSY"),
        ("PING", "MISCONF LOADING MASTERDOWN"),
        ("a script of somebody's", "OOM NOSCRIPT TRYAGAIN"),
        ("*", "OOM"),
    ],
)
async def test_words_that_may_find_their_moment_are_taken(simulation, command, error):
    for code in error.split():
        simulation.inject("error", command=command, error=code, optional=True)


async def test_a_text_of_ones_own_strikes_what_it_is_asked_for(simulation):
    fault = simulation.inject("error", command="ZCARD", error="OOM at noon", process="web")
    with pytest.raises(ServerError, match="at noon"):
        await simulation.process("web").run(simulation.queue.count, "queued")
    assert fault.fired

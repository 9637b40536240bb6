"""What clients and workers may do to a queue, as plain values that Hypothesis draws and shrinks.

Each command says in small numbers what `drive.py` makes of it: the n-th key, the n-th run that anybody was
ever given. The first choice is always the dullest one, so that a failure shrinks to what it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

KEYS = 6
WORKERS = 3
RUNS = 12
"So far back reaches the memory of those who hold runs, or believe to."

MAX_STEPS = 40

few = st.integers(0, 2)
key = st.integers(0, KEYS - 1)
worker = st.integers(0, WORKERS - 1)
run = st.integers(0, RUNS - 1)
seldom = st.sampled_from([False, False, False, True])

new_job = st.tuples(
    key,
    seldom,  # the id of the last enqueue of this key again
    st.sampled_from(["at once", "at once", "soon", "delayed", "past"]),
    st.sampled_from([0, 0, -1, 7, -32768, 32767]),
    st.sampled_from(["", "", "g", "h"]),
)

ENDS = (
    "complete",
    "failed",
    "gone",
    "for ever",
    "retried",
    "delayed",
    "released",
    "aborted",
    "solo",
    "quarantine",
    "unknown",
)
end = st.tuples(
    run,
    st.sampled_from(ENDS),
    st.sampled_from(["", "", "", "", "wrong fence", "wrong claim", "twice", "expired only"]),
)

batch = st.lists(new_job, min_size=1, max_size=3)
DAMAGES = ("call overwritten", "call deleted", "state overwritten", "state deleted")
PAUSES_MS = (1, 1000, 31_000, 61_000, 31 * 86_400_000, 401 * 86_400_000)


def _weighted(*choices: tuple[int, Callable[[], st.SearchStrategy[Any]]]) -> list[Any]:
    """Each choice so many times; anew each time, since Hypothesis counts equal ones once."""
    return [make() for weight, make in choices for _ in range(weight)]


def _command(name: str, *details: st.SearchStrategy[Any]) -> Callable[[], st.SearchStrategy[Any]]:
    return lambda: st.tuples(st.just(name), *details)


COMMAND = st.one_of(
    _weighted(
        (1, _command("nothing")),
        (5, _command("enqueue", batch, st.none())),
        (1, _command("enqueue", batch, st.just(2))),
        (4, _command("claim", worker, st.integers(1, 3), st.just(True), st.just(False))),
        (2, _command("claim", worker, st.integers(0, 3), st.booleans(), seldom)),
        (4, _command("commit", st.lists(end, min_size=1, max_size=1))),
        (2, _command("commit", st.lists(end, min_size=1, max_size=3))),
        (2, _command("recover", st.sampled_from(["queued", "solo", "failed"]))),
        (1, _command("renew", st.lists(run, min_size=1, max_size=3))),
        (1, _command("update", key, st.one_of(st.none(), run), few)),
        (2, _command("abort", key, st.sampled_from([1000, 0, -1000]))),
        (1, _command("expire")),
        (1, _command("restore", key)),
        (1, _command("discard", key)),
        (1, _command("register", worker, st.booleans())),
        (1, _command("cron", few, st.integers(-1, 1), st.booleans(), worker)),
        (1, _command("adopt", worker, st.lists(st.integers(0, 1), min_size=1, max_size=3))),
        (1, _command("read")),
        (1, _command("token", worker)),
        (1, _command("pass on", worker)),
        (1, _command("nudge", worker)),
        (2, _command("damage", key, st.sampled_from(DAMAGES))),
        (3, _command("again")),
        (3, _command("advance", st.sampled_from(PAUSES_MS))),
    )
)

HISTORY = st.lists(COMMAND, min_size=MAX_STEPS // 2, max_size=MAX_STEPS)
"""Thirty commands on average. The list never gets short, since Hypothesis would then draw short ones
first of all; a failure shrinks to few that are not `nothing`."""

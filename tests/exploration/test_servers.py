"""The same story, seed and misfortunes give the same trace on the embedded Redis and on every real one.

`make same-traces` does it with thirty seeds of each story, in some minutes.
"""

from __future__ import annotations

import os
from functools import cache
from zlib import crc32

import pytest

from queuekit.exploration import Plan, Terms, run_once
from queuekit.exploration.swarm import COMMON_KINDS, KINDS, drawn
from queuekit.simulation.private_server import find_servers, start_private_server
from queuekit.simulation.schedule import SCHEDULES
from queuekit.simulation.trace import first_difference
from tests.mutants.stories import STORIES

SEEDS = int(os.environ.get("QUEUEKIT_SEEDS", "0"))
"Of each story; 0 are those below."

SHORT = {
    "killers": [
        0,
        1,
        2,
        4,
    ],  # 4 once was another run on the embedded Redis, which wrote +OK as $2 OK
    "hung": [1, 2, 3],
    "outage": [1, 2],
    "handover": [2, 5],
    "groups": [1, 2],
    "results": [4],
    "cron": [2, 3],
    "deaf": [1],
}
"Which runs of which stories `make test` lives through on each server."

RUNS = [(name, n) for name in (STORIES if SEEDS else SHORT) for n in (range(SEEDS) or SHORT[name])]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=find_servers(), ids=lambda found: found[0])
def server(request):
    """A server program that there is, running."""
    running = start_private_server(request.param[1])
    yield f"unix://{running.address}"
    running.close()


def plan_of(name, number):
    """A third of the runs is first in first out; every seventh also has clocks that are wrong."""
    seed = crc32(name.encode()) % 1_000_000 + number
    kinds = KINDS if number % 7 == 6 else COMMON_KINDS
    return Plan(seed, SCHEDULES[number % 3], drawn(seed, kinds), choices=True)


@cache
def lived(name, number):
    """The run on the embedded Redis."""
    return run_once(STORIES[name], plan_of(name, number))


def lines(name, number, **terms):
    kept = []
    run_once(STORIES[name], plan_of(name, number), Terms(**terms), sink=kept.append)
    return kept


def test_the_runs_meet_every_default_misfortune():
    struck = {d.site.partition(":")[0] for name, n in RUNS for d in lived(name, n).tape}
    assert struck >= {f"swarm.{kind}" for kind in COMMON_KINDS}


@pytest.mark.parametrize(("name", "number"), RUNS)
def test_a_run_is_the_same_on_every_server(name, number, server):
    embedded = lived(name, number)
    real = run_once(STORIES[name], plan_of(name, number), Terms(backend=server, flush=True))
    if (real.trace, real.lines) != (embedded.trace, embedded.lines):
        one, other = lines(name, number), lines(name, number, backend=server, flush=True)
        pytest.fail(first_difference(one, other) or "different once, and then no more")
    assert real.breaches == embedded.breaches == []
    assert real.tape == embedded.tape
    assert real.reached == embedded.reached

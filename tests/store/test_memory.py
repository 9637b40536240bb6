"""A server whose memory is full: work that goes on is let through, new work is refused whole."""

from __future__ import annotations

import contextlib

import pytest

from queuekit.simulation.resp import Error
from tests.store.cases import NOW, PAYLOAD, TWICE, enqueue, held, new, set_aside
from tests.store.servers import PROGRAMS, real_server

REFUSED = {"enqueue", "cron", "restore"}
"What brings new work."

PASSING = [
    pytest.param(script, before, words, id=f"{script}-{number}-{before.__name__}")
    for script, cases in TWICE.items()
    if script not in REFUSED
    for number, (before, words, _) in enumerate(cases)
]


@pytest.fixture(scope="module", params=PROGRAMS)
def any_server(request):
    with real_server(PROGRAMS[request.param]) as server:
        yield server


@pytest.fixture
def server(any_server):
    any_server.ask("FLUSHALL")
    return any_server


@contextlib.contextmanager
def full_memory(server):
    """Less memory is allowed than is used, and nothing may be evicted."""
    server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.ask("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(Error, match="OOM"):
            server.ask("SET", "any", "thing")
        yield
    finally:
        server.ask("CONFIG", "SET", "maxmemory", "0")


def test_there_are_servers():
    assert len(PROGRAMS) >= 1, "No real server is installed: the extra `dev` brings some."


@pytest.mark.parametrize(("script", "before", "words"), PASSING)
def test_what_keeps_work_going_passes_while_memory_is_full(server, script, before, words):
    before(server)
    answer = server.run(script, *words)
    state = server.read_all()
    server.ask("FLUSHALL")
    before(server)
    with full_memory(server):
        assert server.run(script, *words) == answer
    assert server.read_all() == state


@pytest.mark.parametrize(
    ("script", "before", "words"),
    [
        ("enqueue", held, (NOW, "", *new("k"))),
        ("enqueue", held, (NOW, "", *new("k", due=NOW + 1), *new("l"))),
        ("enqueue", held, (NOW, "", *new("k", group="g"))),
        ("cron", held, (NOW, "s", NOW, "1", "k", "e", PAYLOAD, "t", "w")),
        ("restore", set_aside, (NOW, "a", "r1")),
    ],
)
def test_new_work_is_refused_whole_while_memory_is_full(server, script, before, words):
    before(server)
    state = server.read_all()
    with full_memory(server):
        with pytest.raises(Error, match="OOM"):
            server.run(script, *words)
        assert server.read_all() == state
    server.run(script, *words)


@pytest.mark.parametrize("again", ["e", "other"])
def test_an_enqueue_that_brings_nothing_new_is_answered_while_memory_is_full(server, again):
    enqueue(server, "a")
    with full_memory(server):
        [[verdict, *_]] = server.run("enqueue", NOW, "", *new("a", again))
    assert verdict == (b"same" if again == "e" else b"taken")

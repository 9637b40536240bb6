"""The trace is the same whenever it is put into words."""

from __future__ import annotations

import hashlib

import pytest
import redis.asyncio

from queuekit.simulation import Simulation
from queuekit.simulation.trace import CHECKPOINT, MAX_LINES, MAX_UNWRITTEN, Trace
from queuekit.simulation.wire import LARGE

NAMED = "-- name: greeting\nreturn 'hello'"


async def ok(ctx):
    """Does nothing."""


async def talk(simulation):
    client = redis.asyncio.Redis(host="redis")
    sha = hashlib.sha1(NAMED.encode(), usedforsecurity=False).hexdigest()
    with pytest.raises(redis.exceptions.NoScriptError):
        await client.evalsha(sha, 0)
    await client.script_load(NAMED)
    await client.evalsha(sha, 0)
    await client.set("large", b"x" * LARGE)
    await client.get("large")
    await client.rpush("list", *"abc")
    assert await client.lrange("list", 0, -1) == [b"a", b"b", b"c"]
    await client.lpop("list")
    simulation.worker([ok])
    for _ in range(60):
        await simulation.queue.enqueue("ok")
    await simulation.drain()
    await client.aclose()


def lived(ask):
    """A world's trace, and what it was told when somebody asked after each thing that happened."""
    with Simulation(seed=3) as simulation:
        lines = []
        simulation.trace.sink = lines.append if ask else None
        if ask:
            simulation.observe(lambda _: simulation.trace.digest() and None)
        simulation.run(talk(simulation))
        trace = simulation.trace
        return trace.digest(), trace.lines(), trace.checkpoints, trace.count, lines


def test_a_trace_is_the_same_whenever_somebody_asks():
    digest, lines, checkpoints, count, told = lived(ask=True)
    assert lines == told
    assert len(lines) == count > CHECKPOINT
    assert (digest, lines, checkpoints, count, []) == lived(ask=False)
    whole = "".join(f"{line}\n" for line in lines).encode()
    assert digest == hashlib.sha256(whole).hexdigest()
    first = "".join(f"{line}\n" for line in lines[:CHECKPOINT]).encode()
    assert checkpoints[0] == hashlib.sha256(first).hexdigest()[:16]
    assert len(checkpoints) == count // CHECKPOINT


def test_a_script_has_the_name_that_it_had_when_it_was_called():
    _, lines, *_ = lived(ask=False)
    called = [line.split()[4] for line in lines if " EVALSHA " in line][:2]
    assert called == ["script", "greeting"]


def test_what_is_large_is_not_kept_for_the_trace():
    with Simulation() as simulation:
        simulation.run(talk(simulation))
        sizes = [
            sum(map(len, entry[1].raw))
            for entry in simulation.trace._unwritten
            if not isinstance(entry, str)
        ]
        assert 0 < max(sizes) < LARGE


def hash_of(numbers):
    return hashlib.sha256("".join(f"{n}\n" for n in numbers).encode()).hexdigest()


def test_so_many_lines_are_kept_and_all_are_hashed():
    trace, count = Trace(), MAX_LINES + MAX_UNWRITTEN + 1
    for n in range(count):
        trace.add(str(n))
        assert len(trace._unwritten) < MAX_UNWRITTEN
        if n == 10:
            trace.digest()
    assert trace.lines() == [str(n) for n in range(count - MAX_LINES, count)]
    assert trace.digest() == hash_of(range(count))
    ends = range(CHECKPOINT, count + 1, CHECKPOINT)
    assert trace.checkpoints == [hash_of(range(end))[:16] for end in ends]

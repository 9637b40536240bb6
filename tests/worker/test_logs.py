"""Nothing that travels through Redis can forge a line of a log, or show what it should not."""

from __future__ import annotations

import asyncio
import logging

import pytest

from queuekit import Queue
from queuekit.text import gist, one_line

ROOT = "qk:{default}"
HOSTILE = "x\n2030-01-01 CRITICAL forged\r\x1b[2J\x00\x7f\x9b\u2028\u202e"
CANARY = "c4nary"


async def ok(ctx, **arguments):
    """A task."""


async def redis(simulation, *command):
    return await simulation.queue.store._command(*command)


async def lay(simulation, key, function, **state):
    payload = b'{"v":1,"function":' + function + b"}"
    await redis(simulation, "SET", f"{ROOT}:call:{key}", b"id 5\n" + payload)
    if state:
        flat = [part for pair in state.items() for part in pair]
        await redis(simulation, "HSET", f"{ROOT}:job:{key}", *flat)


def lines_of(caplog):
    assert caplog.records
    return [record.getMessage() for record in caplog.records]


@pytest.fixture(autouse=True)
def every_level(caplog):
    caplog.set_level(logging.DEBUG, "queuekit")


@pytest.mark.spoils_records
async def test_no_key_name_group_or_worker_of_a_foreign_record_forges_a_line(simulation, caplog):
    await lay(simulation, HOSTILE, b'"ok"', status="queued", group=HOSTILE)
    await lay(simulation, "b", b'"x\\nCRITICAL forged"')
    await lay(simulation, "c", b'"no such \xe2\x80\xae task"')
    await lay(simulation, "d", b'"ok","timeout":"\\nforged"')
    for n, key in enumerate([HOSTILE, "b", "c", "d"]):
        await redis(simulation, "ZADD", f"{ROOT}:ready", 2**36 + n, key)
    await lay(
        simulation, "lost", b'"ok"', status="active", fence=1, claim="c", worker=HOSTILE, attempts=1
    )
    await redis(simulation, "ZADD", f"{ROOT}:lease", 1, "lost")
    await simulation.queue.enqueue("ok", key="good")
    simulation.worker([ok])
    await simulation.advance(1)
    text = "".join(lines_of(caplog))
    assert text.isprintable()
    assert "forged" in text, "it is shown, escaped"
    lost = await simulation.queue.job("lost")
    assert "forged" in lost.error
    assert lost.error.isprintable()
    assert all(attempt.error.isprintable() for attempt in await lost.history())


async def test_no_error_or_reason_forges_a_line(simulation, caplog):
    async def fails(ctx):
        raise ValueError(f"forged{HOSTILE}")

    async def exits(ctx):
        raise SystemExit(HOSTILE)

    async def hold(ctx):
        await asyncio.sleep(60)

    def load(raw):
        raise ValueError(f"forged{HOSTILE}")

    simulation.worker([fails, exits, hold])
    for function in ("fails", "exits"):
        await simulation.queue.enqueue(function, retries=2)
    held = await simulation.queue.enqueue("hold")
    await simulation.run_until_idle()
    await held.abort(f"forged{HOSTILE}")
    odd = Queue.from_url("redis://localhost", name="odd", dump=str, load=load)
    await odd.enqueue("fails")
    simulation.worker([fails], queue=odd)
    await simulation.run_until_idle()
    lines = lines_of(caplog)
    assert all(line.isprintable() for line in lines)
    assert sum("forged" in line for line in lines) >= 6


async def test_arguments_results_and_meta_are_not_logged(simulation, caplog):
    async def echo(ctx, **arguments):
        await ctx["job"].update(meta={"note": CANARY})
        if len(arguments) > 1:
            raise ValueError("no")
        return arguments

    simulation.worker([echo])
    queue = simulation.queue
    await queue.apply("echo", secret=CANARY)
    await queue.enqueue("echo", secret=CANARY, more=1, retries=2, meta={"password": CANARY})
    await queue.enqueue("ok", secret=CANARY)
    await lay(simulation, "bad", b'"echo","v":9,"kwargs":{"secret":"' + CANARY.encode() + b'"}')
    await redis(simulation, "ZADD", f"{ROOT}:ready", 1, "bad")
    await simulation.run_until_idle()
    text = "".join(lines_of(caplog)) + caplog.text
    assert "completed" in text
    assert CANARY not in text


@pytest.mark.parametrize("text", [HOSTILE, "a\tb", "\ud800", "\x85", "\U000e0001"])
def test_a_line_has_nothing_that_cannot_be_printed(text):
    for shown in (one_line(text), gist(text)):
        assert shown.isprintable()
        assert "\n" not in shown


@pytest.mark.parametrize("text", ["plain", "ünï", "\N{PARTY POPPER}", "a\\nb", ""])
def test_what_can_be_printed_stays_as_it_is(text):
    assert one_line(text) == text

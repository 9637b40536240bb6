"""A run in words: what a newcomer reads of a failure."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from queuekit.exploration import Breach, Plan, run_once
from queuekit.exploration.failures import in_words
from queuekit.exploration.telling import PROMISES
from queuekit.simulation import Deviation
from tests.exploration.shop import ship, sound
from tests.mutants.catalogue import catalogue


async def unheard(simulation):
    """An enqueue is executed, and its client does not hear of it."""
    simulation.worker([ship])
    await simulation.queue.enqueue("ship", key="before", order=1)
    simulation.inject("lose_reply", command="enqueue", process="test")
    await simulation.queue.enqueue("ship", key="order-42", order=42)


def app():
    return Redis.from_url("redis://app.internal:6379/3")


async def side_by_side(simulation):
    """Two tasks ask for the same lock, and two for others, none of which waits for the others' answers."""
    async with app() as client:
        locks = ("lock", "lock", "another", "a third")
        await asyncio.gather(*(client.set(lock, 1, ex=60, nx=True) for lock in locks))


async def after_a_reset(simulation):
    simulation.inject("reset", after="SET", process="test")
    async with app() as client:
        for _ in range(2):
            with suppress(RedisError):
                await client.set("lock", 1, ex=60, nx=True)


def told(story, **plan):
    run = run_once(story, Plan(**plan), tell=True)
    return run, run.story.splitlines()


def place(lines, words):
    [at] = [n for n, line in enumerate(lines) if words in line]
    return at


def test_a_command_that_is_sent_again_is_told_behind_its_fault():
    run, lines = told(unheard)
    assert run.broken is None
    again = place(lines, "the test sends its enqueue again: no answer had come")
    assert place(lines, "FAULT lose_reply") < again
    assert not any("BROKEN" in line for line in lines)
    assert not any("again" in line for line in told(sound)[1])


def test_who_sends_the_same_command_beside_another_one_does_not_send_it_again():
    _, lines = told(side_by_side)
    assert lines == []
    _, lines = told(after_a_reset)
    assert place(lines, "FAULT reset") < place(lines, "the test sends its SET again: no answer had")


def test_where_a_promise_breaks_stands_in_the_story():
    with catalogue()["an enqueue sent twice is not known again"].in_force():
        run, lines = told(unheard)
    assert run.broken.promise == "P7"
    broken = place(lines, ">>> P7 IS BROKEN")
    assert place(lines, "sends its enqueue again") < broken < place(lines, "order-42: completed")
    assert not any("before" in line for line in lines)  # another job's matter


def test_what_is_held_back_under_pct_is_named_by_its_process():
    held = [Deviation(f"pct.priority:{what} 1", 1, 1) for what in ("request", "reply")]
    _, lines = told(sound, schedule="pct", tape=(*held, Deviation("pct.priority:worker-2", 1, 1)))
    place(lines, "what the test sends on connection 1 is held back")
    place(lines, "what Redis answers the test on connection 1 is held back")
    place(lines, " worker-2 is held back, until all others wait")
    _, lines = told(sound, schedule="pct", tape=(Deviation("pct.priority:_Living._told-1", 1, 1),))
    place(lines, " the story itself is held back")


def test_a_breach_begins_with_what_the_promise_is_called():
    assert in_words(Breach("P7", "P7 job 'a': was enqueued twice", 3.5)) == (
        "P7 (unique) is broken at 3.5 s: job 'a': was enqueued twice"
    )
    assert in_words(Breach("effect:charged", "charged happened twice")) == (
        "effect:charged is broken at 0 s: charged happened twice"
    )
    assert in_words(Breach("story:ValueError:shop.py:7", "ValueError: no", 1)) == (
        "the story failed at 1 s (ValueError:shop.py:7): ValueError: no"
    )
    assert list(PROMISES) == [f"P{n}" for n in (*range(1, 9), 11, 12)]

"""A run that is lived through twice."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from queuekit.exploration.errors import NotRepeatable
from queuekit.exploration.guard import assert_repeatable, first_divergence
from queuekit.simulation import Simulation
from queuekit.simulation.trace import MAX_LINES, Trace


def traced(*runs):
    """Traces of these lines, one after the other."""
    each = iter(runs)

    def live(sink):
        trace = Trace()
        trace.sink = sink
        for line in next(each):
            trace.add(line)
        return trace

    return live


def test_the_same_twice_is_repeatable():
    assert first_divergence(traced("abc", "abc")) is None
    assert_repeatable(traced("abc", "abc"))


def test_the_first_difference_is_shown_with_both_sides():
    told = first_divergence(traced("abcdefghij", "abcdefgXij"))
    assert told == ("the traces part at line 8:\n    c\n    d\n    e\n    f\n    g\n  - h\n  + X")


@pytest.mark.parametrize(
    ("one", "other", "sides"),
    [("abc", "ab", "  - c\n  + (end)"), ("ab", "abc", "  - (end)\n  + c"), ("", "a", "  + a")],
)
def test_a_run_that_ends_earlier_differs(one, other, sides):
    assert sides in first_divergence(traced(one, other))


def test_a_difference_is_found_where_a_trace_keeps_its_lines_no_more():
    one = [f"{n}" for n in range(MAX_LINES + 500)]
    other = [*one[:100], "here", *one[101:]]
    assert "at line 101:" in first_divergence(traced(one, other))


def live(story):
    def once(sink):
        with Simulation(seed=3) as simulation:
            simulation.trace.sink = sink
            simulation.run(story(simulation))
            return simulation.trace

    return once


async def noop(ctx):
    return ctx["job"].attempts


def test_a_simulations_life_is_repeatable():
    async def story(simulation):
        simulation.worker([noop])
        await simulation.queue.enqueue("noop")
        await simulation.drain()

    assert_repeatable(live(story))


def test_what_an_earlier_run_has_left_behind_is_found():
    runs = itertools.count(1)

    async def story(simulation):
        await asyncio.sleep(next(runs))

    with pytest.raises(NotRepeatable, match="left behind") as told:
        assert_repeatable(live(story))
    assert "  - 1000000 t\n  + 2000000 t" in str(told.value)

"""A run that is lived through twice."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import re
import sys

import pytest

from queuekit.exploration import NotRepeatable, assert_repeatable, explore
from queuekit.exploration.guard import twice
from queuekit.simulation import SimulationError
from tests.exploration.shop import charged, ship


def lines(*runs):
    """Runs with these lines, one after the other."""
    each = iter(runs)

    def live(sink):
        run = next(each)
        for line in run:
            sink(line)
        return run

    return live


def parted(one, other):
    with pytest.raises(NotRepeatable) as told:
        twice(lines(one, other), "it")
    return str(told.value)


def test_the_same_twice_is_repeatable():
    assert twice(lines("abc", "abc"), "it") == "abc"


def test_the_first_difference_is_shown_with_both_sides():
    told = parted("abcdefghij", "abcdefgXij")
    assert told.startswith("it was lived through twice, and was not the same twice: ")
    assert "the traces part at line 8:\n" in told
    assert "\n    c\n    d\n    e\n    f\n    g\n  - h\n  + X\n" in told


@pytest.mark.parametrize(
    ("one", "other", "sides"),
    [("abc", "ab", "  - c\n  + (end)"), ("ab", "abc", "  - (end)\n  + c"), ("", "a", "  + a")],
)
def test_a_run_that_ends_earlier_differs(one, other, sides):
    assert sides in parted(one, other)


def test_a_difference_is_found_in_the_midst_of_a_long_run():
    one = [f"{n}" for n in range(30_000)]
    assert "at line 101:" in parted(one, [*one[:100], "here", *one[101:]])


@pytest.mark.slow
def test_a_story_is_repeatable_under_every_schedule_and_misfortune(backend):
    lived = []

    async def story(simulation):
        lived.append(simulation.seed)
        await charged(simulation)

    assert_repeatable(story, seeds=4, first_seed=5, backend=backend)
    assert lived == [5, 5, 6, 6, 7, 7, 8, 8]


@pytest.mark.slow
@pytest.mark.parametrize("schedules", [["fifo"], ["random", "pct"]])
def test_what_an_earlier_run_has_left_behind_is_found(schedules):
    runs = itertools.count(1)

    async def story(simulation):
        await asyncio.sleep(next(runs))

    with pytest.raises(NotRepeatable, match="left behind") as told:
        assert_repeatable(story, schedules=schedules, faults=())
    assert "  - 1000000 t\n  + 2000000 t" in str(told.value)
    assert f"seed 0 (schedule {schedules[0]})" in str(told.value)


@pytest.mark.slow
def test_the_order_of_a_set_of_new_objects_is_found():
    """Their hashes are their addresses, which no seed decides."""
    kept = []

    async def story(simulation):
        simulation.worker([ship])
        kept.append([object() for _ in range(len(kept) * 7)])  # others lie elsewhere
        orders = {object(): number for number in range(8)}
        for each in set(orders):
            await simulation.queue.enqueue("ship", key=f"order-{orders[each]}", order=1)

    with pytest.raises(NotRepeatable, match=r"\n  - .*order-\d.*\n  \+ .*order-\d"):
        assert_repeatable(story, seeds=20, faults=())


def test_arguments_that_make_no_sense_are_refused():
    with pytest.raises(SimulationError, match="exploration has no kind"):
        assert_repeatable(charged, faults=["explosion"])
    with pytest.raises(SimulationError, match="one of 'fifo', 'random', 'pct'"):
        assert_repeatable(charged, schedules=())


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"seeds": 1},
        {"seeds": 2},
        {"seeds": 10},
        {"seeds": 10, "jobs": 2},
        {"minutes": 0.001},
        {"seeds": 1, "redeliver": True},
        {"deviations": 1, "seeds": 20},
    ],
    ids=str,
)
def test_every_exploration_guards_one_run_at_least(options):
    runs = itertools.count(1)

    async def story(simulation):
        await charged(simulation)
        await asyncio.sleep(next(runs))

    with pytest.raises((NotRepeatable, SimulationError), match="was not the same twice"):
        explore(story, kept=None, **options)
    runs = itertools.count(1)
    explore(story, kept=None, faults=(), guard=0, **(options | {"redeliver": False}))


@pytest.mark.slow
@pytest.mark.parametrize(("guard", "twice"), [(1, 8), (0.5, 4), (0.1, 1)])
def test_a_guard_s_share_is_its_share(guard, twice):
    lived = []

    async def story(simulation):
        lived.append(simulation.seed)
        await charged(simulation)

    explore(story, seeds=8, guard=guard, kept=None, faults=(), schedules=["fifo"])
    assert len(lived) == 8 + twice


# -- in other processes

ORDERS = """
import os

from tests.exploration.shop import charged, ship

TOWNS = {"Ulm", "Graz", "Bern", "Bonn", "Linz", "Köln"}


async def of_a_set(simulation):
    simulation.worker([ship])
    for town in TOWNS:
        await simulation.queue.enqueue("ship", key=town, order=1)


async def sorted_first(simulation):
    simulation.worker([ship])
    for town in sorted(TOWNS):
        await simulation.queue.enqueue("ship", key=town, order=1)


async def follows_its_process(simulation):
    simulation.worker([ship])
    await simulation.queue.enqueue("ship", key=f"{os.getpid()}", order=1)


async def dies(simulation):
    await sorted_first(simulation)
    if os.environ.get("PYTHONHASHSEED"):
        os._exit(3)
"""


@pytest.fixture
def orders(tmp_path, monkeypatch):
    (tmp_path / "orders_of_a_test.py").write_text(ORDERS, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    yield importlib.import_module("orders_of_a_test")
    sys.modules.pop("orders_of_a_test")


LOOKS = [
    lambda story: assert_repeatable(story, faults=(), seeds=1),
    lambda story: explore(story, seeds=3, faults=(), kept=None).elsewhere,
    lambda story: explore(story, seeds=4, faults=(), kept=None, jobs=2).elsewhere,
]


@pytest.mark.slow
@pytest.mark.parametrize("look", LOOKS)
def test_the_order_of_a_set_of_texts_is_found(orders, look):
    with pytest.raises(
        NotRepeatable, match=r"with PYTHONHASHSEED=1 and in .* the traces part"
    ) as told:
        look(orders.of_a_set)
    differing = re.search(r"\n *- (.*)\n *\+ (.*)\n", str(told.value))
    towns = [next(t for t in orders.TOWNS if t in line) for line in differing.groups()]
    assert towns[0] != towns[1]
    assert "Sort what the code goes through" in str(told.value)
    assert "were the same in two processes" in look(orders.sorted_first) or look is LOOKS[0]


@pytest.mark.slow
def test_what_follows_its_process_is_found(orders):
    with pytest.raises(NotRepeatable, match="in a process with PYTHON"):
        assert_repeatable(orders.follows_its_process, faults=(), seeds=1)


@pytest.mark.slow
def test_what_a_test_has_patched_here_is_no_difference(orders, monkeypatch):
    monkeypatch.setattr(orders, "TOWNS", ("Ulm", "Graz"))
    monkeypatch.setattr(orders, "sorted", lambda towns: towns, raising=False)
    assert assert_repeatable(orders.sorted_first, faults=(), seeds=2) == (
        "2 runs were the same in two processes whose sets have other orders"
    )


@pytest.mark.slow
def test_where_no_other_process_can_be_asked_the_reason_is_told(orders):
    async def nested(simulation):
        await charged(simulation)

    told = assert_repeatable(nested, seeds=1, faults=())
    assert told.startswith("no run was compared with one in another process: its story (")
    assert "has no name of its own" in told
    told = assert_repeatable(orders.dies, seeds=1, faults=())
    assert "a process died of it, or hung (EOFError" in told
    assert "1 runs were" in assert_repeatable(orders.sorted_first, seeds=1, faults=())


@pytest.mark.slow
def test_without_a_guard_nobody_is_asked(orders):
    assert explore(orders.of_a_set, seeds=2, faults=(), kept=None, guard=0).elsewhere == ""

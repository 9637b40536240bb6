"""Every run with at most so many deviations."""

from __future__ import annotations

import itertools
import math

import pytest

from queuekit.exploration.errors import NotRepeatable
from queuekit.exploration.exhaustive import Lived, every_schedule, seen
from queuekit.simulation import Deviation, Simulation, SimulationError
from queuekit.simulation.chooser import Chooser


def lives(story, seen=None):
    """A run that takes decisions of a chooser, without any loop."""

    def run(tape):
        chooser = Chooser(0, tape)
        chooser.asked = []
        failed = story(chooser)
        assert chooser.tape == tape
        if seen is not None:
            seen.append(tuple(tape))
        return Lived(chooser.asked, failed)

    return run


def ten_coins(chooser):
    for _ in range(10):
        chooser.pick("coin", 2)


def test_all_within_the_bound_are_run_and_none_twice():
    seen = []
    searched = every_schedule(lives(ten_coins, seen), deviations=3)
    assert searched.exhausted
    assert len(seen) == len(set(seen)) == sum(math.comb(10, k) for k in range(4))
    assert searched.runs == len(seen)
    assert searched.by_deviations == {0: 1, 1: 10, 2: 45, 3: 120}
    assert [len(tape) for tape in seen] == sorted(len(tape) for tape in seen)


def test_it_says_in_words_whether_it_has_seen_all():
    searched = every_schedule(lives(ten_coins), deviations=2)
    assert str(searched) == (
        "every schedule that differs in at most two places: 56 runs (1 + 10 + 45)"
    )
    assert seen(searched, "run").startswith("every run that differs in")
    assert str(every_schedule(lives(ten_coins), deviations=1)) == (
        "every schedule that differs in at most one place: 11 runs (1 + 10)"
    )
    assert str(every_schedule(lives(ten_coins), deviations=0)) == (
        "every schedule that differs in no place: 1 run (1)"
    )
    assert str(every_schedule(lives(ten_coins), deviations=2, runs=30)) == (
        "not every schedule that differs in at most two places: 30 runs (1 + 10 + 19); "
        "no runs were left for 26 choices, most of them at coin"
    )
    failed = every_schedule(lives(lambda chooser: chooser.pick("a", 9) == 4 or None))
    assert str(failed).endswith("two places: 5 runs (1 + 4), up to the first that failed")


def test_time_may_end_it():
    searched = every_schedule(lives(ten_coins), until=0.0)
    assert searched.runs == 1
    assert not searched.exhausted


def test_a_bound_below_nothing_is_refused():
    with pytest.raises(SimulationError, match="0 is the boring run alone"):
        every_schedule(lives(ten_coins), deviations=-1)


def test_decisions_that_only_a_deviation_brings_are_found():
    def story(chooser):
        if chooser.pick("a", 3) == 2:
            return "found" if chooser.pick("b", 2) else None
        return None

    searched = every_schedule(lives(story))
    assert searched.failures == [([Deviation("a", 1, 2), Deviation("b", 1, 1)], "found")]
    assert not searched.exhausted  # it stopped there
    assert every_schedule(lives(story), first_failure=False).exhausted
    assert every_schedule(lives(story), deviations=1).failures == []


def test_a_budget_is_kept_and_told():
    seen = []
    searched = every_schedule(lives(ten_coins, seen), deviations=3, runs=30)
    assert searched.runs == len(seen) == 30
    assert not searched.exhausted
    assert every_schedule(lives(ten_coins), deviations=1, runs=11).exhausted


def test_only_the_kinds_that_were_asked_for_are_varied():
    def story(chooser):
        chooser.pick("a:x", 2)
        chooser.pick("b", 4)

    seen = []
    assert every_schedule(lives(story, seen), kinds=["a"]).exhausted
    assert seen == [(), (Deviation("a:x", 1, 1),)]


def test_a_decision_among_too_many_is_passed_over_and_told():
    def story(chooser):
        chooser.pick("pct.priority:w", 1000)
        chooser.pick("b", 2)

    searched = every_schedule(lives(story))
    assert searched.runs == 2
    assert not searched.exhausted
    assert searched.passed_over == {"pct.priority:w": 1}
    assert "passed over were decisions among more than 64: pct.priority:w" in str(searched)


def test_a_run_that_is_not_its_tapes_is_told():
    turns = itertools.count()

    def story(chooser):
        if next(turns) == 0:
            chooser.pick("a", 2)
        chooser.pick("b", 2)

    def run(tape):
        chooser = Chooser(0, tape)
        chooser.asked = []
        story(chooser)
        return Lived(chooser.asked)

    with pytest.raises(NotRepeatable, match="'a' number 1"):
        every_schedule(run)


async def nothing(ctx):
    return 1


@pytest.mark.slow
def test_every_single_deviation_of_two_workers_and_a_job_ends_well(on_each_backend):
    lived = set()

    def run(tape):
        async def story(simulation):
            simulation.chooser.asked = []
            simulation.worker([nothing])
            simulation.worker([nothing])
            job = await simulation.queue.enqueue("nothing")
            await simulation.drain()
            simulation.assert_completed(job)

        with Simulation(schedule="random", choices=tape, **on_each_backend) as simulation:
            simulation.run(story(simulation))
            assert simulation.chooser.tape == tape
            lived.add(tuple(tape))
            return Lived(simulation.chooser.asked)

    searched = every_schedule(run, deviations=1)
    assert searched.exhausted
    assert searched.runs == len(lived) > 80

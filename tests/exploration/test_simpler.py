"""A failing run, told under the schedule that says it most simply."""

from __future__ import annotations

import pytest

from queuekit.exploration.errors import NotRepeatable
from queuekit.exploration.simpler import HELD_BACK_RUNS, held_back, reduced, without_scheduling
from queuekit.simulation import Deviation
from queuekit.simulation.chooser import Asked

FAULT = Deviation("swarm.kill:worker-1:claim", 1, 1)
WALK = [Deviation("schedule", n, 1 + n % 4) for n in range(1, 101)]
ACTORS = [
    Asked("pct.priority:a", 1, 1000),
    Asked("pct.priority:b", 1, 1000),
    Asked("choose:n", 1, 3),
]


class Failing:
    """Fails by a rule of schedule and tape; counts."""

    def __init__(self, rule):
        self.rule = rule
        self.tried = []

    def __call__(self, schedule, tape):
        self.tried.append((schedule, tuple(tape)))
        return tape if self.rule(schedule, tape) else None


def look(tape):
    return ACTORS, 50


def test_what_needs_no_order_is_first_in_first_out_at_once():
    fails = Failing(lambda schedule, tape: FAULT in tape)
    found = reduced("random", [*WALK, FAULT], fails, look)
    assert (found.schedule, found.tape) == ("fifo", [FAULT])
    assert fails.tried[0] == ("fifo", (FAULT,))
    assert found.runs == len(fails.tried) < 8


def test_a_long_walk_is_told_as_one_who_is_held_back():
    def rule(schedule, tape):
        if schedule == "random":
            return len(tape) >= 90 and FAULT in tape
        return schedule == "pct" and FAULT in tape and Deviation("pct.priority:b", 1, 1) in tape

    found = reduced("random", [*WALK, FAULT], Failing(rule), look)
    assert (found.schedule, found.tape) == ("pct", [FAULT, Deviation("pct.priority:b", 1, 1)])
    assert found.minimal


def test_or_as_one_who_falls_behind_at_a_step():
    def rule(schedule, tape):
        return len(tape) >= 90 if schedule == "random" else tape == [Deviation("pct.change", 1, 37)]

    fails = Failing(rule)
    found = reduced("random", WALK, fails, look)
    assert (found.schedule, found.tape) == ("pct", [Deviation("pct.change", 1, 37)])
    assert found.runs - 1 == len(fails.tried)  # one of them was the look


def test_a_walk_of_two_decisions_stays_one():
    needed = {WALK[3], WALK[60]}
    fails = Failing(
        lambda schedule, tape: schedule == "random" and len({d.nth for d in tape} & {4, 61}) == 2
    )
    found = reduced("random", WALK, fails, look)
    assert found.schedule == "random"
    assert [d.nth for d in found.tape] == sorted(d.nth for d in needed)
    assert all(schedule == "random" for schedule, _ in fails.tried)


def test_what_nothing_simpler_shows_stays_a_walk_and_the_budget_is_kept():
    fails = Failing(lambda schedule, tape: schedule == "random" and len(tape) >= 60)
    found = reduced("random", WALK, fails, look, runs=150)
    assert (found.schedule, len(found.tape)) == ("random", 60)
    assert len(fails.tried) <= 152


def test_a_run_that_does_not_fail_again_is_told():
    with pytest.raises(NotRepeatable):
        reduced("random", WALK, lambda schedule, tape: None, look)


def test_everybody_is_held_back_and_then_whoever_goes_on():
    held = list(held_back(ACTORS, 3))
    assert held[:2] == [[Deviation("pct.priority:a", 1, 1)], [Deviation("pct.priority:b", 1, 1)]]
    assert held[2:] == [[Deviation("pct.change", 1, step)] for step in (1, 2, 3)]
    assert len(list(held_back((), 10_000))) <= HELD_BACK_RUNS
    assert list(held_back((), 0)) == []


def test_decisions_about_who_goes_on_are_known_by_their_kind():
    tape = [WALK[0], FAULT, Deviation("pct.change", 1, 3), Deviation("pct.priority:x", 1, 2)]
    assert without_scheduling(tape) == [FAULT]

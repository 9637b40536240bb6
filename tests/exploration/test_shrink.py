"""Reduction of a failing tape."""

from __future__ import annotations

import random

import pytest

from queuekit.exploration.errors import NotRepeatable
from queuekit.exploration.shrink import shrink
from queuekit.simulation import Deviation, SimulationError


def tape(*numbers, site="a"):
    return [Deviation(site, nth, 5) for nth in numbers]


class Failing:
    """Fails by a rule; counts."""

    def __init__(self, rule):
        self.rule = rule
        self.tried = []

    def __call__(self, given):
        self.tried.append(tuple(given))
        return given if self.rule(given) else None


def test_what_fails_by_itself_needs_no_decision():
    fails = Failing(lambda given: True)
    shrunk = shrink(tape(*range(1, 100)), fails)
    assert shrunk.tape == []
    assert shrunk.minimal
    assert (
        shrunk.runs == len(fails.tried) == 3
    )  # the given one, the empty one, and the result once more


def test_only_the_decisions_that_matter_are_left():
    needed = {(3, "a"), (50, "b")}
    given = tape(*range(1, 65)) + tape(*range(1, 65), site="b")

    def rule(given):
        return needed <= {(d.nth, d.site) for d in given}

    shrunk = shrink(given, Failing(rule))
    assert shrunk.tape == [Deviation("a", 3, 1), Deviation("b", 50, 1)]
    assert shrunk.minimal
    assert shrunk.runs < 80


def test_all_decisions_of_one_kind_are_left_out_at_once():
    needed = Deviation("swarm.kill:w", 1, 1)
    fails = Failing(lambda given: needed in given)
    shrunk = shrink([*tape(*range(1, 400)), needed, *tape(1, 2, site="b")], fails)
    assert shrunk.tape == [needed]
    assert shrunk.runs <= 6


def test_values_go_down_to_the_least_that_fails():
    given = [Deviation("pct.priority:a", 1, 913), Deviation("pct.change", 1, 250)]
    shrunk = shrink(given, Failing(lambda t: len(t) == 2 and t[1].value >= 26))
    assert shrunk.tape == [Deviation("pct.priority:a", 1, 1), Deviation("pct.change", 1, 26)]


def test_decisions_move_forward_as_far_as_it_fails():
    shrunk = shrink(tape(90), Failing(lambda t: any(d.nth >= 7 for d in t)))
    assert shrunk.tape == [Deviation("a", 7, 1)]


def test_two_decisions_never_meet_at_one_place():
    fails = Failing(lambda t: len(t) == 3)
    shrunk = shrink(tape(4, 6, 9), fails)
    assert len({d.nth for d in shrunk.tape}) == 3
    assert all(len({d.nth for d in tried}) == len(tried) for tried in fails.tried)


def test_decisions_that_come_no_more_are_dropped_with_the_run_that_shows_it():
    gate, needed = Deviation("gate", 1, 1), Deviation("a", 1, 1)
    tried = []

    def fails(given):  # those of b come only behind the gate
        tried.append(given)
        taken = [d for d in given if d.site != "b" or gate in given]
        return taken if needed in given else None

    shrunk = shrink([gate, *tape(*range(1, 40), site="b"), needed], fails)
    assert shrunk.tape == [needed]
    assert len(tried) == 5  # the last is the result once more


def test_a_tape_is_never_run_twice_but_for_the_result():
    fails = Failing(lambda t: sum(d.nth for d in t) > 100)
    shrink(tape(*range(1, 30)), fails)
    assert len(set(fails.tried)) == len(fails.tried) - 1
    assert fails.tried[-1] in fails.tried[:-1]


def test_the_budget_is_kept_and_the_result_fails_all_the_same():
    fails = Failing(lambda t: sum(d.value for d in t) > 300)
    shrunk = shrink(tape(*range(1, 200)), fails, runs=20)
    assert not shrunk.minimal
    assert shrunk.runs == len(fails.tried) == 21  # and the result once more
    assert fails.rule(shrunk.tape)


def test_a_reduction_is_the_same_each_time():
    given = tape(*random.Random(4).sample(range(1, 500), 60))

    def rule(t):
        return sum(d.nth for d in t) % 7 == 3 or sum(d.nth for d in t) > 900

    assert shrink(given, Failing(rule)).tape == shrink(given, Failing(rule)).tape


@pytest.mark.parametrize("seed", range(30))
def test_the_result_of_any_rule_passes_without_any_one_of_its_decisions(seed):
    source = random.Random(seed)
    given = tape(*sorted(source.sample(range(1, 40), 20)))
    needed = [set(source.sample([d.nth for d in given], 3)) for _ in range(2)]

    def rule(t):
        return any(group <= {d.nth for d in t} for group in needed)

    shrunk = shrink(given, Failing(rule))
    assert rule(shrunk.tape)
    assert len(shrunk.tape) == 3
    assert not any(rule([e for e in shrunk.tape if e != d]) for d in shrunk.tape)


def test_a_tape_that_does_not_fail_again_is_told():
    with pytest.raises(NotRepeatable, match="to be reduced") as told:
        shrink(tape(1), lambda t: None)
    assert isinstance(told.value, SimulationError)
    assert "assert_repeatable shows the first difference" in str(told.value)


def test_a_result_that_does_not_fail_again_is_told():
    luck = iter([True, False, True, True, False, False])

    def fails(given):
        return given if next(luck, False) else None

    with pytest.raises(NotRepeatable, match="the reduced tape"):
        shrink(tape(1, 2), fails)


def test_one_decision_is_given_up_for_another_one_moved():
    def rule(t):  # which neither leaving out nor moving alone comes to
        return [d.nth for d in t] in ([2, 5, 9], [4, 9])

    assert [d.nth for d in shrink(tape(2, 5, 9), Failing(rule)).tape] == [4, 9]


def test_another_actor_may_be_the_one_that_is_held_back():
    given = [Deviation(f"pct.priority:{name}", 1, 500 + n) for n, name in enumerate("abcdef")]

    def rule(t):
        held = {d.site[-1] for d in t}
        return held >= set("abc") or held == {"a", "f"}

    assert {d.site[-1] for d in shrink(given, Failing(rule)).tape} == {"a", "f"}


def test_a_single_decision_of_another_value_is_found_although_three_were_left():
    given = [Deviation("pct.change", n, 200) for n in (1, 2, 3)]

    def rule(t):
        return len(t) == 3 or [d.value for d in t] == [14]

    assert shrink(given, Failing(rule)).tape == [Deviation("pct.change", 1, 14)]

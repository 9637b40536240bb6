"""The plan holds every fault that the form asks for, in an order that its seed decides."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from tests.chaos.faults import plan
from tests.chaos.form import FAULTS, FULL, NO_FAULT


def test_the_plan_holds_what_the_form_asks_for():
    planned = Counter(kind for _, kind in plan(FULL))
    assert planned == {kind: getattr(FULL, kind) for kind in FAULTS}
    assert not plan(NO_FAULT)


def test_the_plan_follows_from_the_seed_and_from_nothing_else():
    assert plan(FULL) == plan(FULL)
    assert plan(FULL) != plan(replace(FULL, seed=2))


def test_faults_come_while_there_is_work():
    moments = [ended for ended, _ in plan(FULL)]
    assert moments == sorted(moments)
    assert moments[0] > 0
    assert moments[-1] < FULL.jobs

"""The short form of the battery; `make chaos` runs the full one, beside SAQ's."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.chaos.battery import run
from tests.chaos.form import FAULTS, NO_FAULT, SHORT
from tests.chaos.table import broken, details

pytestmark = pytest.mark.slow


def verdict_of(form, folder):
    verdict = asyncio.run(run("queuekit", form, folder=folder, say=lambda text: None))
    return verdict, "\n".join(["", *details("queuekit", verdict)])


def test_no_fault_loses_changes_or_wrongly_repeats_a_job(tmp_path):
    verdict, found = verdict_of(SHORT, tmp_path)
    assert verdict.fired == {kind: getattr(SHORT, kind) for kind in FAULTS}
    assert verdict.acknowledged == verdict.attempted == SHORT.jobs, found
    assert not verdict.lost, found
    assert not verdict.stuck, found
    assert not verdict.changed, found
    assert not verdict.claimed_after_end, found
    assert not verdict.wrong, found
    assert not verdict.unexpected, found
    assert not verdict.unexplained, "a job ran twice, and its lease had not ended" + found
    assert not verdict.ended_by_themselves, "a worker gave up; its log is in the folder of the test"


def test_without_a_fault_each_job_comes_to_its_end_exactly_once(tmp_path):
    form = replace(NO_FAULT, jobs=500, workers=4)
    verdict, found = verdict_of(form, tmp_path)
    assert not broken(form, verdict), found
    assert verdict.ended == verdict.complete == form.jobs, found
    assert verdict.most_losses == 0, found

"""The verdict has teeth: each kind of failure is found in evidence that was made up to show it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.chaos.enqueuer import Enqueuer
from tests.chaos.evidence import Reader
from tests.chaos.form import Form
from tests.chaos.peers import Record
from tests.chaos.sampler import Sampler
from tests.chaos.table import LISTED, broken, total
from tests.chaos.verdict import judge

KEY = "0-quick"
LEASE_S = 3.0
COMPLETE = Record("complete", 1, 0, 100, "r1", "")


class Case:
    """One job: what was written of it, and how it looked in turn."""

    def __init__(self, folder):
        self.reader = Reader(folder / "evidence")
        self.file = folder / "evidence"
        self.looks = []

    def wrote(self, event, run="r1", key=KEY, attempt=1, losses=0, queued=0, claimed=10, at=20):
        with self.file.open("a") as file:
            file.write(
                f"{event} {key} {run} w0 1 {attempt} {losses} {queued} {claimed} {at} {at}\n"
            )

    def verdict(self, *looks, **options):
        sampler = Sampler(self, self.reader, seed=1)
        for look in looks:
            self.looks = [look]
            asyncio.run(sampler.look([KEY]))
        enqueuer = Enqueuer(self, Form(jobs=1), ["quick"])
        enqueuer.acknowledged[KEY] = None
        self.reader.read()
        return judge(enqueuer, self.reader, sampler, lease_s=LEASE_S, counts_losses=True, **options)

    async def look(self, keys):
        return self.looks


@pytest.fixture
def case(tmp_path):
    return Case(tmp_path)


def wrong_in(verdict):
    return {name for name in LISTED if getattr(verdict, name)}


def test_a_job_that_ended_once_and_is_complete_is_sound(case):
    case.wrote("begin")
    case.wrote("end")
    verdict = case.verdict(COMPLETE, COMPLETE)
    assert verdict.sound
    assert not verdict.twice
    assert not broken(Form(jobs=1), total([verdict]))


def test_a_job_that_never_ran_to_its_end_is_lost(case):
    case.wrote("begin")
    assert wrong_in(case.verdict(Record("active", 1, 0, 0, None, ""))) == {"lost", "stuck"}


def test_a_job_whose_record_is_gone_is_stuck(case):
    case.wrote("begin")
    case.wrote("end")
    assert wrong_in(case.verdict(None)) == {"stuck"}


def test_a_job_that_is_complete_without_an_end_is_lost_and_wrong(case):
    case.wrote("begin")
    case.wrote("raised")
    assert wrong_in(case.verdict(COMPLETE)) == {"lost", "wrong"}


def test_a_result_of_a_run_that_did_not_end_is_wrong(case):
    case.wrote("begin", "r0")
    case.wrote("end", "r0")
    assert wrong_in(case.verdict(COMPLETE)) == {"wrong"}


def test_a_finished_job_that_changes_is_found(case):
    case.wrote("begin")
    case.wrote("end")
    changed = Record("complete", 1, 0, 200, "r1", "")
    assert wrong_in(case.verdict(COMPLETE, changed)) == {"changed"}


def test_a_claim_after_the_end_is_found(case):
    case.wrote("begin")
    case.wrote("end")
    case.wrote("begin", "r2", losses=1, attempt=2, claimed=5000)
    assert wrong_in(case.verdict(COMPLETE)) == {"claimed_after_end"}


def test_a_run_of_a_job_that_nobody_enqueued_is_unexpected(case):
    case.wrote("begin")
    case.wrote("end")
    case.wrote("begin", "r2", key="9-quick")
    assert wrong_in(case.verdict(COMPLETE)) == {"unexpected"}


def test_a_second_end_is_explained_by_a_lease_that_had_ended_and_a_loss_that_was_counted(case):
    case.wrote("begin")
    case.wrote("end")
    case.wrote("begin", "r2", losses=1, attempt=2, claimed=3010)
    case.wrote("end", "r2")
    verdict = case.verdict(Record("complete", 2, 1, 3020, "r2", ""))
    assert verdict.sound
    assert list(verdict.twice) == [KEY]


@pytest.mark.parametrize(("claimed", "losses"), [(2000, 1), (3010, 0)])
def test_a_second_end_within_the_lease_or_without_a_loss_is_unexplained(case, claimed, losses):
    case.wrote("begin")
    case.wrote("end")
    case.wrote("begin", "r2", losses=losses, attempt=2, claimed=claimed)
    case.wrote("end", "r2")
    verdict = case.verdict(Record("complete", 2, losses, 3020, "r2", ""))
    assert wrong_in(verdict) == {"unexplained"}


def test_a_run_that_begins_long_after_its_claim_comes_first_all_the_same(case):
    """Its worker stood still between the two; without a fault of the queue's the second was done by then."""
    case.wrote("begin", "r2", losses=1, attempt=2, claimed=3020, at=3030)
    case.wrote("end", "r2", at=3030)
    case.wrote("begin", "r1", claimed=10, at=4500)
    case.wrote("end", "r1", at=4500)
    verdict = case.verdict(Record("complete", 2, 1, 3040, "r2", ""))
    assert verdict.sound
    assert list(verdict.twice) == list(verdict.late) == list(verdict.began_after_end) == [KEY]


def test_moments_of_several_clocks_are_not_compared(case):
    case.wrote("begin")
    case.wrote("end")
    case.wrote("begin", "r2", losses=1, attempt=2, claimed=5000)
    assert wrong_in(case.verdict(COMPLETE, one_clock=False)) == set()


def test_a_second_life_is_no_second_run(case):
    case.wrote("begin")
    case.wrote("end")
    case.wrote("begin", "r2", queued=50, claimed=60)
    case.wrote("end", "r2")
    verdict = case.verdict(Record("complete", 1, 0, 70, "r2", ""))
    assert list(verdict.enqueued_twice) == [KEY]
    assert verdict.sound


def test_a_third_loss_fails_a_job_by_rule_only_if_each_lease_had_ended(case):
    failed = Record("failed", 3, 3, 9500, None, "lost")
    for number, claimed in enumerate((10, 3020, 6030)):
        case.wrote("begin", f"r{number}", attempt=number + 1, losses=number, claimed=claimed)
    assert wrong_in(case.verdict(failed)) == {"lost_by_rule"}
    case.wrote("begin", "r9", attempt=4, losses=3, claimed=6040)
    assert wrong_in(case.verdict(failed)) == {"lost", "wrong"}


def test_a_line_that_is_half_written_is_read_when_it_is_whole(case):
    with case.file.open("a") as file:
        file.write("begin 0-quick r1 w0 1 1 0 0 ")
    case.reader.read()
    assert not case.reader.runs
    with case.file.open("a") as file:
        file.write("10 20 20\n")
    case.reader.read()
    assert list(case.reader.runs) == ["r1"]


def test_without_faults_a_second_run_breaks_the_promise(case):
    case.wrote("begin")
    case.wrote("end")
    case.wrote("begin", "r2", losses=1, attempt=2, claimed=3010)
    case.wrote("end", "r2")
    verdict = case.verdict(Record("complete", 2, 1, 3020, "r2", ""))
    assert broken(Form(jobs=1), total([verdict]))


def test_two_looks_at_one_time_are_no_change(tmp_path):
    """Without a fault, a busy machine once noted an older answer after a newer one."""

    class Slow:
        def __init__(self):
            self.answers = [Record("active", 1, 0, 0, None, ""), COMPLETE]
            self.older_may_answer = asyncio.Event()

        async def look(self, keys):
            answer = self.answers.pop(0)
            if answer is COMPLETE:
                self.older_may_answer.set()
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self.older_may_answer.wait()
            return [answer]

    async def main():
        sampler = Sampler(Slow(), Reader(tmp_path / "evidence"), seed=1)
        await asyncio.gather(sampler.look([KEY]), sampler.look([KEY]))
        return sampler

    sampler = asyncio.run(main())
    assert not sampler.changed
    assert sampler.first == {KEY: COMPLETE}

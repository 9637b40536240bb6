"""What explore() finds, how it tells of it, and what it keeps."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from zlib import crc32

import pytest

from queuekit.exploration import ExplorationFailed, NotRepeatable, Vacuous, explore, run_once
from queuekit.exploration.failures import plan_of
from queuekit.exploration.living import Plan
from queuekit.exploration.swarm import COMMON_KINDS, KINDS, drawn
from queuekit.simulation import Deviation, SimulationError, fault_kinds
from queuekit.simulation.schedule import SCHEDULES
from tests.exploration.shop import charged, charged_once, ship, sound
from tests.mutants.at_work import errands

explore_module = import_module("queuekit.exploration.explore")  # the function hides it

pytestmark = pytest.mark.slow
"Each of these lives through a story many times."


def failure_of(story, **options):
    with pytest.raises(ExplorationFailed) as caught:
        explore(story, **options)
    return caught.value


def test_a_task_that_charges_twice_is_found_reduced_and_told(tmp_path, backend):
    error = failure_of(charged_once, kept=tmp_path, backend=backend)
    failure = error.failure
    assert failure.token == charged_once_token()  # the same run, on whatever server
    assert failure.promise.startswith("story:AssertionError:shop.py:")
    assert 1 <= len(failure.tape) <= 2
    assert "FAULT" in failure.story
    assert failure.story.count("effect charged(order=42)") == 2
    assert "to have happened exactly 1 time(s)" in str(error)
    assert f"token {failure.token}" in str(error)


@cache
def charged_once_token():
    return failure_of(charged_once, kept=None).failure.token


def test_a_defect_of_the_queue_is_found_by_the_promise_that_it_breaks(plant, backend):
    plant("jobs[#jobs + 1] = { key, tonumber(state[16]), call_record(key), state }", "")
    failure = failure_of(sound, kept=None, backend=backend).failure
    assert failure.promise == "P1"
    assert "that claim's second answer leaves it out" in failure.what
    assert len(failure.tape) == 1
    assert "FAULT" in failure.story


def test_a_defect_that_needs_a_killed_worker_is_found(plant):
    plant("redis.call('ZADD', LEASE, exact(now + ARGV[5]), key)", "", script="claim")
    assert failure_of(sound, kept=None).failure.promise == "P1"


async def asks_for_ever(simulation):
    async def polls():
        while True:  # noqa: ASYNC110 (it is the defect)
            await asyncio.sleep(0.001)

    simulation.process("poller", polls)


async def waits_for_a_poller(simulation):
    simulation.worker([ship])
    await asks_for_ever(simulation)
    await simulation.queue.enqueue("ship", order=42)
    await asyncio.sleep(1_000_000)


def test_a_run_that_asks_again_and_again_with_a_little_wait_is_ended_by_its_steps(tmp_path):
    failure = failure_of(waits_for_a_poller, seeds=1, steps=5_000, kept=tmp_path).failure
    assert failure.promise == "livelock"
    assert "more than 5,000 steps" in failure.what
    assert "steps=" in failure.what
    (kept,) = tmp_path.glob("*.toml")
    assert "steps = 5000" in kept.read_text()


def test_redelivery_at_each_point_finds_it_and_says_by_which_point(tmp_path):
    """No chance is in it: the worker is killed once at each place of the boring run."""
    error = failure_of(charged, redeliver=True, seeds=1, once=["charged"], kept=tmp_path)
    assert error.failure.promise == "effect:charged"
    (struck,) = error.failure.tape
    assert struck.site.startswith("swarm.kill:worker-1:")
    assert "redelivery, point" in str(error)


def test_redelivery_lives_through_every_point_of_a_sound_story(backend):
    explored = explore(sound, redeliver=True, seeds=1, kept=None, backend=backend)
    assert explored.points > 20
    assert explored.runs == explored.points + 2
    assert explored.reached["a killed process held a job"] > 3


def replay(folder, token, *options):
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", "queuekit", "replay", token, *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_command_replays_a_failure_by_its_token(tmp_path):
    kept = tmp_path / ".queuekit" / "failures"
    failure = failure_of(charged, redeliver=True, seeds=1, once=["charged"], kept=kept).failure
    done = replay(tmp_path, failure.token)
    assert done.returncode == 0, done.stdout + done.stderr
    assert failure.story in done.stdout
    assert "effect:charged is broken" in done.stdout
    on_a_real_server = replay(tmp_path, failure.token, "--backend", "server")
    assert (on_a_real_server.returncode, on_a_real_server.stdout) == (0, done.stdout)
    path = kept / f"{failure.token}.toml"
    path.write_text(path.read_text("utf-8").replace("effect:charged", "P1"), "utf-8")
    other = replay(tmp_path, failure.token)
    assert other.returncode == 1
    assert "recorded was: P1" in other.stdout
    missing = replay(tmp_path, "00000000")
    assert missing.returncode == 2
    assert failure.token in missing.stderr


def test_a_story_inside_a_function_is_replayed_by_its_test_and_says_so(tmp_path):
    async def inside(simulation):
        return await charged_once(simulation)

    kept = tmp_path / ".queuekit" / "failures"
    error = failure_of(inside, kept=kept)
    assert "run this test again" in str(error)
    done = replay(tmp_path, error.failure.token)
    assert done.returncode == 2
    assert "Run its test again" in done.stderr
    assert "kept from an earlier exploration" in str(failure_of(inside, kept=kept))


def test_kept_failures_come_first_and_are_forgotten_when_mended(tmp_path):
    mended = []  # no plain value: with another one it would be another story

    async def story(simulation):
        at_end = await charged_once(simulation)
        return None if mended else at_end

    first = failure_of(story, kept=tmp_path)
    again = failure_of(story, kept=tmp_path, seeds=1, faults=())
    assert again.failure.token == first.failure.token
    assert "kept from an earlier exploration" in str(again)
    assert len(list(tmp_path.glob("*.toml"))) == 1
    mended.append(True)
    explored = explore(story, seeds=1, kept=tmp_path)
    assert explored.runs == 2
    assert not list(tmp_path.glob("*.toml"))


def test_the_failures_of_another_story_are_left_alone(tmp_path):
    failure_of(charged_once, kept=tmp_path)
    explore(sound, seeds=1, kept=tmp_path)
    assert len(list(tmp_path.glob("*.toml"))) == 1


async def picky(simulation):
    n = simulation.choose("orders", 5)
    simulation.worker([ship])
    for order in range(n):
        await simulation.queue.enqueue("ship", order=order)
    await simulation.drain()
    assert n < 3, f"{n} orders are too many"


def test_what_a_story_chooses_is_reduced_too():
    failure = failure_of(picky, faults=(), kept=None).failure
    assert failure.tape == (Deviation("choose:orders", 1, 3),)
    assert failure.schedule == "fifo"
    assert "the story chooses orders = 3" in failure.story


def test_processes_share_the_runs_and_find_the_failure_of_one_process():
    alone = failure_of(picky, faults=(), kept=None).failure
    shared = failure_of(picky, faults=(), kept=None, jobs=3).failure
    assert shared == alone


def test_processes_count_what_one_process_counts(backend):
    alone = explore(sound, seeds=24, kept=None, guard=0)
    shared = explore(sound, seeds=24, kept=None, guard=0, jobs=2, backend=backend)
    assert shared.runs == alone.runs == 24
    assert shared.reached == alone.reached
    assert shared.runs_of_jobs == alone.runs_of_jobs


def test_a_label_that_no_run_reaches_makes_it_vacuous():
    with pytest.raises(Vacuous, match="nothing ever reached 'the moon'"):
        explore(sound, seeds=3, reach=["the moon"], kept=None)
    explore(sound, seeds=20, reach=["two workers claimed in one instant"], kept=None)


def test_an_exploration_in_which_no_job_ran_is_vacuous():
    async def nothing(simulation):
        simulation.worker([ship])

    with pytest.raises(Vacuous, match="not one job ran"):
        explore(nothing, seeds=3, kept=None)


def test_a_job_that_never_ends_breaks_p1():
    async def stuck(ctx):
        await asyncio.sleep(10**6)

    async def story(simulation):
        simulation.worker([stuck])
        await simulation.queue.enqueue("stuck", timeout=0)

    failure = failure_of(story, seeds=1, limit=600, kept=None).failure
    assert failure.promise == "P1"
    assert "has not ended within 600 s" in failure.what


def test_what_a_story_adds_as_invariant_is_a_failure_by_its_name():
    async def story(simulation):
        simulation.invariant(lambda: len(simulation.effects) < 1, name="nothing is charged")
        await charged(simulation)

    failure = failure_of(story, seeds=1, kept=None).failure
    assert failure.promise == "invariant:nothing is charged"


def test_a_run_that_is_not_the_same_twice_is_told_with_the_first_difference():
    lived = []

    async def story(simulation):
        lived.append(1)
        simulation.worker([ship])
        await simulation.queue.enqueue("ship", key=f"order-{len(lived)}", order=1)

    with pytest.raises(NotRepeatable, match="order-"):
        explore(story, seeds=1, guard=1, kept=None)


def test_a_misfortune_excuses_what_the_story_raises_and_its_jobs_are_checked_all_the_same():
    async def story(simulation):
        await sound(simulation)
        client = simulation.process("client")
        await client.run(simulation.queue.enqueue, "ship", order=9)
        client.kill()
        await client.run(simulation.queue.enqueue, "ship", order=10)

    failure = failure_of(story, seeds=1, kept=None).failure
    assert failure.promise.startswith("story:ProcessDied")  # nobody but the story has killed it

    async def cut_off(simulation):
        await sound(simulation)
        if simulation.seed:
            simulation.inject("outage", before="claim", seconds=200)
        simulation.worker([ship])
        await simulation.advance(1)
        await simulation.queue.enqueue("ship", order=9)

    explored = explore(cut_off, seeds=2, faults=(), kept=None)
    assert explored.excused["ServerUnreachableError"] == 1


def test_the_same_seed_is_the_same_run_in_another_process():
    program = (
        "from queuekit.exploration.living import *\n"
        "from queuekit.exploration.swarm import *\n"
        "from tests.exploration.shop import sound\n"
        "for seed in range(1, 7):\n"
        "    schedule = ('random', 'pct')[seed % 2]\n"
        "    run = run_once(sound, Plan(seed, schedule, drawn(seed, COMMON_KINDS)))\n"
        "    print(run.trace, len(run.tape))\n"
    )
    outputs = set()
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert outputs.pop().count("\n") == 6


def test_a_tape_gives_the_run_again_without_its_seeds_draws():
    plan = Plan(11, "random", drawn(11, COMMON_KINDS))
    run = run_once(sound, plan)
    assert run.tape
    again = run_once(sound, Plan(11, "random", plan.profile, tuple(run.tape)))
    assert again.trace == run.trace


@pytest.mark.parametrize("number", [2, 5, 8, 11, 10, 14])
def test_a_tape_gives_the_run_again_without_its_bounds(number):
    """A run may have so many strikes and losses; a tape's replay knows of no bounds."""
    first = crc32(b"errands") % 1_000_000
    plan = explore_module.Portfolio(SCHEDULES, COMMON_KINDS, first).plan(number)
    run = run_once(errands, plan)
    again = run_once(
        errands, plan_of(plan.seed, plan.schedule, tuple(plan.profile.rates), run.tape)
    )
    assert again.trace == run.trace
    assert again.tape == run.tape


def test_pct_spreads_its_changes_over_the_run_that_the_story_has():
    choices = run_once(sound, Plan(0, "pct", tape=())).choices
    assert 50 < choices < 280  # of some 300 that are expected without looking
    runs, kept = [], explore_module.run_once

    def watched(story, plan=None, *rest, **options):
        runs.append(plan)
        return kept(story, plan, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explore_module, "run_once", watched)
        explore(sound, seeds=9, faults=(), kept=None, guard=0)
    assert {p.expected_choices for p in runs if p.schedule == "pct" and p.tape is None} == {choices}


def test_who_falls_behind_under_pct_is_told():
    tape = (Deviation("pct.change", 1, 20), Deviation("pct.priority:worker-2", 1, 500))
    told = run_once(sound, Plan(0, "pct", tape=tape), tell=True).story
    assert "worker-2 is held back, until all others wait" in told
    assert " is held back from here on, until all others wait" in told


def test_every_kind_of_misfortune_strikes_as_the_simulation_has_it():
    assert {kind.fault or name for name, kind in KINDS.items()} == set(fault_kinds.KINDS)
    for name, kind in KINDS.items():
        for arguments in kind.arguments:
            assert set(arguments) <= set(fault_kinds.KINDS[kind.fault or name])


def test_arguments_that_make_no_sense_are_refused():
    with pytest.raises(SimulationError, match="exploration has no kind 'explosion'"):
        explore(sound, faults=["explosion"])
    with pytest.raises(SimulationError, match="one of 'fifo', 'random', 'pct'"):
        explore(sound, schedules=["lifo"])
    with pytest.raises(SimulationError, match="at least one run"):
        explore(sound, seeds=0)


def test_all_that_differs_in_one_decision_is_seen(backend):
    options = {"deviations": 1, "schedules": ["fifo"], "kept": None, "backend": backend}
    explored = explore(charged, faults=["lose_reply"], **options)
    assert explored.exhausted
    assert 5 < explored.runs < 100
    assert str(explored).startswith("every run that differs in at most one place: ")
    assert str(explored).endswith("; nothing is broken")
    options["deviations"] = 2
    explored = explore(charged, faults=["lose_reply"], **options)
    assert explored.exhausted  # although two strikes bring pauses with jitter, which is none of it
    options["deviations"] = 1
    assert not explore(charged, faults=["lose_reply"], seeds=3, **options).exhausted
    failure = failure_of(charged_once, deviations=1, faults=["kill"], kept=None).failure
    assert len(failure.tape) == 1


def test_the_queue_keeps_its_promises_in_hundreds_of_runs():
    labels = ["a job was lost and recovered", "a reply was lost after execution"]
    explored = explore(sound, seeds=300, reach=labels, kept=None, jobs=2)
    assert explored.runs == 300

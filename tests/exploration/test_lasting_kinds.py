"""Misfortunes that last: a server that refuses for a while, and processes that are far from it."""

from __future__ import annotations

import asyncio

import pytest

from queuekit.exploration import run_once, swarm
from queuekit.exploration.explore import explore
from queuekit.exploration.living import Plan
from queuekit.exploration.swarm import KINDS, LASTING_KINDS, STREAMS, Latency, Profile, drawn
from queuekit.simulation.chooser import Deviation
from tests.exploration import stories


async def some_work(simulation):
    for name in ("web", "app"):
        process = simulation.process(name)
        for _ in range(3):
            await process.run(simulation.queue.enqueue, "ok", retries=3)
    simulation.worker(stories.TASKS)
    await asyncio.sleep(20)


def lived(kind, tape=None, *, rate=1.0, strikes=1, story=some_work, seed=3):
    """A run in which that kind strikes at the first place at which it can, or as a tape says."""
    if tape is None:
        profile = Profile({kind: rate}, strikes, losses=2)
        return run_once(story, Plan(seed, "fifo", profile))
    return run_once(story, Plan(seed, "fifo", swarm.anything([kind]), tape))


def told(kind, tape, *, of=" f "):
    """Lines of the trace of a run, by their kind."""
    lines = []
    plan = Plan(3, "fifo", swarm.anything([kind]), tape)
    assert run_once(some_work, plan, sink=lines.append).broken is None
    return [line for line in lines if of in line]


def strike(kind, place, value, nth=1):
    return (Deviation(f"swarm.{kind}:{place}", nth, value),)


def test_a_share_of_the_runs_meets_each_and_the_others_are_as_before():
    everything, before = tuple(KINDS), [name for name in KINDS if name not in LASTING_KINDS]
    for name in LASTING_KINDS:
        meets = [seed for seed in range(400) if name in drawn(seed, everything).rates]
        assert 50 < len(meets) < 130
    for seed in range(100):
        rates = drawn(seed, everything).rates
        others = {name: rate for name, rate in rates.items() if name not in LASTING_KINDS}
        assert set(others) <= set(before)
        assert drawn(seed, everything).strikes == drawn(seed, swarm.COMMON_KINDS).strikes
    assert {name for seed in range(40) for name in drawn(seed, LASTING_KINDS).rates} == set(
        LASTING_KINDS
    )


# -- latency


def test_a_process_is_far_by_one_decision_and_its_latencies_are_replayed():
    run = lived("latency")
    assert run.broken is None
    assert [each.site for each in run.tape] == ["swarm.latency:web"]
    again = lived("latency", tuple(run.tape))
    assert (again.trace, again.tape) == (run.trace, run.tape)


def times_of(value, process="web"):
    lines = told("latency", strike("latency", process, value), of=" > ")
    return [int(line.split()[0]) for line in lines]


def test_levels_are_milder_first_and_streams_differ():
    calm = times_of(0)
    levels = len(KINDS["latency"].arguments)
    mild, far, farthest = (times_of(value) for value in range(1, levels + 1))
    assert calm[5] < mild[5] < far[5] < farthest[5]
    assert len({tuple(times_of(1 + levels * stream)) for stream in range(STREAMS)}) == STREAMS


def test_only_the_process_that_is_far_is_late():
    near = told("latency", (), of=" enqueue ")
    far = told("latency", strike("latency", "app", 3), of=" enqueue ")
    assert near[:3] == far[:3]  # of web, which comes first
    assert near[3:] != far[3:]


def test_a_latency_has_its_median_and_its_tail():
    late = Latency(0.02, 2, "web 0")
    seconds = sorted(late.next_s() for _ in range(20_000))
    assert seconds[10_000] == pytest.approx(0.02, rel=0.1)
    assert 1 < seconds[-1] <= 2


def test_nobody_is_far_when_all_misfortune_has_ended():
    async def ends(simulation):
        web = simulation.process("web")
        simulation.worker(stories.TASKS)

        async def measured():
            began = simulation.clock.elapsed_ns
            await web.run(simulation.queue.enqueue, "ok")
            return simulation.clock.elapsed_ns - began

        late_ns = await measured()
        simulation.heal()
        assert late_ns > 0
        assert await measured() == 0

    value = len(KINDS["latency"].arguments)
    assert lived("latency", strike("latency", "web", value), story=ends).broken is None


# -- a server that refuses


@pytest.mark.parametrize("value", range(1, len(KINDS["refuse"].arguments) + 1))
def test_a_state_begins_at_a_command_that_it_refuses_and_costs_no_promise(value):
    tape = strike("refuse", "web:enqueue", value, nth=2)
    begun, refused = told("refuse", tape), told("refuse", tape, of=" < ")
    words = KINDS["refuse"].arguments[value - 1]
    assert [line.split()[2:4] for line in begun] == [["refuse", f"error={words['error']!r}"]]
    code = "-ERR" if "server" in words and words["error"] == "READONLY" else f"-{words['error']}"
    assert code in " ".join(refused)


def test_an_error_is_drawn_only_where_a_server_with_it_refuses():
    oom = 1 + [words["error"] for words in KINDS["error"].arguments].index("OOM")
    [struck] = told("error", strike("error", "web:enqueue", oom))
    assert "error error='OOM' web: request enqueue" in struck
    assert told("error", strike("error", "worker-1:claim", oom)) == []


def test_the_unbroken_queue_keeps_its_promises_far_away_and_refused():
    result = explore(some_work, seeds=40, faults=list(LASTING_KINDS), kept=None)
    assert not result.failures

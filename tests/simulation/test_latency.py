"""Latencies that are asked for: standing ones, with a tail that follows the seed."""

from __future__ import annotations

import pytest

from queuekit.simulation import Simulation, SimulationError
from queuekit.simulation.fault_kinds import TAIL_RANKS, late_s


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


def far_away(seed, tape=None, **options):
    """How late each command of a process far from Redis came, and the tape of it."""
    with Simulation(seed=seed, choices=tape, **options) as simulation:
        simulation.inject("delay", command="*", process="web", chance=1, seconds=0.01, tail=4)

        async def main(simulation):
            web = simulation.process("web")
            for _ in range(20):
                await web.run(simulation.queue.enqueue, "work")

        simulation.run(main(simulation))
        struck = [(strike.at, told) for strike, told in simulation.faults.struck]
        return struck, list(simulation.chooser.tape)


def test_a_standing_latency_has_a_tail_by_the_seed_and_a_tape_replays_it(on_each_backend):
    struck, tape = far_away(1, **on_each_backend)
    assert len({told for _, told in struck}) > len(struck) / 2 > 9
    assert far_away(1) == (struck, tape), "the same on every backend"
    assert far_away(2, **on_each_backend)[0] != struck
    assert far_away(0, tape, **on_each_backend)[0] == struck


async def work(ctx):
    return "done"


async def test_who_is_far_waits_twice_the_way_and_those_who_are_near_do_not(simulation):
    """The clock of the world moves by just the delays: a real server's own time counts for nothing."""
    near, far = simulation.process("near"), simulation.process("far")
    await near.run(simulation.queue.count, "queued")
    await far.run(
        simulation.queue.count, "queued"
    )  # connected, so that one command is one exchange
    for side in ("before", "after"):
        simulation.inject("delay", **{side: "enqueue"}, process=far, chance=1, seconds=0.25)

    async def took_ms(process):
        began = simulation.clock.elapsed_ns
        await process.run(simulation.queue.enqueue, "work")
        return (simulation.clock.elapsed_ns - began) / 1e6

    assert [await took_ms(near), await took_ms(far)] == [0, 500]


async def test_a_worker_with_a_tail_past_its_time_outs_loses_nothing(simulation):
    far = simulation.worker([work], lease_s=60)
    everything = {"command": "*", "process": far, "chance": 1, "seconds": 1, "tail": 40}
    fault = simulation.inject("delay", **everything)
    jobs = [await simulation.queue.enqueue("work") for _ in range(20)]
    await simulation.drain()
    for job in jobs:
        simulation.assert_completed(job, result="done")
    assert max(float(told.split("seconds=")[1]) for _, told in simulation.faults.struck) > 5
    assert len(fault.fired) > 20


def test_a_tail_has_its_median_its_bound_and_is_heavy():
    late = sorted(late_s(0.01, 4, rank) for rank in range(TAIL_RANKS))
    assert late_s(0.01, 4, 0) == late[TAIL_RANKS // 2] == 0.01
    assert late[-1] == pytest.approx(4)
    assert max(late) <= 4
    assert sum(late) / len(late) > 2 * 0.01
    assert {late_s(3, 3, rank) for rank in range(TAIL_RANKS)} == {3}


@pytest.mark.parametrize(
    "words", [{"seconds": 2, "tail": 1}, {"seconds": 0, "tail": 1}, {"tail": -1, "seconds": 1}]
)
async def test_a_tail_below_its_median_is_refused(simulation, words):
    with pytest.raises(SimulationError, match="longest delay, not below"):
        simulation.inject("delay", command="enqueue", **words)

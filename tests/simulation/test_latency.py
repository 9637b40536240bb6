"""Latencies that are asked for: standing ones, with a tail that follows the seed."""

from __future__ import annotations

import pytest

from queuekit.simulation import Simulation, SimulationError
from queuekit.simulation.fault_kinds import TAIL_RANKS, late_s


def far_away(seed, tape=None):
    """How late each command of a process far from Redis came, and the tape of it."""
    with Simulation(seed=seed, choices=tape) as simulation:
        simulation.inject("delay", command="*", process="web", chance=1, seconds=0.01, tail=4)

        async def main(simulation):
            web = simulation.process("web")
            for _ in range(20):
                await web.run(simulation.queue.enqueue, "work")

        simulation.run(main(simulation))
        struck = [(strike.at, told) for strike, told in simulation.faults.struck]
        return struck, list(simulation.chooser.tape)


def test_a_standing_latency_has_a_tail_by_the_seed_and_a_tape_replays_it():
    struck, tape = far_away(1)
    assert len({told for _, told in struck}) > len(struck) / 2 > 9
    assert far_away(1) == (struck, tape)
    assert far_away(2)[0] != struck
    assert far_away(0, tape)[0] == struck


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

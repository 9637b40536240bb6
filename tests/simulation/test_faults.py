"""Misfortunes that are asked for: each happens, has the effect it has in production, and is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import redis.asyncio

from queuekit import Status, effect
from queuekit.errors import ServerError
from queuekit.simulation import FaultNeverFired, Simulation, SimulationError
from queuekit.simulation.fault_kinds import KINDS
from queuekit.simulation.refusal_rules import ERRORS

LEASE_S = 30
runs = []


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


@pytest.fixture(autouse=True)
def _no_runs():
    runs.clear()


async def work(ctx, *, n=0):
    runs.append(n)
    await asyncio.sleep(1)
    return ctx["job"].attempts


async def charge(ctx):
    await effect("charged", order=ctx["job"].key)
    await asyncio.sleep(1)


async def enqueued_by(simulation, name="web", **options):
    """A process that enqueues a job; its connection and script are there before."""
    web = simulation.process(name)
    await web.run(simulation.queue.count, "queued")
    return web, asyncio.create_task(web.run(simulation.queue.enqueue, "work", **options))


# -- on the way to Redis


@pytest.mark.parametrize("how", ["reset", "silence"])
@pytest.mark.parametrize("kind", ["lose_request", "lose_reply"])
async def test_an_enqueue_whose_request_or_reply_is_lost_makes_one_job(simulation, kind, how):
    fault = simulation.inject(kind, command="enqueue", process="web", how=how)
    _, enqueuing = await enqueued_by(simulation, key="once")
    job = await enqueuing
    assert (job.key, await simulation.queue.count("queued")) == ("once", 1)
    assert len(fault.fired) == 1
    assert "web: " in fault.fired[0].where


async def executed(simulation, script):
    """How often the server has run a script, by the trace."""
    return sum(f"EVALSHA {script} " in line for line in simulation.trace.lines() if " > " in line)


@pytest.mark.parametrize(("kind", "times"), [("lose_request", 1), ("lose_reply", 2)])
async def test_a_lost_request_was_not_executed_and_one_whose_reply_is_lost_was(
    simulation, kind, times
):
    simulation.inject(kind, command="enqueue", process="web")
    _, enqueuing = await enqueued_by(simulation)
    await enqueuing
    assert await executed(simulation, "enqueue") == times


async def test_a_claim_whose_reply_is_lost_is_answered_again(simulation):
    simulation.inject("lose_reply", command="claim", nth=2)
    simulation.worker([work])
    await simulation.advance(1)
    job = await simulation.queue.enqueue("work")
    await simulation.drain()
    await job.refresh()
    assert (job.result, runs) == (1, [0])


async def test_a_commit_whose_reply_is_lost_is_one_ending(simulation):
    simulation.inject("lose_reply", command="commit")
    handle = simulation.worker([work])
    job = await simulation.queue.enqueue("work")
    await simulation.drain()
    await simulation.advance(60)
    await job.refresh()
    assert (job.status, runs, handle.worker.stats["complete"]) == (Status.COMPLETE, [0], 1)


@pytest.mark.parametrize("before", [True, False])
async def test_a_reset_closes_the_connection(simulation, before):
    side = {"before": "enqueue"} if before else {"after": "enqueue"}
    simulation.inject("reset", process="web", **side)
    web, enqueuing = await enqueued_by(simulation)
    wires = {wire.number for wire in simulation.loop.network.wires if wire.process is web.process}
    await enqueuing
    assert wires & {wire.number for wire in simulation.loop.network.wires} < wires


async def test_a_delay_keeps_the_order_of_a_connection(simulation):
    simulation.inject("delay", command="enqueue", process="web", seconds=2)
    began = simulation.clock.elapsed_ns
    _, enqueuing = await enqueued_by(simulation)
    await enqueuing
    assert simulation.clock.elapsed_ns - began == 2_000_000_000


@pytest.mark.parametrize("code", sorted(set(ERRORS) - {"NOSCRIPT", "TRYAGAIN"}))
async def test_an_error_is_answered_and_nothing_is_executed(simulation, code):
    simulation.inject(
        "error", command="enqueue", process="web", error=code, times=50, optional=True
    )
    _, enqueuing = await enqueued_by(simulation)
    with pytest.raises(ServerError, match=code):
        await enqueuing
    assert await executed(simulation, "enqueue") == 0
    assert await simulation.queue.count("queued") == 0


async def test_a_script_that_the_server_does_not_know_is_loaded(simulation):
    simulation.inject("error", command="enqueue", process="web", error="NOSCRIPT")
    _, enqueuing = await enqueued_by(simulation)
    await enqueuing
    assert await simulation.queue.count("queued") == 1


async def test_the_test_itself_is_a_process_to_faults(simulation):
    fault = simulation.inject("lose_reply", command="enqueue", process="test")
    await simulation.queue.enqueue("work")
    assert len(fault.fired) == 1


async def test_chance_spares_the_tests_own_client_unless_it_is_named(simulation):
    unnamed = simulation.inject("lose_reply", command="enqueue", chance=1.0, optional=True)
    await simulation.queue.enqueue("work")
    assert unnamed.fired == []
    named = simulation.inject("lose_reply", command="enqueue", chance=1.0, process="test")
    with pytest.raises(ServerError):
        await simulation.queue.enqueue("work")
    assert named.fired


async def test_a_cancellation_is_a_line_of_the_trace(simulation):
    simulation.inject("cancel", task="job")
    simulation.worker([work])
    await simulation.queue.enqueue("work", retries=3)
    await simulation.advance(30)
    assert [line for line in simulation.trace.lines() if " f cancel worker-1: job" in line]


async def test_a_misspelt_command_is_told_with_its_neighbours(simulation):
    simulation.inject("kill", before="comit")
    simulation.worker([work])
    await simulation.queue.enqueue("work")
    await simulation.drain()
    with pytest.raises(FaultNeverFired, match="near it are commit"):
        simulation.faults.check()
    simulation.faults.planned.clear()


# -- processes


@pytest.mark.parametrize(
    "when", [{"after": "claim", "nth": 2}, {"before": "commit"}, {"after": "started"}]
)
async def test_a_worker_that_dies_at_a_step_has_its_job_recovered(simulation, when):
    fault = simulation.inject("kill", process="worker-1", **when)
    victim = simulation.worker([work])
    await simulation.advance(1)
    job = await simulation.queue.enqueue("work", timeout=0)
    await simulation.run_until(lambda: not victim.alive)
    simulation.worker([work])
    await simulation.advance(LEASE_S + 5)
    await job.refresh()
    assert (job.status, job.losses) == (Status.COMPLETE, 1)
    assert len(fault.fired) == 1


async def test_a_worker_that_dies_between_its_commit_and_its_telling_leaves_no_riddle(simulation):
    simulation.inject("kill", after="commit")
    simulation.worker([work])
    job = await simulation.queue.enqueue("work", timeout=0)
    assert await simulation.drain() == {"complete": 1}
    simulation.assert_completed(job, result=1)


async def test_a_process_dies_inside_a_task_after_its_effect(simulation):
    simulation.inject("kill", after="charged", restart_after=2)
    handle = simulation.worker([charge])
    await simulation.queue.enqueue("charge", timeout=0)
    await simulation.drain()
    assert handle.alive
    assert simulation.effects("charged").count == 2


async def test_each_misfortune_of_a_process_at_its_time(simulation):
    handle = simulation.worker([work], shutdown_grace_period_s=5)
    simulation.inject("skew", at=1, process=handle, seconds=100)
    simulation.inject("drift", at=1, process=handle, rate=0.5)
    simulation.inject("pause", at=2, process=handle, seconds=2)
    simulation.inject("partition", at=5, process=handle, seconds=2)
    simulation.inject("terminate", at=8, process=handle)
    await simulation.advance(1)
    assert handle.process.clock.skew_ns == 100_000_000_000
    assert handle.process.clock.rate == 1.5
    await simulation.advance(1)
    assert handle.paused
    await simulation.advance(2)
    assert not handle.paused
    await simulation.advance(1)
    assert handle.partitioned
    await simulation.advance(2)
    assert not handle.partitioned
    await simulation.advance(2)
    assert not handle.running


# -- tasks


async def test_a_task_is_cancelled_at_each_of_its_awaits_in_turn(simulation):
    web = simulation.process("web")

    async def three_steps(seen):
        for step in range(3):
            await asyncio.sleep(1)
            seen.append(step)

    for nth in range(1, 5):
        seen = []
        fault = simulation.inject("cancel", task="web: three", nth=nth, process=web)
        with pytest.raises(asyncio.CancelledError):
            await web.run(three_steps, seen)
        assert seen == list(range(max(0, nth - 2)))
        assert [strike.where.split(",")[0] for strike in fault.fired] == ["web: web: three_steps"]


async def test_an_enqueue_that_is_cancelled_at_any_await_makes_one_job_or_none(simulation):
    web = simulation.process("web")
    await web.run(simulation.queue.enqueue, "work", key="first")
    for nth in range(1, 9):
        fault = simulation.inject("cancel", task="web: enqueue", nth=nth, optional=True)
        heard = False
        try:
            await web.run(simulation.queue.enqueue, "work", key=f"cancelled at {nth}")
        except asyncio.CancelledError:
            heard = True
        assert heard is bool(fault.fired), "no cancellation is lost on the way"
        simulation.faults.planned.clear()
        before = await simulation.queue.count("queued")
        await web.run(simulation.queue.enqueue, "work", key=f"cancelled at {nth}")
        assert await simulation.queue.count("queued") - before in (0, 1)
    assert await simulation.queue.count("queued") == 9


# -- the server


async def test_an_outage_refuses_and_ends(simulation):
    simulation.inject("outage", at=1, seconds=10)
    simulation.worker([work])
    job = await simulation.queue.enqueue("work", scheduled=simulation.clock.time() + 5)
    await simulation.advance(2)
    assert not simulation.server.running
    assert not simulation.loop.network.wires
    await simulation.advance(20)
    assert simulation.server.running
    await job.refresh()
    assert job.status is Status.COMPLETE


async def test_a_restart_keeps_or_loses_the_data(simulation):
    job = await simulation.queue.enqueue("work")
    simulation.server.restart()
    assert await simulation.queue.count("queued") == 1
    simulation.server.restart("lost")
    assert await simulation.queue.count("queued") == 0
    assert await simulation.queue.job(job.key) is None


async def test_a_stale_restart_takes_back_the_last_acknowledged_write(simulation):
    simulation.inject("restart_server", after="enqueue", nth=2, data="stale", process="web")
    web = simulation.process("web")
    await web.run(simulation.queue.enqueue, "work", key="kept")
    job = await web.run(simulation.queue.enqueue, "work", key="acknowledged and lost")
    assert job is not None
    await simulation.run_until_idle()
    assert await simulation.queue.job("kept") is not None
    assert await simulation.queue.job("acknowledged and lost") is None


async def test_a_stale_restart_at_a_time_takes_back_a_second(simulation):
    simulation.inject("restart_server", at=5, data="stale")
    await simulation.advance(3.5)
    await simulation.queue.enqueue("work", key="kept")
    await simulation.advance(1)
    await simulation.queue.enqueue("work", key="lost")
    await simulation.advance(1)
    assert [await simulation.queue.job(key) is not None for key in ("kept", "lost")] == [
        True,
        False,
    ]


async def test_keys_that_end_do_so_after_a_stale_restart_too(simulation):
    async with redis.asyncio.Redis(host="any") as client:
        await client.set("ends", "1", ex=10)
        await client.hset("stays", mapping={"a": "1"})
        await client.zadd("scores", {"a": 1.5})
        simulation.server.checkpoint()
        await client.set("ends", "2")
        await client.delete("stays", "scores")
        simulation.server.restart("stale")
        await simulation.advance(9)
        assert await client.get("ends") == b"1"
        assert await client.hgetall("stays") == {b"a": b"1"}
        assert await client.zscore("scores", "a") == 1.5
        await simulation.advance(2)
        assert await client.get("ends") is None


async def test_there_is_no_earlier_state_without_a_checkpoint(simulation):
    with pytest.raises(SimulationError, match="there is no earlier state"):
        simulation.server.restart("stale")
    with pytest.raises(SimulationError, match="'kept', 'lost' or 'stale'"):
        simulation.server.restart("half")


async def test_flushed_scripts_are_loaded_again(simulation):
    simulation.inject("flush_scripts", before="enqueue", nth=2, process="test")
    for _ in range(3):
        await simulation.queue.enqueue("work")
    assert await simulation.queue.count("queued") == 3


async def test_the_servers_clock_can_be_set(simulation):
    simulation.worker([work])
    job = await simulation.queue.enqueue("work", scheduled=simulation.clock.time() + 3600)
    simulation.inject("step_clock", at=1, seconds=3600)
    await simulation.advance(2)
    await simulation.queue.enqueue("work", n=1)
    await simulation.advance(5)
    await job.refresh()
    assert job.status is Status.COMPLETE


# -- what is told


def test_a_fault_that_never_fired_fails_the_run(on_each_backend):
    def live():
        with Simulation(**on_each_backend) as simulation:
            simulation.inject("lose_reply", command="enqueue", nth=2)
            simulation.inject("lose_reply", command="enqueu")
            simulation.inject("lose_reply", command="never", optional=True)
            simulation.run(simulation.queue.enqueue("work"))

    with pytest.raises(FaultNeverFired, match="its moment came 1 time") as caught:
        live()
    told = str(caught.value)
    assert "'enqueu'" in told
    assert "its moment never came" in told
    assert "there were: " in told
    assert "enqueue, enqueued" in told
    assert "'never'" not in told


def test_a_fault_that_never_fired_does_not_hide_the_tests_own_failure():
    def live():
        with Simulation() as simulation:
            simulation.inject("outage", at=10, seconds=1)
            raise ValueError("the test's own")

    with pytest.raises(ValueError, match="the test's own"):
        live()


async def test_a_fault_with_nothing_left_to_strike_is_suppressed(simulation):
    handle = simulation.worker([work])
    fault = simulation.inject("kill", at=1, process=handle, optional=True)
    handle.kill()
    await simulation.advance(2)
    assert (fault.fired, len(fault.suppressed)) == ([], 1)


async def test_healed_is_healed(simulation):
    one, two, three = (simulation.worker([work]) for _ in range(3))
    late = simulation.inject("outage", at=10, seconds=100, optional=True)
    by_chance = simulation.inject("lose_reply", command="claim", chance=1, optional=True)
    await simulation.advance(1)
    one.kill()
    two.pause()
    three.partition()
    simulation.server.stop()
    simulation.heal()
    assert [handle.alive for handle in (one, two, three)] == [True] * 3
    fired = len(by_chance.fired)
    job = await simulation.queue.enqueue("work")
    await simulation.advance(60)
    await job.refresh()
    assert job.status is Status.COMPLETE
    assert (late.fired, len(late.suppressed), len(by_chance.fired)) == ([], 1, fired)


def live(seed, *, choices=None, **options):
    runs.clear()
    with Simulation(seed=seed, choices=choices, **options) as simulation:
        simulation.inject("lose_reply", command="claim", chance=0.2, optional=True)
        simulation.inject(
            "lose_request", command="commit", chance=0.3, optional=True, how="silence"
        )

        async def main():
            for _ in range(2):
                simulation.worker([work])
            for n in range(10):
                await simulation.queue.enqueue("work", n=n)
            await simulation.drain()

        simulation.run(main())
    return simulation


@pytest.mark.slow
def test_faults_of_chance_follow_the_seed_and_are_replayed_by_the_tape(on_each_backend):
    struck = set()
    for seed in range(6):
        simulation = live(seed, **on_each_backend)
        assert sorted(set(runs)) == list(range(10))
        tape = simulation.chooser.tape
        assert len(tape) == len(simulation.faults.struck)
        again = live(seed, choices=tape, **on_each_backend)
        assert again.faults.struck == simulation.faults.struck
        struck.add(tuple(map(str, simulation.faults.struck)))
    assert len(struck) > 2


@pytest.mark.slow
def test_both_servers_see_the_same_misfortunes():
    def lived(backend):
        with Simulation(backend=backend) as simulation:
            simulation.inject("lose_reply", command="claim", nth=2)
            simulation.inject("restart_server", after="commit", data="stale")
            simulation.inject("kill", before="commit", nth=3, restart_after=4)
            simulation.inject("outage", at=5, seconds=7)
            simulation.inject("error", command="claim", error="LOADING", nth=4, optional=True)

            async def main():
                for _ in range(2):
                    simulation.worker([work])
                for n in range(6):
                    await simulation.queue.enqueue("work", n=n, timeout=0)
                simulation.server.checkpoint()
                await simulation.advance(120)

            simulation.run(main())
        return simulation.trace.digest(), [str(strike) for strike, _ in simulation.faults.struck]

    assert lived("fakeredis") == lived("server")
    assert len(lived("both")[1]) >= 4


def test_every_kind_is_told_in_the_docs():
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text("utf-8")
    assert [kind for kind in KINDS if f"`{kind}`" not in page] == []

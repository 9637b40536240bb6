"""Processes as a test handles them: ended, halted, cut off, begun anew."""

from __future__ import annotations

import asyncio
import time

import pytest
import redis.asyncio

from queuekit import Status
from queuekit.simulation import Hop, ProcessDied, Simulation, SimulationError, Step, busy

LEASE_S = 30


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


runs = []


@pytest.fixture(autouse=True)
def _no_runs():
    runs.clear()


async def takes(ctx, *, seconds=5):
    runs.append(ctx["job"].key)
    await asyncio.sleep(seconds)
    return ctx["job"].attempts


def sync_task(ctx):
    time.sleep(5)
    runs.append("slept")


def seen_of(simulation, handle):
    """Steps and hops of a process from now on."""
    seen = []

    def look(event):
        if isinstance(event, Step | Hop) and event.process == handle.id:
            seen.append(event)

    simulation.observe(look)
    return seen


async def test_each_worker_is_a_process_with_a_name_and_connections_of_its_own(simulation):
    one, two = simulation.worker([takes]), simulation.worker([takes], name="mailer")
    await simulation.run_until_idle()
    assert [one.name, two.name] == ["worker-1", "mailer"]
    assert one.id != two.id
    owners = {wire.process for wire in simulation.loop.network.wires}
    assert {one.process, two.process} <= owners
    assert simulation.processes() == simulation.workers() == [one, two]
    assert one.alive
    assert one.running
    assert not one.paused
    assert not one.partitioned


async def test_a_killed_worker_is_silent_and_its_job_is_recovered_by_another(simulation):
    victim = simulation.worker([takes])
    job = await simulation.queue.enqueue("takes", timeout=0)
    await simulation.advance(1)
    simulation.worker([takes])
    victim.kill()
    seen = seen_of(simulation, victim)
    await simulation.advance(LEASE_S + 10)
    await job.refresh()
    assert (job.status, job.result, seen) == (Status.COMPLETE, 2, [])
    assert (victim.alive, victim.running) == (False, False)


async def test_a_restarted_worker_is_another_process_with_the_same_settings(simulation):
    handle = simulation.worker([takes], concurrency=3)
    job = await simulation.queue.enqueue("takes", timeout=0)
    await simulation.advance(1)
    first, worker = handle.id, handle.worker
    handle.restart()
    assert handle.id != first
    assert handle.worker is not worker
    assert handle.worker.concurrency == 3
    await simulation.advance(LEASE_S + 10)
    await job.refresh()
    assert (job.status, job.result, runs) == (Status.COMPLETE, 2, [job.key] * 2)
    await handle.stop()
    assert not handle.running


async def test_sigterm_lets_a_worker_hand_back_what_it_runs(simulation):
    handle = simulation.worker([takes])
    job = await simulation.queue.enqueue("takes", seconds=1000, timeout=0)
    await simulation.advance(1)
    handle.terminate()
    await simulation.advance(2)
    assert handle.alive
    assert not handle.running
    await job.refresh()
    assert (job.status, job.losses, job.failures) == (Status.QUEUED, 0, 0)


async def test_sigterm_lets_jobs_end_in_the_grace_period(simulation):
    handle = simulation.worker([takes], shutdown_grace_period_s=60)
    job = await simulation.queue.enqueue("takes", seconds=20, timeout=0)
    await simulation.advance(1)
    handle.terminate()
    await simulation.advance(30)
    await job.refresh()
    assert (job.status, handle.running) == (Status.COMPLETE, False)


async def test_sigterm_ends_a_process_that_does_not_handle_it(simulation):
    process = simulation.process("script")
    process.terminate()
    assert not process.alive


async def test_a_process_handles_signals_of_its_own_only(simulation):
    got = []

    async def main(name):
        asyncio.get_running_loop().add_signal_handler(15, got.append, name)
        await asyncio.sleep(1000)

    one = simulation.process("one", lambda: main("one"))
    simulation.process("two", lambda: main("two"))
    await simulation.run_until_idle()
    one.terminate()
    await simulation.run_until_idle()
    assert got == ["one"]


# -- standing still


async def test_a_paused_worker_does_nothing_and_goes_on_where_it_stood(simulation):
    handle = simulation.worker([takes])
    job = await simulation.queue.enqueue("takes", timeout=0)
    await simulation.advance(1)
    handle.pause()
    seen = seen_of(simulation, handle)
    await simulation.advance(20)
    assert handle.paused
    assert [event for event in seen if not isinstance(event, Hop)] == []
    await job.refresh()
    assert job.status is Status.ACTIVE
    handle.resume()
    await simulation.run_until_idle()
    await job.refresh()
    assert (job.status, job.result) == (Status.COMPLETE, 1)


async def test_a_worker_that_was_paused_past_its_lease_changes_nothing(simulation):
    late = simulation.worker([takes])
    job = await simulation.queue.enqueue("takes", timeout=0)
    await simulation.advance(1)
    late.pause(100)
    simulation.worker([takes])
    await simulation.advance(50)
    await job.refresh()
    assert (job.status, job.result) == (Status.COMPLETE, 2)
    await simulation.advance(100)
    assert not late.paused
    await job.refresh()
    assert (job.status, job.result) == (Status.COMPLETE, 2)


async def test_what_a_paused_process_has_sent_arrives(simulation):
    queue = simulation.queue
    web = simulation.process("web")

    def halt(event):
        if (
            isinstance(event, Hop)
            and event.process == web.id
            and event.words[:2] == ("EVALSHA", "enqueue")
        ):
            web.pause()

    await web.run(queue.enqueue, "takes", key="first")  # connects, and loads the script
    stop = simulation.observe(halt)
    enqueuing = asyncio.create_task(web.run(queue.enqueue, "takes", key="second"))
    await simulation.advance(1)
    stop()
    assert await queue.count("queued") == 2
    assert not enqueuing.done()
    web.resume()
    assert (await enqueuing).key == "second"


async def test_a_sync_task_of_a_paused_process_sleeps_on(simulation):
    handle = simulation.worker([sync_task])
    await simulation.queue.enqueue("sync_task", timeout=0)
    await simulation.advance(1)
    handle.pause(20)
    await simulation.advance(19)
    assert runs == []
    await simulation.advance(1)
    assert runs == ["slept"]


async def test_a_busy_loop_starves_its_renewals_as_in_production(simulation):
    async def computes(ctx):
        runs.append(ctx["job"].attempts)
        if ctx["job"].attempts == 1:
            await busy(100)
        return ctx["job"].attempts

    began = asyncio.get_running_loop().time()
    simulation.worker([computes])
    job = await simulation.queue.enqueue("computes", timeout=0)
    await simulation.advance(1)
    simulation.worker([computes])
    await simulation.run_until(lambda: len(runs) > 1)
    assert asyncio.get_running_loop().time() - began == pytest.approx(LEASE_S, abs=2)
    await simulation.advance(200)
    await job.refresh()
    assert (job.status, job.result, job.losses) == (Status.COMPLETE, 2, 1)


async def test_the_test_itself_cannot_be_busy(simulation):
    with pytest.raises(SimulationError, match="called by the test itself"):
        await busy(1)


async def test_the_end_of_an_earlier_pause_does_not_end_a_later_one(simulation):
    process = simulation.process("script")
    process.pause(20)
    await simulation.advance(5)
    process.resume()
    process.pause()
    await simulation.advance(30)
    assert process.paused


async def test_a_loop_that_is_held_and_a_pause_end_each_by_itself(simulation):
    process = simulation.process("script")
    computing = asyncio.create_task(process.run(busy, 10))
    await simulation.advance(1)
    process.pause()
    await simulation.advance(1)
    process.resume()
    await simulation.advance(1)
    assert not computing.done(), "SIGCONT does not shorten what the processor has to do"
    process.pause()
    await simulation.advance(30)
    assert process.paused
    assert not computing.done()
    process.resume()
    await simulation.run_until_idle()
    assert computing.done()


# -- being cut off


async def test_the_end_of_an_earlier_partition_does_not_heal_a_later_one(simulation):
    process = simulation.process("script")
    process.partition(seconds=20)
    await simulation.advance(5)
    process.heal()
    process.partition()
    await simulation.advance(30)
    assert process.partitioned


async def test_a_restart_leaves_a_partition_and_what_the_server_holds_until_it_heals(simulation):
    async def wait_for_work():
        await client.blpop(["work"], 100)

    client = redis.asyncio.Redis(
        host="any", socket_timeout=None, retry=None, single_connection_client=True
    )
    web = simulation.process("web")
    waiting = asyncio.create_task(web.run(wait_for_work))
    await simulation.advance(1)
    web.partition(seconds=10)
    web.restart()
    with pytest.raises(ProcessDied):
        await waiting
    assert web.partitioned
    async with redis.asyncio.Redis(host="any") as other:
        await simulation.advance(10)
        assert not web.partitioned
        await other.rpush("work", "first")
        assert await other.llen("work") == 1, "nobody of before the restart is left to take it"
    await client.connection.disconnect(nowait=True)
    client.connection = None  # its process is dead: nobody is left to close it in turn


async def test_a_partition_that_turns_lets_through_what_it_had_kept(simulation):
    queue = simulation.queue
    web = simulation.process("web")
    await web.run(queue.enqueue, "takes", key="before")
    web.partition("requests")
    enqueuing = asyncio.create_task(web.run(queue.enqueue, "takes", key="after"))
    await simulation.advance(1)
    web.partition("replies")
    await simulation.advance(1)
    assert await queue.count("queued") == 2
    assert not enqueuing.done()
    web.partition("both")
    await simulation.run_until_idle()
    assert not enqueuing.done(), "the reply waits on"
    web.heal()
    assert (await enqueuing).key == "after"


async def test_a_partitioned_workers_job_is_recovered_and_its_late_commit_refused(simulation):
    lonely = simulation.worker([takes])
    job = await simulation.queue.enqueue("takes", timeout=0)
    await simulation.advance(1)
    lonely.partition()
    assert lonely.partitioned
    simulation.worker([takes])
    await simulation.advance(LEASE_S + 10)
    await job.refresh()
    assert (job.status, job.result) == (Status.COMPLETE, 2)
    lonely.heal()
    await simulation.advance(60)
    assert not lonely.partitioned
    await job.refresh()
    assert (job.status, job.result, runs) == (Status.COMPLETE, 2, [job.key] * 2)
    again = [await simulation.queue.enqueue("takes") for _ in range(12)]
    await simulation.drain()
    assert lonely.worker.stats["complete"] > 0, "it works again"
    assert len({job.key for job in again}) == 12


@pytest.mark.parametrize(("direction", "executed"), [("requests", 0), ("replies", 1), ("both", 0)])
async def test_a_partition_has_a_direction(simulation, direction, executed):
    queue = simulation.queue
    web = simulation.process("web")
    await web.run(queue.count, "queued")  # it is connected
    await web.run(queue.enqueue, "takes", key="before")
    web.partition(direction, 3)
    enqueuing = asyncio.create_task(web.run(queue.enqueue, "takes", key="after"))
    await simulation.advance(2)
    assert await queue.count("queued") == 1 + executed
    assert not enqueuing.done()
    await simulation.advance(1)
    assert enqueuing.done()
    assert await queue.count("queued") == 2


async def test_new_connections_hang_while_the_network_is_away(simulation):
    web = simulation.process("web")
    web.partition()
    enqueuing = asyncio.create_task(web.run(simulation.queue.enqueue, "takes"))
    await simulation.advance(2)
    assert [wire for wire in simulation.loop.network.wires if wire.process is web.process] == []
    web.heal()
    await simulation.run_until_idle()
    assert enqueuing.done()


async def test_the_server_keeps_its_end_of_a_connection_that_was_given_up_behind_a_partition(
    simulation,
):
    async def wait_for_work():
        async with redis.asyncio.Redis(host="any", socket_timeout=None, retry=None) as client:
            return await client.blpop(["work"], 100)

    web = simulation.process("web")
    waiting = asyncio.create_task(web.run(wait_for_work))
    await simulation.advance(1)
    web.partition()
    waiting.cancel()
    await simulation.advance(1)
    async with redis.asyncio.Redis(host="any") as client:
        await client.rpush("work", "first")
        assert await client.llen("work") == 0, "the ghost has taken it, as on a real server"
        web.heal()
        await simulation.run_until_idle()
        await client.rpush("work", "second")
        assert await client.llen("work") == 1, "now the server knows that nobody is there"


async def test_a_direction_that_is_none_is_refused(simulation):
    with pytest.raises(SimulationError, match="'both', 'requests', 'replies'"):
        simulation.process("web").partition("up")


# -- code in a process


async def test_a_function_run_in_a_process_gives_its_result_or_raises(simulation):
    web = simulation.process("web")

    async def fails():
        raise ValueError("as it is")

    assert await web.run(lambda n: n + 1, 1) == 2
    with pytest.raises(ValueError, match="as it is"):
        await web.run(fails)


async def test_who_waits_for_a_process_hears_of_its_death(simulation):
    web = simulation.process("web")
    waiting = asyncio.create_task(web.run(asyncio.sleep, 10))
    await simulation.advance(1)
    web.kill()
    with pytest.raises(ProcessDied, match="web#1 died while it ran"):
        await waiting
    with pytest.raises(ProcessDied, match="is dead"):
        await web.run(asyncio.sleep, 10)


async def test_who_is_cancelled_cancels_what_he_waits_for(simulation):
    web = simulation.process("web")
    ended = []

    async def long():
        try:
            await asyncio.sleep(100)
        finally:
            ended.append("cancelled")

    waiting = asyncio.create_task(web.run(long))
    await simulation.advance(1)
    waiting.cancel()
    await simulation.run_until_idle()
    assert ended == ["cancelled"]


async def test_a_process_begins_its_main_function_again_after_a_restart(simulation):
    async def main():
        runs.append(simulation.clock.elapsed_ns)
        await asyncio.sleep(100)
        runs.append("ended")

    process = simulation.process("script", main)
    await simulation.advance(1)
    process.kill()
    await simulation.advance(1)
    process.restart()
    await simulation.advance(10)
    assert len(runs) == 2
    assert runs[1] - runs[0] == 2_000_000_000


def test_a_world_may_end_while_processes_stand_still_or_are_cut_off(on_each_backend):
    with Simulation(**on_each_backend) as simulation:

        async def main():
            handles = [simulation.worker([takes, sync_task]) for _ in range(3)]
            for name in ("takes", "sync_task") * 3:
                await simulation.queue.enqueue(name, timeout=0)
            await simulation.advance(1)
            handles[0].pause()
            handles[1].partition()
            handles[2].partition("replies")
            handles[2].kill()
            await simulation.advance(1)

        simulation.run(main())


async def test_a_signal_without_a_handler_ends_a_paused_process_when_it_is_resumed(simulation):
    process = simulation.process("web")
    process.pause()
    process.terminate()
    assert process.alive
    process.resume()
    assert not process.alive


async def test_a_paused_process_is_killed_at_once(simulation):
    process = simulation.process("web")
    process.pause()
    process.kill()
    assert not process.alive


async def test_stopping_a_dead_worker_does_not_wait_for_ever(simulation):
    worker = simulation.worker([])
    await simulation.advance(1)
    worker.kill()
    with pytest.raises(ProcessDied, match="worker-1#1"):
        await worker.stop()


async def test_a_worker_that_dies_while_it_stops_is_told(simulation):
    async def hangs(ctx):
        await asyncio.sleep(100)

    worker = simulation.worker([hangs], shutdown_grace_period_s=50)
    await simulation.queue.enqueue("hangs", timeout=0)
    await simulation.advance(1)
    asyncio.get_running_loop().call_later(5, worker.kill)
    with pytest.raises(ProcessDied, match="worker-1#1"):
        await worker.stop()

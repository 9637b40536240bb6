"""Processes that are killed: nothing of them happens any more, and nothing of anybody else's is held up."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time

import pytest

from queuekit import Status
from queuekit.simulation import Hop, Moment, Simulation, Step
from queuekit.simulation.process import Process


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


async def ok(ctx):
    """A task."""


class Watch:
    """What an observer saw of one process."""

    def __init__(self, simulation, process):
        self.seen = []
        self._process = process
        simulation.observe(self)

    def __call__(self, event):
        if isinstance(event, Step | Hop) and event.process == self._process.id:
            self.seen.append(event)


async def test_after_a_kill_no_step_and_no_command_of_the_process_is_ever_seen_again(simulation):
    unwound = []

    async def long(ctx):
        try:
            await asyncio.sleep(5)
            await ctx["job"].update(progress=0.5)
        finally:
            unwound.append("finally")

    process = Process(simulation.loop, "victim")
    watch = Watch(simulation, process)
    process.run(simulation.worker, [long])
    await simulation.queue.enqueue("long", timeout=100)
    await simulation.advance(1)
    assert watch.seen
    process.kill()
    watch.seen.clear()
    server = simulation.loop.network
    gc.collect()
    await simulation.advance(86_400)
    assert (watch.seen, unwound) == ([], [])
    assert all(wire.process is not process for wire in server.wires)


@pytest.mark.parametrize("direction", ["request", "reply"])
async def test_a_command_under_way_at_the_kill_is_lost_or_its_reply_is(simulation, direction):
    process = Process(simulation.loop, "victim")

    def kill_at_claim(event):
        if isinstance(event, Hop) and event.process == process.id:
            kill_at_claim.claims |= event.words[:2] == ("EVALSHA", "claim")
            if kill_at_claim.claims and event.direction == direction:
                process.kill()

    kill_at_claim.claims = False
    job = await simulation.queue.enqueue("ok")
    simulation.observe(kill_at_claim)
    process.run(simulation.worker, [ok])
    await simulation.run_until_idle()
    await job.refresh()
    assert not process.alive
    assert job.status is (Status.QUEUED if direction == "request" else Status.ACTIVE)


async def test_a_process_that_is_killed_at_a_named_moment_goes_no_further(simulation):
    process = Process(simulation.loop, "victim")

    def at_commit(event):
        if isinstance(event, Moment) and event.name == "ended":
            process.kill()

    simulation.observe(at_commit)
    process.run(simulation.worker, [ok])
    job = await simulation.queue.enqueue("ok")
    await simulation.run_until_idle()
    assert simulation.journal.entries[-1].moment == "ended"
    await job.refresh()
    assert job.status is Status.ACTIVE


async def test_a_task_that_kills_its_process_gets_no_further_itself(simulation):
    process = Process(simulation.loop, "victim")
    after = []

    async def poison(ctx):
        try:
            await process.die()
        finally:
            after.append(1)

    process.run(simulation.worker, [poison])
    job = await simulation.queue.enqueue("poison")
    await simulation.advance(100)
    await job.refresh()
    assert (job.status, after) == (Status.ACTIVE, [])


async def test_a_sync_task_of_a_killed_process_goes_no_further(simulation):
    after = []

    def sync(ctx):
        time.sleep(5)
        after.append(threading.current_thread().name)

    process = Process(simulation.loop, "victim")
    process.run(simulation.worker, [sync])
    await simulation.queue.enqueue("sync")
    await simulation.advance(1)
    process.kill()
    await simulation.advance(100)
    assert after == []


async def test_who_was_woken_by_a_process_hears_it_though_it_is_killed_at_that_moment(simulation):
    """The answer to somebody's blocked read belongs to that somebody, not to whom it was caused by."""
    process = Process(simulation.loop, "victim")
    simulation.worker([ok])
    await simulation.run_until_idle()

    def after_enqueue(event):
        if isinstance(event, Hop) and event.process == process.id and event.words:
            after_enqueue.sent |= event.words[:2] == ("EVALSHA", "enqueue")
            if after_enqueue.sent and event.direction == "reply":
                process.kill()

    after_enqueue.sent = False
    await simulation.queue.enqueue("ok")

    async def enqueue():
        await simulation.queue.enqueue("ok", key="sent")

    simulation.observe(after_enqueue)
    process.run(asyncio.create_task, enqueue())
    await simulation.run_until_idle()
    assert not process.alive
    assert (await simulation.queue.job("sent")).status is Status.COMPLETE


async def test_processes_have_connections_of_their_own(simulation):
    await simulation.queue.count("queued")
    processes = [Process(simulation.loop, "twin") for _ in range(2)]
    for process in processes:
        process.run(simulation.worker, [ok])
    await simulation.run_until_idle()
    assert processes[0].id != processes[1].id
    owners = {wire.process for wire in simulation.loop.network.wires}
    assert owners == {None, *processes}


def test_what_a_dead_process_raises_when_it_is_taken_down_is_heard_by_nobody():
    """A `finally` inside of one that waits: what a collector cannot raise, pytest makes an error of."""

    async def connection():
        try:
            await asyncio.sleep(100)
        finally:
            try:
                await asyncio.sleep(0)
            finally:
                raise RuntimeError("no running event loop")

    async def main():
        await connection()

    heard, before = [], sys.unraisablehook
    sys.unraisablehook = heard.append
    try:
        with Simulation() as simulation:
            process = simulation.process("victim", main)
            simulation.run(simulation.advance(1))
            process.kill()
        gc.collect()
    finally:
        sys.unraisablehook = before
    assert heard == []

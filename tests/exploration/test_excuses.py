"""What a misfortune excuses, and what it does not: only what it has caused."""

from __future__ import annotations

import asyncio

import pytest

from queuekit import effect
from queuekit.errors import ServerRefusedError
from queuekit.exploration import ExplorationFailed, Vacuous, explore
from queuekit.exploration.excuses import BETWEEN
from queuekit.exploration.living import run_once
from queuekit.simulation.fault_kinds import KINDS

pytestmark = pytest.mark.slow


async def charge(ctx):
    """Charges twice each time: the defect of these stories."""
    await effect("charged")
    await effect("charged")


async def ship(ctx):
    """Harmless."""


async def relay(ctx):
    await effect("begun")
    await ctx["job"].queue.enqueue("ship")


def promise_of(story):
    with pytest.raises(ExplorationFailed) as told:
        explore(story, seeds=3, faults=(), kept=None)
    return told.value.failure.promise


def excuse_of(story):
    run = run_once(story)
    assert run.broken is None
    return run.excused.partition(":")[0]


# -- not excused


def test_a_defect_beside_a_job_that_failed_by_an_outage_is_found():
    async def story(simulation):
        simulation.worker([relay, charge, ship])
        simulation.inject("outage", after="begun", seconds=20)
        await simulation.queue.enqueue("charge")
        await simulation.advance(1)
        job = await simulation.queue.enqueue("relay", timeout=0)
        await simulation.advance(200)
        await job.refresh()
        assert job.status.value == "failed"
        simulation.effects("charged").at_most(1)

    assert promise_of(story).startswith("story:AssertionError")


def test_what_must_hold_in_the_end_has_no_excuse():
    async def story(simulation):
        simulation.worker([charge])
        simulation.inject("kill", after="charged", restart_after=1)
        await simulation.queue.enqueue("charge", max_lost=0)
        return lambda: simulation.effects("sent").happened(times=7)

    assert promise_of(story).startswith("story:AssertionError")


def test_an_error_that_was_merely_being_handled_excuses_nothing():
    async def story(simulation):
        simulation.worker([ship])
        simulation.inject("outage", before="claim", seconds=2)
        await simulation.queue.enqueue("ship")
        await simulation.advance(10)
        try:
            raise ConnectionError("a gateway of ours, and no Redis")
        except ConnectionError:
            assert not simulation.journal.records, "a defect"

    assert promise_of(story).startswith("story:AssertionError")


def test_nor_does_a_connection_error_that_is_not_redis_s():
    async def story(simulation):
        simulation.worker([ship])
        simulation.inject("outage", before="claim", seconds=2)
        await simulation.queue.enqueue("ship")
        await simulation.advance(10)
        raise ConnectionError("a gateway of ours, and no Redis")

    assert promise_of(story).startswith("story:ConnectionError")


def test_nor_a_strike_that_takes_nobody_s_redis_away():
    async def story(simulation):
        simulation.worker([ship])
        simulation.inject("skew", before="claim", seconds=5)
        await simulation.queue.enqueue("ship")
        await simulation.advance(1)
        simulation.server.stop()
        await simulation.queue.enqueue("ship")

    assert promise_of(story).startswith("story:ServerUnreachableError")


def test_a_process_that_the_story_itself_has_killed_is_no_misfortune():
    async def story(simulation):
        simulation.worker([ship])
        simulation.inject("pause", before="claim", seconds=1)
        client = simulation.process("client")
        await client.run(simulation.queue.enqueue, "ship")
        await simulation.advance(1)
        client.kill()
        await client.run(simulation.queue.enqueue, "ship")

    assert promise_of(story).startswith("story:ProcessDied")


def test_a_job_that_fails_by_itself_is_its_story_s_failure():
    async def story(simulation):
        async def gateway(ctx):
            raise ConnectionError("the card's gateway")

        simulation.worker([gateway])
        simulation.inject("delay", command="claim", seconds=0.001)
        await simulation.queue.enqueue("gateway")
        await simulation.drain()

    assert promise_of(story).startswith("story:JobsFailed")


def test_a_worker_is_to_live_through_every_misfortune():
    async def story(simulation):
        async def startup(ctx):
            await simulation.queue.enqueue("ship")

        simulation.inject("outage", at=0, seconds=2)
        await simulation.advance(1)
        simulation.worker([ship], startup=startup)
        await simulation.advance(5)

    assert promise_of(story) == "worker:ServerUnreachableError"


# -- excused


def test_redis_that_is_away_excuses_who_asks_it_and_who_says_so():
    async def asks(simulation):
        simulation.worker([ship])
        await simulation.queue.enqueue("ship")
        await simulation.advance(1)
        simulation.inject("outage", at=0, seconds=100)
        await simulation.run_until_idle()
        await simulation.queue.enqueue("ship")

    assert excuse_of(asks) == "ServerUnreachableError"

    async def says(simulation):
        try:
            await asks(simulation)
        except ConnectionError as error:
            raise RuntimeError("no order could be placed") from error

    assert excuse_of(says) == "RuntimeError"


def test_a_job_that_was_lost_too_often_excuses_what_speaks_of_it():
    async def waits(simulation):
        simulation.worker([ship])
        simulation.inject("kill", after="started", restart_after=1)
        await simulation.queue.apply("ship", max_lost=0)

    assert excuse_of(waits) == "JobError"

    async def drains(simulation):
        simulation.worker([ship])
        simulation.inject("kill", after="started", restart_after=1)
        await simulation.queue.enqueue("ship", max_lost=0)
        await simulation.drain()

    assert excuse_of(drains) == "JobsFailed"

    async def asserts(simulation):
        simulation.worker([ship])
        simulation.inject("kill", after="started", restart_after=1)
        job = await simulation.queue.enqueue("ship", max_lost=0)
        await simulation.advance(100)
        simulation.assert_completed(job)

    assert excuse_of(asserts) == "AssertionError"


def test_a_job_whose_own_commands_were_struck_excuses_who_waits_for_it():
    async def story(simulation):
        simulation.worker([relay, ship])
        simulation.inject("outage", after="begun", seconds=20)
        await simulation.queue.enqueue("relay", timeout=0)
        await simulation.drain()

    assert excuse_of(story) == "JobsFailed"


def test_a_killed_process_excuses_who_had_something_run_in_it():
    async def story(simulation):
        web = simulation.process("web")
        simulation.worker([ship])
        simulation.inject("kill", command="enqueue", process=web)
        await web.run(simulation.queue.enqueue, "ship")

    assert excuse_of(story) == "ProcessDied"


def test_a_process_that_redis_s_absence_has_ended_is_excused_and_a_group_only_as_a_whole():
    def placing(simulation, *errors):
        async def main():
            try:
                await simulation.queue.enqueue("ship")
            except ConnectionError as error:
                raise ExceptionGroup("orders", [error, *errors]) from None

        return main

    def story(*errors):
        async def told(simulation):
            simulation.worker([ship])
            simulation.inject("outage", at=0, seconds=2)
            await simulation.run_until_idle()
            simulation.process("web", placing(simulation, *errors))
            await simulation.advance(100)

        return told

    assert excuse_of(story()) == "ExceptionGroup"
    assert promise_of(story(ValueError("mine"))) == "process:ExceptionGroup"


def test_an_exploration_in_which_every_run_is_excused_is_vacuous():
    async def story(simulation):
        simulation.worker([ship])
        await simulation.queue.enqueue("ship")
        await simulation.advance(1)
        simulation.inject("outage", at=0, seconds=100)
        await simulation.run_until_idle()
        await simulation.queue.enqueue("ship")

    with pytest.raises(Vacuous, match=r"in 3 run\(s\) the story was never told to its end") as told:
        explore(story, seeds=3, faults=(), kept=None)
    assert "ServerUnreachableError (3)" in str(told.value)


def test_scripts_that_are_forgotten_again_and_again_excuse_who_is_refused():
    async def story(simulation):
        simulation.worker([ship])
        simulation.inject("flush_scripts", before="claim")
        await simulation.queue.enqueue("ship")
        await simulation.advance(1)
        raise ServerRefusedError("NOSCRIPT")

    assert excuse_of(story) == "ServerRefusedError"


@pytest.mark.parametrize("kind", sorted(BETWEEN))
def test_every_kind_that_keeps_redis_from_answering_is_a_kind_of_fault(kind):
    assert kind in KINDS


def test_a_story_that_raises_a_cancellation_of_its_own_is_told_as_a_failure():
    async def story(simulation):
        await simulation.advance(1)
        raise asyncio.CancelledError

    assert promise_of(story).startswith("story:CancelledError")

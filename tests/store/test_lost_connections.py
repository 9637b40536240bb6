"""A connection that is lost under way costs its command one more try, whatever it was about to do."""

from __future__ import annotations

import pytest

from queuekit import Queue, Status
from queuekit.errors import ServerError
from queuekit.simulation import Hop
from queuekit.store.server import CALL_LIMIT, LONGEST_PAUSE_S, PATIENCE_S


@pytest.mark.parametrize("lost", ["request", "reply"])
@pytest.mark.parametrize("words", [("EVALSHA",), ("SCRIPT", "LOAD"), ("EVALSHA", "enqueue")])
async def test_a_connection_lost_on_the_way_to_a_script_is_tried_again(simulation, lost, words):
    """Even when the server does not know the script, and the connection goes while it is told."""
    await simulation.queue.connect()
    simulation.server.flush_scripts()

    def cut(event):
        if not isinstance(event, Hop) or cut.done:
            return
        cut.near |= event.words[: len(words)] == words
        if cut.near and event.direction == lost:
            cut.done = True
            [wire] = [w for w in simulation.loop.network.wires if w.number == event.connection]
            wire.cut()

    cut.near = cut.done = False
    simulation.observe(cut)
    job = await simulation.queue.enqueue("ok", key="k")
    assert cut.done
    assert job.status is Status.QUEUED
    assert await simulation.queue.count("queued") == 1


async def gave_up_after(simulation, queue, producer):
    """Virtual seconds until a producer hears that it cannot enqueue, and the error."""
    began = simulation.now
    with pytest.raises(ServerError) as raised:
        await producer.run(queue.enqueue, "ok")
    return (simulation.now - began).total_seconds(), raised.value


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({}, 10),
        ({"socket_connect_timeout": 2}, 4),
        ({"socket_connect_timeout": None}, 10),
        ({"socket_connect_timeout": 60}, 10),
        ({"socket_timeout": 1}, 2),
    ],
)
async def test_two_connections_that_hang_cost_their_time_outs(simulation, options, seconds):
    producer = simulation.process("producer")
    producer.partition()
    queue = Queue.from_url("redis://simulated", **options)
    took, error = await gave_up_after(simulation, queue, producer)
    assert took == seconds
    assert "never sent" in str(error)


@pytest.mark.parametrize(
    ("options", "seconds"),
    [({}, PATIENCE_S), ({"socket_timeout": 1}, CALL_LIMIT), ({"socket_timeout": 60}, PATIENCE_S)],
)
async def test_a_refusal_that_lasts_is_told_as_such(simulation, options, seconds):
    simulation.inject("error", command="enqueue", error="LOADING", times=100, optional=True)
    queue = Queue.from_url("redis://simulated", **options)
    took, error = await gave_up_after(simulation, queue, simulation.process("producer"))
    assert seconds - LONGEST_PAUSE_S <= took <= seconds
    assert "reads its data" in str(error)


async def test_a_pipeline_ends_with_its_call_however_slowly_it_is_answered(simulation):
    """Each answer may take its time, as long as all of them together do not take too much."""
    for nth in range(1, 11):
        simulation.inject("delay", after="PING", nth=nth, seconds=0.9, optional=True)
    store = Queue.from_url("redis://simulated", socket_timeout=1).store
    began = simulation.now
    with pytest.raises(ServerError, match="no answer within 3 s"):
        await store.server.pipeline(*[("PING",)] * 10)
    assert (simulation.now - began).total_seconds() == CALL_LIMIT

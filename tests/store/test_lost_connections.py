"""A connection that is lost under way costs its command one more try, whatever it was about to do."""

from __future__ import annotations

import pytest

from queuekit import Status
from queuekit.simulation import Hop


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

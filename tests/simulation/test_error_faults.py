"""Errors that are asked for strike what a server with them refuses, and only that counts."""

from __future__ import annotations

import asyncio

import pytest
import redis.asyncio
from redis.exceptions import ExecAbortError, OutOfMemoryError, ReadOnlyError, ResponseError

from queuekit import Job
from queuekit.errors import ServerError
from queuekit.simulation import FaultNeverFired, Simulation
from queuekit.simulation.resp import encode_command
from tests.simulation.test_refusals import COMMANDS, READS_FIRST, TELLS_FIRST, refusals_in, struck


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


async def work(ctx):
    await asyncio.sleep(1)


async def test_only_what_the_server_would_refuse_is_counted(simulation):
    fault = simulation.inject("error", command="*", error="OOM", nth=2, process="test")
    queue = simulation.queue
    first = await queue.enqueue("work", key="first")
    assert await queue.count("queued") == 1
    await queue.enqueue(first)  # it is there already: nothing is written
    await first.update(meta={"n": 1})
    await first.abort("enough")
    with pytest.raises(ServerError, match="OOM"):
        await queue.enqueue("work", key="second")
    await queue.enqueue("work", key="third")
    assert [strike.where for strike in fault.fired] == ["test: request enqueue"]
    assert fault.let_through >= 4
    assert await queue.job("second") is None


async def test_a_worker_goes_on_while_memory_is_full(simulation):
    simulation.worker([work])
    job = await simulation.queue.enqueue("work")
    everything = simulation.inject("error", command="*", error="OOM", times=10**6, optional=True)
    await simulation.advance(3)
    assert everything.fired == []
    simulation.faults.planned.clear()
    simulation.assert_completed(job)


async def test_a_script_that_only_reads_passes_on_a_replica(simulation):
    job = await simulation.queue.enqueue("work")
    fault = simulation.inject("error", command="*", error="READONLY", times=10**6, process="test")
    await job.refresh()
    assert await simulation.queue.count("queued") == 1
    assert fault.fired == []
    with pytest.raises(ServerError, match="READONLY"):
        await simulation.queue.enqueue("work")


async def test_noscript_is_for_scripts(simulation):
    fault = simulation.inject("error", command="*", error="NOSCRIPT", process="test")
    assert await simulation.queue.count("queued") == 0
    assert fault.fired == []
    await simulation.queue.enqueue("work")
    assert [strike.where for strike in fault.fired] == ["test: request enqueue"]
    assert await simulation.queue.count("queued") == 1


@pytest.mark.parametrize("nth", [1, 2])
async def test_a_transaction_of_which_a_command_was_refused_is_refused_whole(simulation, nth):
    simulation.inject("error", command="*", error="OOM", nth=nth, process="test")
    async with redis.asyncio.Redis(host="any", retry=None) as client:
        with pytest.raises((ExecAbortError, OutOfMemoryError)):
            await client.pipeline(transaction=True).set("a", 1).get("a").set("b", 2).execute()
        assert await client.pipeline(transaction=True).exists("a", "b").execute() == [0]


async def test_exec_is_refused_by_what_it_would_execute(simulation):
    simulation.inject("error", command="EXEC", error="BUSY", process="test")
    async with redis.asyncio.Redis(host="any", retry=None, single_connection_client=True) as client:
        with pytest.raises(ResponseError, match="discarded because of: BUSY"):
            await client.pipeline(transaction=True).set("a", 1).execute()
        assert await client.exists("a") == 0
        # The transaction is over: what comes next is executed at once.
        assert await client.set("a", 2) is True


async def test_a_write_that_was_queued_before_is_refused_with_exec(simulation):
    async with redis.asyncio.Redis(host="any", retry=None) as client:
        simulation.inject("error", command="EXEC", error="READONLY", process="test", nth=2)
        assert await client.pipeline(transaction=True).get("a").execute() == [None]
        assert await client.pipeline(transaction=True).set("a", 1).execute() == [True]
        with pytest.raises((ExecAbortError, ReadOnlyError)):
            await client.pipeline(transaction=True).set("a", 2).execute()
        assert await client.get("a") == b"1"


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ("redis 8", r"command not allowed .* script: [0-9a-f]{40}, on @user_script:\d+\."),
        ("valkey 9", r"command not allowed .* script: on @user_script:\d+\."),
        ("redis 6.2", r"Error running script \(call to f_[0-9a-f]{40}\): .* -OOM command not"),
    ],
)
async def test_a_script_is_refused_in_the_words_of_the_server_that_is_asked_for(
    simulation, server, told
):
    simulation.inject("error", command="enqueue", error="OOM", server=server)
    with pytest.raises(ServerError, match=told) as caught:
        await simulation.queue.enqueue("work")
    assert caught.value.code == "OOM"


@pytest.mark.parametrize("code", ["OOM", "READONLY", "BUSY", "LOADING", "CLUSTERDOWN", "NOSCRIPT"])
def test_the_same_is_refused_on_every_backend(each_backend, code):
    commands = [words for words in COMMANDS if words[0] not in ("TIME", "XADD", "HELLO")]
    expected = refusals_in(struck(code, "redis 8", commands), code)
    assert refusals_in(struck(code, "redis 8", commands, backend=each_backend), code) == expected
    assert expected


def test_servers_side_by_side_agree_on_what_follows_a_refusal():
    commands = [words for words in COMMANDS if words[0] not in ("TIME", "XADD", "HELLO", "EVAL")]
    expected = refusals_in(struck("READONLY", "redis 8", commands), "READONLY")
    answers = struck("READONLY", "redis 8", commands, backend="both")
    assert refusals_in(answers, "READONLY") == expected


def test_a_trial_of_a_script_is_not_seen(each_backend):
    """It draws nothing, writes nothing and says nothing."""

    def lived(*, tried):
        with Simulation(backend=each_backend) as simulation:
            if tried:
                simulation.inject("error", command="*", error="OOM", nth=10**6, optional=True)

            async def main():
                simulation.worker([work])
                for _ in range(3):
                    await simulation.queue.enqueue(Job("work", retries=2))
                await simulation.advance(20)

            simulation.run(main())
            return simulation.trace.digest()

    assert lived(tried=True) == lived(tried=False)


def test_a_fault_of_which_all_was_let_through_says_so(on_each_backend):
    def live():
        with Simulation(**on_each_backend) as simulation:
            simulation.inject("error", command="*", error="OOM", process="test")
            simulation.run(simulation.queue.count("queued"))

    with pytest.raises(FaultNeverFired) as caught:
        live()
    assert "a Redis whose memory is full lets through what came, " in str(caught.value)
    assert "it refuses writes that may need memory" in str(caught.value)


@pytest.mark.parametrize("error", ["OOM", "BUSY", "a text"])
async def test_what_comes_on_a_connection_that_is_closed_is_not_struck(simulation, error):
    fault = simulation.inject("error", command="*", error=error, process="test", optional=True)
    _, writer = await asyncio.open_connection("redis", 6379)
    writer.write(encode_command([b"EVAL", READS_FIRST.encode(), b"0"]))
    writer.transport.abort()
    await asyncio.sleep(1)
    assert (fault.fired, fault.let_through) == ([], 0)


async def test_a_trial_of_a_script_publishes_nothing(simulation):
    simulation.inject("error", command="*", error="OOM", nth=10**6, optional=True)
    async with redis.asyncio.Redis(host="any") as client:
        subscription = client.pubsub()
        await subscription.subscribe("c")
        assert await client.eval(TELLS_FIRST, 1, "k", "1") == 1
        heard = [await subscription.get_message(timeout=1) for _ in range(4)]
        await subscription.aclose()
    assert [message["data"] for message in heard if message] == [1, b"m"]

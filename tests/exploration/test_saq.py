"""An unmodified application of SAQ's in a simulation: its jobs are read, and its weaknesses found."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
import redis.asyncio
from saq import Queue

from queuekit.exploration import ExplorationFailed, explore
from queuekit.exploration.failures import replay
from queuekit.exploration.living import Terms, run_once
from queuekit.exploration.reduction import plan_of
from queuekit.foreign.saq import SaqQueue
from queuekit.simulation import Deviation, Simulation, scenario
from queuekit.simulation.backends import Embedded, RealServer
from queuekit.simulation.private_server import find_servers, start_private_server
from scenarios.saq import workload

# SAQ writes its results by a command that redis-py calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex")

SCENARIOS = workload.__file__.rpartition("/")[0]


@pytest.mark.slow
def test_jobs_of_saq_are_read_as_they_are():
    jobs = SaqQueue()

    async def story(simulation):
        for n in (1, 2):
            simulation.process(f"worker-{n}", workload.run_worker)
        await simulation.advance(2)
        queue = Queue.from_url(workload.URL)
        await queue.connect()
        for n in range(3):
            await queue.enqueue("work", n=n, key=f"job-{n}")
        await queue.enqueue("work", n=9, key="later", scheduled=simulation.clock.time() + 3600)
        await queue.enqueue("unknown", key="nobody's")
        count, digest = simulation.trace.count, simulation.clock.elapsed_ns
        found = jobs.jobs(simulation)
        assert (simulation.trace.count, simulation.clock.elapsed_ns) == (count, digest)
        assert {job.status for job in found.values()} <= {"queued", "active"}
        await simulation.advance(5)
        await queue.disconnect()
        return jobs.jobs(simulation)

    with Simulation() as simulation:
        found = simulation.run(story(simulation))
    assert {key: job.status for key, job in found.items()} == {
        "job-0": "complete",
        "job-1": "complete",
        "job-2": "complete",
        "later": "queued",
        "nobody's": "failed",
    }
    done = found["job-2"]
    assert (done.function, done.kwargs, done.result, done.attempts) == ("work", {"n": 2}, 2, 1)
    assert done.completed - done.started == pytest.approx(500, abs=50)
    assert "unknown" in (found["nobody's"].error or "")


@pytest.mark.slow
def test_a_deploy_without_any_fault_runs_a_finished_job_again(on_each_backend):
    """SAQ's sweeper takes a job for stuck that another worker has taken and not yet marked."""
    story = workload.workers_start_on_a_full_queue
    with pytest.raises(ExplorationFailed) as caught:
        explore(story, seeds=1, faults=(), kept=None, backend=on_each_backend["backend"])
    failure = caught.value.failure
    assert failure.promise == "P3"
    assert "makes it queued" in failure.what
    assert failure.tape == ()


@pytest.mark.slow
def test_what_was_found_in_saq_is_kept_and_replayed():
    files = sorted(Path(SCENARIOS).glob("*.toml"))
    assert len(files) >= 3
    for file in files:
        replayed = replay(scenario.read(file))
        assert replayed.as_recorded, f"{file.name}: {replayed.run.broken}"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, _ in find_servers()])
def test_what_was_found_in_saq_happens_on_each_server_step_by_step(name):
    """Its sweeper and its scheduler are scripts that set an expiry."""
    server = start_private_server(dict(find_servers())[name])
    try:
        for file in sorted(Path(SCENARIOS).glob("*.toml")):
            expected, found = (
                replay(scenario.read(file), backend=backend)
                for backend in (Embedded(), RealServer(server.address, private=True))
            )
            assert found.as_recorded, f"{file.name}: {found.run.broken}"
            assert (found.run.trace, found.run.lines) == (expected.run.trace, expected.run.lines)
            assert found.run.story == expected.run.story
    finally:
        server.close()


async def run(simulation, *statuses):
    """One job, by hand: who writes which status when."""
    for name, status, attempts in statuses:
        process = next((p for p in simulation.processes() if p.name == name), None)
        process = process or simulation.process(name)
        record = {
            "function": "f",
            "queue": "default",
            "key": "k",
            "status": status,
            "attempts": attempts,
        }

        async def write(record=record):
            async with redis.asyncio.Redis(host="any") as client:
                await client.set("saq:job:default:k", json.dumps(record))

        await process.run(write)


@pytest.mark.parametrize(
    ("statuses", "broken"),
    [
        ([("a", "active", 1), ("a", "complete", 1)], []),
        ([("a", "active", 1), ("a", "active", 1), ("a", "complete", 1)], []),
        ([("a", "active", 1), ("a", "queued", 1), ("b", "active", 2)], []),
        ([("a", "active", 1), ("b", "active", 2)], ["P2"]),
        ([("a", "active", 1), ("b", "queued", 1), ("b", "active", 2)], ["P2"]),
        ([("a", "complete", 1), ("b", "complete", 1)], []),
        ([("a", "complete", 1), ("b", "failed", 1)], ["P3"]),
        ([("a", "aborted", 1), ("a", "queued", 1)], ["P3"]),
    ],
)
def test_what_breaks_a_promise_and_what_does_not(statuses, broken):
    jobs = SaqQueue()
    with Simulation() as simulation:
        jobs.attach(simulation)
        simulation.run(run(simulation, *statuses))
    assert [each.promise for each in jobs(simulation)] == broken
    assert jobs.unfinished(simulation) == (
        [] if statuses[-1][1] in ("complete", "failed") else ["k"]
    )


def test_a_run_whose_process_is_dead_is_none():
    jobs = SaqQueue()
    with Simulation() as simulation:
        jobs.attach(simulation)

        async def story():
            await run(simulation, ("a", "active", 1))
            simulation.processes()[0].kill()
            await asyncio.sleep(0)
            await run(simulation, ("b", "active", 2))

        simulation.run(story())
    assert jobs(simulation) == []
    assert jobs.runs(simulation) == 2


@pytest.mark.parametrize("restarts", [True, False])
def test_a_process_that_is_told_to_end_is_started_again_if_it_restarts(restarts):
    """A worker of another queue was gone for good, and its jobs with it."""
    starts = []

    async def main():
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        starts.append(1)
        async with redis.asyncio.Redis(host="any") as client:
            await client.set("k", 1)
            await told.wait()

    async def story(simulation):
        simulation.process("worker", main, restarts=restarts)
        await simulation.advance(30)

    tape = (Deviation("swarm.terminate:worker:SET", 1, 1),)
    run = run_once(story, plan_of(0, "fifo", ("terminate",), tape), Terms())
    assert run.breaches == []
    assert len(starts) == 1 + restarts

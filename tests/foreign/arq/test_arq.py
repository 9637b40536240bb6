"""An unmodified application of arq's in a simulation: its jobs are read, and its weaknesses found."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from arq import Worker, cron
from arq.connections import RedisSettings, create_pool
from arq.jobs import Job

from queuekit.exploration import ExplorationFailed, explore
from queuekit.exploration.failures import replay
from queuekit.foreign.arq import ArqQueue
from queuekit.foreign.pickled import Unread
from queuekit.simulation import Simulation, scenario
from scenarios.arq import workload
from tests.docs.pages import ROOT, write_out

# arq closes its pool by a name that redis-py calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated close")

SCENARIOS = Path(workload.__file__).parent


class Order:
    """An argument of an application's own class."""

    def __init__(self, number):
        self.number = number


@pytest.fixture
def live(each_backend):
    """Live through a story on a backend; its result, and the digest of its trace."""

    def lived(story):
        with Simulation(seed=3, backend=each_backend) as simulation:
            result = simulation.run(story(simulation))
            digest = simulation.trace.digest()
        return result, digest

    return lived


async def jobs_of_all_kinds(simulation):
    jobs = ArqQueue()
    for n in (1, 2):
        simulation.process(f"worker-{n}", workload.run_worker)
    await simulation.advance(2)
    pool = await create_pool(workload.SETTINGS)
    for n in range(3):
        await pool.enqueue_job("work", n, _job_id=f"job-{n}")
    await pool.enqueue_job("work", n=9, _job_id="later", _defer_by=timedelta(hours=1))
    await pool.enqueue_job("unknown", Order(7), _job_id="nobodys")
    count, elapsed = simulation.trace.count, simulation.clock.elapsed_ns
    found = jobs.jobs(simulation)
    assert (simulation.trace.count, simulation.clock.elapsed_ns) == (count, elapsed)
    assert {job.status for job in found.values()} == {"queued", "deferred"}
    await simulation.advance(0.6)
    assert "in_progress" in {job.status for job in jobs.jobs(simulation).values()}
    await simulation.advance(5)
    told = {key: (await Job(key, pool).status()).value for key in found}
    await pool.aclose()
    ended = jobs.jobs(simulation)
    assert told == {key: job.status for key, job in ended.items()}
    return ended


@pytest.mark.slow
def test_jobs_of_arq_are_read_as_they_are(live):
    found, _ = live(jobs_of_all_kinds)
    assert {key: job.status for key, job in found.items()} == {
        "job-0": "complete",
        "job-1": "complete",
        "job-2": "complete",
        "later": "deferred",
        "nobodys": "complete",
    }
    done = found["job-2"]
    assert (done.function, done.args, done.result, done.attempts) == ("work", (2,), 2, 1)
    assert done.completed - done.started == pytest.approx(500, abs=50)
    assert (done.error, found["later"].kwargs) == (None, {"n": 9})
    refused = found["nobodys"]
    assert "function 'unknown' not found" in refused.error
    assert refused.args == (Unread(f"{__name__}.Order", (), {"number": 7}),)


@pytest.mark.slow
def test_the_same_seed_is_the_same_trace_on_the_embedded_redis_and_on_a_real_one():
    digests = set()
    for backend in ("fakeredis", "server", "fakeredis"):
        with Simulation(seed=3, backend=backend) as simulation:
            simulation.run(jobs_of_all_kinds(simulation))
            digests.add(simulation.trace.digest())
    assert len(digests) == 1


async def a_month_of_ticks(simulation):
    ticks = []

    async def tick(ctx):
        ticks.append(simulation.now)

    async def run_worker():
        jobs = [cron(tick, day=1, hour=0, minute=0, second=0)]
        await Worker(cron_jobs=jobs, redis_settings=workload.SETTINGS, poll_delay=3600).async_run()

    for n in (1, 2):
        simulation.process(f"worker-{n}", run_worker)
    await simulation.advance(timedelta(days=32))
    return ticks


@pytest.mark.slow
def test_cron_jobs_of_arq_live_in_virtual_time(live):
    ticks, _ = live(a_month_of_ticks)
    assert len(ticks) == 1
    late = ticks[0] - datetime(2030, 2, 1, tzinfo=UTC)  # it looks every hour
    assert timedelta(0) <= late <= timedelta(hours=1)


def test_records_that_are_no_pickles_are_read_by_what_is_given(live):
    async def story(simulation):
        pool = await create_pool(
            RedisSettings(), job_serializer=lambda told: json.dumps(told).encode()
        )
        await pool.enqueue_job("greet", name="ada", _job_id="a")
        await pool.aclose()
        return ArqQueue(load=json.loads).jobs(simulation)["a"]

    found, _ = live(story)
    assert (found.function, found.kwargs, found.status) == ("greet", {"name": "ada"}, "queued")


@pytest.mark.slow
def test_a_killed_worker_costs_a_run_and_no_job(live):
    async def story(simulation):
        jobs = ArqQueue()
        jobs.attach(simulation)
        simulation.process("worker", workload.run_worker)
        await workload.enqueue("import_file", 1)
        await simulation.advance(5)
        simulation.processes()[0].kill()
        assert jobs.unfinished(simulation) == ["job-0"]
        simulation.processes()[0].restart()
        await simulation.advance(60)
        return jobs.jobs(simulation)["job-0"], jobs.runs(simulation), jobs(simulation)

    (job, runs, broken), _ = live(story)
    assert (job.status, job.attempts, runs, broken) == ("complete", 2, 2, [])


@pytest.mark.slow
def test_a_late_worker_makes_a_failure_of_a_finished_job():
    """It has claimed the job and stands still; then the record is gone, or its own time-out is over."""
    with pytest.raises(ExplorationFailed) as caught:
        explore(workload.short_jobs, faults=["pause"], schedules=["fifo"], seeds=60, kept=None)
    failure = caught.value.failure
    assert failure.promise == "P3"
    assert "was completed with 0" in failure.what
    assert "now it was failed with" in failure.what
    assert len(failure.tape) <= 2


@pytest.mark.slow
def test_a_plain_run_of_arq_breaks_nothing():
    explored = explore(workload.short_jobs, seeds=5, faults=(), kept=None)
    assert explored.runs == 5


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(SCENARIOS.glob("*.toml")), ids=lambda file: file.stem)
def test_what_was_found_in_arq_is_kept_and_replayed_step_by_step_on_a_real_server_too(file):
    embedded, real = (
        replay(scenario.read(file), backend=backend) for backend in ("fakeredis", "server")
    )
    assert embedded.as_recorded, embedded.run.broken
    assert real.as_recorded, real.run.broken
    assert (embedded.run.trace, embedded.run.story) == (real.run.trace, real.run.story)


def test_each_kept_scenario_has_its_line_in_the_documentation():
    page = (ROOT / "docs" / "foreign-queues.md").read_text("utf-8")
    names = [file.name for file in SCENARIOS.glob("*.toml")]
    assert len(names) >= 4
    assert [name for name in names if f"replay scenarios/arq/{name}`" not in page] == []


@pytest.mark.slow
def test_the_code_of_the_page_runs_with_arq(each_backend, tmp_path):
    tests = write_out(ROOT / "docs" / "foreign-queues.md", tmp_path, installed=("arq",))
    assert "test_arq.py" in tests
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_arq.py"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        [*command, f"--queuekit-backend={each_backend}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=clean,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_this_is_the_redis_py_that_arq_asks_for():
    assert int(redis.__version__.split(".")[0]) < 6


async def executed(simulation, process, *transactions):
    """Transactions of a process, by hand."""
    for commands in transactions:

        async def send(commands=commands):
            async with redis.asyncio.Redis(host="any") as client, client.pipeline() as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                await pipe.execute()

        await process.run(send)
        await asyncio.sleep(0)


def finishing(key, *, worked, result):
    told = {"f": "f", "a": (), "k": {}, "t": 1, "et": 0, "st": 0, "ft": 0, "s": worked, "r": result}
    return [
        ("SET", f"arq:result:{key}", json.dumps(told), "PX", 1000),
        ("ZREM", "arq:queue", key),
        ("DEL", f"arq:in-progress:{key}", f"arq:retry:{key}", f"arq:job:{key}"),
    ]


ENQUEUE = [("PSETEX", "arq:job:k", 90_000_000, "{}"), ("ZADD", "arq:queue", 1, "k")]
CLAIM = [("PSETEX", "arq:in-progress:k", 40_000, "1")]
BEGIN = [("GET", "arq:job:k"), ("INCRBY", "arq:retry:k", 1)]
LET_GO = [("DEL", "arq:in-progress:k")]
DONE = finishing("k", worked=True, result=1)
FAILED = finishing("k", worked=False, result="late")
AGAIN = [("ZINCRBY", "arq:queue", 3000, "k")]


@pytest.mark.parametrize(
    ("moves", "broken", "left"),
    [
        ([("a", CLAIM), ("a", BEGIN), ("a", DONE)], [], []),
        ([("a", CLAIM), ("a", BEGIN), ("a", LET_GO), ("b", CLAIM), ("b", BEGIN)], [], ["k"]),
        ([("a", CLAIM), ("a", BEGIN), ("b", CLAIM), ("b", BEGIN)], ["P2"], ["k"]),
        ([("a", CLAIM), ("a", BEGIN), (31, None), ("b", CLAIM), ("b", BEGIN)], [], ["k"]),
        ([("a", BEGIN), ("a", DONE), ("b", DONE)], [], []),
        ([("a", BEGIN), ("a", DONE), ("b", FAILED)], ["P3"], []),
        ([("a", BEGIN), ("a", DONE), ("b", AGAIN)], ["P3"], []),
        ([("a", BEGIN), ("a", DONE), ("test", ENQUEUE), ("b", BEGIN), ("b", FAILED)], [], []),
    ],
)
def test_what_breaks_a_promise_and_what_does_not(moves, broken, left):
    jobs = ArqQueue(load=json.loads)
    with Simulation() as simulation:
        jobs.attach(simulation)

        async def story():
            processes = {name: simulation.process(name) for name in ("a", "b", "test")}
            await executed(simulation, processes["test"], ENQUEUE)
            for name, commands in moves:
                if commands is None:
                    await simulation.advance(name)
                else:
                    await executed(simulation, processes[name], commands)

        simulation.run(story())
    assert [each.promise for each in jobs(simulation)] == broken
    assert jobs.unfinished(simulation) == left


def test_what_was_lost_on_its_way_was_not_done():
    jobs = ArqQueue(load=json.loads)
    with Simulation() as simulation:
        jobs.attach(simulation)

        async def story():
            process = simulation.process("a")
            await executed(simulation, process, ENQUEUE, CLAIM, BEGIN)
            simulation.inject("lose_request", command="EXEC")
            with pytest.raises(redis.ConnectionError):
                await executed(simulation, process, DONE)

        simulation.run(story())
    assert jobs.unfinished(simulation) == ["k"]

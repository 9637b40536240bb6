"""An unmodified SimpleWorker of RQ's in a process of the simulation, and what happens to it there."""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import time

import pytest
import redis
from rq import Queue, SimpleWorker, Worker
from rq.command import send_shutdown_command
from rq.job import JobStatus

from queuekit.simulation import Simulation

URL = "redis://redis.internal:6379/0"


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


@pytest.fixture(autouse=True)
def _rq_keeps_quiet():
    """Its loggers have handlers of their own, made by whoever runs a worker first."""
    logging.getLogger("rq.worker").addHandler(logging.NullHandler())
    logging.getLogger("rq.worker").propagate = False


def charge(order, seconds=60):
    time.sleep(seconds)
    return f"charged {order}"


def program(kind=SimpleWorker, **options):
    def work():
        worker = kind(["default"], connection=redis.Redis.from_url(URL), name="one")
        return worker.work(**{"logging_level": "CRITICAL", **options})

    return lambda: asyncio.to_thread(work)


@pytest.fixture
def rq(simulation):
    return Queue(connection=redis.Redis.from_url(URL))


async def test_a_burst_does_all_there_is_and_ends(simulation, rq):
    jobs = [rq.enqueue(charge, n) for n in range(3)]
    worker = simulation.process("worker", program(burst=True))
    await simulation.run_until(lambda: not worker.running)
    assert simulation.clock.monotonic() == 180
    assert [job.return_value() for job in jobs] == ["charged 0", "charged 1", "charged 2"]


async def test_an_idle_worker_takes_what_comes(simulation, rq):
    worker = simulation.process("worker", program())
    await simulation.advance(4000)
    job = rq.enqueue(charge, 1)
    await simulation.advance(60)
    assert (job.return_value(), worker.running) == ("charged 1", True)


async def test_a_job_that_takes_too_long_fails_by_its_alarm(simulation, rq):
    simulation.process("worker", program())
    job = rq.enqueue(charge, 1, 1000, job_timeout=100)
    await simulation.advance(99)
    assert job.get_status() == JobStatus.STARTED
    await simulation.advance(1)
    assert job.get_status() == JobStatus.FAILED
    assert "maximum timeout value (100 seconds)" in job.latest_result().exc_string


async def test_sigterm_stops_an_idle_worker_at_once(simulation, rq):
    worker = simulation.process("worker", program())
    await simulation.advance(100)
    worker.terminate()
    await simulation.advance(0)
    assert (worker.running, worker.alive) == (False, True)


async def test_sigterm_lets_a_busy_worker_end_its_job(simulation, rq):
    worker = simulation.process("worker", program())
    first, second = rq.enqueue(charge, 1), rq.enqueue(charge, 2)
    await simulation.advance(10)
    worker.terminate()
    await simulation.advance(100)
    assert (first.return_value(), second.get_status()) == ("charged 1", JobStatus.QUEUED)
    assert not worker.running


async def test_a_killed_worker_is_silent_and_its_job_is_found_abandoned(simulation, rq):
    worker = simulation.process("worker", program())
    job = rq.enqueue(charge, 1, job_timeout=120)
    await simulation.advance(10)
    worker.kill()
    await simulation.advance(600)
    assert job.get_status() == JobStatus.STARTED
    worker.restart()
    await simulation.advance(600)
    assert job.get_status() == JobStatus.FAILED


async def test_a_worker_lives_through_an_outage(simulation, rq):
    worker = simulation.process("worker", program())
    await simulation.advance(10)
    simulation.server.outage(30)
    await simulation.advance(120)
    job = rq.enqueue(charge, 1)
    await simulation.advance(60)
    assert (job.return_value(), worker.running) == ("charged 1", True)


async def test_a_command_is_heard_by_its_thread_while_a_job_runs(simulation, rq):
    worker = simulation.process("worker", program())
    first, second = rq.enqueue(charge, 1), rq.enqueue(charge, 2)
    await simulation.advance(10)
    send_shutdown_command(rq.connection, "one")  # by SIGINT to its own process, from that thread
    await simulation.advance(100)
    assert (first.return_value(), second.get_status()) == ("charged 1", JobStatus.QUEUED)
    assert (worker.running, worker.alive) == (False, True)


async def test_a_worker_that_forks_is_refused(simulation, rq):
    told = logging.handlers.BufferingHandler(100)
    logging.getLogger("rq.worker").addHandler(told)
    worker = simulation.process("worker", program(Worker, logging_level="ERROR"))
    job = rq.enqueue(charge, 1)
    await simulation.advance(60)
    logging.getLogger("rq.worker").removeHandler(told)
    assert "os.fork() in a simulation" in str(told.buffer[0].exc_info[1])
    assert (worker.running, job.get_status()) == (False, JobStatus.QUEUED)


def test_two_runs_in_one_process_have_one_trace():
    def live():
        with Simulation(seed=3) as simulation:
            simulation.run(story(simulation))
            return simulation.trace.digest()

    async def story(simulation):
        queue = Queue(connection=redis.Redis.from_url(URL))
        for n in range(3):
            queue.enqueue(charge, n, n * 40, job_timeout=50)
        worker = simulation.process("worker", program())
        await simulation.advance(200)
        worker.terminate()
        await simulation.advance(10)
        assert not worker.running

    assert live() == live()

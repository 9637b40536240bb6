"""A world as a whole: determinism, chance, threads, observers, its beginning and end."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import pytest

from queuekit import CronJob, Queue, Status
from queuekit.errors import ForeignLoopError, ServerError
from queuekit.simulation import (
    Draw,
    Hold,
    Hop,
    Moment,
    Simulation,
    SimulationDeadlock,
    SimulationError,
    Step,
)
from queuekit.simulation.private_server import find_servers, start_private_server
from queuekit.simulation.trace import first_difference

ROOT = Path(__file__).parents[2]


async def flaky(ctx, n):
    await asyncio.sleep(random.random())
    if random.random() < 0.4:
        raise ValueError(n)
    return uuid.uuid4().hex


def blocking(ctx):
    time.sleep(random.random())
    ctx["job"].sync.update(progress=0.5)
    return secrets.token_hex(4)


async def tick(ctx):
    return time.time()


async def application(simulation):
    """A little of everything."""
    for _ in range(2):
        simulation.worker(
            [flaky, blocking], concurrency=3, cron_jobs=[CronJob(tick, "* * * * * */20")]
        )
    for n in range(12):
        await simulation.queue.enqueue(
            "flaky", n=n, retries=6, retry_delay=1, retry_backoff=True, key=f"k{n}"
        )
        await simulation.queue.enqueue("blocking")
    await simulation.advance(90)
    return [record.result for record in simulation.journal]


def live(seed=5, backend="fakeredis", **options):
    with Simulation(seed=seed, backend=backend, **options) as simulation:
        results = simulation.run(application(simulation))
    return simulation.trace, results


def test_the_same_seed_gives_the_same_trace_and_results(each_backend):
    one, other = live(), live(backend=each_backend)
    assert first_difference(one[0].lines(), other[0].lines()) is None
    assert one[0].digest() == other[0].digest()
    assert one[1] == other[1]


def test_another_seed_gives_another_run():
    assert live(seed=5)[0].digest() != live(seed=6)[0].digest()


@pytest.mark.queuekit(jitter="full")
def test_drawn_jitter_follows_the_seed_too():
    one, other = live(jitter="full"), live(jitter="full")
    assert one[0].digest() == other[0].digest()
    assert one[0].digest() != live()[0].digest()


@pytest.mark.slow
@pytest.mark.parametrize("hash_seed", ["0", "1", "77"])
def test_the_trace_is_the_same_across_processes_and_hash_seeds(hash_seed):
    code = "from tests.simulation.test_world import live; print(live()[0].digest())"
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == live()[0].digest()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, _ in find_servers()])
def test_the_trace_is_the_same_on_every_server_that_is_here(name):
    server = start_private_server(dict(find_servers())[name])
    try:
        trace, _ = live(backend=f"unix://{server.address}", flush=True)
    finally:
        server.close()
    expected, _ = live()
    assert first_difference(expected.lines(), trace.lines()) is None


def test_a_difference_between_traces_is_shown_with_what_went_before():
    text = first_difference(["a", "b", "c"], ["a", "b", "x"])
    assert text == "the traces part at line 3:\n    a\n    b\n  - c\n  + x"
    assert "(end)" in first_difference(["a"], ["a", "b"])


def test_chance_is_the_machines_again_after_a_world_and_outside_of_it(simulation):
    state = random.getstate()
    with Simulation(seed=1):
        outside = {os.urandom(8) for _ in range(3)}
        assert len(outside) == 3
    with Simulation(seed=1):
        assert os.urandom(8) not in outside
    assert random.getstate() == state


def test_random_urandom_secrets_and_uuids_follow_the_seed():
    async def draw():
        return random.random(), os.urandom(4), secrets.token_hex(4), uuid.uuid4(), uuid.uuid1()

    def world(seed):
        with Simulation(seed=seed) as simulation:
            return simulation.run(draw())

    assert world(1) == world(1)
    assert all(a != b for a, b in zip(world(1), world(2), strict=True))


def test_generators_without_a_seed_follow_the_worlds():
    own = random.Random(5)

    async def draw():
        own.seed()
        random.seed()
        fresh = random.Random()
        return own.random(), random.random(), fresh.random(), os.getrandom(4)

    def world(seed):
        with Simulation(seed=seed) as simulation:
            return simulation.run(draw())

    assert world(1) == world(1)
    assert all(a != b for a, b in zip(world(1), world(2), strict=True))
    assert len(set(world(1))) == 4
    assert random.Random().random() != random.Random().random()
    assert random.Random(5).random() == random.Random(5).random()


def test_names_of_temporary_files_follow_the_seed(tmp_path):
    async def draw():
        with tempfile.NamedTemporaryFile(dir=tmp_path) as file:
            in_a_thread = await asyncio.to_thread(tempfile.mktemp, dir=tmp_path)
            return Path(file.name).name, in_a_thread, tempfile.mktemp(dir=tmp_path)

    def world(seed):
        with Simulation(seed=seed) as simulation:
            outside.append(tempfile.mktemp(dir=tmp_path))
            return simulation.run(draw())

    outside = []
    assert world(1) == world(1)
    assert all(a != b for a, b in zip(world(1), world(2), strict=True))
    assert len(set(outside)) == 4
    (tmp_path / (first := world(1)[0])).touch()
    assert world(1)[0] != first  # what is there is left alone
    assert tempfile.mktemp() != tempfile.mktemp()


async def test_every_way_to_ask_for_the_time_is_virtual(simulation):
    await simulation.advance(90)
    assert time.ctime() == time.asctime() == "Tue Jan  1 00:01:30 2030"
    assert time.ctime(0) == "Thu Jan  1 00:00:00 1970"
    assert time.clock_gettime(time.CLOCK_REALTIME) == time.time()
    assert time.clock_gettime_ns(time.CLOCK_REALTIME) == time.time_ns()
    assert time.clock_gettime(time.CLOCK_MONOTONIC) == time.monotonic()
    assert time.clock_gettime_ns(time.CLOCK_MONOTONIC) == time.monotonic_ns()


async def test_an_observer_sees_steps_hops_draws_and_moments_of_a_job(simulation):
    seen = []
    simulation.chooser.draw(["jitter"])
    stop = simulation.observe(seen.append)
    simulation.worker([flaky])
    job = await simulation.queue.enqueue("flaky", n=1, retries=9, retry_delay=1, retry_backoff=True)
    await simulation.advance(60)
    moments = [e.name for e in seen if isinstance(e, Moment) and e.details.get("key") == job.key]
    assert moments[:6] == ["enqueued", "claimed", "started", "ended", "committing", "committed"]
    assert {"request", "reply"} == {e.direction for e in seen if isinstance(e, Hop)}
    assert any(e.words[:2] == ("EVALSHA", "claim") for e in seen if isinstance(e, Hop))
    assert any(e.task.startswith("job ") for e in seen if isinstance(e, Step))
    assert {e.site for e in seen if isinstance(e, Draw)} >= {"jitter"}
    stop()
    count = len(seen)
    await simulation.advance(60)
    assert len(seen) == count


@pytest.mark.parametrize("name", ["claimed", "started", "ended", "committing"])
async def test_a_worker_can_be_held_at_each_moment_of_a_job(simulation, name):
    hold = Hold()
    simulation.observe(lambda e: hold if isinstance(e, Moment) and e.name == name else None)
    simulation.worker([tick])
    job = await simulation.queue.enqueue("tick")
    await simulation.advance(5)
    assert hold.reached
    assert not simulation.record_of(job).finished
    hold.release()
    await simulation.run_until_idle()
    simulation.assert_completed(job)


@pytest.mark.parametrize("direction", ["request", "reply"])
async def test_a_command_can_be_held_on_its_way_and_what_follows_keeps_its_order(
    simulation, direction
):
    hold = Hold()

    def at_commit(event):
        if isinstance(event, Hop) and event.words[:2] == ("EVALSHA", "commit"):
            at_commit.connection = event.connection
        on_lane = isinstance(event, Hop) and event.connection == at_commit.connection
        return hold if on_lane and event.direction == direction else None

    at_commit.connection = None
    simulation.observe(at_commit)
    simulation.worker([tick])
    job = await simulation.queue.enqueue("tick")
    await simulation.advance(3)
    assert hold.reached
    stored = await simulation.queue.job(job.key)
    assert stored.status == ("complete" if direction == "reply" else "active")
    hold.release()
    await simulation.run_until_idle()
    simulation.assert_completed(job)


async def test_a_step_of_a_task_can_be_held(simulation):
    hold = Hold()
    reached = []

    async def walker():
        for n in range(3):
            await asyncio.sleep(1)
            reached.append(n)

    simulation.observe(lambda e: hold if isinstance(e, Step) and e.task == "walker" else None)
    task = asyncio.create_task(walker(), name="walker")
    await simulation.advance(10)
    assert reached == []
    hold.release()
    await task
    assert reached == [0, 1, 2]


def test_a_hold_that_is_never_released_is_a_deadlock_that_says_so(simulation):
    hold = Hold()

    async def main():
        simulation.observe(lambda e: hold if isinstance(e, Moment) else None)
        await simulation.queue.enqueue("tick")

    with pytest.raises(SimulationDeadlock, match="An observer holds something back"):
        simulation.run(main())


async def test_threads_run_one_at_a_time(simulation):
    running, most = 0, 0

    def work():
        nonlocal running, most
        for _ in range(50):
            running += 1
            most = max(most, running)
            running -= 1
            time.sleep(0.01)

    await asyncio.gather(*(asyncio.to_thread(work) for _ in range(8)))
    assert most == 1


# Without the fixture: the world begins and ends inside the test.
def _in_world(main):
    with Simulation() as simulation:
        return simulation.run(main(simulation))


def test_no_thread_outlives_its_world():
    def sleeper(ctx):
        time.sleep(10_000)

    async def main(simulation):
        simulation.worker([sleeper])
        await simulation.queue.enqueue("sleeper", timeout=None)
        await simulation.advance(5)

    _in_world(main)
    assert not [t for t in threading.enumerate() if t.name == "queuekit-baton" and t.is_alive()]


def test_worlds_follow_one_another_without_leaving_anything_behind():
    async def main(simulation):
        simulation.worker([tick])
        await simulation.queue.enqueue("tick", key="k")
        await simulation.run_until_idle()
        return await simulation.queue.count("incomplete"), simulation.now.day

    gc.collect()
    before = len(gc.get_objects())
    assert [_in_world(main) for _ in range(20)] == [(0, 1)] * 20
    gc.collect()
    assert len(gc.get_objects()) - before < 4000


def test_a_queue_that_was_built_at_import_time_follows_the_world_it_is_used_in():
    queue = Queue.from_url("redis://user:secret@localhost:6379/0")

    async def main(simulation):
        simulation.worker([tick], queue=queue)
        return await queue.apply("tick")

    assert _in_world(main) == _in_world(main) == 1_893_456_000.0


def test_sync_code_of_a_plain_test_uses_the_blocking_twins_in_virtual_time(simulation):
    queue = Queue.from_url("redis://localhost")
    simulation.worker([tick, blocking], queue=queue)
    assert queue.sync.apply("tick") == 1_893_456_000.0
    job = queue.sync.enqueue("blocking", scheduled=1_893_456_060)
    job.sync.refresh(until_complete=0)
    assert job.status == "complete"
    assert simulation.now.minute == 1


def test_a_simulation_that_has_not_begun_says_so():
    with pytest.raises(SimulationError, match="has not begun"):
        _ = Simulation().loop


@pytest.mark.parametrize("backend", ["mongodb://x", "nope", "redis://"])
def test_a_backend_that_is_none_is_refused(backend):
    with pytest.raises(SimulationError, match="is no backend"):
        Simulation(backend=backend)


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(SimulationError, match=r"no Redis answers at 127\.0\.0\.1:1"):
        Simulation(backend="redis://127.0.0.1:1/0").__enter__()


@pytest.mark.slow
def test_a_database_with_keys_in_it_is_refused_unless_it_may_be_emptied():
    from queuekit.simulation.relay import Link  # noqa: PLC0415

    server = start_private_server()
    url = f"unix://{server.address}"
    try:
        link = Link(server.address, 0)
        link.ask(b"SET", b"precious", b"1")
        with pytest.raises(SimulationError, match="holds 1 keys"):
            Simulation(backend=url).__enter__()
        assert link.ask(b"GET", b"precious") == b"1"
        with Simulation(backend=url, flush=True) as simulation:
            simulation.run(simulation.queue.connect())
        assert link.ask(b"DBSIZE") == 0
        link.close()
    finally:
        server.close()


def test_what_a_real_server_cannot_do_in_virtual_time_is_refused_by_name(each_backend):
    import redis.asyncio  # noqa: PLC0415

    if each_backend == "fakeredis":
        return  # the embedded server follows the clock by itself

    async def main(simulation):
        r = redis.asyncio.Redis(host="h", protocol=2)
        refused = []
        for command in (
            ("XREAD", "BLOCK", "5", "STREAMS", "s", "$"),
            ("WAIT", "1", "100"),
            ("EVAL", "redis.call('HEXPIRE', KEYS[1], 5, 'FIELDS', 1, 'f')", "1", "k"),
        ):
            try:
                await r.execute_command(*command)
            except redis.exceptions.ResponseError as error:
                refused.append(str(error).split()[1])
        await r.aclose()
        return refused

    with Simulation(backend=each_backend) as simulation:
        assert simulation.run(main(simulation)) == ["XREAD", "WAIT", "the"]


def test_a_queue_that_a_test_drops_takes_no_open_connection_along(each_backend):
    async def use():
        dropped = Queue.from_url("redis://localhost", name="dropped")
        assert await dropped.count("queued") == 0

    with Simulation(backend=each_backend) as simulation:
        simulation.run(use())
        gc.collect()  # an open connection that is collected complains, which fails the test
    gc.collect()


def test_a_queue_on_another_loop_than_the_simulations_is_refused():
    """Its command would reach the real Redis, and the test pass."""
    queue = Queue.from_url("redis://127.0.0.1:1/0")
    with Simulation(), pytest.raises(ForeignLoopError, match="would go to the real Redis"):
        asyncio.run(queue.enqueue("at_once"))
    with pytest.raises(ServerError):  # outside it is as ever
        asyncio.run(queue.enqueue("at_once"))


async def at_once(ctx, *, n):
    return "done"


async def test_a_job_that_ends_before_its_client_hears_of_it_has_one_record(simulation):
    hold = Hold()
    simulation.observe(
        lambda event: (
            hold
            if isinstance(event, Hop) and event.words[:1] == ("[[new 1893456000000 0]]",)
            else None
        )
    )
    simulation.worker([at_once])
    enqueuing = asyncio.create_task(simulation.queue.enqueue("at_once", key="early", n=4))
    await simulation.run_until_idle()
    assert hold.reached
    assert simulation.journal.find("default", "early").status is Status.COMPLETE
    hold.release()
    await enqueuing
    await simulation.drain()
    [record] = simulation.journal.records
    assert (record.status, record.result, record.kwargs) == (Status.COMPLETE, "done", {"n": 4})
    await simulation.queue.enqueue("at_once", key="early", n=5)
    await simulation.drain()
    assert [record.status for record in simulation.journal] == [Status.COMPLETE] * 2

"""What processes and tasks raise when their world ends is heard once, and prints nothing."""

from __future__ import annotations

import asyncio
import gc

import pytest

from queuekit.exploration import ExplorationFailed, explore
from queuekit.simulation import ProcessFailed, Simulation, TaskFailed


async def work(ctx):
    """A task."""


async def long(ctx):
    await asyncio.sleep(100)


async def down(ctx):
    raise ValueError("the hook broke")


async def runs_on():
    try:
        await asyncio.sleep(100)
    finally:
        raise ValueError("the clean-up broke")


async def exits():
    try:
        await asyncio.sleep(100)
    finally:
        raise SystemExit(3)


def end(simulation, story):
    """Leave a world in which this was lived."""
    with simulation:
        simulation.run(story(simulation))


@pytest.fixture
def nothing_is_said(caplog, capfd):
    yield
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []
    assert "never retrieved" not in capfd.readouterr().err


async def with_a_broken_hook(simulation):
    simulation.worker([work], shutdown=down)
    await simulation.queue.apply("work")


@pytest.mark.usefixtures("nothing_is_said")
def test_a_shutdown_hook_that_raises_at_the_worlds_end_fails_the_test(on_each_backend):
    for _ in range(2):
        with pytest.raises(ProcessFailed) as told:
            end(Simulation(**on_each_backend), with_a_broken_hook)
        assert str(told.value).startswith(
            "process worker-1#1 ended by ValueError: the hook broke.\n"
            "  It still ran when its world ended, which cancels it as Ctrl-C does"
        )
        assert "pytest.raises around `await worker.wait()`" in str(told.value)
        assert isinstance(told.value.__cause__, ValueError)


@pytest.mark.usefixtures("nothing_is_said")
def test_what_that_error_tells_to_do_makes_it_pass():
    async def story(simulation):
        worker = simulation.worker([work], shutdown=down)
        await simulation.queue.apply("work")
        await worker.stop()
        with pytest.raises(ValueError, match="the hook broke"):
            await worker.wait()

    end(Simulation(), story)


@pytest.mark.usefixtures("nothing_is_said")
def test_it_is_heard_once_and_not_instead_of_what_the_test_itself_raised():
    async def story(simulation):
        await with_a_broken_hook(simulation)
        raise RuntimeError("the test's own")

    with pytest.raises(RuntimeError, match="the test's own"):
        end(Simulation(), story)


@pytest.mark.usefixtures("nothing_is_said")
@pytest.mark.parametrize(
    ("main", "how"),
    [(runs_on, "ValueError: the clean-up broke"), (exits, r"sys\.exit\(3\)")],
)
def test_a_process_whose_clean_up_raises_at_the_worlds_end_fails_the_test(main, how):
    async def story(simulation):
        simulation.process("web", main)
        await simulation.advance(1)

    with pytest.raises(ProcessFailed, match=f"^process web#1 ended by {how}"):
        end(Simulation(), story)


@pytest.mark.usefixtures("nothing_is_said")
def test_a_task_of_the_test_likewise():
    async def story(simulation):
        asyncio.create_task(runs_on(), name="aside")  # noqa: RUF006
        await simulation.advance(1)

    with pytest.raises(TaskFailed, match=r"^task 'aside' ended by ValueError: the clean-up broke"):
        end(Simulation(), story)


@pytest.mark.usefixtures("nothing_is_said")
@pytest.mark.parametrize("trouble", ["stop", "refuse", "kill", "partition", "pause"])
def test_who_leaves_while_something_is_wrong_has_nothing_to_say(trouble):
    async def story(simulation):
        worker = simulation.worker([long])
        await simulation.queue.enqueue("long")
        await simulation.advance(1)
        if trouble == "stop":
            simulation.server.stop()
        elif trouble == "refuse":
            simulation.server.refuse("OOM", seconds=1000)
        else:
            getattr(worker, trouble)()

    end(Simulation(), story)


@pytest.mark.slow
def test_an_exploration_tells_of_it():
    with pytest.raises(ExplorationFailed, match="the hook broke") as told:
        explore(with_a_broken_hook, seeds=1, kept=None)
    assert told.value.failure.promise == "end:ValueError"

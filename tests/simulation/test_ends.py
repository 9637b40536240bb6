"""How processes end, and who hears of it: by an exception, by sys.exit, by a kill."""

from __future__ import annotations

import asyncio
import gc
import sys

import pytest

from queuekit.exploration import ExplorationFailed, explore
from queuekit.simulation import (
    CallbackFailed,
    ProcessDied,
    ProcessFailed,
    Simulation,
    SimulationError,
    TaskFailed,
)


async def work(ctx):
    await asyncio.sleep(1)


async def breaks():
    await asyncio.sleep(1)
    raise RuntimeError("the main function broke")


def live(story):
    with Simulation() as simulation:
        simulation.run(story(simulation))
    return simulation


# -- a killed worker is not waited for


@pytest.mark.parametrize("wait", ["stop", "wait"])
def test_who_waits_for_the_end_of_a_killed_worker_hears_of_its_death(wait):
    async def story(simulation):
        worker = simulation.worker([work])
        await simulation.advance(1)
        worker.kill()
        with pytest.raises(ProcessDied, match=r"worker-1#1 is dead; restart\(\) starts it anew"):
            await getattr(worker, wait)()
        worker.restart()
        await simulation.advance(1)
        await worker.stop()
        assert not worker.running

    live(story)


@pytest.mark.parametrize("wait", ["stop", "wait"])
def test_a_worker_that_is_killed_meanwhile_is_not_waited_for(wait):
    async def story(simulation):
        worker = simulation.worker([work], shutdown_grace_period_s=10)
        await simulation.queue.enqueue("work")
        simulation.inject("kill", at=0.5, process=worker)
        await simulation.run_until_idle()
        with pytest.raises(ProcessDied):
            await getattr(worker, wait)()
        assert simulation.loop.now_us() == 500_000

    live(story)


def test_a_worker_that_has_ended_by_itself_is_stopped_and_waited_for_at_once():
    async def story(simulation):
        await simulation.queue.enqueue("work")
        worker = simulation.worker([work], burst=True)
        await worker.wait()
        await worker.stop()
        worker.kill()
        await worker.wait()

    live(story)


@pytest.mark.slow
def test_a_story_that_deploys_by_stop_is_right_under_kills():
    async def story(simulation):
        worker = simulation.worker([work])
        for _ in range(3):
            await simulation.queue.enqueue("work", retries=3)
        await simulation.advance(0.5)
        await worker.stop()
        simulation.worker([work])

    assert explore(story, faults=["kill"], seeds=30, kept=None).runs == 30


# -- a main function that raises


def test_a_main_function_that_raises_fails_the_world_at_its_end():
    async def story(simulation):
        process = simulation.process("web", breaks)
        await simulation.advance(5)
        assert not process.alive

    with pytest.raises(ProcessFailed) as told:
        live(story)
    assert "process web#1 ended by RuntimeError: the main function broke" in str(told.value)
    assert isinstance(told.value.__cause__, RuntimeError)


def test_also_when_it_was_restarted_meanwhile():
    lives = []

    async def once():
        lives.append(1)
        if len(lives) == 1:
            raise RuntimeError("only at first")

    async def story(simulation):
        process = simulation.process("web", once)
        await simulation.advance(1)
        process.restart()
        await simulation.advance(1)

    with pytest.raises(ProcessFailed, match="only at first"):
        live(story)


def test_who_asks_for_it_hears_it_and_the_world_does_not_fail():
    async def story(simulation):
        with pytest.raises(RuntimeError, match="broke"):
            await simulation.process("web", breaks).wait()

    live(story)


def test_what_such_a_process_runs_beside_is_cancelled_and_its_finally_runs():
    ended = []

    async def beside():
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(asyncio.get_running_loop().time())

    async def main():
        task = asyncio.create_task(beside())
        await breaks()
        await task

    async def story(simulation):
        with pytest.raises(RuntimeError):
            await simulation.process("web", main).wait()
        await simulation.advance(5)
        assert ended == [1]

    live(story)


def test_a_worker_that_ends_by_an_exception_fails_the_world():
    async def story(simulation):
        async def startup(ctx):
            raise RuntimeError("no configuration")

        simulation.worker([work], startup=startup)
        await simulation.advance(1)

    with pytest.raises(ProcessFailed, match="worker-1#1 ended by RuntimeError: no configuration"):
        live(story)


def test_a_process_without_a_main_function_has_no_end_to_wait_for():
    async def story(simulation):
        with pytest.raises(SimulationError, match="no main function"):
            await simulation.process("web").wait()

    live(story)


def test_an_exploration_fails_by_a_main_function_that_raises():
    async def story(simulation):
        simulation.worker([work])
        simulation.process("web", breaks)
        await simulation.queue.enqueue("work", retries=3)

    with pytest.raises(ExplorationFailed) as told:
        explore(story, seeds=1, kept=None)
    assert told.value.failure.promise == "process:RuntimeError"
    assert "web#2 ended by itself: RuntimeError: the main function broke" in str(told.value)


# -- sys.exit


@pytest.mark.parametrize("where", ["in main", "in a task", "in a callback"])
def test_sys_exit_ends_its_process_and_nothing_else(where):
    ended = []

    async def leaves():
        sys.exit(0)

    async def main():
        try:
            await asyncio.sleep(1)
            if where == "in main":
                sys.exit(0)
            if where == "in a callback":
                asyncio.get_running_loop().call_soon(sys.exit, 0)
            else:
                task = asyncio.create_task(leaves())
            await asyncio.sleep(100)
            await task
        finally:
            ended.append(asyncio.get_running_loop().time())

    async def story(simulation):
        script = simulation.process("script", main)
        await script.wait()
        assert ended == [1]
        await simulation.advance(1)
        assert not script.alive
        script.restart()
        await simulation.advance(5)
        assert ended == [1, 3]

    live(story)


@pytest.mark.parametrize(("code", "status"), [(3, 3), ("no such file", 1), (True, 1)])
def test_a_status_other_than_0_fails_the_world_unless_it_is_asked_for(code, status):
    async def main():
        await asyncio.sleep(0)
        sys.exit(code)

    async def silent(simulation):
        simulation.process("script", main)
        await simulation.advance(1)

    with pytest.raises(ProcessFailed, match=r"script#1 ended by sys\.exit\(") as told:
        live(silent)
    assert told.value.__cause__.code == code

    async def asked(simulation):
        script = simulation.process("script", main)
        with pytest.raises(ProcessFailed):
            await script.wait()
        assert script.process.status == status

    live(asked)


def test_who_had_a_function_run_in_it_hears_that_it_exited():
    async def story(simulation):
        web = simulation.process("web")
        with pytest.raises(
            ProcessDied, match=r"web#1 exited with status 0 while it ran 'web: exit'"
        ):
            await web.run(sys.exit, 0)

    live(story)


def test_sys_exit_of_the_test_itself_is_the_tests():
    async def story(simulation):
        await asyncio.sleep(1)
        sys.exit(4)

    with pytest.raises(SystemExit):
        live(story)


def test_a_script_that_ends_as_scripts_do_is_no_failure_of_an_exploration():
    async def main():
        await asyncio.sleep(1)
        sys.exit(0)

    async def story(simulation):
        simulation.worker([work])
        simulation.process("script", main)
        await simulation.queue.enqueue("work", retries=3)

    assert explore(story, seeds=3, faults=(), kept=None).runs == 3


# -- callbacks that raise


def test_a_callback_that_raises_fails_the_world_at_its_end():
    async def story(simulation):
        simulation.loop.call_later(1, lambda: 1 / 0)
        await simulation.advance(2)

    with pytest.raises(CallbackFailed, match="ZeroDivisionError: division by zero") as told:
        live(story)
    assert "asyncio logs such an error, and goes on" in str(told.value)
    assert isinstance(told.value.__cause__, ZeroDivisionError)


def test_an_application_that_takes_such_errors_in_has_heard_of_them():
    heard = []

    async def story(simulation):
        simulation.loop.set_exception_handler(lambda loop, context: heard.append(context))
        simulation.loop.call_later(1, lambda: 1 / 0)
        await simulation.advance(2)

    live(story)
    assert isinstance(heard[0]["exception"], ZeroDivisionError)


def test_an_exploration_fails_by_a_callback_that_raises():
    async def story(simulation):
        simulation.worker([work])
        await simulation.queue.enqueue("work")
        simulation.loop.call_later(1, lambda: 1 / 0)
        await simulation.advance(2)

    with pytest.raises(ExplorationFailed) as told:
        explore(story, seeds=1, kept=None)
    assert told.value.failure.promise == "callback:ZeroDivisionError"


# -- tasks that nobody awaits


async def breaks_soon():
    await asyncio.sleep(0.5)
    raise ZeroDivisionError("nobody awaits this")


@pytest.mark.parametrize("held", [True, False])
def test_what_a_task_raises_that_nobody_awaits_fails_the_world_at_its_end(held):
    tasks = []

    async def serve():
        task = asyncio.create_task(breaks_soon(), name="forgotten")
        if held:  # then no collector finds it
            tasks.append(task)
        del task
        for _ in range(300):  # more than are kept of those that have ended
            await asyncio.create_task(asyncio.sleep(0.01))

    async def story(simulation):
        simulation.process("web", serve)
        await simulation.advance(10)

    for _ in range(2):
        with pytest.raises(TaskFailed, match=r"^task 'forgotten' of web#1 ended by Zero") as told:
            live(story)
        assert "Await the task" in str(told.value)
        assert isinstance(told.value.__cause__, ZeroDivisionError)


def test_so_does_a_task_of_the_tests_own():
    async def story(simulation):
        asyncio.create_task(breaks_soon(), name="forgotten")  # noqa: RUF006
        await simulation.advance(1)

    with pytest.raises(
        TaskFailed, match=r"^task 'forgotten' ended by ZeroDivisionError: nobody aw"
    ):
        live(story)


def test_one_of_a_killed_process_or_that_somebody_asks_for_does_not(caplog):
    asked = []

    async def serve():
        asyncio.create_task(breaks_soon())  # noqa: RUF006
        await asyncio.sleep(100)

    async def asks():
        task = asyncio.create_task(breaks_soon())
        task.add_done_callback(lambda task: asked.append(task.exception()))
        await asyncio.sleep(5)

    async def story(simulation):
        web = simulation.process("web", serve)
        simulation.process("other", asks)
        await simulation.advance(10)
        web.kill()

    live(story)
    gc.collect()
    assert isinstance(asked[0], ZeroDivisionError)
    assert not caplog.records


def test_an_application_with_a_handler_hears_of_it_at_the_end():
    heard = []

    async def story(simulation):
        simulation.loop.set_exception_handler(lambda loop, context: heard.append(context))
        asyncio.create_task(breaks_soon())  # noqa: RUF006
        await simulation.advance(1)

    live(story)
    assert [str(context["exception"]) for context in heard] == ["nobody awaits this"]


@pytest.mark.slow
def test_an_exploration_fails_by_such_a_task_unless_a_misfortune_has_ended_it():
    async def story(simulation):
        simulation.worker([work])
        await simulation.queue.enqueue("work", retries=9)
        asyncio.create_task(breaks_soon(), name="forgotten")  # noqa: RUF006
        await simulation.advance(1)

    with pytest.raises(ExplorationFailed, match="'forgotten' ended by Zero") as told:
        explore(story, seeds=1, kept=None)
    assert told.value.failure.promise == "task:ZeroDivisionError"

    async def serve(queue):
        asyncio.create_task(queue.enqueue("work", key="at night"))  # noqa: RUF006
        await asyncio.sleep(5)

    async def excused(simulation):
        simulation.worker([work])
        await simulation.queue.enqueue("work", retries=9)
        simulation.process("web", lambda: serve(simulation.queue))
        await simulation.advance(1)

    explored = explore(excused, seeds=40, faults=["outage"], kept=None)
    assert explored.excused["ServerUnreachableError"]


def test_a_fault_that_cannot_strike_ends_the_world_at_once():
    async def story(simulation):
        simulation.loop.call_later(1, simulation.server.restart, "stale")
        await simulation.advance(2)

    with pytest.raises(SimulationError, match="there is no earlier state to go back to"):
        live(story)
    with Simulation() as simulation:
        with pytest.raises(SimulationError, match="there is no earlier state"):
            simulation.run(story(simulation))
        assert simulation.run(asyncio.sleep(1, "goes on")) == "goes on"
    with pytest.raises(ExplorationFailed) as told:
        explore(story, seeds=1, kept=None)
    assert told.value.failure.promise == "callback:SimulationError"


def test_also_one_that_cannot_strike_in_the_last_step():
    async def story(simulation):
        simulation.loop.call_soon(simulation.server.restart, "stale")

    with pytest.raises(SimulationError, match="there is no earlier state to go back to"):
        live(story)


@pytest.mark.parametrize("rate", [-1, -3, 999, 5000, float("nan"), "fast"])
async def test_a_clock_that_is_none_is_refused_where_it_is_planned(simulation, rate):
    with pytest.raises(SimulationError, match="rate is "):
        simulation.inject("drift", at=1, process="web", rate=rate)
    assert simulation.faults.planned == []


async def test_who_waits_for_a_cancelled_worker_is_not_cancelled_itself(simulation):
    worker = simulation.worker([work])
    await simulation.advance(1)
    worker.cancel()
    with pytest.raises(ProcessDied, match="the main function of worker-1#1 was cancelled"):
        await worker.wait()

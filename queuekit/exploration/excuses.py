"""Whether a misfortune is reason enough for what a story, or a process of it, has raised.

Asked is what was raised, and what was said to have caused it (`raise ... from error`). An error that was
merely being handled excuses nothing, nor does a job that has failed beside what the story speaks of: a defect
of the story's own would hide behind each strike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from queuekit.errors import LeaseLostError, ServerError
from queuekit.job import JobError
from queuekit.simulation.errors import JobsFailed, ProcessDied

if TYPE_CHECKING:
    from queuekit.exploration.checkers import Watch
    from queuekit.exploration.ledger import Life
    from queuekit.simulation.world import Simulation

BETWEEN = frozenset(
    {
        "lose_request",
        "lose_reply",
        "reset",
        "delay",
        "error",
        "pause",
        "partition",
        "outage",
        "refuse",
        "restart_server",
        "flush_scripts",
    }
)
"Kinds of misfortune by which a client has no answer from Redis, or a refusal."


def excused(simulation: Simulation, watch: Watch, error: BaseException) -> bool:
    """Whether a misfortune has caused just this."""
    if not simulation.faults.struck:
        return False
    if isinstance(error, BaseExceptionGroup):
        return all(excused(simulation, watch, each) for each in error.exceptions)
    return any(_is_caused(simulation, watch, each) for each in _said_causes(error))


def nothing_to_ask(simulation: Simulation, watch: Watch, error: BaseException) -> bool:
    """What excuses what must hold in the end.

    There is no Redis to ask, and just that was raised; or a job has failed since chance cancelled its task.
    """
    if any(
        _was_cancelled(simulation, life) for each in watch.ledgers() for life in each.lives.values()
    ):
        return True
    return simulation.loop.server_down and excused(simulation, watch, error)


def _said_causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__


def _is_caused(simulation: Simulation, watch: Watch, error: BaseException) -> bool:
    if isinstance(error, ServerError) or type(error).__module__.startswith("redis."):
        return any(told.partition(" ")[0] in BETWEEN for _, told in simulation.faults.struck)
    if isinstance(error, ProcessDied):
        return error.process in simulation.faults.ended
    if isinstance(error, LeaseLostError):
        return True
    if isinstance(error, JobError) and error.job.queue is not None:
        return _failed_by_it(simulation, watch, error.job.queue.name, error.job.key)
    if isinstance(error, JobsFailed):
        return _failed_by_it(simulation, watch, error.queue, error.key)
    record = getattr(error, "record", None)  # of an assertion about one job
    return record is not None and _failed_by_it(simulation, watch, record.queue, record.key)


def _failed_by_it(simulation: Simulation, watch: Watch, queue: str, key: str) -> bool:
    """Whether a job has failed because it was lost too often, or its last run had no Redis."""
    life = _life_of(watch, queue, key)
    if life is None or life.status != "failed" or life.run is None:
        return False
    run = life.run
    if _was_cancelled(simulation, life):
        return True
    return run.let_go == "lost" or (run.error is not None and excused(simulation, watch, run.error))


def _was_cancelled(simulation: Simulation, life: Life) -> bool:
    """Whether it has failed since its task was cancelled, and not by the story's own plan."""
    return life.status == "failed" and f"task {life.key}" in simulation.faults.cancelled


def _life_of(watch: Watch, queue: str, key: str) -> Life | None:
    found = (ledger.lives.get(key) for ledger in watch.ledgers() if ledger.name == queue)
    return next((life for life in found if life is not None), None)

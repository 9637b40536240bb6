"""Runs shared among processes, with the result of one process: the failing run of the lowest number."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from queuekit.exploration.failures import in_words
from queuekit.exploration.living import Run
from queuekit.simulation import backends
from queuekit.simulation.errors import SimulationError

if TYPE_CHECKING:
    from queuekit.exploration.explore import Exploration

_NONE = 2**62
"Higher than any run's number."

_STOP = -1
"Lower than any: nobody goes on."

STOP_S = 5.0
"Real seconds for the run that a process is in when nobody wants its runs any more."


def search(
    live: Callable[[int], Run],
    result: Exploration,
    *,
    runs: int | None,
    until: float | None,
    jobs: int,
) -> tuple[int, str] | None:
    """The number of the first run that fails, and what it broke; what was seen is added to `result`.

    Process k lives through the runs k, k + jobs, ... in their order, and stops at its first failure, or
    where it is past a failure of another one. So every run before the one that is given back was lived.
    """
    context = multiprocessing.get_context("fork")  # stories may be closures, which cannot be sent
    lowest = context.Value("q", _NONE)
    seen: list[tuple[Any, Connection]] = []
    for first in range(jobs):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(
            target=_live_on,
            args=(live, type(result)(), first, jobs, runs, until, lowest, sender),
            daemon=True,
        )
        process.start()
        sender.close()
        seen.append((process, receiver))
    try:
        return _heard_of(seen, result)
    except BaseException:  # a Ctrl-C; or one of them has died, and nobody wants the others' runs
        lowest.value = _STOP
        for process, _ in seen:
            process.join(timeout=STOP_S)
            process.kill()
        raise


def _heard_of(seen: list[tuple[Any, Connection]], result: Exploration) -> tuple[int, str] | None:
    broken: dict[int, str] = {}
    for process, receiver in seen:
        try:
            told = receiver.recv()
        except EOFError:
            told = None
        process.join()
        if told is None:
            raise SimulationError(
                f"a process that explored has died (exit code {process.exitcode}).\n"
                "  A story must not end its process; jobs=1 shows where it does."
            )
        part, error, failed = told
        if error:
            raise SimulationError(f"a run could not be lived:\n{error}\n  jobs=1 shows more.")
        result.add(part)
        broken.update(failed)
    return min(broken.items(), default=None)


def _live_on(
    live: Callable[[int], Run],
    part: Exploration,
    first: int,
    step: int,
    runs: int | None,
    until: float | None,
    lowest: Any,
    sender: Connection,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for who has started us
    backends.forget_private_servers()
    error = ""
    failed: dict[int, str] = {}
    number = first
    try:
        while (runs is None or number < runs) and number < lowest.value:
            run = live(number)
            part.take(run)
            if run.broken:
                failed[number] = in_words(run.broken)
                with lowest.get_lock():
                    lowest.value = min(lowest.value, number)
                break
            number += step
            if until is not None and time.monotonic() >= until:
                break
    except Exception as raised:  # told in the parent, where somebody listens
        error = f"{type(raised).__name__}: {raised}"
    finally:
        backends.close_private_servers()
    sender.send((part, error, failed))
    sender.close()

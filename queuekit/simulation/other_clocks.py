"""Functions of `time` that tell the time and that freezegun leaves alone: virtual inside a simulation."""

from __future__ import annotations

import time
from typing import Any

from queuekit.simulation.scope import current_clock

_real_asctime, _real_ctime = time.asctime, time.ctime
_real_gettime, _real_gettime_ns = time.clock_gettime, time.clock_gettime_ns

_WALL = frozenset({time.CLOCK_REALTIME})
_MONOTONIC = frozenset(
    getattr(time, name)
    for name in ("CLOCK_MONOTONIC", "CLOCK_MONOTONIC_RAW", "CLOCK_BOOTTIME")
    if hasattr(time, name)
)


def _asctime(*moment: Any) -> str:
    return _real_asctime(*(moment or (time.localtime(),)))


def _ctime(seconds: float | None = None) -> str:
    return _real_ctime(time.time() if seconds is None else seconds)


def _gettime(which: int) -> float:
    clock = current_clock()
    if clock is None or which not in _WALL | _MONOTONIC:
        return _real_gettime(which)
    return clock.time() if which in _WALL else clock.monotonic()


def _gettime_ns(which: int) -> int:
    clock = current_clock()
    if clock is None or which not in _WALL | _MONOTONIC:
        return _real_gettime_ns(which)
    return clock.time_ns() if which in _WALL else clock.elapsed_ns


def install() -> None:
    """Put them in place, once a process; outside of a simulation they ask the real ones."""
    for function in (_asctime, _ctime):
        setattr(time, function.__name__[1:], function)
    time.clock_gettime, time.clock_gettime_ns = _gettime, _gettime_ns


def uninstall() -> None:
    """Give them back; time-machine, too, looks for Python's own, and takes their memory apart."""
    time.asctime, time.ctime = _real_asctime, _real_ctime
    time.clock_gettime, time.clock_gettime_ns = _real_gettime, _real_gettime_ns

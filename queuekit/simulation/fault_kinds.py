"""The kinds of misfortune, with their arguments and defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

ERRORS = {
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "READONLY": "READONLY You can't write against a read only replica.",
    "OOM": "OOM command not allowed when used memory > 'maxmemory'.",
    "BUSY": "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "MISCONF": "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to"
    " persist to disk.",
    "NOSCRIPT": "NOSCRIPT No matching script. Please use EVAL.",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
}
"Errors that a server may answer with at any time, by their codes; the command is not executed then."

AT_HOPS: dict[str, Mapping[str, Any]] = {
    "lose_request": {"how": "reset"},
    "lose_reply": {"how": "reset"},
    "reset": {},
    "delay": {"seconds": None, "tail": 0},
    "error": {"error": None},
}
"Kinds that strike one command or reply, with their arguments and defaults; None has to be given."

ANY_COMMAND = "*"
"Names every command, where a command or its reply is struck."

TAIL_RANKS = 1024
"Into so many alike probable latencies a distribution with a tail is cut."

OF_PROCESSES: dict[str, Mapping[str, Any]] = {
    "kill": {"restart_after": 0},
    "terminate": {},
    "pause": {"seconds": None},
    "partition": {"seconds": None, "direction": "both"},
    "skew": {"seconds": None},
    "drift": {"rate": None},
}
"Kinds that strike a process. `restart_after=0`: it stays dead."

AT_STEPS: dict[str, Mapping[str, Any]] = {"cancel": {}}
"Kinds that strike a task where it waits."

OF_THE_SERVER: dict[str, Mapping[str, Any]] = {
    "outage": {"seconds": None},
    "restart_server": {"data": "kept", "lag": 0},
    "flush_scripts": {},
    "step_clock": {"seconds": None},
}

KINDS: Mapping[str, Mapping[str, Any]] = {**AT_HOPS, **AT_STEPS, **OF_PROCESSES, **OF_THE_SERVER}

WORDS: Mapping[str, tuple[str, ...]] = {
    "how": ("reset", "silence"),
    "data": ("kept", "lost", "stale"),
    "direction": ("both", "requests", "replies"),
}
"Arguments that are one of some words."

CLOCKS = frozenset({"skew", "step_clock"})
"Kinds whose seconds may be negative: a clock can be set back."


def late_s(seconds: float, tail: float, rank: int) -> float:
    """How late a delay with a tail comes.

    The distribution is Pareto's, through two points: one half is above `seconds`, and one in TAIL_RANKS
    is `tail`, the greatest.

    Args:
        seconds: the median; above 0.
        tail: the bound, in seconds; not below the median.
        rank: 0 to TAIL_RANKS - 1, all alike probable; 0 is the median, the boring one. It grows up to the
            bound, and goes on from the least.
    """
    half = TAIL_RANKS // 2
    above = TAIL_RANKS - (rank + half) % TAIL_RANKS
    steepness = math.log(tail / seconds) / math.log(half)
    return min(tail, seconds * math.pow(half / above, steepness))

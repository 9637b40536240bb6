"""The kinds of misfortune, with their arguments and defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from queuekit.simulation.refusal_rules import GENERATIONS

AT_HOPS: dict[str, Mapping[str, Any]] = {
    "lose_request": {"how": "reset"},
    "lose_reply": {"how": "reset"},
    "reset": {},
    "delay": {"seconds": None, "tail": 0},
    "error": {"error": None, "server": ""},
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
    "refuse": {"error": None, "server": "", "seconds": None},
    "restart_server": {"data": "kept", "lag": 0},
    "flush_scripts": {},
    "step_clock": {"seconds": None},
}

KINDS: Mapping[str, Mapping[str, Any]] = {**AT_HOPS, **AT_STEPS, **OF_PROCESSES, **OF_THE_SERVER}

WORDS: Mapping[str, tuple[str, ...]] = {
    "how": ("reset", "silence"),
    "data": ("kept", "lost", "stale"),
    "direction": ("both", "requests", "replies"),
    "server": tuple(GENERATIONS),
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

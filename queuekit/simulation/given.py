"""Arguments that a simulation is given, looked at where they are written and not where they would fail."""

from __future__ import annotations

import math
from collections.abc import Iterable

from queuekit.simulation.chooser import Deviation
from queuekit.simulation.errors import SimulationError


def whole(call: str, name: str, value: object, *, least: int | None = None, hint: str = "") -> None:
    """Raises SimulationError unless a value is a whole number, and no less than the least one."""
    fits = isinstance(value, int) and not isinstance(value, bool)
    if not fits or (least is not None and isinstance(value, int) and value < least):
        bound = "" if least is None else f", {least} or more"
        raise _refused(call, name, value, f"a whole number{bound}", hint)


def number(call: str, name: str, value: object, *, least: float = 0, hint: str = "") -> None:
    """Raises SimulationError unless a value is a finite number, and no less than the least one."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or (isinstance(value, int | float) and value < least):
        raise _refused(call, name, value, f"a finite number, {least} or more", hint)


def function(call: str, name: str, value: object, *, hint: str) -> None:
    """Raises SimulationError unless a value can be called."""
    if not callable(value):
        raise _refused(call, name, value, "a function", hint)


def tape_of(choices: object) -> tuple[Deviation, ...]:
    """The decisions of an earlier run.

    Raises:
        SimulationError: they are none.
    """
    given = tuple(choices) if isinstance(choices, Iterable) else (choices,)
    if not all(isinstance(each, Deviation) for each in given):
        raise SimulationError(
            f"Simulation(choices={choices!r}): choices are the decisions of an earlier run.\n"
            "  choices=simulation.chooser.tape, or a list of Deviation(site, nth, value)."
        )
    return given


def _refused(call: str, name: str, value: object, expected: str, hint: str) -> SimulationError:
    told = f"{call}({name}={value!r}): {name} is {expected}."
    return SimulationError(f"{told}\n  {hint}" if hint else told)

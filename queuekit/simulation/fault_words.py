"""The words by which a test asks for a misfortune, and what is said of those that do not fit together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from queuekit.simulation.clock import MAX_RATE, epoch_ns
from queuekit.simulation.effects import MOMENTS
from queuekit.simulation.errors import SimulationError
from queuekit.simulation.fault_kinds import (
    ANY_COMMAND,
    AT_HOPS,
    AT_STEPS,
    CLOCKS,
    KINDS,
    OF_PROCESSES,
    WORDS,
)
from queuekit.simulation.faults import Fault
from queuekit.simulation.refusal_rules import (
    ERRORS,
    GENERATIONS,
    KNOWN_COMMANDS,
    OUR_SCRIPTS,
    STATES,
    never_refused,
)
from queuekit.simulation.refusals import DEFAULT_SERVER

if TYPE_CHECKING:
    from queuekit.simulation.processes import SimulatedProcess
    from queuekit.simulation.world import Simulation


def fault_of(
    simulation: Simulation,
    kind: str,
    *,
    at: float | datetime | str | None,
    command: str | None,
    before: str | None,
    after: str | None,
    task: str | None,
    nth: int,
    times: int,
    chance: float | None,
    process: SimulatedProcess | str | None,
    optional: bool,
    arguments: dict[str, Any],
) -> Fault:
    """A fault from the words of a test.

    Raises:
        SimulationError: they do not fit together; the message says how they do.
    """
    if kind not in KINDS:
        raise SimulationError(f"there is no fault {kind!r}.\n  It is one of {', '.join(KINDS)}.")
    given = {"at": at, "command": command, "before": before, "after": after, "task": task}
    triggers = [word for word, value in given.items() if value is not None]
    if len(triggers) != 1:
        raise SimulationError(
            f"inject({kind!r}) with {' and '.join(triggers) or 'no moment'}: it needs exactly one of "
            "at=, command=, before= and after=.\n"
            "  at=12 (seconds), before='commit', after='claim', or command='claim' with nth=2."
        )
    _check_trigger(kind, at=at, task=task, counted=chance is not None or nth != 1 or times != 1)
    _check_numbers(kind, nth, times, chance)
    _check_arguments(kind, arguments)
    _check_refusal(kind, command or before, arguments)
    name = process if isinstance(process, str) or process is None else process.name
    if at is not None and kind in OF_PROCESSES and name is None:
        raise SimulationError(f"inject({kind!r}, at={at!r}) needs process=: whom does it strike?")
    _check_side(kind, before=before, after=after)
    target = command or before or after
    if target in MOMENTS and kind in AT_HOPS:
        raise SimulationError(
            f"inject({kind!r}) strikes a command or its reply, and {target!r} is a moment.\n"
            "  Name a script (claim, commit, renew, ...) or a command of Redis (BLPOP, ...)."
        )
    return Fault(
        kind,
        {**KINDS[kind], **arguments},
        command=None if target in MOMENTS else target,
        side="reply" if after or (command and kind == "lose_reply") else "request",
        moment=target,
        task=task,
        at=_seconds(simulation, at),
        nth=nth,
        times=times,
        chance=chance,
        process=name,
        handle=None if isinstance(process, str) else process,
        optional=optional,
    )


def _check_side(kind: str, *, before: str | None, after: str | None) -> None:
    """A request is lost before its command is executed, a reply after it; an error is instead of it."""
    if (kind in ("lose_request", "error") and after) or (kind == "lose_reply" and before):
        given, expected = ("after", "before") if after else ("before", "after")
        raise SimulationError(
            f"inject({kind!r}, {given}={(after or before)!r}): {kind} strikes {expected} its command is "
            f"executed.\n  Say {expected}={(after or before)!r}, or command={(after or before)!r}."
        )


def _check_trigger(kind: str, *, at: object, task: str | None, counted: bool) -> None:
    if (task is not None) is not (kind in AT_STEPS):
        raise SimulationError(
            f"inject({kind!r}, task={task!r}): a task is what a cancellation strikes, and only that.\n"
            "  inject('cancel', task='job', nth=3): at the third step of a task whose name begins so."
        )
    if at is not None and (kind in AT_HOPS or counted):
        raise SimulationError(
            f"inject({kind!r}, at={at!r}): a point of time has no command to strike, nor an nth.\n"
            "  Use command=, before= or after=; or another kind, such as outage."
        )


def _check_numbers(kind: str, nth: int, times: int, chance: float | None) -> None:
    if nth < 1 or times < 1 or (chance is not None and not 0 < chance <= 1):
        raise SimulationError(
            f"inject({kind!r}, nth={nth!r}, times={times!r}, chance={chance!r}): nth and times count "
            "from 1, and a chance is above 0 and at most 1."
        )


def _check_arguments(kind: str, arguments: Mapping[str, Any]) -> None:
    expected = KINDS[kind]
    unknown = sorted(set(arguments) - set(expected))
    missing = sorted(n for n, v in expected.items() if v is None and n not in arguments)
    if unknown or missing:
        raise SimulationError(
            f"inject({kind!r}) takes {', '.join(expected) or 'no arguments'}; "
            f"missing: {', '.join(missing) or 'none'}, unknown: {', '.join(unknown) or 'none'}."
        )
    _check_values(kind, arguments)


def _check_values(kind: str, arguments: Mapping[str, Any]) -> None:
    """What would fail at its moment only, inside of the world, is refused where it was written."""
    for name, value in arguments.items():
        if name in WORDS:
            fits, expected = value in WORDS[name], f"one of {', '.join(WORDS[name])}"
        elif name == "error":
            _check_case(kind, value)
            fits, expected = isinstance(value, str) and bool(value), "a code or a text"
        else:
            fits = isinstance(value, int | float) and not isinstance(value, bool)
            fits, expected = fits and math.isfinite(value), "a number"
            if name == "rate":
                fits = fits and -1 < value < MAX_RATE - 1
                expected = f"above -1 (a clock that stands still) and below {MAX_RATE - 1:,}"
            if name in ("restart_after", "lag") or (name == "seconds" and kind not in CLOCKS):
                fits, expected = fits and value >= 0, "a number, 0 or more"
        if not fits:
            raise SimulationError(
                f"inject({kind!r}, {name}={value!r}): {name} is {expected}.\n"
                "  docs/faults.md has the arguments of each kind."
            )
    tail = arguments.get("tail", 0)
    if tail and not 0 < arguments["seconds"] <= tail:
        raise SimulationError(
            f"inject({kind!r}, seconds={arguments['seconds']!r}, tail={tail!r}): tail is the "
            "longest delay, not below seconds=, the median, which is above 0.\n"
            "  Say seconds=0.01, tail=2; or no tail, for the same delay each time."
        )


def _check_refusal(kind: str, command: str | None, arguments: Mapping[str, Any]) -> None:
    """An error on a command that no server with it refuses would never find its moment."""
    code = arguments.get("error", "")
    if kind != "error" or code not in ERRORS or command in (None, ANY_COMMAND):
        return
    server = arguments.get("server") or DEFAULT_SERVER
    if never_refused(code, command, GENERATIONS[server]):
        _check_is_known(command, code)
        state, refused = STATES[code]
        raise SimulationError(
            f"inject('error', command={command!r}, error={code!r}): a {server.title()} {state} lets "
            f"{command} through.\n"
            f"  It refuses {refused}.\n"
            "  Name one of those, or command='*' for whatever it refuses; a text of your own "
            f"(error='{code} ...') strikes anything."
        )


def _check_is_known(command: str, code: str) -> None:
    """Whoever has misspelt a command is not told what a server does with it."""
    from fakeredis._commands import SUPPORTED_COMMANDS  # noqa: PLC0415 (fakeredis is heavy)

    known = {name.partition(" ")[0].upper() for name in SUPPORTED_COMMANDS} | KNOWN_COMMANDS
    if command.lower() not in OUR_SCRIPTS and command not in known:
        raise SimulationError(
            f"inject('error', command={command!r}, error={code!r}): there is no command {command}, as far as "
            "the simulation knows.\n"
            "  Expected is a command of Redis's, in capitals, or the name of a script.\n"
            "  Mend the name, or say command='*' for whatever a server with this error refuses."
        )


def _check_case(kind: str, value: object) -> None:
    """A code in another case would be taken for a text of one's own, which strikes anything."""
    if isinstance(value, str) and value not in ERRORS and value.upper() in ERRORS:
        raise SimulationError(
            f"inject({kind!r}, error={value!r}): codes of errors are in capitals.\n"
            f"  Say error={value.upper()!r}; or more words than one, for a text of your own."
        )


def _seconds(simulation: Simulation, at: float | datetime | str | None) -> float | None:
    """Since the world began."""
    now = simulation.loop.now_us() / 1e6
    if at is None:
        return None
    ahead = at if isinstance(at, int | float) else (epoch_ns(at) - simulation.clock.time_ns()) / 1e9
    if not 0 <= ahead < math.inf:
        raise SimulationError(
            f"inject(at={at!r}) is {ahead:g} s from now, and what has passed cannot be struck.\n"
            "  at= is seconds from now, 0 or more, or a moment of the wall clock that is to come.\n"
            "  Say at=0 for at once, or before=, after= or command= for what happens."
        )
    return now + ahead

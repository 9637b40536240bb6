"""A pickle read as data: nothing is imported, and nothing in it is called.

Whoever can write to Redis can write a pickle that runs what he likes when it is loaded. Here its operations
are followed by hand: plain values become what they are, everything else an `Unread`, which says what it
would be. Protocols of Python 3 are understood (3 and later).
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

from queuekit.simulation.errors import SimulationError


@dataclass(eq=True)
class Unread:
    """An object that a pickle would make: by which name, of what; itself it was not made."""

    name: str
    "Of the class or function, with its module."
    arguments: tuple[Any, ...] | None = None
    "What it is called with; None if it is meant itself."
    state: Any = None
    "What it is then given: its attributes, mostly."
    items: tuple[Any, ...] = ()
    "What is then put into it, one by one or in pairs."

    def __repr__(self) -> str:
        short = self.name.rpartition(".")[2]
        if self.arguments is None:
            return short
        return f"{short}({', '.join(map(repr, self.arguments))})"


_MAKERS: Mapping[str, Callable[..., Any]] = {
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.complex": complex,
    "datetime.date": date,
    "datetime.datetime": datetime,
    "datetime.time": time,
    "datetime.timedelta": timedelta,
    "datetime.timezone": timezone,
    "decimal.Decimal": Decimal,
}
"Names that are called all the same: what they make is plain, and making it does nothing else."

_FROZEN = "freezegun.api.Fake"
"In virtual time an application's dates are of freezegun's classes; what is meant are those of datetime."

_CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_VALUES = frozenset(
    "BININT BININT1 BININT2 LONG1 LONG4 INT LONG BINFLOAT FLOAT SHORT_BINUNICODE BINUNICODE BINUNICODE8 "
    "UNICODE SHORT_BINBYTES BINBYTES BINBYTES8 BYTEARRAY8".split()
)
"Operations whose argument is the value."

_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read(record: bytes) -> Any:
    """What a pickle holds.

    Raises:
        SimulationError: it is none, or is made of what no record of a job is made of.
    """
    try:
        return _Reading().read(record)
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise SimulationError(
            f"a record that begins with {record[:30]!r} cannot be read as a pickle: "
            f"{type(error).__name__}: {error}.\n"
            "  arq's records are pickles, unless the application gives its own job_serializer.\n"
            "  Give the inverse of it: ArqQueue(load=...); pickle.loads, for instance, makes all objects."
        ) from error


class _Reading:
    """One pickle: a stack of values, and a memo of those that come again."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def read(self, record: bytes) -> Any:
        for operation, argument, _ in pickletools.genops(record):
            self._do(operation.name, argument)
        return self._stack.pop()

    def _do(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _TUPLES:
            stack.append(tuple(self._taken(_TUPLES[name])))
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self._memo[int(argument)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[int(argument)])
        elif name not in ("PROTO", "FRAME", "STOP"):
            _OPERATIONS[name](self, argument)

    def _taken(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise IndexError("it takes more from the stack than there is")
        return self._taken_from(len(self._stack) - count)

    def _marked(self) -> list[Any]:
        """All since the last mark, in its order."""
        return self._taken_from(self._marks.pop())

    def _taken_from(self, at: int) -> list[Any]:
        taken = self._stack[at:]
        del self._stack[at:]
        return taken

    # -- operations that need more than their argument

    def mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def pop(self, _: Any) -> None:
        self._stack.pop()

    def pop_mark(self, _: Any) -> None:
        self._marked()

    def build_tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._marked()))

    def build_list(self, _: Any) -> None:
        self._stack.append(self._marked())

    def build_dict(self, _: Any) -> None:
        self._stack.append(_pairs(self._marked()))

    def build_frozenset(self, _: Any) -> None:
        self._stack.append(frozenset(map(_hashable, self._marked())))

    def add(self, values: list[Any]) -> None:
        """To a list or a set, or to what would have been one."""
        target = self._stack[-1]
        if isinstance(target, Unread):
            target.items += tuple(values)
        elif isinstance(target, list):
            target.extend(values)
        else:
            target.update(map(_hashable, values))

    def put(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Unread):
            target.items += tuple(zip(values[::2], values[1::2], strict=True))
        else:
            target.update(_pairs(values))

    def name(self, argument: Any) -> None:
        module, name = self._taken(2) if argument is None else argument.split(" ", 1)
        full = f"{module}.{name}"
        if full.startswith(_FROZEN):
            full = f"datetime.{full.removeprefix(_FROZEN).lower()}"
        self._stack.append(Unread(full))

    def call(self, _: Any) -> None:
        what, arguments = self._taken(2)
        self._stack.append(_made(what.name, arguments))

    def call_with_keywords(self, _: Any) -> None:
        what, arguments, keywords = self._taken(3)
        self._stack.append(Unread(what.name, (*arguments, keywords) if keywords else arguments))

    def give_state(self, _: Any) -> None:
        state = self._stack.pop()
        if isinstance(self._stack[-1], Unread):
            self._stack[-1].state = state


def _made(name: str, arguments: tuple[Any, ...]) -> Any:
    maker = _MAKERS.get(name)
    return Unread(name, arguments) if maker is None else maker(*arguments)


def _pairs(values: list[Any]) -> dict[Any, Any]:
    return {_hashable(key): value for key, value in zip(values[::2], values[1::2], strict=True)}


def _hashable(value: Any) -> Any:
    """A key or a member; an object that was not made is known by its words."""
    return repr(value) if isinstance(value, Unread) else value


_OPERATIONS: Mapping[str, Callable[[_Reading, Any], None]] = {
    "MARK": _Reading.mark,
    "POP": _Reading.pop,
    "POP_MARK": _Reading.pop_mark,
    "TUPLE": _Reading.build_tuple,
    "LIST": _Reading.build_list,
    "DICT": _Reading.build_dict,
    "FROZENSET": _Reading.build_frozenset,
    "APPEND": lambda self, _: self.add(self._taken(1)),
    "APPENDS": lambda self, _: self.add(self._marked()),
    "ADDITEMS": lambda self, _: self.add(self._marked()),
    "SETITEM": lambda self, _: self.put(self._taken(2)),
    "SETITEMS": lambda self, _: self.put(self._marked()),
    "GLOBAL": _Reading.name,
    "STACK_GLOBAL": _Reading.name,
    "REDUCE": _Reading.call,
    "NEWOBJ": _Reading.call,
    "NEWOBJ_EX": _Reading.call_with_keywords,
    "BUILD": _Reading.give_state,
}

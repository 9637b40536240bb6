"""The tasks that a worker was given, by the names under which jobs ask for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from queuekit.errors import InvalidOptionError, InvalidOptionTypeError
from queuekit.options import function_name

Task = Callable[..., Any]


class Registry(Mapping[str, Task]):
    """Name to task. Functions come only from here: a job's record can never name another one.

    A task is found by its qualified name (`send_email`, `Mailer.send`), by `module.qualname`, or by
    the name it was given with in a (name, function) pair.

    Raises:
        InvalidOptionError: two tasks have one name.
        InvalidOptionTypeError: something is no function.
    """

    def __init__(self, functions: Collection[Task | tuple[str, Task]]) -> None:
        self.names: dict[str, Task] = {}
        "The names of the first choice, as shown in errors and logs."
        self._aliases: dict[str, Task] = {}
        for entry in functions:
            name, task = self._named(entry)
            self._add(name, task)
        for entry in functions:
            _, task = self._named(entry)
            self._alias(task)

    def add(self, task: Task) -> None:
        """One more; the same task again is no harm."""
        self._add(function_name(task), task)
        self._alias(task)

    def _named(self, entry: Task | tuple[str, Task]) -> tuple[str, Task]:
        name, task = entry if isinstance(entry, tuple) else (None, entry)
        if not callable(task) or isinstance(task, type):
            raise InvalidOptionTypeError(
                f"{task!r} is no task.\n  Pass functions, or (name, function) pairs, in functions=."
            )
        return name if name is not None else function_name(task), task

    def _add(self, name: str, task: Task) -> None:
        if self.names.setdefault(name, task) is not task:
            raise InvalidOptionError(
                f"two tasks are called {name!r}: {_place(self.names[name])} and {_place(task)}.\n"
                "  Give one of them another name: functions=[('other_name', function)]."
            )

    def _alias(self, task: Task) -> None:
        short = function_name(task)
        for alias in (short, f"{getattr(task, '__module__', '')}.{short}"):
            self._aliases.setdefault(alias, task)

    def __getitem__(self, name: str) -> Task:
        found = self.names.get(name) or self._aliases.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*self.names, *self._aliases]))

    def __len__(self) -> int:
        return len({*self.names, *self._aliases})


def _place(task: Task) -> str:
    return f"{getattr(task, '__module__', '?')}.{getattr(task, '__qualname__', task)!s}"

"""The tasks that a worker was given, by the names under which jobs ask for them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from queuekit.errors import InvalidOptionError, InvalidOptionTypeError
from queuekit.options import MAX_FUNCTION_BYTES, check_name, function_name
from queuekit.text import clip, repr_of

Task = Callable[..., Any]

_UNNAMED: Any = object()
"In place of a name that was not given: None was."


class Registry(Mapping[str, Task]):
    """Name to task. Functions come only from here: a job's record can never name another one.

    A task is found by its qualified name (`send_email`, `Mailer.send`), by `module.qualname`, or by
    the name it was given with in a (name, function) pair.

    Raises:
        InvalidOptionError: two tasks have one name.
        InvalidOptionTypeError: something is no function, or a generator.
    """

    def __init__(self, functions: Collection[Task | tuple[str, Task]]) -> None:
        self.names: dict[str, Task] = {}
        "The names of the first choice, as shown in errors and logs."
        self._aliases: dict[str, Task] = {}
        if isinstance(functions, str | bytes) or not isinstance(functions, Iterable):
            raise InvalidOptionTypeError(
                f"functions={clip(repr_of(functions), 80)} is no list of tasks.\n"
                "  A worker is given its tasks in a list.\n"
                "  Pass functions=[task], or [('name', task)]."
            )
        named = [self._named(entry) for entry in functions]
        for name, task in named:
            self._add(name, task)
        for _, task in named:
            self._alias(task)

    def add(self, task: Task) -> None:
        """One more; the same task again is no harm."""
        self._add(function_name(task), task)
        self._alias(task)

    def _named(self, entry: Task | tuple[str, Task]) -> tuple[str, Task]:
        name, task = entry if isinstance(entry, tuple) and len(entry) == 2 else (_UNNAMED, entry)
        if not callable(task) or isinstance(task, type):
            raise InvalidOptionTypeError(
                f"{clip(repr_of(entry), 80)} is no task.\n"
                "  A task is a function, sync or async; a class is none, nor is what it was called for.\n"
                "  Pass functions, or (name, function) pairs, in functions=."
            )
        if _is_generator(task):
            raise InvalidOptionTypeError(
                f"{_place(task)} is a generator.\n"
                "  A task returns its result once; calling a generator runs none of it.\n"
                "  Write a function that returns, and let it loop over the generator."
            )
        if name is _UNNAMED:
            return function_name(task), task
        advice = "Name it as jobs are to call it: functions=[('send', send)]."
        return check_name("name", name, MAX_FUNCTION_BYTES, advice), task

    def _add(self, name: str, task: Task) -> None:
        if self.names.setdefault(name, task) is not task:
            raise InvalidOptionError(
                f"two tasks are called {name!r}: {_place(self.names[name])} and {_place(task)}.\n"
                "  A job names its task, so each name has one.\n"
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


def _is_generator(task: Task) -> bool:
    """Whether calling it only makes a generator; looks through partials and callable objects."""
    while isinstance(task, functools.partial):
        task = task.func
    called = getattr(task, "__call__", None)  # noqa: B004 (its kind is asked, not whether it is there)
    return any(
        inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each)
        for each in (task, called)
    )


def _place(task: Task) -> str:
    return f"{getattr(task, '__module__', '?')}.{getattr(task, '__qualname__', task)!s}"

"""Where a function is found again by its name, so that a command can replay a failure of it."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FunctionType, ModuleType
from typing import NamedTuple

TOLD_LENGTH = 40
"Characters of a value that a name tells; longer ones are left out."

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


class Target(NamedTuple):
    """A story, an invariant or a checker, by its file and name."""

    file: Path
    name: str
    importable: bool
    "Whether the name means just that object in that file; else it is for whoever reads."


def target_of(thing: object, beside: object = None) -> Target:
    """File and name of what an exploration was given.

    Args:
        thing: mostly a function; a partial or an object, too, if a module has a name for it.
        beside: a function in whose module it is looked for besides its own.
    """
    for module in _modules(thing, beside):
        file = getattr(module, "__file__", None) or ""
        if file.endswith(".py") and (name := _name_in(module, thing)):
            return Target(Path(file).resolve(), name, True)
    return Target(_file_of(thing), _described(thing), False)


def _modules(thing: object, beside: object) -> Iterator[ModuleType]:
    """Those that may have a name for it."""
    owners = (thing, _inner(thing), type(thing), beside, _inner(beside), type(beside))
    found = dict.fromkeys(getattr(owner, "__module__", None) for owner in owners)
    for name in found:
        if name and (module := sys.modules.get(name)) is not None:
            yield module


def _inner(thing: object) -> object:
    """The function that does the work."""
    inner = inspect.unwrap(thing) if callable(thing) else thing
    while isinstance(inner, partial):
        inner = inner.func
    return inner


def _name_in(module: ModuleType, thing: object) -> str | None:
    there = vars(module)
    own = getattr(thing, "__name__", "")
    if isinstance(own, str) and there.get(own) is thing:
        return own
    return next(
        (name for name, each in there.items() if each is thing and name.isidentifier()), None
    )


def _file_of(thing: object) -> Path:
    inner = _inner(thing)
    for owner in (inner, type(inner)):
        try:
            return Path(inspect.getsourcefile(owner) or "").resolve()  # type: ignore[arg-type]
        except TypeError:  # it has no source
            continue
    return Path.cwd()


def _described(thing: object) -> str:
    """For whoever reads; the same in each process."""
    if isinstance(thing, partial):
        given = [repr(value) for value in thing.args]
        given += [f"{name}={value!r}" for name, value in thing.keywords.items()]
        words = ", ".join([_described(thing.func), *given])
        return f"partial({_ADDRESS.sub('', words)})"
    name = getattr(thing, "__qualname__", None)
    if not isinstance(name, str):
        return f"an object of {type(thing).__qualname__}"
    made_with = ", ".join(f"{each}={value!r}" for each, value in _made_with(_inner(thing)))
    return f"{name}({made_with})" if made_with else name


def _made_with(function: object) -> Iterator[tuple[str, object]]:
    """Plain defaults by which a function differs from others of the same code.

    What it has of the function around it is left out: that may have another value at the next look.
    """
    if not isinstance(function, FunctionType):
        return
    code, defaults = function.__code__, function.__defaults__ or ()
    positional = code.co_varnames[: code.co_argcount]
    known = zip(positional[len(positional) - len(defaults) :], defaults, strict=True)
    for name, value in (*known, *(function.__kwdefaults__ or {}).items()):
        if _is_plain(value):
            yield name, value


def _is_plain(value: object) -> bool:
    """Whether it reads the same in each process."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    plain = value is None or isinstance(value, bool | int | float | str | bytes)
    return plain and len(repr(value)) <= TOLD_LENGTH

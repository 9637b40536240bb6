"""What a mutant is: changes of scripts and functions, in force inside a `with` block of this process only."""

from __future__ import annotations
import __future__

import contextlib
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType
from typing import Any

from queuekit.store import scripts
from tests.mutants import lua


@dataclass(frozen=True)
class Text:
    """A piece of a script, which stands in it once, replaced."""

    file: str
    old: str
    new: str

    def applied(self, source: str) -> str:
        assert source.count(self.old) == 1, (
            f"{self.file} has {self.old!r} {source.count(self.old)} times"
        )
        return source.replace(self.old, self.new)


@dataclass(frozen=True)
class Code:
    """A piece of a Python function, which stands in it once, replaced.

    The function object stays: whoever has imported it runs the changed code.
    """

    where: str
    "`module:qualified name`, below queuekit."
    old: str
    new: str

    @cached_property
    def function(self) -> FunctionType:
        module, _, name = self.where.partition(":")
        found: Any = importlib.import_module(f"queuekit.{module}")
        for part in name.split("."):
            found = inspect.getattr_static(found, part)
        found = getattr(found, "__func__", found)
        found = getattr(found, "fget", found)
        found = inspect.unwrap(found)
        assert isinstance(found, FunctionType)
        return found

    def changed(self) -> Any:
        """The code object of the mutant."""
        source = textwrap.dedent(inspect.getsource(self.function))
        assert source.count(self.old) == 1, (
            f"{self.where} has {self.old!r} {source.count(self.old)} times"
        )
        source = "\n" * (self.function.__code__.co_firstlineno - 1) + source.replace(
            self.old, self.new
        )
        tree = compile(source, self.where, "exec", __future__.annotations.compiler_flag)
        return next(
            constant
            for constant in tree.co_consts
            if getattr(constant, "co_name", "") == self.function.__name__
        )

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        before = self.function.__code__
        self.function.__code__ = self.changed()
        try:
            yield
        finally:
            self.function.__code__ = before


@dataclass(frozen=True)
class Value:
    """A value of a module, or of a mapping in it, replaced."""

    where: str
    "`module:name`."
    new: Any
    key: Any = None

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        module_name, _, name = self.where.partition(":")
        module = importlib.import_module(f"queuekit.{module_name}")
        before = getattr(module, name)
        if self.key is None:
            setattr(module, name, self.new)
        else:
            setattr(module, name, {**before, self.key: self.new})
        try:
            yield
        finally:
            setattr(module, name, before)


@dataclass(frozen=True)
class Mutant:
    """One fault put in on purpose."""

    name: str
    changes: tuple[Text | Code | Value | lua.Edit, ...]
    kind: str = "by hand"

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """The fault is in the queue in this block, in this process."""
        with contextlib.ExitStack() as stack:
            texts = [change for change in self.changes if isinstance(change, Text | lua.Edit)]
            if texts:
                stack.enter_context(_scripts_with(texts))
            for change in self.changes:
                if isinstance(change, Code | Value):
                    stack.enter_context(change.in_force())
            yield


@contextlib.contextmanager
def _scripts_with(texts: list[Text | lua.Edit]) -> Iterator[None]:
    sources = {}
    for change in texts:
        source = sources.get(change.file) or lua.source_of(change.file)
        sources[change.file] = change.applied(source)
    genuine = scripts.load
    made: dict[str, scripts.Script] = {}

    def load(name: str) -> scripts.Script:
        if name not in made:
            text = genuine(name).text
            for file, source in sources.items():
                if file in ("prelude.lua", f"{name}.lua"):
                    before = lua.source_of(file)
                    assert text.count(before) == 1
                    text = text.replace(before, source)
            made[name] = scripts.Script(name, text, scripts.sha_of(text))
        return made[name]

    scripts.load = load  # type: ignore[assignment]
    try:
        yield
    finally:
        scripts.load = genuine

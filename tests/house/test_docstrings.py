"""Public names are documented, completely."""

from __future__ import annotations

import ast
import importlib
import inspect

import pytest

from tests.house.tree import complaint, package_files, parsed, shown

PUBLIC_MODULES = ["queuekit", "queuekit.simulation", "queuekit.exploration", "pytest_queuekit"]


def test_every_module_opens_with_its_promise():
    found = [shown(p) for p in package_files(".py") if not ast.get_docstring(parsed(p))]
    assert not found, complaint(
        found,
        "A file opens with one line that says what it is for.",
        "Write it. If it needs an `and`, the file may be two.",
    )


def public_parts(module):
    """The names of `__all__`, and the public methods that their classes define."""
    for name in getattr(module, "__all__", ()):
        thing = getattr(module, name)
        yield name, thing
        if inspect.isclass(thing) and thing.__module__.startswith("queuekit"):
            for part, value in vars(thing).items():
                function = getattr(value, "fget", None) or getattr(value, "__func__", value)
                if not part.startswith("_") and inspect.isfunction(function):
                    yield f"{name}.{part}", getattr(thing, part)


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_every_public_name_has_a_docstring(name):
    found = [
        f"{name}.{part}"
        for part, thing in public_parts(importlib.import_module(name))
        if (inspect.isclass(thing) or callable(thing) or isinstance(thing, property))
        and not inspect.getdoc(thing)
    ]
    assert not found, complaint(
        found,
        "What users call says what it promises.",
        "First line: a promise. Then what the signature cannot say: units, defaults and why, exceptions.",
    )

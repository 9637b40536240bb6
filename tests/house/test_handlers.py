"""Whoever catches everything says what happens to the job."""

from __future__ import annotations

import ast

from tests.house.tree import complaint, package_files, parsed, shown

BROAD = {"Exception", "BaseException"}


def _catches_everything(handler):
    if handler.type is None:
        return True
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(isinstance(type_, ast.Name) and type_.id in BROAD for type_ in types)


def _explained(handler, lines):
    """Whether a comment stands in the handler or right before it, or it lets everything pass on."""
    last = handler.body[-1]
    if isinstance(last, ast.Raise) and last.exc is None:
        return True
    return any("#" in line for line in lines[handler.lineno - 2 : handler.end_lineno])


def test_every_broad_handler_says_what_happens():
    found = []
    for path in package_files(".py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        found += [
            f"{shown(path)}:{node.lineno}: {lines[node.lineno - 1].strip()}"
            for node in ast.walk(parsed(path))
            if isinstance(node, ast.ExceptHandler)
            and _catches_everything(node)
            and not _explained(node, lines)
        ]
    assert not found, complaint(
        found,
        "Each `except Exception` says in a comment what happens to the job.",
        "Say it. If you cannot, catch the exceptions that you mean.",
    )

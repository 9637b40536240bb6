"""A screen holds a function, a sitting holds a file."""

from __future__ import annotations

import ast

from tests.house.tree import complaint, files, package_files, parsed, shown

FILE_LINES = 500
FUNCTION_LINES = 60
SHORT_FUNCTION_LINES = 25
SHORT_SHARE = 0.8
"`Most functions fit in 25` as a number: this share of them does."


def _functions(path):
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, node.end_lineno - node.lineno + 1


def test_no_file_is_longer_than_500_lines():
    found = [
        f"{shown(path)}: {lines} lines"
        for path in files(".py", ".lua")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE_LINES
    ]
    assert not found, complaint(
        found,
        f"A file has at most {FILE_LINES} lines: it does one thing and is named after it.",
        "Find the second thing in it, name it, and give it a file of its own.",
    )


def test_no_function_is_longer_than_60_lines():
    found = [
        f"{shown(path)}:{node.lineno} {node.name}: {lines} lines"
        for path in files(".py")
        for node, lines in _functions(path)
        if lines > FUNCTION_LINES
    ]
    assert not found, complaint(
        found,
        f"A function has at most {FUNCTION_LINES} lines.",
        "Where a comment separates two halves, the halves have names: make them functions.",
    )


def test_most_functions_fit_in_25_lines():
    sizes = [lines for path in package_files(".py") for _, lines in _functions(path)]
    short = sum(lines <= SHORT_FUNCTION_LINES for lines in sizes)
    assert short >= SHORT_SHARE * len(sizes), (
        f"Only {short} of {len(sizes)} functions fit in {SHORT_FUNCTION_LINES} lines.\n"
        f"{SHORT_SHARE:.0%} are expected to.\n"
        "Parents branch, leaves compute: split the longest ones along that line."
    )

"""What a test may not do."""

from __future__ import annotations

import ast

from tests.house.tree import ROOT, complaint, files, parsed, shown

TESTS = [path for path in files(".py") if path.is_relative_to(ROOT / "tests")]
NOT_RUN = {"skip", "skipif", "xfail", "importorskip"}
SIMULATED = ("simulation", "scenarios")
"Names of folders whose tests call sleep on the virtual clock, where it costs nothing."


def _dotted(node):
    """`a.b.c` of an expression, or as much of it as there is."""
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def test_no_test_is_skipped_or_expected_to_fail():
    found = [
        f"{shown(path)}:{node.lineno} {name}"
        for path in TESTS
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute)
        and (name := _dotted(node)).startswith(("pytest.", "mark.", "unittest."))
        and node.attr in NOT_RUN
    ]
    assert not found, complaint(
        found,
        "A test that may not run proves nothing, and nobody notices the day it stops running.",
        "Bring what it needs (the extra `dev` installs real servers), or delete it.",
    )


def _sleeps_for_real(call):
    """A time.sleep at all, or an asyncio.sleep of more than no time, outside any simulated world."""
    if _dotted(call.func) not in {"time.sleep", "asyncio.sleep", "anyio.sleep"} or not call.args:
        return False
    seconds = call.args[0]
    return not (isinstance(seconds, ast.Constant) and seconds.value == 0)


def _arguments(function):
    a = function.args
    return {argument.arg for argument in (*a.posonlyargs, *a.args, *a.kwonlyargs)}


def _real_sleeps(path):
    """Sleeps in test functions that have no simulation to sleep in; a task's own are its world's."""
    for test in parsed(path).body:
        if not isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not test.name.startswith("test_") or "simulation" in _arguments(test):
            continue
        nested = {
            id(node)
            for inner in ast.walk(test)
            if inner is not test
            and isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for node in ast.walk(inner)
        }
        for node in ast.walk(test):
            if isinstance(node, ast.Call) and id(node) not in nested and _sleeps_for_real(node):
                yield f"{shown(path)}:{node.lineno} {test.name}"


def test_no_test_waits_for_real_time():
    found = [
        line
        for path in TESTS
        if not set(SIMULATED) & set(path.relative_to(ROOT).parts)
        for line in _real_sleeps(path)
    ]
    assert not found, complaint(
        found,
        "A test does not sleep: on a slow machine it is too short, on a fast one it is wasted.",
        "Wait for an event, or take the fixture `simulation` and move the clock.",
    )


def test_no_two_tests_of_a_file_share_a_name():
    found = []
    for path in TESTS:
        for scope in [parsed(path), *(n for n in parsed(path).body if isinstance(n, ast.ClassDef))]:
            names = [
                n.name for n in scope.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            found += [f"{shown(path)}: {n}" for n in sorted(set(names)) if names.count(n) > 1]
    assert not found, complaint(
        found,
        "Of two functions with one name only the second one runs.",
        "A test's name is its claim: say in which way the two claims differ.",
    )

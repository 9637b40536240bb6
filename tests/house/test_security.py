"""What the packages never do: run what a record says, or let it write into a log."""

from __future__ import annotations

import ast
import re

import pytest

from tests.house.tree import ROOT, complaint, package_files, parsed, shown

RUN_DATA = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "yaml", "jsonpickle"}
"Modules that make objects, or code, from bytes."

RUN_TEXT = {"eval", "exec", "compile", "__import__"}

LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "log"}
ESCAPED = {"gist", "one_line"}
"Functions of text.py whose answer has one line."

OWN = {"value", "__name__", "target", "id"}
"""Attributes that hold a word of ours, the name of a class, or the id of a worker, which was checked when it
was built."""

PRODUCT = [
    path for path in package_files(".py") if not {"simulation", "exploration"} & set(path.parts)
]


def _imports(node):
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").partition(".")[0]]
    return []


def test_nothing_is_made_from_bytes_but_json_and_nothing_is_run_from_text():
    found = []
    for path in package_files(".py"):
        for node in ast.walk(parsed(path)):
            wrong = RUN_DATA.intersection(_imports(node))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                wrong |= RUN_TEXT & {node.func.id}
            found += [f"{shown(path)}:{node.lineno}: {name}" for name in sorted(wrong)]
    assert not found, complaint(
        found,
        "Whoever can write to Redis must not be able to run code in a worker.",
        "Write JSON; take functions from the Registry; leave other formats to the user's dump and load.",
    )


def test_no_module_is_imported_by_a_name_that_is_data():
    found = [
        f"{shown(path)}:{node.lineno}"
        for path in PRODUCT
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and node.attr == "import_module"
        if shown(path) != "queuekit/cli.py"  # it is given the settings' name by whoever starts it
    ]
    assert not found, complaint(
        found,
        "A record names a task; it never decides what is imported.",
        "Look the name up in the worker's Registry.",
    )


def test_the_text_of_a_script_is_made_of_files_alone():
    """What a user says reaches Lua as ARGV: no script is put together with it."""
    text = (ROOT / "queuekit/store/scripts.py").read_text("utf-8")
    built = re.findall(r"text = (f?\"[^\n]*)", text)
    assert built == ['f"-- name: {name}\\n{CLOCK_MARK}\\n{prelude}\\n{body}"']
    found = [
        f"{shown(path)}:{node.lineno}"
        for path in PRODUCT
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Constant) and node.value in ("EVAL", "EVAL_RO", "SCRIPT LOAD")
    ]
    names = [
        node.args[0]
        for path in PRODUCT
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func) in ("self.run", "store.run", "store.server.run")
    ]
    assert [line.partition(":")[0] for line in found] == []
    assert names
    assert all(isinstance(name, ast.Constant) for name in names), "a script is named in the code"


def _placeholders(call):
    """Each `%x` of a logger call's format with the expression that fills it."""
    arguments = call.args[1:] if call.func.attr == "log" else call.args
    text, *values = arguments
    assert isinstance(text, ast.Constant), ast.unparse(call)
    return list(zip(re.findall(r"%[-\d.]*([a-z])", text.value), values, strict=True))


def _in_one_line(value, assigned):
    """Whether an expression is text of ours, or was escaped."""
    if isinstance(value, ast.Name):
        return value.id in assigned
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id in ESCAPED
    return isinstance(value, ast.Attribute) and value.attr in OWN


def _assigned_in_one_line(tree):
    """Names that are given an escaped text, anywhere in the file."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=True))
                names |= {
                    name.id
                    for name, value in pairs
                    if isinstance(name, ast.Name)
                    and any(f"{word}(" in ast.unparse(value) for word in ESCAPED)
                }
    return names


def _logger_calls():
    for path in PRODUCT:
        for node in ast.walk(parsed(path)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and ast.unparse(node.func.value) == "logger"
                and node.func.attr in LEVELS
            ):
                yield path, node


def test_logs_quote_or_escape_what_is_not_ours():
    found, seen = [], 0
    for path, node in _logger_calls():
        assigned = _assigned_in_one_line(parsed(path))
        for kind, value in _placeholders(node):
            seen += 1
            if kind in "rgd" or _in_one_line(value, assigned):
                continue
            found.append(f"{shown(path)}:{node.lineno}: %{kind} of {ast.unparse(value)}")
    assert seen > 20, "the test has lost sight of the logger"
    assert not found, complaint(
        found,
        "A key, a name or an error with a newline in it must not pass for a line of the log.",
        "Write %r, or put it through one_line() or gist() of text.py.",
    )


@pytest.mark.parametrize(
    ("code", "right"),
    [
        ("logger.info('job %s', job.key)", False),
        ("logger.info('job %r', job.key)", True),
        ("logger.info('%s', gist(error))", True),
        ("logger.log(level, '%s', error)", False),
        ("logger.info('%s', name)", False),
    ],
)
def test_the_check_of_logs_tells_right_from_wrong(code, right):
    call = ast.parse(code).body[0].value
    [(kind, value)] = _placeholders(call)
    assert (kind in "rgd" or _in_one_line(value, set())) is right

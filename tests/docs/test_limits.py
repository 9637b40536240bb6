"""docs/limits.md says what the code does."""

from __future__ import annotations

import importlib
import re

import pytest

from tests.house.tree import ROOT, complaint, package_files, shown

PAGE = (ROOT / "docs" / "limits.md").read_text("utf-8")
ROW = re.compile(
    r"^\| ([^|]+) \| `([^`]+)` \| (-?[\d.]+) \| ([^|]*) \| ([^|]+) \| ([^|]*) \|$", re.MULTILINE
)
ROWS = {
    name: (what, float(value), unit.strip(), why)
    for what, name, value, unit, why, _ in ROW.findall(PAGE)
}

NO_LIMITS = {
    "cli.OK": "what a program says at its end",
    "environment.IDLE_WAIT_S": "how long an idle worker waits; nothing waits for it",
    "store.codec.FORMAT": "a version",
    "store.hints.FALLBACK_S": "between two looks of whoever waits, should a hint be lost",
    "execution.COMMIT_RETRY_S": "a pause between two tries",
    "upkeep.RETRY_S": "a pause between two tries",
    "upkeep.ALIVE_S": "after which a silent worker is no longer shown",
    "ticks.RETRY_S": "a pause between two tries",
    "outage.FIRST_PAUSE_S": "a pause between two tries",
    "outage.SAME_OUTAGE_S": "until an outage is another one",
    "cron.LATE_MS": "until a tick counts as missed",
    "foreign.arq.BEYOND_TIMEOUT_MS": "what arq itself adds to a time-out",
    "zones.DAY_S": "a unit",
    "store.address.REDIS_PORT": "an address",
    "store.address.SENTINEL_PORT": "an address",
    "session.CANCEL_AGAIN_S": "a pause between two tries",
    "intake.SLACK_S": "until another worker tries to make room",
    "prelude.lua: BAND": "arithmetic of the order",
}
"Constants with a number that are no limits, each with what it is."


def constants():
    """Each public constant with a number in it: its name as the page has it, and its value."""
    found = {}
    for path in package_files(".py"):
        where = shown(path).removesuffix(".py").split("/")
        beside = {"simulation", "exploration", "__main__", "__init__"}
        if where[0] != "queuekit" or beside & set(where):
            continue
        module = importlib.import_module(".".join(where))
        for name in re.findall(
            r"^([A-Z][A-Z_0-9]*)(?:, [A-Z_]+)* = ", path.read_text("utf-8"), re.MULTILINE
        ):
            if isinstance(value := getattr(module, name), int | float):
                found[".".join([*where[1:], name])] = value
        for pair in re.findall(
            r"^([A-Z][A-Z_]*), ([A-Z][A-Z_]*) = ", path.read_text("utf-8"), re.MULTILINE
        ):
            values = {".".join([*where[1:], name]): getattr(module, name) for name in pair}
            found |= {
                name: value for name, value in values.items() if isinstance(value, int | float)
            }
    for path in package_files(".lua"):
        for name, value in re.findall(
            r"^local ([A-Z_]+)(?:, [A-Z_]+)* = ([\d *^]+)(?:,.*)?$",
            path.read_text("utf-8"),
            re.MULTILINE,
        ):
            found[f"{path.name}: {name}"] = eval(value.replace("^", "**"))
    return found


def test_every_limit_of_the_code_is_on_the_page():
    missing = sorted(constants().keys() - ROWS.keys() - NO_LIMITS.keys())
    assert not missing, complaint(
        missing,
        "Everything has a limit, named, with its unit and its reason; docs/limits.md lists them.",
        "Write a row for it; if it limits nothing, add it to NO_LIMITS of this test with what it is.",
    )


@pytest.mark.parametrize("name", ROWS)
def test_the_page_has_the_value_of_the_code(name):
    assert constants().get(name) == ROWS[name][1]
    assert all(ROWS[name][part] for part in (0, 3)), "it has a reason"


def test_the_page_has_no_row_that_this_test_cannot_read():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) - PAGE.count("| limit | in the code |") == len(ROWS) > 30


def test_what_is_said_to_be_no_limit_is_there():
    assert sorted(NO_LIMITS.keys() - constants().keys()) == []

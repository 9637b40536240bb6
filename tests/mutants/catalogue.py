"""All mutants, by name: those that were thought of, and those that are made of the scripts' text."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

from queuekit.job import Status
from queuekit.lifecycle import Event
from tests.mutants import lua
from tests.mutants.mutant import Code, Mutant, Text, Value

HERE = Path(__file__).parent


@cache
def catalogue() -> dict[str, Mutant]:
    """The twelve that any battery must catch, the others by hand, then the mechanical ones."""
    mechanical = [Mutant(edit.name, (edit,), "script") for edit in lua.edits()]
    mutants = [*_by_hand(), *mechanical]
    named = {mutant.name: mutant for mutant in mutants}
    assert len(named) == len(mutants), "two mutants have one name"
    return named


@cache
def equivalent() -> dict[str, str]:
    """Those that break no promise that a run could show, by their reasons; `*` stands for anything."""
    listed = tomllib.loads((HERE / "equivalent.toml").read_text("utf-8"))["equivalent"]
    return {
        name: entry["reason"]
        for entry in listed
        for told in entry["mutants"]
        for name in _named(told)
    }


def _named(told: str) -> list[str]:
    if "*" not in told:
        return [told]
    pattern = re.compile(".*".join(map(re.escape, told.split("*"))))
    return [name for name in catalogue() if pattern.fullmatch(name)]


def _by_hand() -> list[Mutant]:
    listed = tomllib.loads((HERE / "by_hand.toml").read_text("utf-8"))["mutant"]
    return [
        Mutant(entry["name"], tuple(_change(change) for change in entry["change"]), entry["kind"])
        for entry in listed
    ]


def _change(told: dict[str, str]) -> Text | Code | Value:
    if "script" in told:
        return Text(told["script"], told["old"], told["new"])
    if "function" in told:
        return Code(told["function"], told["old"], told["new"])
    return Value(told["value"], Status(told["new"]), Event(told["key"]))

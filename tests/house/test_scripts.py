"""Each Lua script says at its head what it is for, and what it moves."""

from __future__ import annotations

import re

import pytest

from queuekit.job import Status
from queuekit.lifecycle import TRANSITIONS
from tests.house.tree import files, shown

PRELUDE = "prelude.lua"
"What every script begins with: no script of its own, so its head has a purpose only."

SCRIPTS = [path for path in files(".lua") if "store" in path.parts and path.name != PRELUDE]
HEADINGS = ["Purpose", "KEYS", "ARGV", "Answer", "Moves"]
UNORDERED = re.compile(
    r"""['"](SCAN|KEYS|SMEMBERS|HSCAN|SSCAN|ZSCAN|RANDOMKEY)['"]""", re.IGNORECASE
)


def head_of(text: str) -> dict[str, str]:
    """The sections of a script's head: from `-- Heading: ...`, up to the first line of code."""
    sections: dict[str, str] = {}
    heading = ""
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        words = line.removeprefix("--").strip()
        if match := re.match(r"(\w+):\s*(.*)", words):
            heading, words = match.groups()
        sections[heading] = f"{sections.get(heading, '')} {words}".strip()
    return sections


def arrows_of(moves: str) -> set[tuple[str, str]]:
    """The arrows in `a | b -> c | d, e -> f`; a sentence without an arrow has none."""
    arrows: set[tuple[str, str]] = set()
    for sources, targets in re.findall(r"([a-z |]+?)\s*->\s*([a-z]+(?:\s*\|\s*[a-z]+)*)", moves):
        for source in sources.split("|"):
            arrows |= {(source.strip(), target.strip()) for target in targets.split("|")}
    return arrows


def test_there_are_scripts():
    assert SCRIPTS, (
        "No Lua script is in queuekit/store: the tests of this file would check nothing."
    )


@pytest.mark.parametrize("path", SCRIPTS, ids=shown)
def test_script_head_says_what_it_is_for(path):
    head = head_of(path.read_text(encoding="utf-8"))
    missing = [heading for heading in HEADINGS if not head.get(heading)]
    assert not missing, (
        f"{shown(path)}: its head lacks {', '.join(missing)}.\n"
        f"A script opens with {', '.join(HEADINGS)}, each as `-- Heading: ...`.\n"
        "Write them; `Moves: none` for a script that moves no job."
    )


@pytest.mark.parametrize("path", SCRIPTS, ids=shown)
def test_script_moves_only_along_arrows_of_the_table(path):
    arrows = arrows_of(head_of(path.read_text(encoding="utf-8")).get("Moves", ""))
    table = {(source.value, to.value) for (source, _), tos in TRANSITIONS.items() for to in tos}
    strange = sorted(arrows - table)
    assert not strange, (
        f"{shown(path)} moves {strange}.\n"
        "Every change of a status is an arrow of TRANSITIONS in lifecycle.py.\n"
        f"Add the arrow to the table first, or correct the head. Statuses: {[s.value for s in Status]}"
    )


def test_every_arrow_of_the_table_is_made_by_a_script():
    made = set().union(
        *(arrows_of(head_of(path.read_text(encoding="utf-8")).get("Moves", "")) for path in SCRIPTS)
    )
    # An abort that is asked for again moves nothing: it is answered.
    table = {
        (source.value, to.value)
        for (source, _), tos in TRANSITIONS.items()
        for to in tos
        if source is not to
    }
    missing = sorted(table - made)
    assert not missing, (
        f"No script's head names the moves {missing}.\n"
        "The table and the scripts say the same.\n"
        "Name the move in the head of the script that makes it, or take the arrow from the table."
    )


@pytest.mark.parametrize("path", SCRIPTS, ids=shown)
def test_script_relies_on_no_order_that_is_nobodys(path):
    found = UNORDERED.findall(path.read_text(encoding="utf-8"))
    assert not found, (
        f"{shown(path)} calls {', '.join(found)}.\n"
        "Their order differs between servers, and between runs.\n"
        "Keep what you walk through in a sorted set or a list."
    )

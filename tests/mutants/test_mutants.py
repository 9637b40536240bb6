"""Mutants change what they say, and stories find them; the queue as it is breaks nothing."""

from __future__ import annotations

import datetime
import random

import lupa.lua51
import pytest

from queuekit.store import scripts
from tests.mutants import lua
from tests.mutants.catalogue import catalogue, equivalent
from tests.mutants.hunt import hunt_apart
from tests.mutants.mutant import Code, Mutant, Text, Value
from tests.mutants.stories import STORIES
from tests.mutants.table import PAGE, known, section
from tests.mutants.trial import live

THE_TWELVE = [name for name, mutant in catalogue().items() if mutant.kind == "twelve"]
FOUND = {name: each for name, each in known().items() if each.found and each.story}
TWELVE = [name for name in THE_TWELVE if name in FOUND]
OTHERS = sorted(set(FOUND) - set(TWELVE))
SAMPLE = random.Random(datetime.date.today().toordinal()).sample(OTHERS, min(6, len(OTHERS)))  # noqa: DTZ011 (any day's will do)
"Other ones each day."

SOON_S = 10.0
"Of the processor's time: those whose seed is known are found in their first run."


def loaded():
    names = [file.removesuffix(".lua") for file in lua.files() if file != "prelude.lua"]
    return {name: scripts.load(name).text for name in names}


@pytest.fixture(scope="module")
def compiled():
    """Says what Lua says of a text: None if it is a program."""
    return lupa.lua51.LuaRuntime().eval("function(s) local f, e = loadstring(s); return e end")


@pytest.mark.slow
def test_each_mutant_of_a_script_changes_it_into_another_program(compiled):
    genuine = loaded()
    for name, mutant in catalogue().items():
        changed = [change.file for change in mutant.changes if isinstance(change, Text | lua.Edit)]
        if not changed:
            continue
        with mutant.in_force():
            texts = {script: scripts.load(script).text for script in _concerned(changed)}
        for script, text in texts.items():
            assert text != genuine[script], f"{name} changes nothing of {script}"
            assert compiled(text) is None, f"{name} is no Lua: {compiled(text)}"
    assert loaded() == genuine


def _concerned(files):
    return {"claim" if file == "prelude.lua" else file.removesuffix(".lua") for file in files}


def test_each_mutant_of_a_function_changes_its_code_and_gives_it_back():
    changes = [c for m in catalogue().values() for c in m.changes if isinstance(c, Code)]
    assert len(changes) > 60
    for change in changes:
        before = change.function.__code__
        with change.in_force():
            assert _told(change.function.__code__) != _told(before), change
        assert change.function.__code__ is before


def _told(code):
    return code.co_code, code.co_consts, code.co_names


def test_a_value_is_replaced_and_given_back():
    from queuekit import execution  # noqa: PLC0415 (read at this moment)

    [change] = catalogue()["arrow completed -> failed"].changes
    assert isinstance(change, Value)
    before = execution.TARGETS
    with change.in_force():
        assert execution.TARGETS[change.key] is change.new
    assert execution.TARGETS is before


def test_words_in_strings_and_comments_are_no_comparisons():
    kinds = [
        (t.kind, t.text) for t in lua.tokens("local a = 'x == y' -- a < b\nif a ~= \"<\" then end")
    ]
    assert ("operator", "~=") in kinds
    assert ("string", "'x == y'") in kinds
    assert not [text for kind, text in kinds if kind == "operator" and text in ("==", "<")]


def test_every_comparison_and_every_write_of_the_scripts_has_a_mutant():
    edits = lua.edits()
    for file in lua.files():
        words = lua.tokens(lua.source_of(file))
        compared = sum(word.text in lua.TURNED for word in words)
        written = sum(
            word.text.strip("'") in lua.WRITES and words[at - 1].text == "("
            for at, word in enumerate(words)
            if word.kind == "string"
        )
        turned = {
            edit.start
            for edit in edits
            if edit.file == file and " -> " in edit.name and edit.text in lua.TURNED
        }
        dropped = {edit.start for edit in edits if edit.file == file and " without " in edit.name}
        assert len(turned) == compared, file
        assert len(dropped) >= written, file


def test_what_is_listed_as_equivalent_is_a_mutant_that_nothing_has_found():
    unknown = set(equivalent()) - set(catalogue())
    assert not unknown, f"no mutants: {unknown}"
    assert not set(equivalent()) & set(FOUND)
    assert all(len(reason) > 20 for reason in equivalent().values())


@pytest.mark.slow
@pytest.mark.parametrize("story", STORIES)
def test_the_queue_as_it_is_breaks_no_promise(story):
    for seed in (0, 1):
        assert live(STORIES[story], seed) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", TWELVE + SAMPLE)
def test_a_mutant_is_found_by_the_seed_that_is_known(name):
    each = FOUND[name]
    hunted = hunt_apart(name, SOON_S, first=(each.story, each.seed))
    assert hunted.found, f"{name} was found by {each.story}, seed {each.seed}, and is not any more"


@pytest.mark.slow
def test_a_script_that_turns_in_a_circle_is_ended():
    edit = lua.Edit("pass_on.lua", 0, 0, "while true do end\n", "turns")
    catalogue()["turns"] = Mutant("turns", (edit,))
    try:
        hunted = hunt_apart("turns", 0.1, patience_s=1.0)
    finally:
        del catalogue()["turns"]
    assert hunted.promise == "hangs"


def test_the_page_shows_what_is_known():
    assert section(known()) in PAGE.read_text("utf-8"), "docs/mutants.md is old: run `make mutants`"

"""All mutants, by name."""

from __future__ import annotations

from functools import cache

from tests.mutants import lua
from tests.mutants.by_hand import BY_HAND
from tests.mutants.mutant import Mutant
from tests.mutants.twelve import TWELVE


@cache
def catalogue() -> dict[str, Mutant]:
    """The twelve, those by hand, then those that are made of the scripts' text."""
    mechanical = [Mutant(edit.name, (edit,), "script") for edit in lua.edits()]
    mutants = [*TWELVE, *BY_HAND, *mechanical]
    named = {mutant.name: mutant for mutant in mutants}
    assert len(named) == len(mutants), "two mutants have one name"
    return named

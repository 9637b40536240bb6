"""Each promise's checker finds what breaks it, and nothing in the queue as it is."""

from __future__ import annotations

import functools

import pytest

from tests.exploration import stories
from tests.exploration.defects import DEFECTS
from tests.exploration.planting import broken_by, live

STORIES = {
    name: getattr(stories, name)
    for name in (
        "plain", "idle_first", "killed", "hung", "long_run", "killer", "late_abort", "same_key",
        "ticking", "late_tick",
    )
} | {
    f"cut {name}": functools.partial(stories.cut, script=name)
    for name in ("enqueue", "claim", "commit")
}  # fmt: skip


@pytest.mark.parametrize("name", STORIES)
def test_the_queue_as_it_is_breaks_no_promise(name, on_each_backend):
    _, broken = live(STORIES[name], **on_each_backend)
    assert broken == []


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found_by_the_checker_of_its_promise(defect, plant):
    promise, story, script, old, new = DEFECTS[defect]
    plant(old, new, script=script)
    assert promise in broken_by(STORIES[story])

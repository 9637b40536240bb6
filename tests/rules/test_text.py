"""Texts that travel: clipped, valid, and in one line where a line is meant."""

from __future__ import annotations

import pytest

from queuekit.text import MAX_ERROR_BYTES, clip_error, gist


@pytest.mark.parametrize("text", ["", "short", "ü", "x" * MAX_ERROR_BYTES, "\ud800"])
def test_an_error_that_fits_is_stored_whole(text):
    assert clip_error(text) == text.encode("utf-8", "backslashreplace")


@pytest.mark.parametrize(
    "text", ["x" * (MAX_ERROR_BYTES + 1), "ü" * 20_000, "\ud800" * 10_000, "€" * 10**6]
)
def test_a_longer_error_is_stored_by_its_end_and_stays_valid(text):
    stored = clip_error(text + "the end")
    assert MAX_ERROR_BYTES - 4 <= len(stored) <= MAX_ERROR_BYTES
    assert stored.decode().startswith("[...]\n")
    assert stored.endswith(b"the end")


TRACEBACK = """Traceback (most recent call last):
  File "a.py", line 1, in f
    raise KeyError
KeyError: 'a'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "a.py", line 3, in f
    raise ValueError
ValueError: of several
lines
  the last
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (TRACEBACK, "ValueError: of several"),
        ("what happened\n  what was expected", "what happened"),
        ("first\nsecond", "first"),
        ("\n  only indented", "only indented"),
        ("", ""),
        ("x" * 1000, "x" * 297 + "..."),
    ],
)
def test_the_gist_of_an_error_is_the_line_that_names_it(text, line):
    assert gist(text) == line

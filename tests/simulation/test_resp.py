"""RESP, however its bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queuekit.simulation.resp import Error, NotRedisError, Splitter, encode_command, text

WORDS = st.lists(st.binary(max_size=40), min_size=1, max_size=5)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({min(place, len(data)) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(
    commands=st.lists(WORDS, min_size=1, max_size=5),
    places=st.lists(st.integers(0, 400), max_size=20),
)
def test_commands_come_out_whole_however_their_bytes_are_cut(commands, places):
    splitter = Splitter()
    data = b"".join(encode_command(words) for words in commands)
    assert [c for part in cut(data, places) for c in splitter.commands(part)] == commands


@given(places=st.lists(st.integers(0, 200), max_size=30))
def test_replies_of_both_protocols_come_out_whole(places):
    data = (
        b"+OK\r\n-ERR no\r\n:42\r\n$3\r\na\r\n\r\n$-1\r\n*-1\r\n*2\r\n:1\r\n*1\r\n$1\r\nx\r\n"
        b"_\r\n#t\r\n,1.5\r\n(99\r\n%1\r\n+k\r\n:1\r\n~1\r\n:7\r\n>2\r\n+message\r\n+hi\r\n=5\r\ntxt:a\r\n"
    )
    splitter = Splitter()
    values = [value for part in cut(data, places) for value in splitter.replies(part)]
    assert isinstance(values.pop(1), Error)
    assert values == [
        b"OK", 42, b"a\r\n", None, None, [1, [b"x"]], None, True, 1.5, 99, {b"k": 1}, [7],
        [b"message", b"hi"], b"a",
    ]  # fmt: skip


def test_what_is_no_command_is_refused():
    with pytest.raises(NotRedisError):
        Splitter().commands(b"GET / HTTP/1.1\r\n")


def test_the_trace_shows_values_by_their_meaning_and_nothing_of_the_machine():
    assert text([b"a", 1, None, [b"b"], True]) == "[a 1 nil [b] 1]"
    assert text(Error("NOSCRIPT No matching script. Please use EVAL.")) == "-NOSCRIPT"
    assert text(b'File "/some/where/app.py", line 3') == 'File "app.py", line 3'
    assert text(b"0" * 40) == "(sha1)"
    assert len(text(b"x" * 10_000)) < 300
    assert text(b"x" * 10_000) != text(b"x" * 10_001)

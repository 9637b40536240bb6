"""Splitting Redis's protocol, however the bytes were cut."""

from __future__ import annotations

import pytest

from queuekit.simulation.resp import (
    Error,
    NotRedisError,
    Splitter,
    encode_command,
    encode_error,
    is_push,
    items,
)

REPLIES = [
    (b"+OK\r\n", b"OK"),
    (b":-7\r\n", -7),
    (b"$-1\r\n", None),
    (b"*-1\r\n", None),
    (b"$0\r\n\r\n", b""),
    (b"$4\r\na\r\nb\r\n", b"a\r\nb"),
    (b"*3\r\n:1\r\n*1\r\n$1\r\nx\r\n$-1\r\n", [1, [b"x"], None]),
    (b"_\r\n", None),
    (b"#t\r\n", True),
    (b",1.5\r\n", 1.5),
    (b"(12345678901234567890\r\n", 12345678901234567890),
    (b"~2\r\n:1\r\n:2\r\n", [1, 2]),
    (b"%1\r\n$1\r\na\r\n:1\r\n", {b"a": 1}),
    (b"%1\r\n*1\r\n:1\r\n:2\r\n", {(1,): 2}),
    (b">2\r\n$1\r\na\r\n:1\r\n", [b"a", 1]),
    (b"=7\r\ntxt:abc\r\n", b"abc"),
]


@pytest.mark.parametrize(("raw", "value"), REPLIES)
def test_a_reply_cut_anywhere_is_read_as_when_whole(raw, value):
    for cut in range(len(raw)):
        splitter = Splitter()
        assert splitter.frames(raw[:cut]) == []
        assert splitter.frames(raw[cut:]) == [(raw, value)]


def test_replies_that_come_together_are_told_apart_with_their_bytes():
    everything = b"".join(raw for raw, _ in REPLIES)
    assert Splitter().frames(everything) == REPLIES


@pytest.mark.parametrize("raw", [b"-ERR it is bad\r\n", b"!13\r\nERR it is bad\r\n"])
def test_an_error_reply_is_an_error(raw):
    (error,) = Splitter().replies(raw)
    assert isinstance(error, Error)
    assert str(error) == "ERR it is bad"


def test_the_elements_of_an_array_keep_their_bytes():
    parts = [b":1\r\n", b",1.5\r\n", b"%0\r\n", b"-ERR no\r\n"]
    assert [raw for raw, _ in items(b"*4\r\n" + b"".join(parts))] == parts


def test_only_what_a_server_sends_unasked_is_a_push():
    assert is_push(b">1\r\n:1\r\n")
    assert not is_push(b"*1\r\n:1\r\n")


def test_a_command_comes_back_as_it_was_sent_even_with_line_breaks_in_it():
    commands = [[b"SET", b"a\r\n*1", b""], [b"PING"]]
    data = b"".join(map(encode_command, commands))
    for cut in range(len(data)):
        splitter = Splitter()
        assert splitter.commands(data[:cut]) + splitter.commands(data[cut:]) == commands


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n",
        b"*1\r\n$4\r\nPING\r\nGET /",
        b"*0\r\n",
        b"*-1\r\n",
        b"*1\r\n:1\r\n",
        b"*x\r\n",
        b"*1\r\n?\r\n",
    ],
)
def test_what_is_no_command_is_refused(data):
    with pytest.raises(NotRedisError):
        Splitter().commands(data)


def test_an_error_of_many_lines_is_sent_on_one():
    assert encode_error("ERR one\r\ntwo\nthree") == b"-ERR one two three\r\n"


def test_what_is_cut_is_known_to_be():
    splitter = Splitter()
    assert not splitter.is_cut
    splitter.frames(b"+OK\r\n$5\r\nab")
    assert splitter.is_cut
    splitter.frames(b"cde\r\n")
    assert not splitter.is_cut

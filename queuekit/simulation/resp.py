"""RESP, Redis's protocol, as far as a wire needs it: split what comes into commands and replies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from queuekit.simulation.trace import shorten

_FOLDER = re.compile(rb'File "[^"]*[/\\]')
_SHA1 = re.compile(rb"[0-9a-f]{40}")


class Error(Exception):
    """An error reply."""


class NotRedisError(ValueError):
    """What a client sent is no command of Redis's protocol."""


Frame = tuple[bytes, Any]
"The bytes of a reply, and what they say."


class _Incomplete(Exception):  # noqa: N818 (a signal between two methods)
    """More bytes are needed."""


class Splitter:
    """Bytes in, whole values out, however they were cut."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0

    @property
    def is_cut(self) -> bool:
        """Whether it holds the beginning of something."""
        return bool(self._buffer)

    def commands(self, data: bytes) -> list[list[bytes]]:
        """The commands that are complete with this data.

        Raises:
            NotRedisError: the client speaks something else.
        """
        self._buffer += data
        commands: list[list[bytes]] = []
        try:
            while self._buffer:
                self._at = 0
                commands.append(self._command())
                del self._buffer[: self._at]
        except _Incomplete:
            pass
        return commands

    def _command(self) -> list[bytes]:
        """An array of strings. Apart from `_value`, since every command of a simulation comes here."""
        buffer = self._buffer
        end = buffer.find(b"\r\n")
        left, at = self._number(0x2A, 0, end), end + 2  # "*"
        if left < 1:
            raise NotRedisError(bytes(buffer[:40]))
        words = []
        while left:
            end = buffer.find(b"\r\n", at)
            start = end + 2
            end = start + self._number(0x24, at, end)  # "$"
            if len(buffer) < end + 2:
                raise _Incomplete
            words.append(bytes(buffer[start:end]))
            at = end + 2
            left -= 1
        self._at = at
        return words

    def _number(self, kind: int, at: int, end: int) -> int:
        """That of the line between these places."""
        buffer = self._buffer
        try:
            if buffer[at] == kind and end > 0:
                return int(buffer[at + 1 : end])
        except IndexError:
            raise _Incomplete from None
        except ValueError as error:
            raise NotRedisError(bytes(buffer[:40])) from error
        if buffer[at] == kind:
            raise _Incomplete
        raise NotRedisError(bytes(buffer[at : at + 40]))

    def replies(self, data: bytes) -> list[Any]:
        """The replies that are complete with this data."""
        return [value for _, value in self.frames(data)]

    def frames(self, data: bytes) -> list[Frame]:
        """The same, each with its bytes as they came: what is passed on need not be encoded anew."""
        self._buffer += data
        return list(self._frames())

    def _frames(self) -> Iterator[Frame]:
        while self._buffer:
            self._at = 0
            try:
                value = self._value()
            except _Incomplete:
                return
            raw = bytes(self._buffer[: self._at])
            del self._buffer[: self._at]
            yield raw, value

    def _line(self) -> bytes:
        end = self._buffer.find(b"\r\n", self._at)
        if end < 0:
            raise _Incomplete
        line = bytes(self._buffer[self._at : end])
        self._at = end + 2
        return line

    def _bytes(self, size: int) -> bytes:
        end = self._at + size
        if len(self._buffer) < end + 2:
            raise _Incomplete
        data = bytes(self._buffer[self._at : end])
        self._at = end + 2
        return data

    def _value(self) -> Any:
        line = self._line()
        parse = _PARSERS.get(line[:1])
        if parse is None:
            raise NotRedisError(line[:40])
        try:
            return parse(self, line[1:])
        except NotRedisError:
            raise
        except ValueError as error:  # a length that is no number
            raise NotRedisError(line[:40]) from error

    def _many(self, number: bytes) -> list[Any] | None:
        count = int(number)
        return None if count < 0 else [self._value() for _ in range(count)]

    def _map(self, number: bytes) -> dict[Any, Any]:
        return {_hashable(self._value()): self._value() for _ in range(int(number))}

    def _bulk(self, number: bytes) -> bytes | None:
        size = int(number)
        return None if size < 0 else self._bytes(size)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_PARSERS: Mapping[bytes, Callable[[Splitter, bytes], Any]] = {
    b"+": lambda _, text: text,
    b"-": lambda _, text: Error(text.decode("utf-8", "replace")),
    b":": lambda _, text: int(text),
    b"$": Splitter._bulk,
    b"!": lambda self, size: Error((self._bulk(size) or b"").decode("utf-8", "replace")),
    b"=": lambda self, size: (self._bulk(size) or b"")[4:],
    b"*": Splitter._many,
    b"~": Splitter._many,
    b">": Splitter._many,
    b"%": Splitter._map,
    b"_": lambda _, text: None,
    b"#": lambda _, text: text == b"t",
    b",": lambda _, text: float(text),
    b"(": lambda _, text: int(text),
}


def is_push(raw: bytes) -> bool:
    """Whether a RESP3 server sent this unasked, so that it answers no command."""
    return raw.startswith(b">")


def items(raw: bytes) -> list[Frame]:
    """The elements of an array reply, each with its bytes."""
    return Splitter().frames(raw[raw.index(b"\r\n") + 2 :])


UNORDERED = frozenset({b"HGETALL", b"HKEYS", b"SMEMBERS", b"SINTER", b"SUNION", b"SDIFF", b"KEYS"})
"Commands whose replies have an order that is nobody's: it follows from hashes, encodings and versions."


def in_order(name: bytes, frame: Frame) -> Frame:
    """The reply to a command as every server of a simulation gives it: sorted, where no order is promised."""
    raw, value = frame
    if name not in UNORDERED or not isinstance(value, list | dict | set):
        return frame
    head = raw[: raw.index(b"\r\n") + 2]
    parts = items(raw)
    size = 2 if name == b"HGETALL" else 1
    groups = [parts[at : at + size] for at in range(0, len(parts), size)]
    groups.sort(key=lambda group: group[0][1])
    parts = [part for group in groups for part in group]
    ordered = head + b"".join(part for part, _ in parts)
    return ordered, Splitter().replies(ordered)[0]


def encode_error(message: str) -> bytes:
    """An error reply. A line break would end it early, and all that follows be misread."""
    return b"-" + " ".join(message.splitlines()).encode() + b"\r\n"


def encode_command(words: list[bytes]) -> bytes:
    """A command as a client sends it."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def text(value: Any) -> str:
    """A reply or an argument as the trace shows it, the same whichever server gave it."""
    if isinstance(value, bytes):
        if len(value) == 40 and _SHA1.fullmatch(value):  # of a script: its text is not the trace's
            return "(sha1)"
        if b'File "' in value:  # a traceback: where the files lie is the machine's
            value = _FOLDER.sub(rb'File "', value)
        return shorten(value.decode("utf-8", "backslashreplace").replace("\n", "\\n"))
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list | tuple):
        return shorten(f"[{' '.join(text(item) for item in value)}]")
    if isinstance(value, dict):
        return shorten("{" + " ".join(f"{text(k)}:{text(v)}" for k, v in value.items()) + "}")
    if isinstance(value, Exception):
        return f"-{str(value).split(' ', 1)[0]}"  # the code; the words differ between servers
    return str(value)

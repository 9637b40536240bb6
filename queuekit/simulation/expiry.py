"""Virtual expiry for a real server, whose own clock is not the test's.

A key that is given a time to live keeps it on the server, but a thousand years later than was said:
so the server itself never ends it, and still knows whether the key has an end, through all that
overwrites, renames or persists it, in scripts and transactions too. When exactly that is, in the
test's time, is kept here; a key whose moment has come is deleted if it still has an end.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from queuekit.simulation import rewritten_scripts
from queuekit.simulation.resp import Error, Frame
from queuekit.simulation.rewritten_scripts import Reader, RewrittenScripts

BEYOND_MS = 1000 * 366 * 86_400_000
"Added to each end that a real server is told: a thousand years."

_UNITS = {b"EX": (1000, False), b"PX": (1, False), b"EXAT": (1000, True), b"PXAT": (1, True)}
_EXPIRE = {b"EXPIRE": b"EX", b"PEXPIRE": b"PX", b"EXPIREAT": b"EXAT", b"PEXPIREAT": b"PXAT"}
_SETEX = {b"SETEX": b"EX", b"PSETEX": b"PX"}
_ASKING = frozenset({b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME"})
_SCRIPTING = frozenset({b"EVAL", b"EVALSHA", b"EVAL_RO", b"EVALSHA_RO", b"SCRIPT"})
_REFUSED = frozenset({b"RESTORE", b"HEXPIRE", b"HPEXPIRE", b"HEXPIREAT", b"HPEXPIREAT", b"HSETEX",
                      b"HGETEX", b"MIGRATE"})  # fmt: skip

Place = tuple[int, bytes]
"A database and a key."


class Expiry:
    """When keys end, in virtual milliseconds since the epoch."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._ends: dict[Place, int] = {}
        self._order: list[tuple[int, Place]] = []
        "A heap of all ends ever noted; one that was changed since is passed over."
        self._scripts = RewrittenScripts()

    def _now_ms(self) -> int:
        return self._now_us() // 1000

    def due(self) -> list[Place]:
        """Keys whose time is over, if they still have an end; each is told once."""
        over = []
        while self._order and self._order[0][0] < self._now_ms():
            # As Redis: alive at its last millisecond, gone after it.
            end, place = heapq.heappop(self._order)
            if self._ends.get(place) == end:
                del self._ends[place]
                over.append(place)
        return over

    def save(self) -> dict[Place, int]:
        """All ends, to be loaded later."""
        return dict(self._ends)

    def load(self, saved: dict[Place, int] | None) -> None:
        """Know exactly these ends from now on; None is none."""
        self._ends = dict(saved or {})
        self._order = sorted((end, place) for place, end in self._ends.items())

    def rewrite(self, command: list[bytes], database: int) -> tuple[list[bytes], Reader | None]:
        """The command to send instead, and the reader of its reply.

        What is not as Redis expects it is left as it is: the server says best what is wrong.
        """
        name = command[0].upper()
        try:
            if name == b"SET":
                return self._set(command, database)
            if name in _SETEX:
                return self._setex(command, database, _SETEX[name])
            if name == b"GETEX":
                return self._getex(command, database)
            if name in _EXPIRE:
                return self._expire(command, database, _EXPIRE[name])
            if name in _ASKING:
                return self._ask(command, database, name)
            if name in (b"RENAME", b"RENAMENX", b"COPY"):
                return command, self._inherit((database, command[1]), (database, command[2]))
            if name == b"TIME" and len(command) == 1:
                return command, self._tell_time
            if name in _SCRIPTING:
                return self._script(command, database)
        except (ValueError, IndexError):
            pass
        return command, None

    def _end_ms(self, option: bytes, value: bytes) -> int | None:
        """The moment that an option means; None for one that lies before all time."""
        unit, absolute = _UNITS[option]
        if int(value) <= 0:
            return None
        return (0 if absolute else self._now_ms()) + int(value) * unit

    def _note(self, place: Place, end: int) -> None:
        self._ends[place] = end
        heapq.heappush(self._order, (end, place))

    def _noting(self, place: Place, end: int, done: Callable[[Any], bool] = bool) -> Reader:
        def read(frame: Frame) -> Frame:
            reply = frame[1]
            if not isinstance(reply, Error) and done(reply):
                self._note(place, end)
            return frame

        return read

    def _inherit(self, source: Place, target: Place) -> Reader:
        def read(frame: Frame) -> Frame:
            reply = frame[1]
            if reply and not isinstance(reply, Error) and source in self._ends:
                self._note(target, self._ends[source])
            return frame

        return read

    def _tell_time(self, frame: Frame) -> Frame:
        """The server's clock is not the test's."""
        del frame
        told = [b"%d" % part for part in divmod(self._now_us(), 1_000_000)]
        raw = b"*2\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in told)
        return raw, told

    def _script(self, command: list[bytes], database: int) -> tuple[list[bytes], Reader | None]:
        ends = {key: end for (number, key), end in self._ends.items() if number == database}

        def note(key: bytes, end: int) -> None:
            self._note((database, key), end)

        return self._scripts.rewrite(command, ends, self._now_us(), note) or (command, None)

    def _set(self, command: list[bytes], database: int) -> tuple[list[bytes], Reader | None]:
        words = [word.upper() for word in command]
        at = next((i for i in range(3, len(words)) if words[i] in _UNITS), None)
        end = None if at is None else self._end_ms(words[at], command[at + 1])
        if at is None or end is None:
            return command, None
        options = words[3:]

        def done(reply: Any) -> bool:
            if b"GET" not in options:
                return reply is not None
            if b"NX" in options:
                return reply is None
            return reply is not None or b"XX" not in options

        sent = [*command[:at], b"PXAT", b"%d" % (end + BEYOND_MS), *command[at + 2 :]]
        return sent, self._noting((database, command[1]), end, done)

    def _setex(
        self, command: list[bytes], database: int, option: bytes
    ) -> tuple[list[bytes], Reader | None]:
        _, key, value, content = command
        end = self._end_ms(option, value)
        if end is None:
            return command, None
        sent = [b"SET", key, content, b"PXAT", b"%d" % (end + BEYOND_MS)]
        return sent, self._noting((database, key), end)

    def _getex(self, command: list[bytes], database: int) -> tuple[list[bytes], Reader | None]:
        if len(command) != 4 or command[2].upper() not in _UNITS:
            return command, None
        end = self._end_ms(command[2].upper(), command[3])
        if end is None:
            return command, None
        sent = [*command[:2], b"PXAT", b"%d" % (end + BEYOND_MS)]
        return sent, self._noting((database, command[1]), end, lambda reply: reply is not None)

    def _expire(
        self, command: list[bytes], database: int, option: bytes
    ) -> tuple[list[bytes], Reader | None]:
        _, key, value, *conditions = command
        end = self._end_ms(option, value)
        if not conditions and (end is None or end <= self._now_ms()):
            return [b"DEL", key], None
        told = 1 if end is None else end + BEYOND_MS
        sent = [b"PEXPIREAT", key, b"%d" % told, *conditions]
        return sent, None if end is None else self._noting((database, key), end)

    def _ask(
        self, command: list[bytes], database: int, name: bytes
    ) -> tuple[list[bytes], Reader | None]:
        _, key = command

        def read(frame: Frame) -> Frame:
            reply = frame[1]
            if not isinstance(reply, int) or reply < 0:
                return frame
            end = self._ends.get((database, key))
            if end is None:  # a script of ours gave it the end of another key
                return _number(-1)
            value = end if name.endswith(b"EXPIRETIME") else end - self._now_ms()
            return _number(value if name.startswith(b"P") else (value + 500) // 1000)

        return [b"PTTL", key], read


def _number(value: int) -> Frame:
    return b":%d\r\n" % value, value


def refusal(command: list[bytes]) -> str | None:
    """Why a command sets an expiry that cannot be kept on a real server, or None."""
    name = command[0].upper()
    if name in _REFUSED:
        return f"{name.decode()} sets an expiry that the simulation cannot keep on a real server"
    return rewritten_scripts.refusal(command)

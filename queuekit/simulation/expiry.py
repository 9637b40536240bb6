"""Virtual expiry for a real server, whose own clock is not the test's.

Commands that give a key a time to live are sent on without it; the moment is kept here, and keys are
deleted when the test's clock reaches it. What cannot be done this way is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from queuekit.store.scripts import CLOCK_MARK

EXPIRY_WORDS = (b"EXPIRE", b"SETEX", b"'EX'", b"'PX'", b'"EX"', b'"PX"', b"GETEX")
"In a script's text: it would set an expiry on the real server."

_UNITS = {b"EX": (1000, False), b"PX": (1, False), b"EXAT": (1000, True), b"PXAT": (1, True)}
_EXPIRE = {b"EXPIRE": b"EX", b"PEXPIRE": b"PX", b"EXPIREAT": b"EXAT", b"PEXPIREAT": b"PXAT"}
_REFUSED = frozenset({b"RESTORE", b"HEXPIRE", b"HPEXPIRE", b"HSETEX", b"HGETEX", b"MIGRATE"})
_ENDING = frozenset({b"DEL", b"UNLINK", b"GETDEL", b"RENAME", b"SETEX", b"PSETEX", b"GETSET"})

Rewritten = tuple[list[bytes], Callable[[Any], Any] | None]
"The command to send, and how its reply is to be read (None: as it is)."


class Expiry:
    """The table of one database: key to the epoch millisecond at which it ends."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._ends: dict[bytes, int] = {}

    def due(self) -> list[bytes]:
        """Keys whose time is over; they are to be deleted now."""
        if not self._ends:
            return []
        now = self._now_ms()
        # As Redis: alive at its last millisecond, gone after it.
        over = [key for key, end in self._ends.items() if end < now]
        for key in over:
            del self._ends[key]
        return over

    def rewrite(self, command: list[bytes]) -> Rewritten | str:
        """The command without expiry, or why it is refused."""
        name = command[0].upper()
        if name in _REFUSED:
            return (
                f"{name.decode()} sets an expiry that the simulation cannot keep on a real server"
            )
        if name in (b"EVAL", b"SCRIPT"):
            return self._script(command)
        if name == b"SET":
            return self._set(command)
        if name in (b"SETEX", b"PSETEX"):
            return self._setex(command, b"EX" if name == b"SETEX" else b"PX")
        if name == b"GETEX":
            return self._getex(command)
        if name in _EXPIRE:
            return self._expire(command, _EXPIRE[name])
        if name in (b"TTL", b"PTTL"):
            return self._ttl(command, 1000 if name == b"TTL" else 1)
        if name == b"PERSIST":
            had = self._ends.pop(command[1], None) is not None
            return [b"EXISTS", command[1]], lambda reply: int(bool(reply) and had)
        if name in (b"FLUSHDB", b"FLUSHALL"):
            self._ends.clear()
        elif name in _ENDING:
            for key in command[1:]:
                self._ends.pop(key, None)
        return command, None

    def _script(self, command: list[bytes]) -> Rewritten | str:
        source = command[1] if command[0].upper() == b"EVAL" else command[-1]
        if CLOCK_MARK.encode() in source.split(b"\n", 2)[:2]:
            return command, None
        upper = source.upper()
        found = [word for word in EXPIRY_WORDS if word in upper]
        if found:
            first = source.strip().split(b"\n")[0].decode("utf-8", "replace")[:60]
            return (
                f"the script {first!r} uses {found[0].decode()}, "
                "and a real server's clock is not the test's"
            )
        return command, None

    def _end_ms(self, option: bytes, value: bytes) -> int:
        unit, absolute = _UNITS[option]
        return (0 if absolute else self._now_ms()) + int(value) * unit

    def _set(self, command: list[bytes]) -> Rewritten:
        key, kept, index, end = command[1], command[:3], 3, None
        keep = False
        while index < len(command):
            option = command[index].upper()
            if option in _UNITS:
                end = self._end_ms(option, command[index + 1])
                index += 2
                continue
            keep = keep or option == b"KEEPTTL"
            if option != b"KEEPTTL":
                kept.append(command[index])
            index += 1

        def done(reply: Any) -> Any:
            if reply is not None and not keep:
                self._ends.pop(key, None)
                if end is not None:
                    self._ends[key] = end
            return reply

        return kept, done

    def _setex(self, command: list[bytes], option: bytes) -> Rewritten:
        _, key, value, content = command
        end = self._end_ms(option, value)

        def done(reply: Any) -> Any:
            self._ends[key] = end
            return reply

        return [b"SET", key, content], done

    def _getex(self, command: list[bytes]) -> Rewritten:
        key = command[1]
        if len(command) > 3:
            self._ends[key] = self._end_ms(command[2].upper(), command[3])
        elif len(command) == 3:
            self._ends.pop(key, None)
        return [b"GET", key], None

    def _expire(self, command: list[bytes], option: bytes) -> Rewritten | str:
        if len(command) > 3:
            return f"{command[0].decode()} with {command[3].decode()} is not kept on a real server"
        key, end = command[1], self._end_ms(option, command[2])

        def done(reply: Any) -> Any:
            if reply:
                self._ends[key] = end
            return reply

        return [b"EXISTS", key], done

    def _ttl(self, command: list[bytes], unit: int) -> Rewritten:
        end = self._ends.get(command[1])

        def done(reply: Any) -> Any:
            if not reply:
                return -2
            if end is None:
                return -1
            left = end - self._now_ms()
            return left if unit == 1 else (left + 500) // 1000

        return [b"EXISTS", command[1]], done

"""Looking at the embedded Redis from beside: no connection, no hop, no trace.

With `server.py` and `commands.py` the only module that knows fakeredis's inner classes.
"""

from __future__ import annotations

import copy
from typing import Any

from fakeredis._core._database import Item
from fakeredis.model import ExpiringMembersSet, Hash, XStream, ZSet

from queuekit.simulation.scope import current_clock


class Beside:
    """The client's end of a look: the reply is there at once, and nobody hears of it."""

    number = 0
    value: Any = None

    def reply(self, data: bytes, value: Any, *, traced: bool) -> None:
        """Called by the server's end."""
        self.value = value


def contents_of(database: Any, root: str) -> list[Any]:
    """All of a queue, as `contents.READER` answers it; a tenth of what Lua would cost."""
    found: list[Any] = []
    start = f"{root}:".encode()
    held = database._dict
    for key in sorted(key for key in held if key.startswith(start)):
        value, end = held[key].value, held[key].expireat
        kind, content = b"string", value
        if isinstance(value, ZSet):
            kind, content = b"zset", [part for pair in value._bylex.items() for part in pair]
        elif isinstance(value, Hash):
            kind, content = b"hash", [part for pair in value.getall().items() for part in pair]
        elif isinstance(value, list):
            kind, content = b"list", list(value)
        elif isinstance(value, ExpiringMembersSet):
            kind, content = b"set", sorted(value)
        elif isinstance(value, XStream):
            kind, content = b"stream", len(value)
        found.append((key, kind, content, -1 if end is None else _left_ms(end)))
    return found


def _left_ms(expires_at: float) -> int:
    clock = current_clock()
    return round(expires_at * 1000) - (clock.time_ns() // 1_000_000 if clock is not None else 0)


Saved = dict[int, dict[bytes, tuple[Any, float | None]]]
"By database and key: a value, and when it ends."


def saved_of(databases: Any) -> Saved:
    """A copy of all that is held."""
    return {
        number: {
            key: (copy.deepcopy(item.value), item.expireat) for key, item in database._dict.items()
        }
        for number, database in databases.items()
    }


def load_into(databases: Any, saved: Saved) -> None:
    """Put a copy of that in place of what is held."""
    for number in sorted({*databases, *saved}):
        database = databases[number]
        for key in list(database._dict):
            del database[key]
        for key, (value, end) in saved.get(number, {}).items():
            item: Any = Item(copy.deepcopy(value))
            item.expireat = end
            database[key] = item

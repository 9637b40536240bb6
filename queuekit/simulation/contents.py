"""All that a queue has in Redis, read in one go and from beside: no hop, no line of the trace, no time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

READER = """-- name: read_all
-- Reads all of a queue, or without a key all there is. For tests: it walks every key of the server.
local found = {}
local keys = redis.call('KEYS', KEYS[1] and KEYS[1] .. ':*' or '*')
table.sort(keys)
for _, key in ipairs(keys) do
  local kind = redis.call('TYPE', key).ok
  local content = ''
  if kind == 'string' then content = redis.call('GET', key)
  elseif kind == 'hash' then
    -- Not HGETALL, whose order is nobody's.
    local fields = redis.call('HKEYS', key)
    table.sort(fields)
    content = {}
    for _, field in ipairs(fields) do
      content[#content + 1] = field
      content[#content + 1] = redis.call('HGET', key, field)
    end
  elseif kind == 'set' then
    content = redis.call('SMEMBERS', key)
    table.sort(content)
  elseif kind == 'stream' then
    -- Its length alone: its ids are of the server's clock.
    content = redis.call('XLEN', key)
  elseif kind == 'zset' then content = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'list' then content = redis.call('LRANGE', key, 0, -1) end
  found[#found + 1] = { key, kind, content, redis.call('PTTL', key) }
end
return found
"""
"""A script that answers for each key of a queue (`KEYS[1]` is its root), or of a database: name, type,
content, and what is left of its life (ms)."""


def text(raw: bytes) -> str:
    """A name or a value; bytes that are no UTF-8 are shown."""
    return raw.decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Snapshot:
    """All keys of a queue, by their names behind the root.

    A string is bytes; a hash is texts by texts, a sorted set scores by texts, lists and sets are texts. Of a
    stream it is the length.
    """

    contents: dict[str, Any]
    ttls_ms: dict[str, int] = field(default_factory=dict)
    "-1: it stays."

    def scores(self, name: str) -> dict[str, float]:
        """A sorted set, empty if it is not there."""
        found: dict[str, float] = self.contents.get(name, {})
        return found

    def fields(self, name: str) -> dict[str, str]:
        """A hash, empty if it is not there or no hash."""
        found = self.contents.get(name, {})
        return found if isinstance(found, dict) else {}

    def records(self, kind: str) -> dict[str, Any]:
        """`job`, `call` or `foreign` records, by job key."""
        start = f"{kind}:"
        return {n[len(start) :]: c for n, c in self.contents.items() if n.startswith(start)}

    @cached_property
    def jobs(self) -> dict[str, dict[str, str]]:
        """The states of jobs, by key; a job that was only enqueued has none."""
        return {key: state for key, state in self.records("job").items() if isinstance(state, dict)}

    @cached_property
    def calls(self) -> dict[str, bytes]:
        """What is to be run, by key."""
        return self.records("call")


def snapshot_of(reply: Iterable[Any], root: str) -> Snapshot:
    """The reader's reply, in Python's words."""
    contents: dict[str, Any] = {}
    ttls = {}
    for raw_name, raw_kind, content, ttl in reply:
        name, kind = text(raw_name).removeprefix(f"{root}:"), text(raw_kind)
        ttls[name] = ttl
        if kind in ("hash", "zset"):
            pairs = zip(content[::2], content[1::2], strict=True)
            value_of: Any = text if kind == "hash" else float
            contents[name] = {text(member): value_of(value) for member, value in pairs}
        else:
            whole = kind in ("string", "stream")
            contents[name] = content if whole else [text(each) for each in content]
    return Snapshot(contents, ttls)

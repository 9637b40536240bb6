"""Scripts of others on a real server: their expiry is the virtual one.

The server's clock is not the test's, so each call of such a script is told the virtual time and when keys
end, and what it sets is a thousand years later (see `expiry.py`). The script is put into a function, in front
of which stands a `redis` of its own; it answers with what the function returns and the ends that were set.
Clients see none of it: neither another reply nor another SHA-1.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from queuekit.simulation.resp import Error, Frame, encode_error, items
from queuekit.store.scripts import CLOCK_MARK

_CONCERNED = (b"SET", b"EXPIRE", b"GETEX", b"TTL", b"RENAME", b"COPY", b"TIME")
"In a script's text: it may set an expiry or ask for one, or for the time."

_REFUSED = (b"HEXPIRE", b"HPEXPIRE", b"HSETEX", b"HGETEX", b"RESTORE", b"MIGRATE", b"SERVER.CALL")
"In a script's text: it does what cannot be kept virtual."

_OF_EXPIRY = (b"EXPIRE", b"SETEX", b"GETEX", b"TTL", b"'EX'", b"'PX'", b'"EX"', b'"PX"')
"In a library's text: its functions, which are not rewritten, would set a real expiry."

_ASKS_FOR_ENDS = (b"TTL", b"EXPIRETIME", b"RENAME", b"COPY")

_CALLS = frozenset({b"EVALSHA", b"EVALSHA_RO"})
_TEXTS = frozenset({b"EVAL", b"EVAL_RO"})

_SHEBANG = re.compile(rb"#![^\n]*\n")

# In one line, so that the server's words name the script's own lines. Arguments behind its own, from the
# last to the first: the time in microseconds, how many ends follow, and those: when, and of which key.
_HEAD = b" ".join(
    line.strip()
    for line in b"""local redis, __queuekit_run = (function(redis)
  local beyond = 31622400000000
  local now_us = tonumber(table.remove(ARGV))
  local now = math.floor(now_us / 1000)
  local ends, notes = {}, {}
  for _ = 1, tonumber(table.remove(ARGV)) do
    local at = tonumber(table.remove(ARGV))
    ends[table.remove(ARGV)] = at
  end
  local unit = { EX = 1000, PX = 1, EXAT = 1000, PXAT = 1 }
  local function digits(number) return string.format('%.0f', number) end
  local function failed(reply) return type(reply) == 'table' and reply.err ~= nil end
  local function end_of(option, value)
    value = tonumber(value)
    if not value or value <= 0 or value % 1 ~= 0 then return nil end
    return (#option == 2 and now or 0) + value * unit[option]
  end
  local function note(key, at)
    ends[tostring(key)] = at
    notes[#notes + 1] = tostring(key)
    notes[#notes + 1] = digits(at)
  end
  local handlers = {}
  function handlers.SET(call, words)
    local place, given = nil, {}
    for i = 4, #words do
      local word = string.upper(tostring(words[i]))
      given[word] = true
      if unit[word] and not place then place = i end
    end
    local at = place and end_of(string.upper(words[place]), words[place + 1])
    if not at then return call(unpack(words)) end
    words[place], words[place + 1] = 'PXAT', digits(at + beyond)
    local reply = call(unpack(words))
    local done = reply
    if given.GET then
      if given.NX then done = not reply else done = reply or not given.XX end
    end
    if done and not failed(reply) then note(words[2], at) end
    return reply
  end
  local function setex(option)
    return function(call, words)
      local at = #words == 4 and end_of(option, words[3])
      if not at then return call(unpack(words)) end
      local reply = call('SET', words[2], words[4], 'PXAT', digits(at + beyond))
      if not failed(reply) then note(words[2], at) end
      return reply
    end
  end
  handlers.SETEX, handlers.PSETEX = setex('EX'), setex('PX')
  function handlers.GETEX(call, words)
    local option = #words == 4 and string.upper(tostring(words[3]))
    local at = option and unit[option] and end_of(option, words[4])
    if not at then return call(unpack(words)) end
    local reply = call('GETEX', words[2], 'PXAT', digits(at + beyond))
    if reply and not failed(reply) then note(words[2], at) end
    return reply
  end
  local function expire(option)
    return function(call, words)
      local value = tonumber(words[3])
      if not value or value % 1 ~= 0 then return call(unpack(words)) end
      local at = end_of(option, value)
      if #words == 3 and (not at or at <= now) then return call('DEL', words[2]) end
      words[1], words[3] = 'PEXPIREAT', at and digits(at + beyond) or '1'
      local reply = call(unpack(words))
      if at and reply == 1 then note(words[2], at) end
      return reply
    end
  end
  handlers.EXPIRE, handlers.PEXPIRE = expire('EX'), expire('PX')
  handlers.EXPIREAT, handlers.PEXPIREAT = expire('EXAT'), expire('PXAT')
  local function ask(name)
    return function(call, words)
      if #words ~= 2 then return call(unpack(words)) end
      local reply = call('PTTL', words[2])
      if type(reply) ~= 'number' or reply < 0 then return reply end
      local at = ends[tostring(words[2])]
      if not at then return -1 end
      local value = string.find(name, 'EXPIRETIME', 1, true) and at or at - now
      return string.sub(name, 1, 1) == 'P' and value or math.floor((value + 500) / 1000)
    end
  end
  for _, name in ipairs({ 'TTL', 'PTTL', 'EXPIRETIME', 'PEXPIRETIME' }) do handlers[name] = ask(name) end
  local function inherit(call, words)
    local reply = call(unpack(words))
    local at = words[2] and ends[tostring(words[2])]
    if at and words[3] and reply and reply ~= 0 and not failed(reply) then note(words[3], at) end
    return reply
  end
  handlers.RENAME, handlers.RENAMENX, handlers.COPY = inherit, inherit, inherit
  function handlers.TIME(call, words)
    if #words ~= 1 then return call(unpack(words)) end
    return { digits(math.floor(now_us / 1000000)), digits(now_us % 1000000) }
  end
  local function through(call)
    return function(...)
      local name = ...
      local handler = type(name) == 'string' and handlers[string.upper(name)]
      if handler then return handler(call, { ... }) end
      return call(...)
    end
  end
  local own = { call = through(redis.call), pcall = through(redis.pcall) }
  local function run(body)
    local done, result = pcall(body)
    if result == nil then result = false end
    local reply = { done and 1 or 0, result }
    if not done then
      if type(result) == 'table' then
        reply[2] = { tostring(result.err), tostring(result.source or ''), tostring(result.line or '') }
      else
        reply[2] = { tostring(result) }
      end
    end
    for i = 1, #notes do reply[i + 2] = notes[i] end
    return reply
  end
  return setmetatable(own, { __index = redis }), run
end)(redis)
return __queuekit_run(function() """.split(b"\n")
)
_TAIL = b"\nend)"

Reader = Callable[[Frame], Frame]
"What a reply says to the client; it is told every reply, and may note what came of its command."

Note = Callable[[bytes, int], None]
"Told of a key, and when it ends."


class RewrittenScripts:
    """Those that were rewritten, by the SHA-1 that their clients know."""

    def __init__(self) -> None:
        self._shas: dict[bytes, tuple[bytes, bool]] = {}
        "That of the rewritten one, and whether it is to be told when keys end."

    def rewrite(
        self, command: list[bytes], ends: Mapping[bytes, int], now_us: int, note: Note
    ) -> tuple[list[bytes], Reader | None] | None:
        """The command to send instead, and the reader of its reply; None: it does not concern this.

        Args:
            command: any.
            ends: of the keys of its database, in virtual milliseconds.
            now_us: the server's virtual time.
            note: told of each end that the script sets.
        """
        name = command[0].upper()
        if name == b"SCRIPT" and len(command) > 2:
            return self._script(command)
        if name in _CALLS and len(command) > 1:
            found = self._shas.get(command[1].lower())
            sent = None if found is None else found[0]
        elif name in _TEXTS and len(command) > 1 and concerns(command[1]):
            found = self._learn(command[1])
            sent = _rewritten(command[1])
        else:
            return None
        if sent is None or found is None or not _has_its_keys(command):
            return None
        told = [part for key, at in ends.items() for part in (key, b"%d" % at)] if found[1] else []
        extra = [*told, b"%d" % (len(told) // 2), b"%d" % now_us]
        sha = found[0].decode()
        return [command[0], sent, *command[2:], *extra], lambda frame: _taken_out(frame, note, sha)

    def _script(self, command: list[bytes]) -> tuple[list[bytes], Reader | None] | None:
        kind = command[1].upper()
        if kind == b"LOAD" and concerns(command[2]):
            self._learn(command[2])
            sha = _sha(command[2])
            return [*command[:2], _rewritten(command[2])], lambda frame: _as_loaded(frame, sha)
        if kind == b"EXISTS":
            known = [self._shas.get(sha.lower(), (sha, False))[0] for sha in command[2:]]
            return [*command[:2], *known], None
        return None

    def _learn(self, source: bytes) -> tuple[bytes, bool]:
        found = _sha(_rewritten(source)), any(w in source.upper() for w in _ASKS_FOR_ENDS)
        self._shas[_sha(source)] = found
        return found


def concerns(source: bytes) -> bool:
    """Whether a script may have to do with the time: one of ours is told it, and sets no expiry."""
    upper = source.upper()
    return not _is_ours(source) and any(word in upper for word in _CONCERNED)


def _is_ours(source: bytes) -> bool:
    return CLOCK_MARK.encode() in source.split(b"\n", 2)[:2]


def refusal(command: list[bytes]) -> str | None:
    """Why what a command brings cannot be rewritten, or None."""
    name, kind = command[0].upper(), command[1].upper() if len(command) > 1 else b""
    if name in _TEXTS and len(command) > 1:
        return _refused(command[1], "script", _REFUSED)
    if name == b"SCRIPT" and kind == b"LOAD" and len(command) > 2:
        return _refused(command[2], "script", _REFUSED)
    if name == b"FUNCTION" and kind == b"LOAD" and len(command) > 2:
        return _refused(command[-1], "library", _OF_EXPIRY)
    return None


def _refused(source: bytes, what: str, words: tuple[bytes, ...]) -> str | None:
    found = next((word for word in words if word in source.upper()), None)
    if found is None or _is_ours(source):
        return None
    first = source.strip().split(b"\n")[0].decode("utf-8", "replace")[:60]
    used = found.decode()
    return f"the {what} {first!r} uses {used}, and a real server's clock is not the test's"


def _rewritten(source: bytes) -> bytes:
    shebang = _SHEBANG.match(source)
    at = shebang.end() if shebang else 0
    return source[:at] + _HEAD + source[at:] + _TAIL


def _sha(source: bytes) -> bytes:
    return hashlib.sha1(source, usedforsecurity=False).hexdigest().encode()


def _has_its_keys(command: list[bytes]) -> bool:
    """Whether there are as many keys as it says; what is added behind must not become one."""
    return len(command) > 2 and command[2].isdigit() and int(command[2]) <= len(command) - 3


def _as_loaded(frame: Frame, sha: bytes) -> Frame:
    return frame if isinstance(frame[1], Error) else (b"$%d\r\n%s\r\n" % (len(sha), sha), sha)


def _taken_out(frame: Frame, note: Note, sha: str) -> Frame:
    """The script's own reply; the ends that it has set are noted."""
    raw, value = frame
    if not isinstance(value, list):  # it was not run, or could not be compiled
        return frame
    parts = items(raw)
    told = [text for _, text in parts[2:]]
    for key, at in zip(told[::2], told[1::2], strict=True):
        note(key, int(at))
    if parts[0][1] == 1:
        return parts[1]
    error = Error(_words(parts[1][1], sha))
    return encode_error(str(error)), error


def _words(told: Any, sha: str) -> str:
    """As the servers say it: those from 7 on have the place apart."""
    error, *place = (word.decode("utf-8", "replace") for word in told)
    if place and place[0]:
        return f"{error} script: {sha}, on {place[0]}:{place[1]}."
    return error if place else f"ERR Error running script (call to f_{sha}): {error}"

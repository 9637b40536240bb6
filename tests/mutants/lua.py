"""Mutants of the Lua scripts: every comparison turned, every write dropped, every step of one left out.

A mutant is a change of the text, made when a script is loaded; no file is touched. Its name holds place and
both texts: `commit.lua:53 status == -> ~= #1`, where the number tells apart those of one line.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

TOKEN = re.compile(
    r"""(?P<comment>--\[\[.*?\]\]|--[^\n]*)
      |(?P<string>'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|\[\[.*?\]\])
      |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      |(?P<number>\d+(?:\.\d+)?)
      |(?P<operator>==|~=|<=|>=|\.\.\.|\.\.|[<>=+\-*/%^\#(){}\[\];:,.])
      |(?P<space>\s+)""",
    re.VERBOSE | re.DOTALL,
)

TURNED = {
    "==": ("~=",),
    "~=": ("==",),
    "<": (">=", "<="),
    "<=": (">", "<"),
    ">": ("<=", ">="),
    ">=": ("<", ">"),
}
"Of each comparison its contrary, and of those with an order also the one that is off by one."

WRITES = frozenset(
    "DEL HDEL HINCRBY HSET INCRBY PEXPIREAT PUBLISH RENAME RPUSH SET ZADD ZPOPMIN ZREM".split()
)
READS = frozenset(
    "GET GETRANGE HGET HMGET LINDEX LLEN TIME TYPE ZCARD ZRANGE ZRANGEBYLEX ZRANGEBYSCORE"
    " ZREVRANGEBYLEX ZREVRANGEBYSCORE ZSCORE".split()
)

MOVES = frozenset(
    "begin end_solo enter finish follow forget leave place promote raise relieve set_aside take"
    " take_from tell tell_worker unfollow wake".split()
)
"Functions of the scripts that write; a call of one that stands for itself can be left out."

BEGINS_STATEMENT = frozenset({"then", "else", "do", "end", "repeat", ";", ")", "}"})
"A call behind one of these, or behind a name or a value, stands for itself."


@dataclass(frozen=True)
class Token:
    """A word of a script, with its place in the text."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Edit:
    """A change of one script's text."""

    file: str
    start: int
    end: int
    text: str
    name: str

    def applied(self, source: str) -> str:
        return source[: self.start] + self.text + source[self.end :]


@cache
def source_of(file: str) -> str:
    return resources.files("queuekit.store").joinpath(file).read_text("utf-8")


@cache
def files() -> list[str]:
    folder = resources.files("queuekit.store")
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".lua"))


def tokens(source: str) -> list[Token]:
    """The words of a script, without blanks and comments."""
    found, at = [], 0
    while at < len(source):
        match = TOKEN.match(source, at)
        assert match, f"no token of Lua: {source[at : at + 30]!r}"
        kind = match.lastgroup or ""
        if kind not in ("comment", "space"):
            found.append(Token(kind, match.group(), at, match.end()))
        at = match.end()
    return found


def edits() -> list[Edit]:
    """Every one, of all scripts, in the order of the text."""
    return [edit for file in files() for edit in _of_file(file)]


def _of_file(file: str) -> Iterator[Edit]:
    source = source_of(file)
    words = tokens(source)
    seen: Counter[str] = Counter()

    def named(start: int, end: int, text: str, what: str) -> Edit:
        name = f"{file}:{source.count(chr(10), 0, start) + 1} {what}"
        seen[name] += 1
        if seen[name] > 1:
            name = f"{name} #{seen[name]}"
        return Edit(file, start, end, text, name)

    for at, word in enumerate(words):
        if word.text in TURNED:
            for other in TURNED[word.text]:
                beside = _operand(words, at)
                yield named(word.start, word.end, other, f"{beside} {word.text} -> {other}")
        elif word.text in ("call", "pcall") and words[at - 2].text == "redis":
            edit = _without_write(source, words, at)
            if edit is not None:
                start, end, text, what = edit
                yield named(start, end, text, what)
        elif word.text in MOVES and words[at + 1].text == "(" and _stands_for_itself(words, at):
            end = _closing(words, at + 1).end
            yield named(word.start, end, "do end", f"without {_short(source[word.start : end])}")
        elif word.text == "1" and words[at - 1].text in "+-" and _is_value(words[at - 2]):
            sign = words[at - 1]
            yield named(
                sign.start,
                word.end,
                f"{sign.text} 0",
                f"{_operand(words, at - 1)} {sign.text} 1 -> 0",
            )


def _operand(words: list[Token], at: int) -> str:
    """What stands before an operator, in short."""
    before = words[at - 1]
    if before.text in (")", "]"):
        return f"...{before.text}"
    return before.text


def _is_value(word: Token) -> bool:
    return word.kind in ("name", "number") or word.text in (")", "]")


def _closing(words: list[Token], opening: int) -> Token:
    depth = 0
    for word in words[opening:]:
        depth += (word.text in ("(", "{", "[")) - (word.text in (")", "}", "]"))
        if depth == 0:
            return word
    raise AssertionError(f"a bracket is not closed at {words[opening].start}")


def _stands_for_itself(words: list[Token], at: int) -> bool:
    before = words[at - 1] if at else None
    if before is None or before.text in BEGINS_STATEMENT:
        return True
    if before.kind == "name":
        return before.text not in (
            "return",
            "and",
            "or",
            "not",
            "in",
            "if",
            "elseif",
            "function",
            "while",
        )
    return before.kind in ("number", "string")


def _without_write(source: str, words: list[Token], at: int) -> tuple[int, int, str, str] | None:
    """The call at a place left out, if it writes: the change, and its name."""
    command = words[at + 2]
    if command.kind != "string":
        return None  # a command that is named by a variable only reads
    name = command.text.strip("'\"")
    assert name in WRITES | READS, f"{name} is neither known to write nor to read"
    if name in READS:
        return None
    start, end = words[at - 2].start, _closing(words, at + 1).end
    arguments = source[words[at + 3].end : end - 1].strip()
    what = f"without {_short(f'{name} {arguments}')}"
    if _stands_for_itself(words, at - 2):
        return start, end, "do end", what
    if name == "ZPOPMIN":  # looked at, and left there
        return start, end, f"redis.call('ZRANGE', {arguments}, 0, 0)", what
    if name == "INCRBY":
        key, _, by = arguments.rpartition(",")
        return start, end, f"((redis.call('GET', {key}) or 0) + {by})", what
    return start, end, "0", what


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:57]}..."

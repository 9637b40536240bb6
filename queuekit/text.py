"""Text of values that are not ours: clipped, and safe when their own methods raise."""

from __future__ import annotations

import re

MAX_ERROR_BYTES = 32 * 1024
"UTF-8 bytes of an error's text; the end of a traceback tells more than its beginning, so that is kept."

_CLIPPED = b"[...]\n"


def text_of(error: BaseException) -> str:
    """An exception's text, also when its `__str__` raises."""
    try:
        return str(error)
    except Exception as broken:  # a user's class: its own bug must not hide the failure
        return f"<no text: its __str__ raised {type(broken).__name__}>"


def repr_of(value: object) -> str:
    """A value's repr, also when its `__repr__` raises."""
    try:
        return repr(value)
    except Exception as broken:  # as above
        return f"<{type(value).__name__}: its __repr__ raised {type(broken).__name__}>"


_BREAKS_LINES = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"Control characters, and whatever else some reader takes for the end of a line."


def breaks_lines(text: str) -> bool:
    """Whether it has a control character, or anything else that some reader takes for a new line."""
    return _BREAKS_LINES.search(text) is not None


def one_line(text: str) -> str:
    """The text for a log: what cannot be printed is escaped, so that it cannot pass for a line of its own."""
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "backslashreplace").decode()
        for character in text
    )


def gist(error: str) -> str:
    """The line of a traceback that names the exception, or the first line of a text; fit for a log."""
    last = error.rpartition("Traceback (most recent call last):\n")[2]
    lines = [line for line in last.splitlines() if line and not line[0].isspace()]
    return one_line(clip(lines[0] if lines else last.strip(), 300))


def clip(text: str, limit: int) -> str:
    """The text, or its beginning."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def clip_error(text: str) -> bytes:
    """An error's text as it is stored: its end, and always valid UTF-8."""
    # One character more than fits tells that there is more.
    written = text[-MAX_ERROR_BYTES - 1 :].encode("utf-8", "backslashreplace")
    if len(written) <= MAX_ERROR_BYTES:
        return written
    end = written[len(_CLIPPED) - MAX_ERROR_BYTES :].decode("utf-8", "ignore")
    return _CLIPPED + end.encode()

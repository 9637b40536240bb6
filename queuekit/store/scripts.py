"""The scripts of the store, each in a file of its own, as they are sent to the server."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

CLOCK_MARK = "-- queuekit: no expiry when given now"
"""Second line of every script, whose first argument is `now`. A simulation reads it: it fills in its
server's time when the script arrives; and it lets no foreign script set a server-side expiry, since a real
server's clock is not the test's."""


@dataclass(frozen=True)
class Script:
    """One script: its name, its text as the server gets it, and the SHA-1 that names it there."""

    name: str
    text: str
    sha: str

    @cached_property
    def raw(self) -> bytes:
        """The text as it is sent."""
        return self.text.encode()


@cache
def load(name: str) -> Script:
    """The script in `<name>.lua`, behind the prelude that all share."""
    folder = resources.files("queuekit.store")
    prelude = folder.joinpath("prelude.lua").read_text("utf-8")
    body = folder.joinpath(f"{name}.lua").read_text("utf-8")
    text = f"-- name: {name}\n{CLOCK_MARK}\n{prelude}\n{body}"
    return Script(name, text, sha_of(text))


def every() -> list[Script]:
    """All that there are."""
    return [load(name) for name in _names()]


@cache
def _names() -> list[str]:
    files = (each.name for each in resources.files("queuekit.store").iterdir())
    names = (name.removesuffix(".lua") for name in files if name.endswith(".lua"))
    return sorted(name for name in names if name != "prelude")


def sha_of(text: str) -> str:
    """The name of a script on the server. Nothing is protected by this SHA-1."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

"""The scripts of the store, each in a file of its own, as they are sent to the server."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
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


@cache
def load(name: str) -> Script:
    """The script in `<name>.lua`, behind the prelude that all share."""
    folder = resources.files("queuekit.store")
    prelude = folder.joinpath("prelude.lua").read_text("utf-8")
    body = folder.joinpath(f"{name}.lua").read_text("utf-8")
    text = f"-- name: {name}\n{CLOCK_MARK}\n{prelude}\n{body}"
    return Script(name, text, sha_of(text))


def sha_of(text: str) -> str:
    """The name of a script on the server. Nothing is protected by this SHA-1."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

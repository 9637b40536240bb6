"""Chance inside a simulation: `random`, `os.urandom`, `secrets`, `uuid` and `tempfile` follow the seed.

So do generators that are made, or seeded anew, without a seed of their own (`random.Random()`).
Names of temporary files are drawn anew while a file of that name is there, so they follow the seed as far
as what earlier runs have left behind lets them.

Outside of it (other threads, and this one between two runs of the loop) the machine's own entropy
stays what it is. The state of the module `random` is one for the whole process: it is seeded when a
world begins and put back when it ends.
"""

from __future__ import annotations

import contextlib
import os
import random
import tempfile
import uuid
from collections.abc import Iterator
from types import MethodType
from typing import Any

from queuekit.simulation.scope import current_loop

_real_urandom = os.urandom
_real_seed = random.Random.seed
SEED_BYTES = 32
"Of chance for a generator that is given no seed."

_real_names: Iterator[str] = tempfile._RandomNameSequence()  # type: ignore[attr-defined]

NAME_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789_"
NAME_LENGTH = 8
"Of the part of a temporary file's name that is drawn, as in Python's library."

NODE = 0x020000000001
"The network address in uuid1: locally administered, nobody's."


class _TemporaryNames:
    """What `tempfile` draws: in a simulation by its seed, outside as ever."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._source: random.Random | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if current_loop() is None:
            return next(_real_names)
        if self._source is None:
            self._source = random.Random(f"queuekit names {self._seed}")  # noqa: S311 (as below)
        return "".join(self._source.choices(NAME_CHARACTERS, k=NAME_LENGTH))


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let chance follow the seed while the block lasts, in code inside the simulation."""
    source: random.Random | None = None  # made when it is asked: most small runs never do

    def urandom(size: int) -> bytes:
        nonlocal source
        if current_loop() is None:
            return _real_urandom(size)
        if source is None:
            source = random.Random(f"queuekit entropy {seed}")  # noqa: S311 (to be guessed is the point)
        return source.randbytes(size)

    def seed_it(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None and current_loop() is not None:
            a = int.from_bytes(urandom(SEED_BYTES))
        _real_seed(self, a, version)

    before = random.getstate()
    patches: list[tuple[Any, str, Any]] = [
        (os, "urandom", urandom),
        (os, "getrandom", lambda size, flags=0: urandom(size)),
        (random, "_urandom", urandom),
        (random.Random, "seed", seed_it),
        (random, "seed", MethodType(seed_it, random._inst)),
        (tempfile, "_name_sequence", _TemporaryNames(seed)),
        (uuid, "_generate_time_safe", None),
        (uuid, "_UuidCreate", None),
        (uuid, "_node", NODE),
        (uuid, "_last_timestamp", None),
    ]
    saved = [(owner, name, getattr(owner, name, None)) for owner, name, _ in patches]
    for owner, name, value in patches:
        setattr(owner, name, value)
    random.seed(f"queuekit random {seed}")
    try:
        yield
    finally:
        random.setstate(before)
        for owner, name, value in saved:
            setattr(owner, name, value)

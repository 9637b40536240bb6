"""Chance inside a simulation: `random`, `os.urandom`, `secrets` and `uuid` follow the seed.

Outside of it (other threads, and this one between two runs of the loop) the machine's own entropy
stays what it is. The state of the module `random` is one for the whole process: it is seeded when a
world begins and put back when it ends.
"""

from __future__ import annotations

import contextlib
import os
import random
import uuid
from collections.abc import Iterator
from typing import Any

from queuekit.simulation.scope import current_loop

_real_urandom = os.urandom
NODE = 0x020000000001
"The network address in uuid1: locally administered, nobody's."


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

    before = random.getstate()
    patches: list[tuple[Any, str, Any]] = [
        (os, "urandom", urandom),
        (random, "_urandom", urandom),
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

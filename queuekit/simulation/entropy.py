"""Chance inside a simulation: `random`, `os.urandom`, `secrets` and `uuid` follow the seed.

So do generators that are made, or seeded anew, without a seed of their own (`random.Random()`).

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
from types import MethodType
from typing import Any

from queuekit.simulation.scope import current_loop

_real_urandom = os.urandom
_real_seed = random.Random.seed
SEED_BYTES = 32
"Of chance for a generator that is given no seed."

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

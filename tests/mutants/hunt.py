"""Looking for a mutant with the default stories, in a process of its own with a limit of time."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from tests.mutants.catalogue import catalogue
from tests.mutants.stories import STORIES
from tests.mutants.trial import live

HUNG_S = 40.0
"""A run of which nothing is heard for so long turns in a circle, mostly in a script. The longest take a
second of the processor's time, but it may be shared."""

HEAVY = ("rolling", "many", "deploy", "half_a_deploy")
"Stories of some hundred commands; the others have their turn more often."

HEAVY_EACH = 6
"Every so manieth seed."


@dataclass(frozen=True)
class Hunted:
    """What came of the hunt for one mutant."""

    mutant: str
    promise: str
    "The first one that broke; empty: it survived."
    what: str
    story: str
    seed: int
    runs: int
    seconds: float

    @property
    def found(self) -> bool:
        return bool(self.promise)


def runs(first: tuple[str, int] | None = None) -> Iterator[tuple[str, int]]:
    """Story and seed of each run: each story as it is planned, then each with one seed after the other."""
    if first is not None:
        yield first
    for seed in itertools.count():
        for story in STORIES:
            if story not in HEAVY or seed % HEAVY_EACH == 0:
                yield story, seed


def hunt(
    name: str,
    limit_s: float,
    first: tuple[str, int] | None = None,
    begins: Callable[[], object] = lambda: None,
) -> Hunted:
    """Run the stories with the mutant in force until one breaks a promise, in this process."""
    began = time.process_time()
    with catalogue()[name].in_force():
        for number, (story, seed) in enumerate(runs(first), 1):
            begins()
            found = live(STORIES[story], seed)
            seconds = time.process_time() - began
            if found is not None:
                return Hunted(name, found.promise, found.what[:300], story, seed, number, seconds)
            if seconds >= limit_s:
                return Hunted(name, "", "", "", -1, number, seconds)
    raise AssertionError("there is always another seed")


def hunt_apart(
    name: str,
    limit_s: float,
    first: tuple[str, int] | None = None,
    *,
    patience_s: float = HUNG_S,
) -> Hunted:
    """The same in a process of its own: what never comes back is ended, and counts as found."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    began = time.perf_counter()
    process = context.Process(target=_in_child, args=(theirs, name, limit_s, first))
    process.start()
    theirs.close()
    try:
        while ours.poll(patience_s):
            hunted: Hunted | str | None = ours.recv()
            if hunted is None:
                continue  # another run, which has begun
            if isinstance(hunted, str):
                raise RuntimeError(f"the hunt for {name!r} broke, and says nothing:\n{hunted}")
            return hunted
    finally:
        process.kill()
        process.join()
        ours.close()
    what = "a run did not come back: a script or a loop turns in a circle"
    return Hunted(name, "hangs", what, "", -1, 0, time.perf_counter() - began)


def _in_child(answer: Connection, name: str, limit_s: float, first: Any) -> None:
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 2)  # what a dead process leaves behind is told by the interpreter's end
    try:
        answer.send(hunt(name, limit_s, first, lambda: answer.send(None)))
    except BaseException:  # told by the parent: it is no finding
        answer.send(traceback.format_exc())
    answer.close()
    os._exit(0)

"""Living through a run in two other processes, whose sets have other orders, and comparing them.

Within one process the order of a set of texts is always the same, so a run that follows it seems to follow
its seed. Python draws that order anew for each process (PYTHONHASHSEED). Compared are the two with each
other, and neither with the process that explores: what a test has patched there, and what its runs have
left behind, is not in the others. Both live through the same runs one after the other, while nobody else
does, since a story may use files.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from queuekit.exploration.errors import NotRepeatable
from queuekit.exploration.failures import fields_of, obstacle_of, place_of
from queuekit.exploration.living import Plan, Story, Terms
from queuekit.simulation.trace import first_difference

PAIR = ("1", "2")
"The PYTHONHASHSEED of each of the two: a set of two texts has two orders, and one of three has six."

ANSWER_S = 60.0
"Real seconds after which a process that does not answer is given up. The first answer imports the story."


class Asked(NamedTuple):
    """A run that another process is to live through."""

    folder: str
    paths: list[str]
    story: str
    fields: dict[str, Any]
    plan: Plan


class Told(NamedTuple):
    """What came of it."""

    digest: str
    error: str = ""
    "Why it could not be lived; then there is no digest."


class _Other:
    """One of the two processes."""

    def __init__(self, hash_seed: str) -> None:
        self.hash_seed = hash_seed
        self._connection, other = multiprocessing.Pipe()
        paths = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(  # noqa: S603 (this Python, and a module of our own)
            [sys.executable, "-m", "queuekit.exploration.other_process", str(other.fileno())],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths},
            pass_fds=[other.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        other.close()

    def ask(self, what: Asked | None) -> Any:
        """What it says of a run; for None, the lines of the last one's trace.

        Raises:
            OSError, EOFError: it has died, or does not answer in time.
        """
        self._connection.send(what)
        if not self._connection.poll(ANSWER_S):
            raise TimeoutError(f"it did not answer within {ANSWER_S:g} s")
        return self._connection.recv()

    def end(self, *, patience: float = 5.0) -> None:
        """Let it go; it ends when nobody can ask it any more."""
        self._connection.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Pair:
    """The two processes, for as long as this one lives."""

    def __init__(self) -> None:
        self._others: list[_Other] = []
        self._of = 0

    def start(self) -> list[_Other]:
        """Both of them; they are begun if they are not there."""
        if self._of != os.getpid():  # forked: those of the parent are the parent's
            self._others = []
        if not self._others:
            self._of = os.getpid()
            self._others = [_Other(seed) for seed in PAIR]
        return self._others

    def end(self) -> None:
        others, self._others = self._others, []
        if self._of == os.getpid():
            for other in others:
                other.end()


_pair = _Pair()
atexit.register(_pair.end)


def why_not(story: Story, terms: Terms) -> str:
    """Why a run cannot be lived in another process; empty if it can."""
    if terms.backend not in ("fakeredis", "server", "both"):
        return "the server that is given by its address is used by this one"
    return obstacle_of(story, terms)


def begin(story: Story, terms: Terms) -> None:
    """Start the processes, if they will be asked; they are ready when something else has been done."""
    if not why_not(story, terms):
        _pair.start()


def compared(story: Story, plans: Sequence[Plan], terms: Terms) -> str:
    """Live through runs in both of the processes; in words, what was done, or why nothing was.

    Raises:
        NotRepeatable: one of them is not the same in both.
    """
    why = why_not(story, terms)
    folder = Path.cwd()
    for plan in plans if not why else ():
        asked = Asked(
            str(folder), sys.path[:], place_of(folder, story), fields_of(folder, story, terms), plan
        )
        try:
            _compare(asked, _pair.start())
        except (OSError, EOFError) as error:
            _pair.end()
            why = f"a process died of it, or hung ({type(error).__name__}: {error})"
        except LookupError as error:
            why = str(error)
        if why:
            break
    if why:
        return f"no run was compared with one in another process: {why}"
    return f"{len(plans)} runs were the same in two processes whose sets have other orders"


def _compare(asked: Asked, others: list[_Other]) -> None:
    told: list[Told] = [other.ask(asked) for other in others]
    if error := told[0].error or told[1].error:
        raise LookupError(error)
    if told[0].digest == told[1].digest:
        return
    lines = [other.ask(None) for other in others]
    seeds = " and in one with ".join(f"PYTHONHASHSEED={other.hash_seed}" for other in others)
    raise NotRepeatable(
        f"seed {asked.plan.seed} (schedule {asked.plan.schedule}) was lived through in a process with"
        f" {seeds}, and was not the same: {first_difference(*lines)}\n"
        "  (- is the first process, + the second.)\n"
        "  A run is to follow its decisions alone. Something in it follows the order of a set of texts,\n"
        "  which is another one in each process, or an address in memory.\n"
        "  Sort what the code goes through at the line shown: for order in sorted(orders)."
    )

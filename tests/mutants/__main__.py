"""`make mutants`: hunt for each mutant, and write the table; `make explore`: the queue as it is."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from tests.mutants.catalogue import catalogue, equivalent
from tests.mutants.hunt import Hunted, hunt_apart, runs
from tests.mutants.stories import STORIES
from tests.mutants.table import keep, known, totals, write_page
from tests.mutants.trial import live

LIMIT_S = 60.0
"Of the processor's time, a mutant."


def main() -> int:
    """Do what was asked for; 1 if a mutant was not found, or the unbroken queue broke a promise."""
    options = _options()
    if options.unbroken is not None:
        return _unbroken(options.unbroken * 60)
    hunted = {} if options.anew else known()
    names = options.names or [name for name in catalogue() if name not in equivalent()]
    unknown = sorted(set(names) - set(catalogue()))
    if unknown:
        _say(f"there is no mutant {unknown[0]!r}; docs/mutants.md has their names.")
        return 2
    if not options.names:  # one that was not found, or has changed, is hunted again
        names = [name for name in names if not (name in hunted and hunted[name].found)]
    _hunt(names, hunted, options.seconds, options.jobs)
    write_page(hunted)
    _say(totals(hunted))
    return 0 if all(hunted[name].found for name in names) else 1


def _hunt(names: list[str], hunted: dict[str, Hunted], seconds: float, jobs: int) -> None:
    with ThreadPoolExecutor(jobs) as pool:
        for each in pool.map(lambda name: hunt_apart(name, seconds), names):
            hunted[each.mutant] = each
            keep(hunted)  # at once: whoever stops this goes on from here
            told = f"{each.promise} ({each.story}, seed {each.seed})" if each.found else "NOT FOUND"
            _say(f"{each.mutant} | {told} | {each.runs} runs | {each.seconds:.1f} s")


def _unbroken(seconds: float) -> int:
    end = time.perf_counter() + seconds
    for number, (story, seed) in enumerate(runs()):
        if time.perf_counter() >= end:
            _say(
                f"{number} runs of {len(STORIES)} stories in {seconds / 60:g} min: no promise was broken."
            )
            return 0
        found = live(STORIES[story], seed)
        if found is not None:
            _say(f"{story}, seed {seed}, breaks {found.promise}: {found.what}")
            return 1
    raise AssertionError("there is always another run")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description="Without names: all mutants that were not found yet; found.jsonl keeps what is known.",
    )
    parser.add_argument("names", nargs="*", help="mutants to hunt again")
    parser.add_argument("--seconds", type=float, default=LIMIT_S, help="for each (default 60)")
    parser.add_argument("--jobs", type=int, default=2, help="at one time (default 2)")
    parser.add_argument("--anew", action="store_true", help="forget what is known")
    parser.add_argument(
        "--unbroken", type=float, metavar="MINUTES", help="no mutant: the queue as it is"
    )
    return parser.parse_args()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""The battery as a program: `python -m tests.chaos --help`."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from redis import __version__ as redis_version

from queuekit.simulation.private_server import start_private_server
from tests.chaos.battery import run
from tests.chaos.form import FULL, NO_FAULT, SHORT, SKEWED, Form
from tests.chaos.peers import PEERS, version
from tests.chaos.poison import poisoning
from tests.chaos.table import broken, details, poison_rows, rows, table, total
from tests.chaos.verdict import Verdict

NO_FAULT_RUNS = 10

OPTIONS = [field for field in fields(Form) if field.name != "title"]


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Run what was asked for; 1 if queuekit broke a promise."""
    options = _options()
    peers = sorted(PEERS, reverse=True) if options.peer == "both" else [options.peer]
    say(_machine(peers))
    given = {f.name: getattr(options, f.name) for f in OPTIONS}
    changed = {name: value for name, value in given.items() if value is not None}
    bad: list[str] = []
    if options.full:
        bad += _battery(peers, replace(FULL, **changed), 1, options.keep)
        bad += _battery(peers, replace(SKEWED, **changed), 1, options.keep)
        bad += _poison(peers)
        bad += _battery(peers, replace(NO_FAULT, **changed), NO_FAULT_RUNS, options.keep)
    elif options.poison:
        bad += _poison(peers)
    else:
        form = replace(Form() if changed else SHORT, **changed)
        bad += _battery(peers, form, options.runs, options.keep)
    for line in bad:
        say(f"broken: {line}")
    return 1 if bad else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos",
        description="Faults on real processes and a real server. Without numbers: the short form.",
    )
    parser.add_argument("--full", action="store_true", help="what `make chaos` runs")
    parser.add_argument("--poison", action="store_true", help="a job that kills its worker, alone")
    parser.add_argument("--peer", choices=[*PEERS, "both"], default="queuekit")
    parser.add_argument("--runs", type=int, default=1, help="how often, for the numbers in one")
    parser.add_argument("--keep", type=Path, help="a folder for evidence and logs")
    for field in OPTIONS:
        kind = float if field.name.endswith("_s") else int
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=kind, dest=field.name)
    return parser.parse_args()


def _battery(peers: Sequence[str], form: Form, runs: int, keep: Path | None) -> list[str]:
    verdicts: dict[str, Verdict] = {}
    for peer in peers:
        found = []
        for number in range(runs):
            folder = None if keep is None else keep / f"{form.title}-{peer}-{number}"
            if folder is not None:
                folder.mkdir(parents=True)
            one = replace(form, seed=form.seed + number)
            found.append(asyncio.run(run(peer, one, folder=folder, say=say)))
            say(f"    {form.title}, {peer}: run {number + 1} of {runs} is over")
        verdicts[peer] = total(found)
    title = f"{form.title}: {form.describe()}" + (f", {runs} runs" if runs > 1 else "")
    say("\n" + table(title, {version(peer): rows(verdicts[peer]) for peer in peers}) + "\n")
    for peer in peers:
        for line in details(peer, verdicts[peer]):
            say(line)
    return broken(form, verdicts["queuekit"]) if "queuekit" in verdicts else []


def _poison(peers: Sequence[str]) -> list[str]:
    found = {peer: asyncio.run(poisoning(peer, say)) for peer in peers}
    columns = {version(peer): poison_rows(found[peer]) for peer in peers}
    say("\n" + table("a job that kills its worker, and nine innocent ones", columns) + "\n")
    if "queuekit" not in found or found["queuekit"].sound:
        return []
    return [f"poison: {found['queuekit']}, expected at most 3 deaths and all 9 innocents complete"]


def _machine(peers: Sequence[str]) -> str:
    server = start_private_server()
    server.close()
    said = [f"Python {platform.python_version()}", server.version, f"redis-py {redis_version}"]
    said += [version(peer) for peer in peers]
    return f"{', '.join(said)}, {os.cpu_count()} cores, {platform.machine()}\n"


if __name__ == "__main__":
    raise SystemExit(main())

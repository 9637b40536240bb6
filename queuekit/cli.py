"""The command line: record and replay scenarios."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from queuekit.errors import QueuekitError

if TYPE_CHECKING:
    from queuekit.simulation.scenario import Scenario

OK, DIFFERS, NOT_RECORDED, FAILED = 0, 1, 3, 2
"Exit codes: as recorded; another trace; nothing recorded with these versions; it could not be run."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code."""
    options = _parser().parse_args(arguments)
    command = {"replay": _replay, "record": _record}[options.command]
    try:
        return command(options)
    except QueuekitError as error:
        print(f"queuekit: {error}", file=sys.stderr)
        return FAILED
    except (
        Exception,
        SystemExit,
    ) as error:  # the story's; an end of the program would be a code of its own
        traceback.print_exception(error)
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        print(f"queuekit: {options.file} could not be run to its end: {what}", file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="queuekit",
        description="Simulated runs of job queues.",
        epilog="Exit codes: 0 as recorded, 1 another trace, 2 it could not be run, "
        "3 nothing was recorded with these versions.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, what in (
        ("replay", "live through a scenario and compare its trace with the recorded one"),
        ("record", "live through a scenario and write its trace into the file"),
    ):
        command = commands.add_parser(name, help=what, description=what)
        either = ", or the token of a failure" if name == "replay" else ""
        command.add_argument("file", help=f"a scenario file (scenarios/*.toml){either}")
        command.add_argument(
            "--backend",
            help="fakeredis (default; of a failure the one that found it), server, both, or"
            " redis://host:port/database",
        )
        command.add_argument(
            "--flush", action="store_true", help="let the database of redis://... be emptied"
        )
    return parser


def _replay(options: argparse.Namespace) -> int:
    # Only here: what simulates is not part of a production install.
    from queuekit.exploration import failures  # noqa: PLC0415
    from queuekit.simulation import scenario  # noqa: PLC0415

    chosen = scenario.read(failures.found(options.file))
    if chosen.is_failure:
        return _relive(chosen, options)
    trace = scenario.run(chosen, backend=options.backend or "fakeredis", flush=options.flush)
    versions = scenario.current_versions()
    recording = chosen.recording_for(versions)
    print(f"{options.file}: {trace.count:,} lines, trace {trace.digest()}")
    if recording is None:
        shown = ", ".join(f"{name} {version}" for name, version in versions.items())
        print(f"nothing was recorded with {shown}; queuekit record {options.file} does it.")
        return NOT_RECORDED
    difference = scenario.compare(recording, trace)
    print(difference or "as recorded.")
    return OK if difference is None else DIFFERS


def _relive(chosen: Scenario, options: argparse.Namespace) -> int:
    """Live through a failure; whether it still breaks what it broke."""
    from queuekit.exploration import failures  # noqa: PLC0415 (as above)

    replayed = failures.replay(chosen, backend=options.backend, flush=options.flush)
    print(replayed.run.story)
    broken = replayed.run.broken
    print(failures.in_words(broken) if broken else "nothing is broken.")
    if replayed.as_recorded:
        print("as recorded.")
        return OK
    print(f"recorded was: {replayed.expected} is broken.")
    return DIFFERS


def _record(options: argparse.Namespace) -> int:
    from queuekit.simulation import scenario  # noqa: PLC0415 (as above)

    chosen = scenario.read(Path(options.file))
    backend = options.backend or "fakeredis"
    made = scenario.record(chosen, backend=backend, flush=options.flush)
    print(f"{options.file}: recorded {made.lines:,} lines, trace {made.trace}")
    return OK

"""Failures, kept as scenario files: each by a short token, replayed first the next time.

A file has what the run was lived with and what it broke:

    version = 1
    scenario = "../../tests/test_shop.py:story"
    seed = 17
    schedule = "fifo"
    faults = ["kill"]
    limit = 3600.0

    [expect]
    promise = "P1"
    what = "..."

    [[choices]]
    site = "swarm.kill:worker-1:commit reply"
    nth = 1
    value = 1
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from queuekit.exploration.errors import NoSuchFailure
from queuekit.exploration.living import Breach, Plan, Run, Story, Terms, checkers_of, run_once
from queuekit.exploration.silence import silent
from queuekit.exploration.swarm import anything
from queuekit.simulation import scenario
from queuekit.simulation.chooser import Deviation
from queuekit.simulation.scenario import Scenario

KEPT = ".queuekit/failures"
"Where failures are kept, from the folder in which tests are run."


@dataclass(frozen=True)
class Failure:
    """A failing run, reduced."""

    promise: str
    "What it breaks; see `Breach.promise`."
    what: str
    seed: int
    tape: tuple[Deviation, ...]
    story: str
    "In words, with virtual times."
    token: str
    schedule: str = "fifo"
    faults: tuple[str, ...] = ()
    at_s: float = 0.0
    path: Path | None = None
    "The file in which it is kept."
    importable: bool = True
    "Whether a command can replay it; the story is a module's own function, and so are its invariants."

    def plan(self) -> Plan:
        """What it is lived with."""
        return plan_of(self.seed, self.schedule, self.faults, self.tape)


def plan_of(
    seed: int, schedule: str, faults: Sequence[str], tape: Sequence[Deviation] | None
) -> Plan:
    """The plan that takes a tape's decisions again."""
    return Plan(seed, schedule, anything(faults), tuple(tape or ()))


def target_of(function: Callable[..., object]) -> tuple[Path, str, bool]:
    """File and name of a function, and whether it can be imported by them."""
    function = inspect.unwrap(function)
    function = getattr(function, "func", function)  # a partial's
    name = getattr(function, "__qualname__", type(function).__qualname__)
    try:
        file = Path(inspect.getsourcefile(function) or "")
    except TypeError:
        file = Path(getattr(inspect.getmodule(function), "__file__", None) or "")
    return file, name, bool(file.suffix == ".py" and name.isidentifier())


def token_of(story: Story, promise: str, seed: int, tape: Sequence[Deviation]) -> str:
    """Eight hexadecimal digits that stand for a failure."""
    file, name, _ = target_of(story)
    decisions = [(d.site, d.nth, d.value) for d in tape]
    text = json.dumps([file.name, name, promise, seed, decisions])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


class Kept:
    """The failures of one story that are kept in a folder.

    Args:
        folder: made when there is something to keep.
        story: whose they are, by its file and name.
    """

    def __init__(self, folder: Path, story: Story) -> None:
        self._folder = folder
        self._file, self._name, _ = target_of(story)

    def all(self) -> list[Scenario]:
        """Those that there are, in the order of their tokens."""
        found = []
        for path in sorted(self._folder.glob("*.toml")):
            kept = scenario.read(path)
            file, _, name = kept.target.partition(":")
            if name == self._name and (path.parent / file).resolve() == self._file.resolve():
                found.append(kept)
        return found

    def keep(self, failure: Failure, terms: Terms) -> Failure:
        """Write it down."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{failure.token}.toml"
        path.write_text(_written(failure, terms, self._target(), self._folder), "utf-8")
        return replace(failure, path=path)

    def _target(self) -> str:
        return f"{_from(self._folder, self._file)}:{self._name}"

    @staticmethod
    def forget(kept: Scenario) -> None:
        """It does not fail any more."""
        kept.path.unlink(missing_ok=True)


def _from(folder: Path, file: Path) -> str:
    return os.path.relpath(file.resolve(), folder.resolve())


def _written(failure: Failure, terms: Terms, target: str, folder: Path) -> str:
    lines = [
        f"version = {scenario.VERSION}",
        f"scenario = {_quoted(target)}",
        f"seed = {failure.seed}",
        f"schedule = {_quoted(failure.schedule)}",
        f"faults = [{', '.join(map(_quoted, failure.faults))}]",
        f"limit = {terms.limit!r}",
        f"steps = {terms.steps}",
    ]
    if terms.once:
        lines.append(f"once = [{', '.join(map(_quoted, terms.once))}]")
    if terms.invariants:
        named = [target_of(rule) for rule in terms.invariants]
        words = ", ".join(_quoted(f"{_from(folder, file)}:{name}") for file, name, _ in named)
        lines.append(f"invariants = [{words}]")
    lines += ["", "[expect]", f"promise = {_quoted(failure.promise)}", f"at = {failure.at_s!r}"]
    lines.append(f"what = {_quoted(failure.what)}")
    for d in failure.tape:
        lines += ["", "[[choices]]", f"site = {_quoted(d.site)}"]
        lines += [f"nth = {d.nth}", f"value = {d.value}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """As TOML has it, whose strings are JSON's."""
    writable = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(writable, ensure_ascii=False).replace("\x7f", "\\u007f")


def relive(kept: Scenario, story: Story, terms: Terms, *, tell: bool = False) -> Run:
    """Live through a kept failure again."""
    options = kept.exploring
    plan = plan_of(
        kept.options.get("seed", 0),
        options.get("schedule", "fifo"),
        options.get("faults", ()),
        kept.choices,
    )
    return run_once(story, plan, terms, tell=tell)


@dataclass(frozen=True)
class Replayed:
    """What a replay has shown."""

    run: Run
    expected: str
    "The promise that the recorded run broke."

    @property
    def as_recorded(self) -> bool:
        """Whether the same promise broke."""
        return self.run.broken is not None and self.run.broken.promise == self.expected


def replay(kept: Scenario, *, backend: str = "fakeredis", flush: bool = False) -> Replayed:
    """Live through a failure's file.

    Raises:
        SimulationError: its story, or an invariant of it, cannot be imported; the message says how
            such a failure is replayed.
    """
    options: dict[str, Any] = dict(kept.exploring)
    story = _loaded(kept, kept.target)
    terms = Terms(
        backend=backend,
        flush=flush,
        limit=float(options.get("limit", Terms.limit)),
        steps=int(options.get("steps", Terms.steps)),
        once=tuple(options.get("once", ())),
        invariants=tuple(_loaded(kept, target) for target in options.get("invariants", ())),
        checkers=checkers_of(story),
    )
    with silent():
        run = relive(kept, story, terms, tell=True)
    return Replayed(run, str(options.get("expect", {}).get("promise", "")))


def _loaded(kept: Scenario, target: str) -> Any:
    file, _, name = target.partition(":")
    if not name.isidentifier():
        raise NoSuchFailure(
            f"{kept.path}: {name!r} of {file} is not a function of the module itself, so no command can"
            " call it.\n"
            f"  Run its test again: explore() replays what was kept first.  pytest {file}\n"
            "  A story at the top of its module can be replayed by a command."
        )
    return replace(kept, target=target).load()


def found(which: str, folder: Path | None = None) -> Path:
    """The file that a token or a path means.

    Raises:
        NoSuchFailure: there is none.
    """
    path = Path(which)
    if path.suffix == ".toml" or path.exists():
        return path
    folder = folder or Path(KEPT)
    kept = folder / f"{which}.toml"
    if not kept.is_file():
        known = ", ".join(sorted(each.stem for each in folder.glob("*.toml"))) or "none"
        raise NoSuchFailure(
            f"{which!r} is neither a scenario file nor the token of a failure in {folder}.\n"
            f"  Tokens there: {known}.\n"
            "  Run it in the folder in which the tests were run; a failure that has been mended is gone."
        )
    return kept


def in_words(breach: Breach) -> str:
    """A breach, as a message begins."""
    return f"{breach.promise} is broken at {breach.at_s:g} s: {breach.what}"

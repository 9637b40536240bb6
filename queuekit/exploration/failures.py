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
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from queuekit.exploration.errors import NoSuchFailure, NotRepeatable
from queuekit.exploration.living import Breach, Plan, Run, Story, Terms, checkers_of, run_once
from queuekit.exploration.silence import silent
from queuekit.exploration.swarm import anything
from queuekit.exploration.targets import target_of
from queuekit.exploration.telling import PROMISES
from queuekit.simulation import scenario
from queuekit.simulation.chooser import Deviation
from queuekit.simulation.errors import SimulationError
from queuekit.simulation.scenario import Scenario

KEPT = ".queuekit/failures"
"Where failures are kept, from the folder in which tests are run."

HASH_SEEDS = ("1", "2", "3")
"Under which a kept failure must pass, too, before it is deleted: a set of two texts has two orders."

REPLAY_S = 60.0
"Real seconds after which such a replay is given up."

_TERMS = ("limit", "steps", "backend", "check", "once", "invariants", "checkers")
"Fields of a failure's file that have to be the same before it is deleted, beside its versions."

_TOKEN = re.compile("[0-9a-f]{8}")


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
    obstacle: str = ""
    "Why no command can replay it; empty if one can."

    @property
    def importable(self) -> bool:
        """Whether a command can replay it: story, invariants and checkers are found by their names."""
        return not self.obstacle

    def plan(self) -> Plan:
        """What it is lived with."""
        return plan_of(self.seed, self.schedule, self.faults, self.tape)


def plan_of(
    seed: int, schedule: str, faults: Sequence[str], tape: Sequence[Deviation] | None
) -> Plan:
    """The plan that takes a tape's decisions again."""
    return Plan(seed, schedule, anything(faults), tuple(tape or ()))


def obstacle_of(story: Story, terms: Terms) -> str:
    """Why no command can replay a failure of it; empty if one can."""
    named: list[tuple[str, object]] = [("story", story)]
    named += [("invariant", rule) for rule in terms.invariants]
    named += [("checker", each) for each in _given_checkers(story, terms)]
    for what, thing in named:
        target = target_of(thing, story)
        if not target.importable:
            return f"its {what} ({target.name}) has no name of its own in a module"
    return ""


def _given_checkers(story: Story, terms: Terms) -> list[object]:
    """Those that the story does not bring along by itself."""
    own = checkers_of(story)
    return [each for each in terms.checkers if not any(each is other for other in own)]


def name_of(story: Story, name: str) -> str:
    """By which the failures of a story are known, beside its file and name.

    The one that was given; else, for a story that has no name of its own in a module, the test that runs:
    one function may make many stories, and a test of many parameters is many tests.
    """
    return name or ("" if target_of(story).importable else running_test())


def running_test() -> str:
    """The test that pytest runs, as it is called on the command line; empty if none runs."""
    return os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]


def token_of(
    story: Story, promise: str, seed: int, tape: Sequence[Deviation], name: str = ""
) -> str:
    """Eight hexadecimal digits that stand for a failure, wherever it is kept.

    Stories of one name in two files of one name have two tokens.
    """
    file, of, _ = target_of(story)
    decisions = [(d.site, d.nth, d.value) for d in tape]
    whose = [Path(os.path.relpath(file)).as_posix(), of, *filter(None, [name_of(story, name)])]
    text = json.dumps([*whose, promise, seed, decisions])
    return hashlib.sha256(text.encode()).hexdigest()[:8]


class Kept:
    """The failures of one story that are kept in a folder.

    Args:
        folder: made when there is something to keep.
        story: whose they are, by its file and name.
        name: by which they are known besides; see `name_of`.
    """

    def __init__(self, folder: Path, story: Story, name: str = "") -> None:
        self._folder = folder
        self._story = story
        self._name = name_of(story, name)
        self._target = place_of(folder, story)

    def all(self) -> list[Scenario]:
        """Those that there are, in the order of their files; scenarios of other kinds are none of them."""
        found = []
        for path in sorted(self._folder.glob("*.toml")):
            try:
                kept = scenario.read(path)
            except SimulationError:
                if _TOKEN.fullmatch(path.stem):  # one of ours, spoiled
                    raise
                continue  # somebody else's file, of whatever kind
            if (
                kept.is_failure
                and kept.exploring.get("name", "") == self._name
                and _same_target(self._folder, kept.target, self._target)
            ):
                found.append(kept)
        return found

    def keep(self, failure: Failure, terms: Terms) -> Failure:
        """Write it down.

        Raises:
            OSError: it could not be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{failure.token}.toml"
        fields = fields_of(self._folder, self._story, terms)
        path.write_text(_written(failure, self._target, fields), "utf-8")
        return replace(failure, path=path)

    def forget(self, kept: Scenario, terms: Terms) -> bool:
        """Delete what does not fail any more; whether it is gone.

        It stays if exploration has not written it, or if it was found on other terms or with other
        versions: then that it does not fail says nothing.

        Raises:
            NotRepeatable: it fails in a process whose sets have another order.
        """
        ours = {
            "token": kept.path.stem,
            "versions": scenario.current_versions(),
            **dict.fromkeys(_TERMS),
            **fields_of(self._folder, self._story, terms),
        }
        ours.pop("test", None)  # it may have another name now
        if any(kept.exploring.get(name) != value for name, value in ours.items()):
            return False
        if not obstacle_of(self._story, terms):
            _fails_nowhere(kept.path)
        kept.path.unlink(missing_ok=True)
        return True


def keep(kept: Kept | None, failure: Failure, terms: Terms) -> tuple[Failure, str]:
    """Keep a failure if there is where to; and how it is replayed, in words."""
    if kept is None:
        return failure, "run this test again, which looks for it anew (it was not kept: kept=None)"
    try:
        failure = kept.keep(failure, terms)
    except OSError as error:  # what was found counts more than that it can be kept
        return (
            failure,
            f"run this test again, which looks for it anew (it could not be kept: {error})",
        )
    if failure.obstacle:
        test = running_test()
        again = f": pytest {shlex.quote(test)}" if test else ""
        return failure, (
            f"run this test again, in which the kept failure comes first{again}\n"
            f"  (no command can: {failure.obstacle})"
        )
    assert failure.path is not None
    which = failure.token if failure.path.parent == Path(KEPT) else str(failure.path)
    command = f"python -m queuekit replay {shlex.quote(which)}"
    if terms.backend not in ("fakeredis", "server", "both"):
        command += (
            "\n  (with --backend and the address that was explored, if it does not fail without)"
        )
    return failure, command


def _fails_nowhere(path: Path) -> None:
    """Replay a failure in processes whose sets have other orders.

    Raises:
        NotRepeatable: it fails in one of them.
    """
    for hash_seed in HASH_SEEDS:
        seen = {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        try:
            done = subprocess.run(  # noqa: S603 (this Python, and a file of our own)
                [sys.executable, "-m", "queuekit", "replay", str(path)],
                env={**os.environ, **seen},
                capture_output=True,
                timeout=REPLAY_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            continue  # whoever cannot be asked says nothing against it
        if done.returncode == 0:
            raise NotRepeatable(
                f"the failure that is kept in {path} does not fail here, and fails in a process with"
                f" PYTHONHASHSEED={hash_seed}.\n"
                "  Something in the story, or in what it runs, follows the order of a set of texts, which is"
                " another one in each process. Sort it.\n"
                f"  PYTHONHASHSEED={hash_seed} python -m queuekit replay {shlex.quote(str(path))}"
            )


def _same_target(folder: Path, one: str, other: str) -> bool:
    (file, _, name), (other_file, _, other_name) = one.partition(":"), other.partition(":")
    return name == other_name and (folder / file).resolve() == (folder / other_file).resolve()


def place_of(folder: Path, thing: object, beside: object = None) -> str:
    file, name, _ = target_of(thing, beside)
    return f"{os.path.relpath(file, folder.resolve())}:{name}"


def fields_of(folder: Path, story: Story, terms: Terms) -> dict[str, Any]:
    """What a failure was lived with, beside its plan, as its file has it."""
    fields: dict[str, Any] = {}
    if name := name_of(story, terms.name):
        fields["name"] = name
    if test := running_test():
        fields["test"] = test
    fields |= {"limit": float(terms.limit), "steps": terms.steps}
    if terms.backend in ("server", "both"):  # an address may have a password in it
        fields["backend"] = terms.backend
    if not terms.check:
        fields["check"] = False
    lists = {
        "once": list(terms.once),
        "invariants": [place_of(folder, rule, story) for rule in terms.invariants],
        "checkers": [place_of(folder, each, story) for each in _given_checkers(story, terms)],
    }
    return {**fields, **{name: value for name, value in lists.items() if value}}


def _written(failure: Failure, target: str, fields: Mapping[str, Any]) -> str:
    lines = [
        f"version = {scenario.VERSION}",
        f"scenario = {_quoted(target)}",
        f"seed = {failure.seed}",
        f"token = {_quoted(failure.token)}",
        f"schedule = {_quoted(failure.schedule)}",
        f"faults = {_toml(list(failure.faults))}",
        *(f"{name} = {_toml(value)}" for name, value in fields.items()),
    ]
    lines += ["", "[expect]", f"promise = {_quoted(failure.promise)}", f"at = {failure.at_s!r}"]
    lines.append(f"what = {_quoted(failure.what)}")
    lines += ["", "[versions]"]
    lines += [
        f"{name} = {_quoted(version)}" for name, version in scenario.current_versions().items()
    ]
    for d in failure.tape:
        lines += ["", "[[choices]]", f"site = {_quoted(d.site)}"]
        lines += [f"nth = {d.nth}", f"value = {d.value}"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_quoted, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    return _quoted(value) if isinstance(value, str) else repr(value)


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


def replay(kept: Scenario, *, backend: str | None = None, flush: bool = False) -> Replayed:
    """Live through a failure's file.

    Args:
        kept: what was read of it.
        backend: as for a `Simulation` (default: the one that found it, if that needs no address).
        flush: as for a `Simulation`.

    Raises:
        SimulationError: its story, or an invariant of it, cannot be imported; the message says how
            such a failure is replayed.
    """
    story, terms = explored_by(kept, backend=backend, flush=flush)
    with silent():
        run = relive(kept, story, terms, tell=True)
    return Replayed(run, str(kept.exploring.get("expect", {}).get("promise", "")))


def explored_by(
    kept: Scenario, *, backend: str | None = None, flush: bool = False
) -> tuple[Story, Terms]:
    """The story of a failure's file, and on which terms it was explored; see `fields_of`.

    Raises:
        SimulationError: something of it cannot be imported.
    """
    options: dict[str, Any] = dict(kept.exploring)
    story = _loaded(kept, kept.target)
    terms = Terms(
        backend=backend or options.get("backend", "fakeredis"),
        flush=flush,
        check=options.get("check", True) is not False,
        limit=float(options.get("limit", Terms.limit)),
        steps=int(options.get("steps", Terms.steps)),
        once=tuple(options.get("once", ())),
        invariants=tuple(_loaded(kept, target) for target in options.get("invariants", ())),
        checkers=checkers_of(story, [_loaded(kept, each) for each in options.get("checkers", ())]),
    )
    return story, terms


def _loaded(kept: Scenario, target: str) -> Any:
    file, _, name = target.partition(":")
    if not name.isidentifier():
        test = kept.exploring.get("test")
        again = f"pytest {shlex.quote(test)}" if test else "explore() replays what was kept first"
        raise NoSuchFailure(
            f"{kept.path}: {name!r} of {file} has no name of its own in that module, so no command can"
            " call it.\n"
            f"  Run its test again: {again}.\n"
            "  What is defined at the top of a module can be replayed by a command: the story, and what is"
            " given as invariants= and checkers= (or story.checkers = (...), which the story brings along)."
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
    kind, _, rest = breach.promise.partition(":")
    if kind == "story":  # by its exception and line
        return f"the story failed at {breach.at_s:g} s ({rest}): {breach.what}"
    title = f" ({PROMISES[kind]})" if kind in PROMISES else ""
    what = breach.what.removeprefix(f"{kind} ")
    return f"{breach.promise}{title} is broken at {breach.at_s:g} s: {what}"

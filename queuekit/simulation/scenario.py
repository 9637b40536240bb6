"""Scenario files: a run that can be repeated, and the trace that it must have.

A file names an async function of a `Simulation` in a Python file beside it, and how the world is set
up. `[[recorded]]` tables hold the hash of its trace, one for each set of versions it was recorded
with: the same seed, code and versions give the same trace, on the embedded Redis and on a real one.

    version = 1
    scenario = "week.py:week"
    seed = 7
    start = "2030-01-07T00:00:00+00:00"

    [[recorded]]
    python = "3.11"
    redis = "8.1.0"
    ...
    lines = 123456
    trace = "9f86d081..."
    checkpoints = ["...", ...]

One that exploration has written says besides what the run differs in and what it breaks; see
`queuekit/exploration/failures.py`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
import tomllib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from queuekit.simulation.chooser import Deviation
from queuekit.simulation.errors import SimulationError
from queuekit.simulation.trace import CHECKPOINT, Trace
from queuekit.simulation.world import Simulation

VERSION = 1
"Of the format; a file of another one is refused."

PACKAGES = ("redis", "fakeredis", "freezegun", "croniter")
"Whose versions decide about a trace, beside Python's minor."

WORLD_OPTIONS = ("seed", "start", "jitter", "steps_per_instant")
EXPLORING = (
    "token", "schedule", "faults", "limit", "steps", "backend", "check", "once", "invariants",
    "checkers", "expect", "versions", "name", "test",
)  # fmt: skip
"Fields of a failure's file."

_importing: list[Path] = []
"Files that are being imported, the innermost last."

_FIELDS: Mapping[str, tuple[Any, str]] = {
    "seed": (int, "a whole number"),
    "jitter": (str, "'upper' or 'full'"),
    "steps_per_instant": (int, "a whole number"),
    "schedule": (str, "a schedule's name"),
    "faults": (list, "a list of kinds"),
    "limit": ((int, float), "a number of seconds"),
    "steps": (int, "a whole number"),
    "backend": (str, "'fakeredis', 'server' or 'both'"),
    "check": (bool, "true or false"),
    "once": (list, "a list of names"),
    "invariants": (list, 'a list of "file.py:function"'),
    "checkers": (list, 'a list of "file.py:function"'),
    "expect": (dict, "a table, [expect]"),
    "name": (str, "a text"),
    "test": (str, "a test, as pytest calls it"),
    "versions": (dict, "a table, [versions]"),
    "choices": (list, "tables, [[choices]]"),
    "recorded": (list, "tables, [[recorded]]"),
}
"What a field's value must be."

Main = Callable[[Simulation], Coroutine[Any, Any, object]]


@dataclass(frozen=True)
class Recording:
    """The trace of one run, and the versions it was made with."""

    versions: Mapping[str, str]
    lines: int
    trace: str
    checkpoints: tuple[str, ...]


@dataclass(frozen=True)
class Scenario:
    """A scenario file."""

    path: Path
    target: str
    options: Mapping[str, Any]
    recordings: tuple[Recording, ...] = field(default=())
    exploring: Mapping[str, Any] = field(default_factory=dict)
    "What exploration has written down of a failure; empty in all other scenarios."
    choices: tuple[Deviation, ...] = ()
    "Decisions of that run."

    @property
    def is_failure(self) -> bool:
        """Whether it says what it breaks."""
        return "expect" in self.exploring

    def recording_for(self, versions: Mapping[str, str]) -> Recording | None:
        """What was recorded with exactly these versions."""
        return next((r for r in self.recordings if r.versions == versions), None)

    def load(self) -> Main:
        """The function that the file names.

        Raises:
            SimulationError: there is no such file or function.
        """
        file, _, name = self.target.partition(":")
        path = self.path.parent / file
        if not path.is_file() or not name:
            raise SimulationError(
                f"{self.path}: scenario = {self.target!r} names no function of a file beside it.\n"
                '  Write it as "file.py:function".'
            )
        module = _load(path)
        main = getattr(module, name, None)
        if not callable(main):
            found = f"it is {main!r}" if main is not None else "there is no such name"
            raise SimulationError(
                f"{self.path}: {file} has no function {name!r}; {found}.\n"
                "  scenario = names an async function of a simulation, at the top of its file."
            )
        function: Main = main
        return function


def current_versions() -> dict[str, str]:
    """The versions that decide about a trace, here and now."""
    versions = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for package in PACKAGES:
        versions[package] = metadata.version(package)
    return versions


def read(path: Path) -> Scenario:
    """A scenario from its file.

    Raises:
        SimulationError: it is no scenario file, or one of another version of the format.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SimulationError(f"{path} cannot be read: {error}") from error
    if content.get("version") != VERSION or not isinstance(content.get("scenario"), str):
        raise SimulationError(
            f"{path} is no scenario file of version {VERSION}.\n"
            f'  It begins with: version = {VERSION}, and scenario = "file.py:function".'
        )
    fields = {"version", "scenario", "recorded", "choices", *WORLD_OPTIONS, *EXPLORING}
    unknown = sorted(set(content) - fields)
    if unknown:
        raise SimulationError(
            f"{path}: there is no field {', '.join(unknown)}.\n"
            f"  Fields are scenario, {', '.join(WORLD_OPTIONS)} and [[recorded]]."
        )
    for name, (kinds, words) in _FIELDS.items():
        value = content.get(name)
        if name in content and (
            not isinstance(value, kinds) or isinstance(value, bool) is not (kinds is bool)
        ):
            raise SimulationError(f"{path}: {name} = {value!r}, and it is {words}.")
    return Scenario(
        path=path,
        target=content["scenario"],
        options={name: content[name] for name in WORLD_OPTIONS if name in content},
        recordings=tuple(_recording(path, entry) for entry in content.get("recorded", [])),
        exploring={name: content[name] for name in EXPLORING if name in content},
        choices=tuple(_choice(path, entry) for entry in content.get("choices", [])),
    )


def _choice(path: Path, entry: Mapping[str, Any]) -> Deviation:
    try:
        return Deviation(str(entry["site"]), int(entry["nth"]), int(entry["value"]))
    except (KeyError, TypeError, ValueError) as error:
        raise SimulationError(
            f"{path}: a [[choices]] table has a site, nth and value; it is {entry!r}."
        ) from error


def _recording(path: Path, entry: Mapping[str, Any]) -> Recording:
    try:
        return Recording(
            versions={name: entry[name] for name in ("python", *PACKAGES)},
            lines=entry["lines"],
            trace=entry["trace"],
            checkpoints=tuple(entry["checkpoints"]),
        )
    except (KeyError, TypeError) as error:
        raise SimulationError(
            f"{path}: a [[recorded]] table lacks {error}. Record it anew."
        ) from error


def run(scenario: Scenario, *, backend: str = "fakeredis", flush: bool = False) -> Trace:
    """Live through a scenario; the trace it gives."""
    main = scenario.load()
    try:
        inspect.signature(main).bind(None)
    except TypeError as error:
        raise SimulationError(
            f"{scenario.path}: {scenario.target} cannot be called with a simulation alone: {error}.\n"
            "  async def story(simulation): ..."
        ) from error
    with Simulation(backend=backend, flush=flush, **scenario.options) as simulation:
        simulation.run(main(simulation))
    return simulation.trace


def record(scenario: Scenario, *, backend: str = "fakeredis", flush: bool = False) -> Recording:
    """Live through a scenario and write its trace into the file, in place of one of these versions."""
    trace = run(scenario, backend=backend, flush=flush)
    versions = current_versions()
    made = Recording(versions, trace.count, trace.digest(), tuple(trace.checkpoints))
    others = [r for r in scenario.recordings if r.versions != versions]
    recordings = sorted([*others, made], key=lambda r: tuple(r.versions.values()))
    scenario.path.write_text(_written(scenario, recordings), "utf-8")
    return made


def compare(recording: Recording, trace: Trace) -> str | None:
    """How a trace differs from what was recorded, or None."""
    if trace.digest() == recording.trace:
        return None
    made = tuple(trace.checkpoints)
    same = 0
    for recorded, found in zip(recording.checkpoints, made, strict=False):
        if recorded != found:
            break
        same += 1
    return (
        f"the trace differs: recorded {recording.trace[:16]} ({recording.lines:,} lines), "
        f"found {trace.digest()[:16]} ({trace.count:,} lines).\n"
        f"  They agree for {same * CHECKPOINT:,} lines, and part within the next {CHECKPOINT:,}.\n"
        "  Same seed and versions: so the code has changed, or something in it follows the machine.\n"
        "  If the change is meant, record it anew."
    )


def _written(scenario: Scenario, recordings: list[Recording]) -> str:
    """The file's text: what a person wrote stays, the tables behind it are made anew."""
    head = scenario.path.read_text("utf-8").split("[[recorded]]", 1)[0].rstrip()
    tables = []
    for recording in recordings:
        lines = ["[[recorded]]"]
        lines += [f'{name} = "{version}"' for name, version in recording.versions.items()]
        lines += [f"lines = {recording.lines}", f'trace = "{recording.trace}"']
        quoted = ", ".join(f'"{checkpoint}"' for checkpoint in recording.checkpoints)
        tables.append("\n".join([*lines, f"checkpoints = [{quoted}]"]))
    return "\n\n".join([head, *tables]) + "\n"


class _AsWritten(SourceFileLoader):
    """Compiles the file as it is now.

    The cache of compiled files knows a file by its size and second: a story that was changed right after
    it was recorded was replayed as it had been.
    """

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def being_imported() -> Path | None:
    """The scenario's Python file that is being imported right now, if one is."""
    return _importing[-1] if _importing else None


def _load(path: Path) -> Any:
    """A Python file as a module; files beside it can be imported as parts of its package.

    It has its own name, unless another module has it already, or Python's library: a story may be in a file
    called queue.py.
    """
    path = path.resolve()
    package = path.parent
    name = path.stem
    while (package / "__init__.py").exists():
        name = f"{package.name}.{name}"
        package = package.parent
    if str(package) not in sys.path:
        sys.path.insert(0, str(package))
    own = f"{name}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    for known in (name, own):
        if _is_of(sys.modules.get(known), path):
            return sys.modules[known]
    if name in sys.modules or name.partition(".")[0] in sys.stdlib_module_names:
        name = own
    loader = _AsWritten(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    _importing.append(path)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]  # half of it is nobody's
        if isinstance(error, SimulationError | KeyboardInterrupt):
            raise
        raise SimulationError(
            f"{path} cannot be imported: {type(error).__name__}: {error}\n"
            "  A scenario names a function of a Python file that can be imported by itself.\n"
            f"  Where it stops: python {path}"
        ) from error
    finally:
        _importing.pop()
    return module


def _is_of(module: Any, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == path

"""Scenario files, and the shop's recorded week."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from queuekit import cli
from queuekit.simulation import SimulationError, scenario

WEEK = Path(__file__).parents[2] / "scenarios" / "shop" / "week.toml"


@pytest.mark.slow
def test_the_shops_week_replays_to_the_recorded_trace(on_each_backend):
    """With these versions, if it was recorded with them; else with what is recorded here and now."""
    week = scenario.read(WEEK)
    recording = week.recording_for(scenario.current_versions())
    if recording is None:
        first = scenario.run(week)
        recording = scenario.Recording({}, first.count, first.digest(), tuple(first.checkpoints))
    trace = scenario.run(week, backend=on_each_backend["backend"])
    assert scenario.compare(recording, trace) is None


@pytest.mark.slow
def test_a_trace_does_not_depend_on_where_the_files_lie(tmp_path):
    story = """
import asyncio

async def fails(ctx):
    raise ValueError("no")

async def story(simulation):
    simulation.worker([fails])
    await simulation.queue.enqueue("fails", retries=3, retry_delay=1)
    await simulation.advance(10)
"""
    traces = set()
    for folder in ("here", "there/and/deeper"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "story.py").write_text(story, "utf-8")
        file = tmp_path / folder / "story.toml"
        file.write_text("version = 1\nscenario = 'story.py:story'\n", "utf-8")
        command = [sys.executable, "-m", "queuekit", "replay", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        traces.add(done.stdout.splitlines()[0].rpartition(" ")[2])
    assert len(traces) == 1, traces


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense =", "cannot be read"),
        ("version = 2\nscenario = 'a:b'", "no scenario file of version 1"),
        ("version = 1", "no scenario file of version 1"),
        ("version = 1\nscenario = 'a:b'\nspeed = 3", "there is no field speed"),
        ("version = 1\nscenario = 'a:b'\n[[recorded]]\npython = '3.11'", "lacks 'redis'"),
        ("version = 1\nscenario = 'a:b'\nseed = 'x'", "seed = 'x', and it is a whole number"),
        ("version = 1\nscenario = 'a:b'\nseed = true", "seed = True, and it is a whole number"),
        ("version = 1\nscenario = 'a:b'\ncheck = 1", "check = 1, and it is true or false"),
        ("version = 1\nscenario = 'a:b'\nlimit = 'x'", "limit = 'x', and it is a number"),
        ("version = 1\nscenario = 'a:b'\nexpect = 5", "expect = 5, and it is a table"),
        ("version = 1\nscenario = 'a:b'\nrecorded = [5]", r"a \[\[recorded\]\] table lacks"),
        ("version = 1\nscenario = 'a:b'\nchoices = [5]", r"a \[\[choices\]\] table has"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_what_is_wrong(tmp_path, text, words):
    file = tmp_path / "bad.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(SimulationError, match=words) as caught:
        scenario.read(file)
    assert "bad.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("no.py:f", "names no function"),
        ("s.py:g", "no function 'g'"),
        ("s.py:x", "no function 'x'; it is 5"),
        ("s.py:two", "cannot be called with a simulation alone: missing a required argument: 'b'"),
        ("bad.py:f", r"bad\.py cannot be imported: SyntaxError"),
        ("gone.py:f", "cannot be imported: ModuleNotFoundError: No module named 'not_there'"),
        ("exits.py:f", "cannot be imported: SystemExit: 0"),
    ],
)
def test_a_function_that_cannot_be_called_is_named(tmp_path, target, words):
    (tmp_path / "s.py").write_text("x = 5\nasync def two(a, b): pass\n", "utf-8")
    (tmp_path / "bad.py").write_text("def\n", "utf-8")
    (tmp_path / "gone.py").write_text("import not_there\n", "utf-8")
    (tmp_path / "exits.py").write_text("raise SystemExit(0)\n", "utf-8")
    file = tmp_path / "s.toml"
    file.write_text(f"version = 1\nscenario = '{target}'\n", "utf-8")
    with pytest.raises(SimulationError, match=words):
        scenario.run(scenario.read(file))


@pytest.mark.parametrize("name", ["story", "queue", "types"])
def test_the_story_of_the_file_that_is_named_is_lived(tmp_path, monkeypatch, name):
    """Not of another one that is called the same, or of Python's own library."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "story", raising=False)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        text = f"lived = []\nasync def main(simulation): lived.append({folder!r})\n"
        (tmp_path / folder / f"{name}.py").write_text(text, "utf-8")
        file = tmp_path / folder / "s.toml"
        file.write_text(f"version = 1\nscenario = '{name}.py:main'\n", "utf-8")
        main = scenario.read(file).load()
        scenario.run(scenario.read(file))
        assert main.__globals__["lived"] == [folder]
    own = vars(importlib.import_module(name))
    assert own.get("lived") == (["a"] if name == "story" else None)


@pytest.mark.parametrize(
    ("raises", "words"),
    [
        ("raise ValueError('x')", "could not be run to its end: ValueError: x"),
        ("raise SystemExit(0)", "could not be run to its end: SystemExit: 0"),
        ("assert False", "could not be run to its end: AssertionError"),
    ],
)
@pytest.mark.parametrize("command", ["replay", "record"])
def test_a_story_that_raises_could_not_be_run(tmp_path, capsys, command, raises, words):
    (tmp_path / "raising.py").write_text(f"async def main(simulation): {raises}\n", "utf-8")
    file = tmp_path / "s.toml"
    file.write_text("version = 1\nscenario = 'raising.py:main'\n", "utf-8")
    assert cli.main([command, str(file)]) == cli.FAILED
    said = capsys.readouterr().err
    assert words in said
    assert 'raising.py", line 1' in said  # the traceback, for whoever mends it


def test_where_two_long_runs_part_is_told_to_within_a_thousand_lines():
    from queuekit.simulation.trace import Trace  # noqa: PLC0415

    one, other = Trace(), Trace()
    for n in range(5000):
        one.add(str(n))
        other.add(str(n) if n != 3500 else "other")
    recording = scenario.Recording({}, one.count, one.digest(), tuple(one.checkpoints))
    assert "They agree for 3,000 lines" in scenario.compare(recording, other)
    assert scenario.compare(recording, one) is None

"""Scenario files, and the shop's recorded week."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_what_is_wrong(tmp_path, text, words):
    file = tmp_path / "bad.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(SimulationError, match=words) as caught:
        scenario.read(file)
    assert "bad.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("target", "words"), [("no.py:f", "names no function"), ("s.py:g", "no function 'g'")]
)
def test_a_function_that_is_not_there_is_named(tmp_path, target, words):
    (tmp_path / "s.py").write_text("async def f(simulation): pass\n", "utf-8")
    file = tmp_path / "s.toml"
    file.write_text(f"version = 1\nscenario = '{target}'\n", "utf-8")
    with pytest.raises(SimulationError, match=words):
        scenario.read(file).load()


def test_where_two_long_runs_part_is_told_to_within_a_thousand_lines():
    from queuekit.simulation.trace import Trace  # noqa: PLC0415

    one, other = Trace(), Trace()
    for n in range(5000):
        one.add(str(n))
        other.add(str(n) if n != 3500 else "other")
    recording = scenario.Recording({}, one.count, one.digest(), tuple(one.checkpoints))
    assert "They agree for 3,000 lines" in scenario.compare(recording, other)
    assert scenario.compare(recording, one) is None

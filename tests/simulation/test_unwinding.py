"""What a killed process left behind is taken down without noise, and without a word to anybody."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

WORLDS = "tests.simulation.killed_quietly"


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "step"), [("fakeredis", 11), ("server", 43)])
def test_wherever_processes_are_killed_nothing_is_printed(backend, step):
    done = subprocess.run(
        [sys.executable, "-W", "default", "-m", WORLDS, backend, "1", "2000", str(step)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    seen = json.loads(done.stdout)
    assert seen["at"] > 300, "the kills ended before the processes had done much"
    assert seen["taken_down"] == ["generator", "sync", "thread"]
    assert seen["reached"] == []

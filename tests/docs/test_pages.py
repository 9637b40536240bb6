"""Every code block of the documentation runs, on both backends, as a new user's files would."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from queuekit.lifecycle import TRANSITIONS
from tests.docs.pages import ROOT, write_out

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_CODE = [page for page in PAGES if "```python" in page.read_text("utf-8")]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["fakeredis", "server"])
@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page, backend, tmp_path):
    tests = write_out(page, tmp_path)
    assert tests, "a page with code has a test of it"
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider"]
    command += [f"--queuekit-backend={backend}", *tests]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=clean, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.slow
def test_the_page_on_tasks_says_what_it_prints(tmp_path):
    """The statements in comments of the page hold: the result that is printed is 15."""
    write_out(ROOT / "docs" / "tasks.md", tmp_path)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "test_apply.py",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Result: 15" in done.stdout


def test_the_diagram_of_a_jobs_life_is_that_of_the_table():
    page = (ROOT / "docs" / "lifecycle.md").read_text("utf-8")
    arrows = [
        f"    {source.value} --> {target.value}: {event.value}"
        for (source, event), targets in TRANSITIONS.items()
        for target in targets
    ]
    drawn = page.split("```mermaid\nstateDiagram-v2\n")[1].split("\n```")[0].splitlines()
    assert drawn == arrows

"""Suites as users have them: each in a process of its own, with the real plugins."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

import pytest


@dataclass
class Suite:
    """A folder with a test suite in it."""

    folder: object

    def write(self, **files):
        for name, text in files.items():
            ending = "ini" if name == "pytest" else "py"
            (self.folder / f"{name}.{ending}").write_text(text, "utf-8")
        return self

    def run(self, *options):
        """Run pytest on it; what it printed, and its counts."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options]
        done = subprocess.run(
            command, cwd=self.folder, env=clean, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def suite(tmp_path):
    return Suite(tmp_path)

"""A floor imports only the floors below it, and production imports nothing of the tests."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.house.tree import PACKAGES, ROOT

INSTEAD = """
A module imports only floors below its own (pyproject.toml, [tool.importlinter]; ARCHITECTURE.md draws them).
  - Does the lower one need a value? Let the caller pass it.
  - Does it need a type only? Import it under `if TYPE_CHECKING:`.
  - Do two floors need one thing? It belongs to the lower of them, under a name of its own.
  - Is it a new module? Give it a floor in the contract's `layers`.
"""

TESTING_ONLY = {
    "fakeredis", "freezegun", "hypothesis", "lupa", "pytest", "_pytest",
    "pytest_queuekit", "queuekit.simulation", "queuekit.exploration",
}  # fmt: skip
"What production neither installs nor loads."

HEAVY = {
    "fakeredis", "freezegun", "hypothesis", "lupa", "redis", "croniter", "asyncio",
    "queuekit.simulation.world", "queuekit.worker", "queuekit.store",
}  # fmt: skip
"What a suite that does not use our plugin does not pay for."


def run_python(code, *flags):
    """What a fresh interpreter prints, with the packages of this repository on its path."""
    path = os.pathsep.join(str((ROOT / package).parent) for package in PACKAGES)
    done = subprocess.run(
        [sys.executable, *flags, "-c", code],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, f"{code!r} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout


def loaded_by(statement, before="pass"):
    """The names of the modules that a statement loads on top of those that `before` does."""
    code = f"import sys; {before}; had = set(sys.modules); {statement}; print(*(set(sys.modules) - had))"
    return set(run_python(code).split())


def of(names, modules):
    """Those modules that are one of the names, or within it."""
    return sorted(
        m for m in modules if any(m == name or m.startswith(f"{name}.") for name in names)
    )


@pytest.mark.slow
def test_floors_hold():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()",
         "--no-cache", "--no-logo"],
        capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "pytest_plugin")])},
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{INSTEAD}"


@pytest.mark.parametrize(
    "statement",
    [
        "import queuekit",
        "import queuekit.worker",
        "import queuekit.cli",
        "from queuekit import Queue; Queue.from_url('redis://localhost')",
        "from queuekit.job import JobError, CronJob",
    ],
)
def test_production_loads_nothing_of_the_tests(statement):
    found = of(TESTING_ONLY, loaded_by(statement))
    assert not found, (
        f"`{statement}` loads {', '.join(found)}.\n"
        "`pip install queuekit` installs none of them: this fails in production.\n"
        "Import it in queuekit/simulation, or in the function that needs it there."
    )


def test_production_runs_where_nothing_of_the_tests_is_installed():
    # As in production: those packages are not there at all, so that a guarded import shows too.
    blocked = sorted(name for name in TESTING_ONLY if "." not in name)
    run_python(
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "import queuekit, queuekit.worker\n"
        "async def task(ctx): ...\n"
        "queue = queuekit.Queue.from_url('redis://localhost')\n"
        "queuekit.Worker(queue=queue, functions=[task],\n"
        "    cron_jobs=[queuekit.CronJob(task, cron='0 0 * * *')])\n"
    )


def test_plugin_costs_a_suite_that_does_not_use_it_next_to_nothing():
    found = of(HEAVY, loaded_by("import pytest_queuekit.plugin", before="import pytest"))
    assert not found, (
        f"Importing the plugin loads {', '.join(found)}.\n"
        "Every pytest run of everybody who has installed us pays for that.\n"
        "Import it in the fixture that needs it."
    )


def test_embedded_backend_without_its_extra_says_what_to_install():
    blocked = sorted(name for name in TESTING_ONLY if "." not in name)
    said = run_python(
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r}))\n"
        "import queuekit, queuekit.errors\n"
        "try: queuekit.Queue.from_url('fakeredis://')\n"
        "except queuekit.errors.MissingDependencyError as error: print(error)\n"
    )
    assert "pip install 'queuekit[testing]'" in said, (
        f"Where fakeredis is not installed, Queue.from_url('fakeredis://') says {said!r}.\n"
        "It says what to install, at once: not at the first enqueue.\n"
        "Import what the backend needs where the entry point is loaded."
    )

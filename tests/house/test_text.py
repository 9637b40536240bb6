"""What no file of the repository says."""

from __future__ import annotations

import re

from tests.house.tree import complaint, shown, text_files

# Written in pieces, so that this file does not find itself.
MACHINE_PATH = re.compile(
    r"(?<![\w.:/])/(?:"
    + "|".join(["work", "farm", "ro" + "ot", "ho" + "me/[a-z]+", "Us" + "ers"])
    + r")/"
    r"|(?<![\w.:/])/tmp/[a-z_]+[./]"
)
REGISTRY = re.compile(
    r"(?:extra-)?index" + r"-url|--find" + r"-links|\.whl" + r"#sha256"
    r"|pypi\." + r"org|pythonhosted\." + r"org|https?://[^\s\"'<>]*/simple\b",
    re.IGNORECASE,
)
LOCK_FILES = {"Pipfile.lock", "pdm.lock", "poetry.lock", "pylock.toml", "uv.lock"}


def _lines_with(pattern):
    return [
        f"{shown(path)}:{number}: {line.strip()[:100]}"
        for path, text in text_files()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_no_file_names_a_path_of_somebodys_machine():
    found = _lines_with(MACHINE_PATH)
    assert not found, complaint(
        found,
        "A path of one machine means nothing on the next.",
        "Write it from the root of the repository, take a temporary folder, or ask PATH.",
    )


def test_no_file_names_a_package_registry():
    found = _lines_with(REGISTRY)
    assert not found, complaint(
        found,
        "Where packages come from is the business of who installs them (pip's own configuration).",
        "Name the package and its version only: `pip install queuekit`, `name==1.2` in constraints.txt.",
    )


def test_there_is_no_lock_file():
    found = [shown(path) for path, _ in text_files() if path.name in LOCK_FILES]
    assert not found, complaint(
        found,
        "A lock file names download addresses.",
        "Exact versions stand in constraints.txt; `make constraints` writes it.",
    )

"""What has no name of its own has no place yet."""

from __future__ import annotations

from tests.house.tree import complaint, files, shown

NAMELESS = {"base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}


def _words(path):
    return {word for part in (path.parent.name, path.stem) for word in part.lower().split("_")}


def test_no_module_is_named_after_nothing():
    found = [shown(path) for path in files(".py", ".lua") if _words(path) & NAMELESS]
    assert not found, complaint(
        found,
        f"No module is called {', '.join(sorted(NAMELESS))}: such a file does everything and nothing.",
        "Move each thing to the file whose subject it is; what remains gets a name that says what it does.",
    )


def test_the_plugin_folder_is_no_package():
    found = [shown(path) for path in files(".py") if shown(path) == "pytest_plugin/__init__.py"]
    assert not found, complaint(
        found,
        "A package named pytest_plugin must never land in anyone's site-packages.",
        "Delete the file; the import package is the folder pytest_queuekit in it.",
    )

"""The files of this repository, as the rules of the house see them."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PACKAGES = ("queuekit", "pytest_plugin/pytest_queuekit")
"Folders of the import packages, from the root."

MADE = {"__pycache__", "build", "dist", "node_modules"}
"Folders that tools make. Hidden ones are left out too, but for .ci."


def _folders_to_enter(names: list[str]) -> list[str]:
    return sorted(n for n in names if n == ".ci" or not (n.startswith(".") or n in MADE))


@cache
def files(*suffixes: str) -> tuple[Path, ...]:
    """Every file of the repository with one of these suffixes (none given: every file), sorted."""
    found: list[Path] = []
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = _folders_to_enter(subfolders)
        # In a second work tree, `.git` is a file, and no file of the repository.
        found += [
            Path(folder, name) for name in names if not name.startswith(".venv") and name != ".git"
        ]
    return tuple(sorted(path for path in found if not suffixes or path.suffix in suffixes))


def package_files(*suffixes: str) -> list[Path]:
    """Those that users get."""
    return [path for path in files(*suffixes) if shown(path).startswith(PACKAGES)]


def shown(path: Path) -> str:
    """A path as we name it in messages: from the root, with slashes."""
    return path.relative_to(ROOT).as_posix()


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def text_files() -> Iterator[tuple[Path, str]]:
    """Every file that is text, with its text."""
    for path in files():
        try:
            yield path, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def complaint(found: list[str], rule: str, instead: str) -> str:
    """A failure in three parts: what was found, what is expected, what to do."""
    return "\n".join([f"{len(found)} found:", *(f"  {line}" for line in found), rule, instead])

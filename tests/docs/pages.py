"""The code of a documentation page, put together into files that can be run.

A comment in front of a block says what it is:

    <!-- file: tasks.py -->             appended to that file
    <!-- file: tasks.py with arq -->    the same, where arq is installed
    <!-- body: name -->                 the body of an async test on the module `app`'s names
    <!-- body: name in other_app -->    the same, on another module's names
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"(?:<!-- (file|body): ([^>]+?) -->\n)?```python\n(.*?)```", re.DOTALL)


def write_out(page: Path, folder: Path, *, installed: tuple[str, ...] = ()) -> list[str]:
    """Write the page's files; the names of those that pytest would collect."""
    files: dict[str, list[str]] = {}
    for kind, what, code in BLOCK.findall(page.read_text("utf-8")):
        assert kind, f"{page.name}: a block says in a comment what it is:\n{code}"
        if kind == "file":
            name, _, needed = what.partition(" with ")
            if not needed or needed in installed:
                files.setdefault(name, []).append(code)
        else:
            name, _, module = what.partition(" in ")
            files.setdefault(f"test_{name}.py", []).append(_test(name, module or "app", code))
    for name, parts in files.items():
        (folder / name).write_text("\n\n".join(parts), "utf-8")
    return [name for name in files if name.startswith("test_")]


def _test(name: str, module: str, code: str) -> str:
    head = f"import {module}\nfrom {module} import *\n\n\nasync def test_{name}(simulation):\n"
    worker = f"    simulation.worker(worker={module}.worker)\n"
    tail = "    await simulation.drain()\n"
    return head + worker + textwrap.indent(code, "    ") + tail

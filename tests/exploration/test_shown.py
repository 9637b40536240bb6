"""What the page on exploring shows is what is found."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

import pytest

from queuekit.exploration import ExplorationFailed, explore

PAGE = (Path(__file__).parents[2] / "docs" / "exploring.md").read_text("utf-8")


@pytest.mark.slow
def test_the_failure_that_is_shown_is_the_one_that_is_found(tmp_path, monkeypatch):
    text = re.search(r"<!-- file: shop.py -->\n```python\n(.*?)```", PAGE, re.DOTALL).group(1)
    (tmp_path / "shop.py").write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    with pytest.raises(ExplorationFailed) as caught:
        explore(importlib.import_module("shop").story)
    monkeypatch.delitem(sys.modules, "shop")
    found = [line.strip() for line in f"{caught.value}".splitlines() if line.strip()]
    first = next(n for n, line in enumerate(found) if line.startswith("found by"))
    shown = re.search(r"^    found by .*?^    token .*?$", PAGE, re.DOTALL | re.MULTILINE).group()
    assert [line.strip() for line in shown.splitlines() if line.strip()] == found[first:]

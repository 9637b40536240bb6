"""Stories under watch, on the code as it is and with a defect planted in it."""

from __future__ import annotations

import pytest

from tests.exploration.planting import Planted


@pytest.fixture
def backend(on_each_backend):
    """For `explore(backend=...)`, each in turn."""
    return on_each_backend["backend"]


@pytest.fixture
def plant(monkeypatch):
    """Plants defects in scripts; they are gone after the test."""
    return Planted(monkeypatch)

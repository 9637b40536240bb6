"""Tests on real servers in real time. `make test` runs them on one server, `make test-servers` on each."""

from __future__ import annotations

import os

import pytest

from tests.servers.running import programs, running


def pytest_generate_tests(metafunc):
    if "program" in metafunc.fixturenames:
        found = programs()
        names = list(found) if os.environ.get("QUEUEKIT_SERVERS") == "all" else list(found)[:1]
        metafunc.parametrize("program", [found[name] for name in names], ids=names, scope="session")


@pytest.fixture
def server(program):
    """A server on a unix socket, empty."""
    with running(program) as one:
        yield one

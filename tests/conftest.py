"""What our own tests share."""

from __future__ import annotations

import os

import pytest

BACKENDS = ("fakeredis", "server")
"The embedded Redis, and a real one that is started for the run. A missing server fails the test."

if one := os.environ.get("QUEUEKIT_TEST_BACKEND"):
    BACKENDS = (one,)  # tests/servers/suites.py runs them on each server in turn


@pytest.fixture
def on_each_backend(request):
    """Options of a simulation, on each backend in turn; for `queuekit_config` of a folder."""
    return {"backend": request.param, "flush": "://" in request.param}


def pytest_generate_tests(metafunc):
    if "on_each_backend" in metafunc.fixturenames:
        metafunc.parametrize("on_each_backend", BACKENDS, indirect=True)

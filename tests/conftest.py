"""What our own tests share."""

from __future__ import annotations

import pytest

BACKENDS = ("fakeredis", "server")
"The embedded Redis, and a real one that is started for the run. A missing server fails the test."


@pytest.fixture
def on_each_backend(request):
    """Options of a simulation, on each backend in turn; for `queuekit_config` of a folder."""
    return {"backend": request.param}


def pytest_generate_tests(metafunc):
    if "on_each_backend" in metafunc.fixturenames:
        metafunc.parametrize("on_each_backend", BACKENDS, indirect=True)

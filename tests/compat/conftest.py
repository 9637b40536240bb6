"""Every test of this folder runs on fakeredis and on a real server."""

import pytest


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend

"""Every test of this folder that has a simulation runs on fakeredis and on a real server."""

import pytest

from tests.store.hand import Hand


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend


@pytest.fixture
def hand(simulation):
    """Acts as clients and workers; the invariants are looked at after each move."""
    return Hand(simulation)

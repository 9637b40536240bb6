"""What the tests of arq share."""

import pytest


@pytest.fixture
def each_backend(on_each_backend):
    """The name of each backend in turn, for tests that make their worlds themselves."""
    return on_each_backend["backend"]

"""Each test of this folder runs on fakeredis and on a real server, and leaves a queue that breaks no rule."""

import pytest

from tests.store.looking import pytest_pyfunc_call  # noqa: F401 (a hook: pytest finds it here)


@pytest.fixture
def queuekit_config(on_each_backend):
    return on_each_backend

"""A hook for a folder's conftest.py: its async tests are watched, and end with a look at all of the queue."""

from __future__ import annotations

import functools
import inspect

import pytest

from queuekit.exploration.checkers import Watch
from tests.store.invariants import check_invariants


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """The look is taken on the test's own loop, when the test has passed."""
    test, world = pyfuncitem.obj, pyfuncitem.funcargs.get("simulation")
    spoilt = pyfuncitem.get_closest_marker("spoils_records")
    if world is None or spoilt or not inspect.iscoroutinefunction(test):
        return (yield)
    watch = None if pyfuncitem.get_closest_marker("by_hand") else Watch(world)

    @functools.wraps(test)
    async def then_look(**arguments):
        await test(**arguments)
        broken = watch.broken() if watch else []
        assert not broken, "promises were broken:\n  " + "\n  ".join(map(str, broken))
        await check_invariants(world.queue)

    pyfuncitem.obj = then_look
    try:
        return (yield)
    finally:
        pyfuncitem.obj = test

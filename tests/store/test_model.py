"""The scripts against a plain model, on the embedded Redis and on a real one: equal answers at every step.

After each script all of the queue is read in one go: it is what the model says, and the rules of
invariants.py hold. `make model` runs this for longer.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import given, note, settings

from tests.store.commands import HISTORY
from tests.store.drive import Driver
from tests.store.servers import Embedded, real_server

EXAMPLES = int(os.environ.get("QUEUEKIT_MODEL_EXAMPLES", "2000"))


@pytest.fixture(scope="module")
def servers():
    with real_server() as server:
        yield [Embedded(), server]


@pytest.mark.slow
@settings(
    max_examples=EXAMPLES,
    deadline=None,  # a real server on a busy machine takes its time
    derandomize=EXAMPLES == 2000,  # the long run is for new ones
    database=None,
    print_blob=True,
)
@given(history=HISTORY)
def test_every_history_is_answered_as_the_model_says_on_every_server(servers, history):
    driver = Driver(servers)
    for number, command in enumerate(history):
        if command != ("nothing",):
            note(f"{number}: {command}")
        driver.do(command)
    driver.same_everywhere()

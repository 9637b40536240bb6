"""What the rules of the house share."""

import pytest

from tests.house.tree import files, parsed


@pytest.fixture(scope="session", autouse=True)
def _all_is_parsed():
    """Once for all rules: else whichever is asked first pays for it, and counts as slow."""
    for path in files(".py"):
        parsed(path)

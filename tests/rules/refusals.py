"""What a refusal says: what happened with values, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from queuekit.errors import QueuekitError


def in_three_parts(error: BaseException) -> None:
    """Each part has a line: the first one names what was given, the others are indented."""
    first, *rest = str(error).splitlines()
    assert first.strip() == first, error
    assert len(rest) >= 2, f"not in three parts: {error}"
    assert all(line.startswith("  ") and line.strip() for line in rest), error


def refused(
    kind: Any, words: str, function: Callable[..., Any], *arguments: Any, **options: Any
) -> QueuekitError:
    """The error of queuekit's that the call raises, in three parts and with these words."""
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    assert isinstance(caught.value, QueuekitError)
    assert words in str(caught.value)
    in_three_parts(caught.value)
    return caught.value


async def refused_later(kind: Any, words: str, awaitable: Any) -> QueuekitError:
    """The same of what is awaited."""
    with pytest.raises(kind) as caught:
        await awaitable
    assert isinstance(caught.value, QueuekitError)
    assert words in str(caught.value)
    in_three_parts(caught.value)
    return caught.value

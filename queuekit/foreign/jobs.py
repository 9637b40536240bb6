"""A job of another queue, as its own record in Redis tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class ForeignJob:
    """What a foreign queue keeps of a job. Times are epoch milliseconds, 0 for never."""

    key: str
    function: str
    status: str
    "In the queue's own words."
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 0
    result: Any = None
    error: str | None = None
    queued: int = 0
    started: int = 0
    completed: int = 0
    worker: str = ""
    "The id of the worker that has it, or had."

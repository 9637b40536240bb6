"""What an exploration raises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from queuekit.simulation.errors import SimulationError

if TYPE_CHECKING:
    from queuekit.exploration.failures import Failure


class NotRepeatable(SimulationError):  # noqa: N818 (says what happened)
    """The same decisions did not give the same run."""


class NoSuchFailure(SimulationError):  # noqa: N818 (says what is the matter)
    """A token or a file by which nothing can be replayed."""


class Vacuous(SimulationError, AssertionError):  # noqa: N818 (the field's word)
    """An exploration in which what it was about never happened."""


class ExplorationFailed(SimulationError, AssertionError):  # noqa: N818 (says what happened)
    """An exploration has found a run that breaks a promise; `failure` has it, reduced."""

    def __init__(self, message: str, failure: Failure) -> None:
        super().__init__(message)
        self.failure = failure

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.failure)

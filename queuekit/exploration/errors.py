"""What an exploration raises."""

from __future__ import annotations

from queuekit.simulation.errors import SimulationError


class NotRepeatable(SimulationError):  # noqa: N818 (says what happened)
    """The same decisions did not give the same run."""

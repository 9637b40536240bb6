"""What an exploration is given, looked at before anything is run."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from queuekit.simulation.errors import SimulationError
from queuekit.simulation.scenario import being_imported


def names(given: Collection[str], what: str) -> tuple[str, ...]:
    """Names of a kind; a single one may stand for itself.

    Args:
        given: one text or several.
        what: the argument's name, for the message.

    Raises:
        SimulationError: they are no texts.
    """
    found = (given,) if isinstance(given, str) else given
    if not isinstance(found, Collection) or not all(isinstance(n, str) and n for n in found):
        raise SimulationError(
            f"{what}={given!r}: {what} is a name, or several in a list.\n"
            f"  {what}=['charged', 'refunded']"
        )
    return tuple(found)


def refuse_here() -> None:
    """Raises SimulationError where no exploration can be run: inside a loop, and in a replay's import."""
    if (file := being_imported()) is not None:
        raise SimulationError(
            f"{file} explores while it is imported, and it is imported for a replay.\n"
            "  Put the call under: if __name__ == '__main__':"
        )
    if asyncio._get_running_loop() is not None:
        raise SimulationError(
            "explore() was called inside a running event loop.\n"
            "  Each run is a world with a loop of its own: call it from a plain function, def test_...()."
        )

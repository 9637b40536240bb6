"""What an exploration is given, looked at before anything is run."""

from __future__ import annotations

from collections.abc import Collection

from queuekit.simulation.errors import SimulationError


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

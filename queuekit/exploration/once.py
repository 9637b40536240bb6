"""Effects that may happen once: whether one happened again with the same details."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from queuekit.simulation.effects import Effect
from queuekit.simulation.errors import SimulationError

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+>")
"In a repr that says nothing of what the object is."


def done_again(effects: Iterable[Effect], once: Collection[str]) -> tuple[Effect, Effect] | None:
    """The first effect of these names that happened before with the same details, behind that earlier one.

    Details are compared by how they are written.

    Raises:
        SimulationError: a detail is written with its address in memory, so no two are ever the same.
    """
    first: dict[str, Effect] = {}
    for effect in effects:
        if effect.name not in once:
            continue
        if _ADDRESS.search(effect.named):
            raise SimulationError(
                f"once={effect.name!r}: {effect.named} cannot be compared with another one.\n"
                "  An object that is written by its address in memory is never the same twice, so it would"
                " never be found to be done twice.\n"
                "  Tell the effect ids: effect('charged', order=order.id). A class with a __repr__ of its own"
                " (a dataclass) is compared by that."
            )
        if effect.named in first:
            return first[effect.named], effect
        first[effect.named] = effect
    return None

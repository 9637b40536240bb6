"""What an exploration is given, looked at before anything is run."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TypeVar

from queuekit.exploration.living import Terms
from queuekit.simulation.errors import SimulationError
from queuekit.simulation.given import number, whole
from queuekit.simulation.scenario import being_imported

T = TypeVar("T")


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


def functions(given: Sequence[T], what: str) -> tuple[T, ...]:
    """Functions of a kind.

    Raises:
        SimulationError: they are none.
    """
    if not isinstance(given, Collection) or not all(callable(each) for each in given):
        raise SimulationError(
            f"{what}={given!r}: {what} are functions in a list.\n  {what}=[no_negative_stock]"
        )
    return tuple(given)


def check_story(story: object) -> None:
    """Raises SimulationError for what cannot be lived through."""
    try:
        if not callable(story):
            raise TypeError(f"it is {story!r}")
        inspect.signature(story).bind(None)
    except TypeError as error:
        if inspect.iscoroutine(story):
            story.close()
        raise SimulationError(
            f"a story is an async function of a simulation, given uncalled; {error}.\n"
            "  async def story(simulation): ...\n"
            "  explore(story)"
        ) from error
    except ValueError:  # its signature is nobody's to know
        return


def check_terms(terms: Terms) -> None:
    """Raises SimulationError for limits that are none, and for a backend that is no name."""
    number("explore", "limit", terms.limit, hint="Virtual seconds: an hour is enough for most.")
    whole("explore", "steps", terms.steps, least=1, hint="Of the event loop, in one run.")
    if not isinstance(terms.name, str):
        raise SimulationError(
            f"explore(name={terms.name!r}): it is a text, by which failures are kept.\n"
            "  explore(story_of(3), name='three orders')"
        )
    if not isinstance(terms.backend, str):
        raise SimulationError(
            f"explore(backend={terms.backend!r}): it is a name, or an address.\n"
            "  'fakeredis', 'server', 'both', or redis://host:port/database."
        )


def check_amount(
    *,
    seeds: int | None,
    minutes: float | None,
    first_seed: int,
    guard: float,
    jobs: int,
    deviations: int | None,
) -> None:
    """Raises SimulationError for numbers that make no sense."""
    if seeds is not None:
        whole("explore", "seeds", seeds, least=1, hint="There is at least one run.")
    if minutes is not None:
        number("explore", "minutes", minutes, hint="Of real time.")
    if deviations is not None:
        few = "0 is the boring run alone; two see most of what there is to see."
        whole("explore", "deviations", deviations, least=0, hint=few)
    whole("explore", "first_seed", first_seed, hint="The seeds are this one and those behind it.")
    whole("explore", "jobs", jobs, least=1, hint="Processes that share the runs.")
    number("explore", "guard", guard, hint="The share of runs that are lived twice: 0.05, 0, 1.")
    if guard > 1:
        raise SimulationError(
            f"explore(guard={guard!r}): a share is between 0 and 1.\n  guard=1 lives every run twice."
        )


def folder_of(kept: object) -> Path | None:
    """The folder in which failures are kept; None if none is.

    Raises:
        SimulationError: it is no folder's name.
    """
    if kept is None:
        return None
    if not isinstance(kept, str | Path) or not str(kept):
        raise SimulationError(
            f"explore(kept={kept!r}): it is a folder, or None to keep nothing.\n"
            "  kept='.queuekit/failures' is the default."
        )
    return Path(kept)


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

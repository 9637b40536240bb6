"""A share of the runs is lived twice: what is not the same twice proves nothing, and cannot be replayed."""

from __future__ import annotations

from queuekit.exploration.errors import NotRepeatable
from queuekit.exploration.living import Run, Story, Terms, run_once
from queuekit.simulation.trace import first_difference


def lives_again(story: Story, run: Run, terms: Terms) -> None:
    """Live through a run's plan again.

    Raises:
        NotRepeatable: it was another run; the message has the first difference, with both sides.
    """
    again = run_once(story, run.plan, terms)
    if (again.trace, again.lines) == (run.trace, run.lines):
        return
    sides: tuple[list[str], list[str]] = ([], [])
    for lines in sides:
        run_once(story, run.plan, terms, sink=lines.append)
    difference = first_difference(*sides) or (
        "  (two more runs were equal to each other: it depends on what ran before)"
    )
    raise NotRepeatable(
        f"seed {run.plan.seed} was lived twice, and was not the same twice.\n{difference}\n"
        "  Something in it follows a real clock, a thread, the order of a set, or what an earlier run\n"
        "  has left behind (a global, a cache)."
    )

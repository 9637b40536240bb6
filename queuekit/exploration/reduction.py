"""A failing run, made as small as it gets, and lived once more to be told."""

from __future__ import annotations

import time
from dataclasses import dataclass

from queuekit.exploration.failures import Failure, obstacle_of, plan_of, token_of
from queuekit.exploration.living import Run, Story, Terms, run_once
from queuekit.exploration.simpler import reduced, without_scheduling
from queuekit.simulation.chooser import Asked, Deviation

SHRINK_S = 30.0
"Real seconds that a reduction may take."


@dataclass(frozen=True)
class Reduced:
    """The smallest run that breaks the same promise."""

    run: Run
    schedule: str
    tape: tuple[Deviation, ...]
    runs: int
    "That it took."

    def failure(self, story: Story, terms: Terms, kinds: tuple[str, ...]) -> Failure:
        """To be kept, of a run that could meet these kinds of misfortune."""
        broken = self.run.broken
        assert broken is not None
        seed = self.run.plan.seed
        struck = {d.site.partition(":")[0].removeprefix("swarm.") for d in self.tape}
        return Failure(
            promise=broken.promise,
            what=broken.what,
            seed=seed,
            tape=self.tape,
            story=self.run.story,
            token=token_of(story, broken.promise, seed, self.tape, terms.name),
            schedule=self.schedule,
            faults=tuple(kind for kind in kinds if kind in struck),
            at_s=broken.at_s,
            obstacle=obstacle_of(story, terms),
        )


def reduce(story: Story, failed: Run, terms: Terms) -> Reduced:
    """The reduced run of one that failed, told.

    Raises:
        NotRepeatable: it did not fail again.
    """
    assert failed.broken is not None
    promise, plan = failed.broken.promise, failed.plan
    kinds = tuple(plan.profile.rates)
    until = time.monotonic() + SHRINK_S
    failing: set[tuple[str, tuple[Deviation, ...]]] = {(plan.schedule, tuple(failed.tape))}

    def fails(schedule: str, tape: list[Deviation]) -> list[Deviation] | None:
        if time.monotonic() > until and (schedule, tuple(tape)) not in failing:
            return None  # no time for another one; what is known to fail is still confirmed
        run = run_once(story, plan_of(plan.seed, schedule, kinds, tape), terms, trace=False)
        if run.broken is None or run.broken.promise != promise:
            return None
        failing.add((schedule, tuple(run.tape)))
        return run.tape

    def look(tape: list[Deviation]) -> tuple[list[Asked], int]:
        run = run_once(story, plan_of(plan.seed, "pct", kinds, tape), terms, ask=True)
        return run.asked, run.choices

    found = reduced(plan.schedule, failed.tape, fails, look)
    schedule, tape, runs = found.schedule, tuple(found.tape), found.runs
    if schedule != "fifo" and len(without_scheduling(tape)) == len(tape):
        # Without a deviation of the schedule that is first in first out, which is told more simply.
        runs += 1
        if fails("fifo", list(tape)) is not None:
            schedule = "fifo"
    run = run_once(story, plan_of(plan.seed, schedule, kinds, tape), terms, tell=True)
    return Reduced(run, schedule, tape, runs + 1)

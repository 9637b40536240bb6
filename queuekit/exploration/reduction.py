"""A failing run, made as small as it gets, and lived once more to be told."""

from __future__ import annotations

import time
from dataclasses import dataclass

from queuekit.exploration.failures import Failure, plan_of, target_of, token_of
from queuekit.exploration.living import Run, Story, Terms, run_once
from queuekit.exploration.shrink import SHRINK_RUNS, shrink
from queuekit.simulation.chooser import Deviation

SHRINK_S = 30.0
"Real seconds that a reduction may take."

_SCHEDULING = ("schedule", "pct.priority", "pct.change")


@dataclass(frozen=True)
class Reduced:
    """The smallest run that breaks the same promise."""

    run: Run
    schedule: str
    tape: tuple[Deviation, ...]
    runs: int
    "That it took."

    def failure(self, story: Story, kinds: tuple[str, ...]) -> Failure:
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
            token=token_of(story, broken.promise, seed, self.tape),
            schedule=self.schedule,
            faults=tuple(kind for kind in kinds if kind in struck),
            at_s=broken.at_s,
            importable=target_of(story)[2],
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
    failing: set[tuple[Deviation, ...]] = {tuple(failed.tape)}

    def fails(tape: list[Deviation]) -> list[Deviation] | None:
        if time.monotonic() > until and tuple(tape) not in failing:
            return None  # no time for another one; what is known to fail is still confirmed
        run = run_once(story, plan_of(plan.seed, schedule, kinds, tape), terms, trace=False)
        if run.broken is None or run.broken.promise != promise:
            return None
        failing.add(tuple(run.tape))
        return run.tape

    schedule = plan.schedule
    shrunk = shrink(failed.tape, fails, runs=SHRINK_RUNS)
    tape, runs = tuple(shrunk.tape), shrunk.runs
    if schedule != "fifo" and not any(d.site.partition(":")[0] in _SCHEDULING for d in tape):
        # Without a deviation of the schedule that is first in first out, which is told more simply.
        schedule = "fifo"
        runs += 1
        if fails(list(tape)) is None:
            schedule = plan.schedule
    run = run_once(story, plan_of(plan.seed, schedule, kinds, tape), terms, tell=True)
    return Reduced(run, schedule, tape, runs + 1)

"""Every run that differs from the boring one in at most so many decisions.

A run's record says which decisions there were. The runs with one deviation more are that run up to one of
its later decisions, and another choice there. So each is run exactly once, in the order of how many
deviations it has, and when none is left all have been seen.

A bound on deviations proves nothing about starvation: a task that must be held back for 25 steps needs 25
deviations of a schedule that chooses at each step. PCT finds that with one; see `schedule.py`.

Orders that differ only in steps without influence on each other are run all the same: which steps of
Python code are independent nobody knows.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from queuekit.exploration.errors import NotRepeatable
from queuekit.simulation.chooser import Asked, Deviation
from queuekit.simulation.errors import SimulationError

EVERY_RUNS = 10_000
"Runs of an exhaustive search, unless it is given another limit."

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")

MAX_ALTERNATIVES = 64
"""Of one decision that are tried one by one; a priority among a thousand is not for this search. What a story
chooses itself is tried all the same, as far as there are runs: nobody else would."""

SITES_TOLD = 3
"Of those that no runs were left for."


@dataclass(frozen=True, slots=True)
class Lived:
    """A run, as a search sees it."""

    asked: Sequence[Asked]
    "All decisions that there were (`chooser.asked`), in their order."
    failed: object = None
    "What was wrong; None if nothing."


@dataclass(slots=True)
class Searched:
    """What an exhaustive search has seen."""

    deviations: int = 0
    "The bound: at most so many."
    runs: int = 0
    exhausted: bool = False
    "Whether these were all there are within the bound."
    failures: list[tuple[list[Deviation], object]] = field(default_factory=list)
    "Tapes, each with what was wrong; those with the fewest deviations first."
    by_deviations: Counter[int] = field(default_factory=Counter)
    "Runs by their number of deviations."
    passed_over: Counter[str] = field(default_factory=Counter)
    "Decisions with more than `MAX_ALTERNATIVES`, by site: not all was seen."
    left: Counter[str] = field(default_factory=Counter)
    "Choices that there were no runs left for, by site."

    def __str__(self) -> str:
        return seen(self, "schedule")


def seen(searched: Searched, what: str) -> str:
    """What a search has seen, in words: whether it was all, and how much it was.

    Args:
        searched: by it.
        what: it has run, in the singular: "schedule", "run".
    """
    places = "place" if searched.deviations == 1 else "places"
    bound = f"differs in at most {_number(searched.deviations)} {places}"
    if not searched.deviations:
        bound = "differs in no place"
    by_number = searched.by_deviations
    parts = " + ".join(f"{by_number[number]:,}" for number in sorted(by_number))
    runs = f"{searched.runs:,} run{'' if searched.runs == 1 else 's'} ({parts})"
    if searched.exhausted:
        return f"every {what} that {bound}: {runs}"
    why = ""
    if searched.failures:
        why = ", up to the first that failed"
    else:
        if searched.passed_over:
            sites = ", ".join(searched.passed_over)
            why = f"; passed over were decisions among more than {MAX_ALTERNATIVES}: {sites}"
        if searched.left:
            sites = ", ".join(site for site, _ in searched.left.most_common(SITES_TOLD))
            why += f"; no runs were left for {searched.left.total():,} choices, most of them at {sites}"
    return f"not every {what} that {bound}: {runs}{why}"


def _number(number: int) -> str:
    return _NUMBERS[number] if number < len(_NUMBERS) else f"{number}"


def every_schedule(
    run: Callable[[list[Deviation]], Lived],
    deviations: int = 2,
    *,
    runs: int = EVERY_RUNS,
    first_failure: bool = True,
    kinds: Collection[str] | None = None,
    until: float | None = None,
) -> Searched:
    """Run everything that differs from the boring run in at most so many decisions.

    Args:
        run: lives with a tape (`Chooser(seed, tape)`, with a list in `chooser.asked`).
        deviations: at most so many, above or equal to 0.
        runs: at most so many, above 0; if there are more, `exhausted` is False.
        first_failure: stop at the first one.
        kinds: only decisions at sites of these kinds are varied (default: at all).
        until: stop at this moment of `time.monotonic()`.

    Raises:
        NotRepeatable: a run did not come to a decision that it had come to before.
        SimulationError: the bound is below 0.
    """
    if deviations < 0:
        raise SimulationError(
            f"deviations={deviations!r}: at most so many decisions differ; 0 is the boring run alone.\n"
            "  Two see most of what there is to see; each one more costs a hundred times the runs."
        )
    searched = Searched(deviations)
    waiting: deque[list[Deviation]] = deque([[]])
    complete = True
    while waiting:
        if until is not None and searched.runs and time.monotonic() >= until:
            return searched
        tape = waiting.popleft()
        lived = run(list(tape))
        searched.runs += 1
        searched.by_deviations[len(tape)] += 1
        if lived.failed is not None:
            searched.failures.append((tape, lived.failed))
            if first_failure:
                return searched
        behind = _decisions_behind(tape, lived.asked)
        if len(tape) == deviations:
            continue
        for asked in behind:
            if kinds is not None and asked.site.partition(":")[0] not in kinds:
                continue
            if asked.n > MAX_ALTERNATIVES and not asked.site.startswith("choose:"):
                searched.passed_over[asked.site] += 1
                complete = False
                continue
            for value in range(1, asked.n):
                if len(waiting) + searched.runs >= runs:  # it would never be run
                    complete = False
                    searched.left[asked.site] += asked.n - value
                    break
                waiting.append([*tape, Deviation(asked.site, asked.nth, value)])
    searched.exhausted = complete
    return searched


def _decisions_behind(tape: list[Deviation], asked: Sequence[Asked]) -> Iterator[Asked]:
    """The decisions that came after the last one of a tape."""
    decisions = iter(asked)
    if not tape:
        return decisions
    last = tape[-1]
    for decision in decisions:
        if (decision.site, decision.nth) == (last.site, last.nth):
            return decisions
    raise NotRepeatable(
        f"a run that differs only from {last.site!r} number {last.nth} on did not come so far.\n"
        "  The same decisions must give the same run: something in it follows a real clock, a thread,\n"
        "  the order of a set, or what an earlier run has left behind.\n"
        "  queuekit.exploration.assert_repeatable lives through runs twice, and shows the first difference."
    )

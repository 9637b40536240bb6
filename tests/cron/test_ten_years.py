"""Ten virtual years of cron: 24 schedules in six time zones, on workers that come and go.

The misfortune: clocks are set twenty times in each zone, workers are restarted in the midst of
ticks, and for days there is none. What must hold: each tick that the oracle finds is enqueued once
and on time while a worker is up, what was missed is made up for by the schedule's policy and at
once, nothing else is, and nothing early. What it once found: nothing.

`make cron-years` runs it with schedules of each day, and more restarts.
"""

from __future__ import annotations

import os
import random
from bisect import bisect_left, bisect_right
from collections import defaultdict
from datetime import datetime, timedelta

import pytest

from queuekit import CronJob
from tests.cron import oracle

BEGIN, END = oracle.utc(2030, 1, 1), oracle.utc(2040, 1, 1)
LATE_S = 60
ALL_LIMIT = 1000
DAY_S = 86_400

QUIET_S = 30 * DAY_S
"How long idle workers wait: an hour, as in other simulations, would be a million looks at the queue."

ZONES = {
    # At which hours, in which months and (often) on which days the clock is set.
    "America/New_York": ("1,2", "3,11", "8,9"),
    "Europe/Berlin": ("2,3", "3,10", "27,28"),
    "Australia/Lord_Howe": ("1,2", "4,10", "3,4"),
    "America/Santiago": ("0,23", "4,9", "6,7"),
    "Africa/Cairo": ("0,23", "4,10", "27,28"),
    "Asia/Kolkata": ("0,12", "2,8", "28,29"),
}
FULL = os.environ.get("CRON_YEARS") == "full"
RESTARTS = 400 if FULL else 30


def schedules(zone):
    """Four of each zone: two of times of day, a periodic one, a rare one."""
    hours, months, days = ZONES[zone]
    nightly, periodic = f"30 {hours} {days} {months} *", f"0 */6 {days[-1]} {months} *"
    if FULL:
        nightly, periodic = f"30 {hours[0]} * * *", f"0 */8 * {months} *"
    chosen = [
        (nightly, "one"),
        (periodic, "skip"),
        (f"0 0 1 {months} *", "all"),
        (f"0 {hours} * {months} 0" if FULL else f"0 {hours} {days[0]} {months} *", "all"),
    ]
    return [
        CronJob(task, text, name=f"{zone} {number}", catch_up=policy, ttl=0, unique=number != 2)
        for number, (text, policy) in enumerate(chosen)
    ]


async def task(ctx):
    """Does nothing, at once."""


class Crew:
    """The workers of one zone: two, which come and go; `spans` says when at least one was up."""

    def __init__(self, simulation, zone):
        self.simulation, self.zone = simulation, zone
        self.jobs = schedules(zone)
        looks = oracle.watch(zone, BEGIN, END, every_s=1800)
        self.ticks = {job.name: list(oracle.ticks(job.cron, looks)) for job in self.jobs}
        self.up = []
        self.spans = []

    async def start(self):
        """Two at one time, if there is none."""
        if not self.up:
            self.spans.append([self.simulation.now, END])
            self._join()
            self._join()

    def _join(self):
        self.up.append(
            self.simulation.worker(cron_jobs=self.jobs, cron_tz=self.zone, functions=[task])
        )

    async def replace(self):
        """One goes, then another one comes, as in a rolling deploy."""
        if self.up:
            await self.up.pop(0).stop()
            self._join()

    async def stop(self):
        """All go."""
        if self.up:
            self.spans[-1][1] = self.simulation.now
        while self.up:
            await self.up.pop().stop()

    def plan(self, chance):
        """When what happens, in seconds from the beginning."""
        yield 0, self.start
        begin_s = round(BEGIN.timestamp())
        ticks = sorted({tick - begin_s for found in self.ticks.values() for tick in found})
        for _ in range(RESTARTS):
            # Shortly before a tick, or somewhere between two.
            at_s = chance.choice(ticks) + chance.choice([-3, -3, 700])
            if chance.random() < 0.3:
                yield at_s, self.replace
            else:
                yield at_s, self.stop
                yield at_s + chance.choice([5, 50, 90, 3 * 3600, 2 * DAY_S, 20 * DAY_S]), self.start


async def live(simulation, crews, chance):
    """Ten years."""
    events = [event for crew in crews for event in crew.plan(chance)]
    for at_s, happen in sorted(events, key=lambda event: event[0]):
        if at_s < (END - BEGIN).total_seconds():
            await simulation.advance_to(BEGIN + timedelta(seconds=at_s))
            await happen()
    await simulation.advance_to(END)


def expected(ticks, spans, catch_up):
    """The ticks to be handled and when, as (tick, moment), by the policy: in seconds."""
    handled = []
    done_s = spans[0][0].timestamp()
    for begin, end in spans:
        begin_s, end_s = begin.timestamp(), end.timestamp()
        passed = ticks[bisect_right(ticks, done_s) : bisect_right(ticks, begin_s)]
        late = [tick for tick in passed if tick >= begin_s - LATE_S]
        if catch_up == "all":
            chosen = passed[-ALL_LIMIT:]
        elif catch_up == "one":
            chosen = late or passed[-1:]
        else:
            chosen = late
        handled += [(tick, begin_s) for tick in chosen]
        on_time = ticks[bisect_right(ticks, begin_s) : bisect_left(ticks, end_s)]
        handled += [(tick, tick) for tick in on_time]
        done_s = end_s
    return handled


@pytest.mark.slow
def test_ten_years_of_cron_miss_no_tick_outside_the_policy_and_double_none(simulation_of_ten_years):
    simulation = simulation_of_ten_years
    crews = [Crew(simulation, zone) for zone in ZONES]
    simulation.run(live(simulation, crews, random.Random(8)))

    handled = defaultdict(list)
    for tick in simulation.journal.ticks:
        assert tick.verdict == "enqueued"
        handled[tick.schedule].append((tick.tick_ms / 1000, tick.at_ms / 1000))
    assert sum(map(len, handled.values())) == len({t.key for t in simulation.journal.ticks})
    assert len(handled) == 24
    for crew in crews:
        for job in crew.jobs:
            wanted = expected(crew.ticks[job.name], crew.spans, job.catch_up)
            assert handled[job.name] == wanted, difference(job, handled[job.name], wanted)
    delays = [at - tick for found in handled.values() for tick, at in found if at > tick]
    assert any(delay <= LATE_S for delay in delays), "no restart met a tick"
    assert any(delay > LATE_S for delay in delays), "nothing was made up for"
    unfinished = [record.key for record in simulation.journal if not record.finished]
    assert all(key.endswith(f":{round(END.timestamp() * 1000)}") for key in unfinished)


def difference(job, found, wanted):
    """The first tick that is not as it should be."""
    for side, mine, others in (("missing", wanted, found), ("too much", found, wanted)):
        for tick, at in sorted(set(mine) - set(others)):
            moments = [datetime.fromtimestamp(s, BEGIN.tzinfo).isoformat() for s in (tick, at)]
            return f"{job.name} {job.cron!r} {job.catch_up}: {side}: {moments[0]} at {moments[1]}"
    return f"{job.name}: twice, or out of order"

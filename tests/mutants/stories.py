"""Small workloads that together put every promise to the test.

Each is what an application could do: a `web` process enqueues, workers work. What a story asserts holds
whatever befalls them, but for what it says of a calm world: one in which nothing has gone wrong but by the
story itself.
"""

from __future__ import annotations

from tests.mutants.alone import broken_alone, in_line, maker_goes, not_told, reborn, room
from tests.mutants.at_the_edge import (
    abort_races,
    cut_claim,
    full_ears,
    handed_back,
    heard,
    hooks,
    lost_late,
    resent,
    tokens,
    unanswered_claim,
)
from tests.mutants.at_work import errands, limits, many, order, results, retries
from tests.mutants.by_clients import aborts, groups, listening, records, scheduled, unique
from tests.mutants.damage import damaged, evicted
from tests.mutants.in_trouble import (
    again,
    clock_steps,
    deaf,
    handover,
    hung,
    killers,
    outage,
    renewals,
    set_forward,
    starved,
)
from tests.mutants.on_leave import (
    caught_up,
    cron,
    deploy,
    forgotten,
    half_a_deploy,
    leaving,
    left_behind,
    memory_lost,
    missed,
    rolling,
    set_back,
    statistics,
    stopped,
    taken,
)
from tests.mutants.on_record import aborted_before, between_runs, bunch, counters, set_aside
from tests.mutants.told import full_by_then

STORIES = {
    story.__name__: story
    for story in (
        errands, retries, killers, hung, aborts, unique, order, groups, leaving, handover, stopped,
        limits, results, scheduled, again, outage, clock_steps, deaf, cron, deploy, records, damaged,
        starved, renewals, set_forward, abort_races, cut_claim,
        unanswered_claim, handed_back, hooks, heard, lost_late, tokens, set_back, taken, missed,
        resent, listening, caught_up, statistics,
        half_a_deploy, forgotten, between_runs, counters, bunch, set_aside, aborted_before,
        full_ears, memory_lost,
        full_by_then,
        in_line, room, maker_goes, not_told, reborn, broken_alone,
        left_behind, evicted,
        rolling, many,
    )
}  # fmt: skip

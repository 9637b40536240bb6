"""Small workloads that together put every promise to the test.

Each is what an application could do: a `web` process enqueues, workers work. What a story asserts holds
whatever befalls them, but for what it says of a calm world: one in which nothing has gone wrong but by the
story itself.
"""

from __future__ import annotations

from tests.mutants.alone import (
    broken_alone,
    in_line,
    maker_dies,
    maker_leaves,
    not_told,
    one_job,
    reborn,
    room,
    told_meanwhile,
)
from tests.mutants.at_the_edge import (
    abort_races,
    aborted_unheard,
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
from tests.mutants.by_clients import (
    aborts,
    groups,
    listening,
    overtaken,
    records,
    scheduled,
    told_of,
    unique,
    waiting,
)
from tests.mutants.damage import aborted_damaged, damaged
from tests.mutants.in_order import back_in_front, falling, suspects_place
from tests.mutants.in_trouble import (
    again,
    clock_steps,
    deaf,
    full_memory,
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
    never_began,
    rolling,
    set_back,
    statistics,
    stopped,
    taken,
)
from tests.mutants.on_record import (
    abort_resent,
    aborted_before,
    between_runs,
    bunch,
    counters,
    set_aside,
)
from tests.mutants.told import (
    due_soon,
    full_by_then,
    last_word,
    lone,
    short_lease,
    stopping_hears,
    stops_with_it,
)

STORIES = {
    story.__name__: story
    for story in (
        errands, retries, killers, hung, aborts, unique, order, groups, leaving, handover, stopped,
        limits, results, scheduled, again, outage, clock_steps, deaf, cron, deploy, records, damaged,
        starved, full_memory, renewals, set_forward, abort_races, cut_claim,
        unanswered_claim, handed_back, hooks, heard, lost_late, tokens, set_back, taken, missed,
        resent, listening, caught_up, statistics,
        half_a_deploy, forgotten, between_runs, counters, bunch, set_aside, aborted_before, abort_resent,
        full_ears, aborted_unheard, overtaken, memory_lost, falling, back_in_front, suspects_place,
        full_by_then, stops_with_it, stopping_hears, last_word, short_lease, lone, due_soon,
        in_line, room, maker_leaves, maker_dies, not_told, reborn, broken_alone,
        one_job, told_meanwhile, waiting, told_of, never_began, aborted_damaged,
        left_behind,
        rolling, many,
    )
}  # fmt: skip

"""Each promise's checker finds what breaks it, and nothing in the queue as it is."""

from __future__ import annotations

import functools

import pytest

from queuekit import lifecycle
from tests.exploration import stories
from tests.exploration.planting import broken_by, live

STORIES = {
    name: getattr(stories, name)
    for name in (
        "plain", "idle_first", "killed", "hung", "long_run", "killer", "late_abort", "same_key",
        "ticking",
    )
} | {
    f"cut {name}": functools.partial(stories.cut, script=name)
    for name in ("enqueue", "claim", "commit")
}  # fmt: skip


@pytest.mark.parametrize("name", STORIES)
def test_the_queue_as_it_is_breaks_no_promise(name, on_each_backend):
    _, broken = live(STORIES[name], **on_each_backend)
    assert broken == []


# -- defects in scripts: (promise, story, script or None for all, what is there, what is put there)

DEFECTS = {
    "a job that is to run again is put nowhere": (
        "P1", "plain", "commit", "place(key, due, flag('f'), held[10], group, solo)", ""
    ),
    "an enqueue is acknowledged and not placed": (
        "P1", "plain", "enqueue", "  place(key, due, false, priority, group, nil)\n", ""
    ),
    "a job that is claimed has no lease": (
        "P1", "killed", "claim", "redis.call('ZADD', LEASE, exact(now + ARGV[5]), key)", ""
    ),
    "a finished job's record goes before its time": (
        "P1", "plain", None, "redis.call('HSET', job, 'expires', exact(expires))", "redis.call('HSET', job, 'expires', exact(now))"
    ),
    "a claim that is sent again leaves its jobs out": (
        "P1", "cut claim", "claim", "jobs[#jobs + 1] = { key, tonumber(state[16]), call_record(key), state }", ""
    ),
    "a lost job is never given back": (
        "P1", "killed", "commit", "if ours and flag('e') then ours = ", "if ours and flag('e') then ours = false and "
    ),
    "a renewal prolongs nothing": (
        "P2", "long_run", "renew", "redis.call('ZADD', LEASE, 'XX', exact(now + ARGV[2]), key)", ""
    ),
    "a renewal is told of a loss that was none": (
        "P2", "long_run", "renew", "held[2] == fence and held[3] == claim", "false"
    ),
    "leases are shorter than their workers think": (
        "P2", "long_run", "claim", "exact(now + ARGV[5]), key", "exact(now + ARGV[5] / 10), key"
    ),
    "two of a group run at one time": (
        "P2", "plain", None, "if first and first ~= key then", "if false then"
    ),
    "a commit does not compare the fence": (
        "P3", "hung", "commit",
        "local ours = held[2] == fence and held[3] == claim and (status == 'active' or status == 'aborting')",
        "local ours = true",
    ),
    "an abort does not ask whether the job has ended": (
        "P3", "late_abort", "abort", "if terminal[status] then return 'final ' .. status end", ""
    ),
    "an end forgets its result": (
        "P3", "plain", "commit", "write(name, ARGV[i + 9 + offset])", "local _ = offset"
    ),
    "fences begin again and again": (
        "P3", "plain", "claim", "redis.call('INCRBY', root .. ':fence', most) - most", "0"
    ),
    "a failure is counted twice": (
        "P4", "plain", "commit", "redis.pcall('HINCRBY', job, counter, 1)", "redis.pcall('HINCRBY', job, counter, 2)"
    ),
    "a failure is not counted": (
        "P4", "plain", "commit", "if charge ~= '' then raise(job, charge) end", ""
    ),
    "runs are not counted": (
        "P4", "plain", "claim", "exact((tonumber(state[2] or 0) or 0) + 1)", "'1'"
    ),
    "a job that kills its processes does not run alone": (
        "P4", "killer", "commit", "if solo then write('solo', '1') end", ""
    ),
    "jobs are promoted before their time": (
        "P5", "idle_first", "claim", "'-inf', exact(now), 'LIMIT', 0, PROMOTE_LIMIT", "'-inf', exact(now + 5000), 'LIMIT', 0, PROMOTE_LIMIT"
    ),
    "a scheduled job is placed among those that could start": (
        "P5", "plain", None, "if due > now then\n    redis.call('ZADD', SCHEDULED", "if false then\n    redis.call('ZADD', SCHEDULED"
    ),
    "a retry does not wait for its delay": (
        "P5", "plain", "commit", "local due = now + ARGV[i + 4]", "local due = now"
    ),
    "an enqueue wakes nobody": (
        "P6", "idle_first", "enqueue", "enter(key, set, (front and before or behind)(set, priority, group), group)\n  wake()", "enter(key, set, (front and before or behind)(set, priority, group), group)"
    ),
    "a worker is not told of the next due moment": (
        "P6", "idle_first", "claim", "return { now, earliest(SCHEDULED),", "return { now, -1,"
    ),
    "a job of a group does not follow the one before": (
        "P6", "plain", None, "redis.call('ZADD', solo and SUSPECT or READY, exact(place), follows)\n  wake()", "redis.call('ZADD', solo and SUSPECT or READY, exact(place + 0), follows)"
    ),
    "a key is given away while its job waits": (
        "P7", "same_key", "enqueue", "elseif status and not terminal[status] then", "elseif false then"
    ),
    "a key is kept when its job has ended": (
        "P7", "same_key", "enqueue", "elseif status and not terminal[status] then", "elseif status then"
    ),
    "an enqueue that is sent twice is two": (
        "P7", "cut enqueue", "enqueue", "if enqueued == id or stored[3] == id then", "if false then"
    ),
    "a tick is not remembered": (
        "P8", "ticking", "cron", "if last >= tick or", "if"
    ),
    "ticks are taken for handled": (
        "P8", "ticking", "cron", "if last >= tick or", "if true or"
    ),
    "a tick is passed over though nothing is in its way": (
        "P8", "ticking", "cron", "busy = status and not terminal[status]", "busy = true"
    ),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found_by_the_checker_of_its_promise(defect, plant):
    promise, story, script, old, new = DEFECTS[defect]
    plant(old, new, script=script)
    assert promise in broken_by(STORIES[story])

"""What lies where in Redis.

All keys of a queue carry the hash tag `{queue}`, so that they share one slot of a cluster. The
scripts get the root as KEYS[1] and derive the rest, in these words:

    qk:{name}                    the root, never a key itself
    qk:{name}:ready              sorted set: job key by its place; what could start now
    qk:{name}:suspect            likewise, for jobs that were lost twice: each runs alone in its process
    qk:{name}:followers          sorted set of equal scores: group, place and key of jobs whose group is busy
    qk:{name}:groups             hash: group -> the one of its jobs that is ready, suspect or active
    qk:{name}:leaders            hash: the way back: key of the job that groups names -> its group
    qk:{name}:scheduled          sorted set: job key by the moment it is due (ms)
    qk:{name}:lease              sorted set: active job key by the end of its lease (ms)
    qk:{name}:finished           sorted set: finished job key by the moment its record ends (ms)
    qk:{name}:quarantine         sorted set: failed job key by the moment it was set aside (ms)
    qk:{name}:call:<key>         string: a head (enqueue id, moment), and what to run (see codec.py);
                                 written once. All that there is of a job that was only enqueued
    qk:{name}:job:<key>          hash: the job's state, from its first move on
    qk:{name}:foreign:<key>      what was found in place of the state of a job in quarantine
    qk:{name}:fence              counter of claims
    qk:{name}:wake               list with at most one token: there is something to claim
    qk:{name}:control:<worker>   list of messages to one worker (aborts)
    qk:{name}:claims             hash: worker -> its last claim, for a claim that is sent twice
    qk:{name}:solo               hash: the worker that makes room for a suspect and until when, or its key
    qk:{name}:workers            sorted set: worker id by the moment it counts as gone (ms)
    qk:{name}:info               hash: worker id -> statistics and metadata as JSON
    qk:{name}:ticked             sorted set: schedule id by the moment up to which its ticks are handled (ms)
    qk:{name}:timetable          hash: schedule id -> its expression and zone, and the workers that have them
    qk:{name}:cronjob            hash: schedule id -> key of the job of its last tick
    qk:{name}:event:<key>        channel: a hint that the job's status has changed
"""

from __future__ import annotations


def root(queue: str) -> str:
    """The common beginning of all keys of a queue."""
    return f"qk:{{{queue}}}"

"""The twelve mutants that any battery of tests for a queue on leases must catch."""

from __future__ import annotations

from tests.mutants.mutant import Code, Mutant, Text

_HELD = "local ours = held[2] == fence and held[3] == claim and (status == 'active' or status == 'aborting')"

TWELVE = [
    Mutant(
        "commit does not compare the fence",
        (Text("commit.lua", _HELD, "local ours = status == 'active' or status == 'aborting'"),),
    ),
    Mutant(
        "recovery does not look whether the lease has ended",
        (
            Text(
                "commit.lua",
                "if ours and flag('e') then ours = tonumber(redis.call('ZSCORE', LEASE, key) or 0) <= now end",
                "",
            ),
            Text(
                "expired.lua",
                "redis.call('ZRANGEBYSCORE', LEASE, '-inf', exact(now), 'LIMIT', 0, tonumber(ARGV[2]))",
                "redis.call('ZRANGE', LEASE, 0, -1)",
            ),
        ),
    ),
    Mutant(
        "renewal does not ask who holds the lease",
        (
            Text(
                "renew.lua",
                "if running and held[2] == fence and held[3] == claim then",
                "if running then",
            ),
        ),
    ),
    Mutant(
        "a claim takes the job and makes its lease in two calls",
        (
            Text("claim.lua", "  redis.call('ZADD', LEASE, exact(now + ARGV[5]), key)\n", ""),
            Text("renew.lua", "'XX', ", ""),
            Code(
                "store.redis:Store.claim",
                "return Claimed(",
                "held = [_held(job) for job in jobs]\n"
                "    await self.renew([(h.key, h.fence, h.claim_id) for h in held], lease_ms)\n"
                "    return Claimed(",
            ),
        ),
    ),
    Mutant(
        "a retry leaves the lease where it is",
        (Text("commit.lua", "redis.call('ZREM', LEASE, key)", "if target ~= 'queued' then redis.call('ZREM', LEASE, key) end"),),
    ),
    Mutant(
        "an enqueue sent twice is not known again",
        (Text("enqueue.lua", "if enqueued == id or stored[3] == id then", "if false then"),),
    ),
    Mutant(
        "an abort overrides an end",
        (Text("abort.lua", "if terminal[status] then return 'final ' .. status end", "if terminal[status] then status = 'queued' end"),),
    ),
    Mutant(
        "a tick's job is named without its tick",
        (Code("cron:Schedule.job_at", "{tick_ms}", "0"),),
    ),
    Mutant(
        "a job that has not ended is given a ttl",
        (
            Text(
                "claim.lua",
                "'worker', worker, 'fence', exact(fence), 'claim', claim)",
                "'worker', worker, 'fence', exact(fence), 'claim', claim, 'expires', exact(now + 60000))",
            ),
        ),
    ),
    Mutant(
        "leases are reckoned by the worker's clock",
        (
            Text("claim.lua", "redis.call('ZADD', LEASE, exact(now + ARGV[5]), key)", "redis.call('ZADD', LEASE, exact(tonumber(ARGV[5])), key)"),
            Text("renew.lua", "exact(now + ARGV[2])", "exact(tonumber(ARGV[2]))"),
            Code("intake:Intake._ask_for", "round(worker.lease_s * 1000)", "environment().time_ms() + round(worker.lease_s * 1000)"),
            Code("upkeep:renew_leases", "round(worker.lease_s * 1000)", "environment().time_ms() + round(worker.lease_s * 1000)"),
        ),
    ),
    Mutant(
        "recovery stops at a record that it cannot read",
        (Code("upkeep:_recovery", "except Exception as error:", "except ZeroDivisionError as error:"),),
    ),
    Mutant(
        "a commit that failed is taken for one that was accepted",
        (Code("execution:Execution._try_commit", "if environment().monotonic() + COMMIT_RETRY_S >= self.lease_end:", "return 'ok', ''\n            if False:"),),
    ),
]

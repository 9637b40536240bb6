-- Purpose: show the jobs whose lease has ended, for lifecycle.py to decide and commit.lua to move.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 how many at most
-- Answer:  for each job {key, fence, call payload or false, state}
-- Moves:   none

local orphans = {}
for _, key in ipairs(redis.call('ZRANGEBYSCORE', LEASE, '-inf', now, 'LIMIT', 0, tonumber(ARGV[2]))) do
  local fence = redis.call('HGET', job_of(key), 'fence')
  orphans[#orphans + 1] = { key, tonumber(fence or 0), redis.call('GET', call_of(key)), state_of(key) }
end
return orphans

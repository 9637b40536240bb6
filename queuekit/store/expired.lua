-- Purpose: show the jobs whose lease has ended, for lifecycle.py to decide and commit.lua to move. What is
--          no job that runs, and yet has a lease (a record that was evicted, or written over), is set aside.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 how many at most
-- Answer:  for each job {key, fence, call record or false, state}
-- Moves:   active -> failed

local orphans = {}
for _, key in ipairs(redis.call('ZRANGEBYSCORE', LEASE, '-inf', exact(now), 'LIMIT', 0, tonumber(ARGV[2]))) do
  local state = state_of(key)
  if state and (state[1] == 'active' or state[1] == 'aborting') and tonumber(state[16] or nil) then
    orphans[#orphans + 1] = { key, tonumber(state[16]), call_record(key), state }
  else
    redis.call('ZREM', LEASE, key)
    -- A finished job never changes; that it had a lease is all that was wrong.
    if not (state and terminal[state[1]]) then set_aside(key, 'its state is gone, though it ran under a lease') end
  end
end
return orphans

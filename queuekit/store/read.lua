-- Purpose: read jobs in one go.
-- KEYS:    1 the queue's root
-- ARGV:    1 now; then the jobs' keys
-- Answer:  for each key {call payload or false, state}, or false when there is no such job (any more)
-- Moves:   none

local found = {}
for i = 2, #ARGV do
  local ends = redis.call('HMGET', job_of(ARGV[i]), 'status', 'expires', 'gone')
  if not ends[1] or ends[3] or (ends[2] and tonumber(ends[2]) <= now) then
    found[#found + 1] = false
  else
    found[#found + 1] = { redis.call('GET', call_of(ARGV[i])), state_of(ARGV[i]) }
  end
end
return found

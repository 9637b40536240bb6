-- Purpose: remove the records of finished jobs whose time is over.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 how many at most
-- Answer:  how many were removed
-- Moves:   none

local over = redis.call('ZRANGEBYSCORE', FINISHED, '-inf', exact(now), 'LIMIT', 0, tonumber(ARGV[2]))
for _, key in ipairs(over) do
  redis.call('ZREM', FINISHED, key)
  if redis.call('ZREM', QUARANTINE, key) == 1 then redis.call('DEL', foreign_of(key)) end
  redis.call('DEL', job_of(key), call_of(key))
end
return #over

-- Purpose: remove the record of a job that was set aside.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 key
-- Answer:  1 if it was there
-- Moves:   none

local key = ARGV[2]
if redis.call('ZREM', QUARANTINE, key) == 0 then return 0 end
redis.call('ZREM', FINISHED, key)
redis.call('DEL', job_of(key), call_of(key), foreign_of(key))
return 1

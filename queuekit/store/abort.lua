-- Purpose: stop a job: at once if it waits, by a word to its worker if it runs.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 key, 3 reason, 4 ttl of the record (ms)
-- Answer:  aborted, aborting, missing, or "final" and the status that refuses it
-- Moves:   queued -> aborted, active -> aborting, aborting -> aborting

local key, reason = ARGV[2], ARGV[3]
local job = job_of(key)
local stored = redis.call('HMGET', job, 'status', 'worker', 'fence', 'expires')
local status = stored[1]
if not status or (stored[4] and tonumber(stored[4]) <= now) then return 'missing' end
if terminal[status] then return 'final ' .. status end
if status == 'queued' then
  if redis.call('ZREM', SCHEDULED, key) == 0 then redis.call('LREM', READY, 1, key) end
  finish(key, 'aborted', tonumber(ARGV[4]), { 'error', reason })
  return 'aborted'
end
redis.call('HSET', job, 'status', 'aborting', 'error', reason)
redis.call('RPUSH', root .. ':control:' .. stored[2], 'abort\n' .. stored[3] .. '\n' .. key .. '\n' .. reason)
tell(key, 'aborting')
return 'aborting'

-- Purpose: stop a job: at once if it waits, by a word to its worker if it runs.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 key, 3 reason, 4 ttl of the record (ms), 5 id of this abort
-- Answer:  aborted, aborting, missing, or "final" and the status that refuses it; an abort that is sent
--          twice is answered with what it has come to
-- Moves:   queued -> aborted, active -> aborting, aborting -> aborting

local key, reason, id = ARGV[2], ARGV[3], ARGV[5]
local state = fields(key, 'status', 'worker', 'fence', 'expires', 'group', 'follows', 'stopped')
local stored = state or {}
local status = stored[1] or (head_of(key) and 'queued')
if not status or (stored[4] and (tonumber(stored[4]) or now + 1) <= now) then return 'missing' end
if status == 'aborted' and stored[7] == id then return status end
if terminal[status] then return 'final ' .. status end
relieve()
if status == 'queued' then
  if stored[6] then
    unfollow(stored[5], stored[6], key)
  else
    -- Of one whose state is gone nobody knows where it stands.
    for _, container in ipairs({ READY, SCHEDULED, SUSPECT, LEASE }) do
      if redis.call('ZREM', container, key) == 1 then break end
    end
  end
  if state then
    finish(key, 'aborted', tonumber(ARGV[4]), { 'error', reason, 'stopped', id })
    leave(key)
  else
    set_aside(key, reason, 'aborted')
    redis.call('HSET', job_of(key), 'stopped', id)
  end
  return 'aborted'
end
redis.call('HSET', job_of(key), 'status', 'aborting', 'error', reason, 'stopped', id)
-- A worker that is gone hears nothing: the end of its lease ends the job.
if tonumber(redis.call('ZSCORE', WORKERS, stored[2]) or 0) > now then
  tell_worker(stored[2], 'abort\n' .. stored[3] .. '\n' .. key .. '\n' .. reason)
end
tell(key, 'aborting')
return 'aborting'

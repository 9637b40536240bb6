-- Purpose: store progress and meta of a job; from its own run it is a heartbeat.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 key, 3 fence and 4 claim id (empty: not from the run), 5 progress, 6 meta (empty: unchanged)
-- Answer:  {verdict, status, touched}; verdict is ok, lost (this run no longer holds the job), final or missing
-- Moves:   none

local key, fence = ARGV[2], ARGV[3]
local state = fields(key, 'status', 'fence', 'claim', 'expires')
local stored = state or {}
local status = stored[1] or (head_of(key) and 'queued')
if not status or (stored[4] and (tonumber(stored[4]) or now + 1) <= now) then return { 'missing', '', 0 } end
if fence ~= '' and (stored[2] ~= fence or stored[3] ~= ARGV[4] or not (status == 'active' or status == 'aborting')) then
  return { 'lost', status, 0 }
end
if terminal[status] then return { 'final', status, 0 } end
-- Something else was written to its key; a claim or the end of its lease sets it aside.
if not state then return { 'missing', '', 0 } end
relieve()
redis.call('HSET', job_of(key), 'status', status, 'touched', exact(now))
if ARGV[5] ~= '' then redis.call('HSET', job_of(key), 'progress', ARGV[5]) end
if ARGV[6] ~= '' then redis.call('HSET', job_of(key), 'meta', ARGV[6]) end
return { 'ok', status, now }

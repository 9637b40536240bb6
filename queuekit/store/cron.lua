-- Purpose: handle one tick of a schedule, once however many workers come with it.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 schedule id, 3 tick (ms), 4 "1" to skip while the last tick's job is unfinished,
--          5 job key, 6 enqueue id, 7 call payload
-- Answer:  {verdict, now}; verdict is enqueued, early, handled (by whom ever) or overlap
-- Moves:   new -> queued

local id, tick, key = ARGV[2], tonumber(ARGV[3]), ARGV[5]
if tick > now then return { 'early', now } end
local last = tonumber(redis.call('HGET', root .. ':cron', id) or -1)
if last >= tick then return { 'handled', now } end
local before = redis.call('HGET', root .. ':cronjob', id)
local busy = false
if ARGV[4] == '1' and before then
  local status = status_of(before)
  busy = status and not terminal[status]
end
local own = status_of(key)
redis.call('HSET', root .. ':cron', id, ARGV[3])
if busy then return { 'overlap', now } end
redis.call('HSET', root .. ':cronjob', id, key)
-- The memory of this tick was lost, or somebody chose that key: an unfinished job is not overrun.
if own and not terminal[own] then return { 'handled', now } end
begin(key, ARGV[6], ARGV[7], 0, '0', '')
return { 'enqueued', now }

-- Purpose: handle one tick of a schedule, once however many workers come with it.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 schedule id, 3 tick (ms), 4 "1" to skip while the last tick's job is unfinished,
--          5 job key, 6 enqueue id, 7 call payload, 8 timetable, 9 the worker's address
-- Answer:  {verdict, now}; verdict is enqueued, early, handled (by whom ever), overlap, or replaced (the
--          schedule has another timetable by now)
-- Moves:   new -> queued

-- A schedule that did not tick for so long is nobody's: more than a year, for those that tick yearly.
local FORGET_MS = 400 * 86400000
-- Forgotten at one tick: Redis serves nobody else meanwhile.
local FORGET_BATCH = 10
local TICKED, TIMETABLE, CRONJOB = root .. ':ticked', root .. ':timetable', root .. ':cronjob'

local id, tick, key, timetable = ARGV[2], tonumber(ARGV[3]), ARGV[5], ARGV[8]
if tick > now then return { 'early', now } end
local last = tonumber(redis.call('ZSCORE', TICKED, id) or nil)
if last and last >= tick or tick <= now - FORGET_MS then return { 'handled', now } end

-- Whoever started last says by what a schedule ticks: a worker that was there before a deploy is
-- refused as long as one of after it is alive. When none is, it goes on with what it has.
local held, workers = timetable_of(id)
if held and held ~= timetable then
  for other in string.gmatch(workers, '[^\n]+') do
    local until_ms = tonumber(redis.call('ZSCORE', WORKERS, other) or nil)
    if until_ms and until_ms >= now then return { 'replaced', now } end
  end
  workers = ''
end

local before = redis.call('HGET', CRONJOB, id)
local busy = false
if ARGV[4] == '1' and before then
  local status = status_of(before)
  busy = status and not terminal[status]
end
local own = status_of(key)
redis.call('ZADD', TICKED, tick, id)
tick_by(timetable, id, ARGV[9], workers or '')
-- The memory of this tick was lost, or somebody chose that key: an unfinished job is not overrun.
local taken = own and not terminal[own]
if not busy and not taken then
  redis.call('HSET', CRONJOB, id, key)
  begin(key, ARGV[6], ARGV[7], 0, '0', '', ids_of(key))
end
for _, old in ipairs(redis.call('ZRANGEBYSCORE', TICKED, '-inf', now - FORGET_MS, 'LIMIT', 0, FORGET_BATCH)) do
  redis.call('ZREM', TICKED, old)
  redis.call('HDEL', TIMETABLE, old)
  redis.call('HDEL', CRONJOB, old)
end
return { busy and 'overlap' or taken and 'handled' or 'enqueued', now }

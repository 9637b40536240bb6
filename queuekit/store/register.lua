-- Purpose: tell that a worker is there, with its statistics; or that it leaves.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 worker id, 3 how long it counts as alive (ms; 0: it leaves), 4 info (empty: unchanged)
-- Answer:  1
-- Moves:   none

local worker = ARGV[2]
local function forget(gone)
  redis.call('ZREM', WORKERS, gone)
  redis.call('HDEL', root .. ':info', gone)
  redis.call('HDEL', root .. ':claims', gone)
  redis.call('DEL', root .. ':control:' .. gone)
  if redis.call('HGET', SOLO, 'worker') == gone then redis.call('DEL', SOLO) end
end

relieve()
if tonumber(ARGV[3]) == 0 then
  forget(worker)
  -- It may have taken the token that was meant for somebody who stays.
  wake()
  return 1
end
-- Those that were killed never said good-bye.
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', WORKERS, '-inf', exact(now), 'LIMIT', 0, 100)) do forget(gone) end
redis.call('ZADD', WORKERS, exact(now + ARGV[3]), worker)
if ARGV[4] ~= '' then redis.call('HSET', root .. ':info', worker, ARGV[4]) end
return 1

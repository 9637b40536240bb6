-- Purpose: tell that a worker is there, with its statistics; or that it leaves.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 worker id, 3 how long it counts as alive (ms; 0: it leaves), 4 info (empty: unchanged)
-- Answer:  1
-- Moves:   none

local worker = ARGV[2]
if tonumber(ARGV[3]) == 0 then
  redis.call('ZREM', root .. ':workers', worker)
  redis.call('HDEL', root .. ':info', worker)
  redis.call('HDEL', root .. ':claims', worker)
  redis.call('DEL', root .. ':control:' .. worker)
  -- It may have taken the token that was meant for somebody who stays.
  wake()
  return 1
end
-- Those that were killed never said good-bye.
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', root .. ':workers', '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('ZREM', root .. ':workers', gone)
  redis.call('HDEL', root .. ':info', gone)
  redis.call('HDEL', root .. ':claims', gone)
  redis.call('DEL', root .. ':control:' .. gone)
end
redis.call('ZADD', root .. ':workers', now + ARGV[3], worker)
if ARGV[4] ~= '' then redis.call('HSET', root .. ':info', worker, ARGV[4]) end
return 1

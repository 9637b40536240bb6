-- Purpose: hand up to n jobs to a worker under a lease, after promoting those whose time has come.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 worker id, 3 claim id, 4 n, 5 lease (ms), 6 how long the worker counts as alive (ms)
-- Answer:  {now, next due or -1, next end of a lease or -1, next end of a record or -1, jobs};
--          a job is {key, fence, call payload or false, state}. The same claim id again (a reply was
--          lost) is answered with the same jobs, as far as they are still held under it.
-- Moves:   queued -> active

local worker, claim, wanted = ARGV[2], ARGV[3], tonumber(ARGV[4])
local CLAIMS, WORKERS = root .. ':claims', root .. ':workers'
local PROMOTE_LIMIT = 100
local jobs = {}
local unwatched = redis.call('ZCARD', LEASE) == 0

local function hand_out(key, fence)
  jobs[#jobs + 1] = { key, fence, redis.call('GET', call_of(key)), state_of(key) }
end

local last = redis.call('HGET', CLAIMS, worker)
if last and string.sub(last, 1, #claim + 1) == claim .. '\n' then
  for key in string.gmatch(string.sub(last, #claim + 2), '[^\n]+') do
    local held = redis.call('HMGET', job_of(key), 'claim', 'fence', 'status')
    if held[1] == claim and (held[3] == 'active' or held[3] == 'aborting') then
      hand_out(key, tonumber(held[2]))
    end
  end
else
  local due = redis.call('ZRANGEBYSCORE', SCHEDULED, '-inf', now, 'LIMIT', 0, PROMOTE_LIMIT)
  for _, key in ipairs(due) do
    redis.call('ZREM', SCHEDULED, key)
    redis.call('RPUSH', READY, key)
  end
  local keys = {}
  while #keys < wanted do
    local key = redis.call('LPOP', READY)
    if not key then break end
    local job = job_of(key)
    if redis.call('HGET', job, 'status') == 'queued' then
      local fence = redis.call('INCR', root .. ':fence')
      redis.call('HDEL', job, 'due', 'ended')
      redis.call('HINCRBY', job, 'attempts', 1)
      redis.call('HSET', job, 'status', 'active', 'fence', fence, 'claim', claim, 'worker', worker, 'started', now, 'touched', now)
      redis.call('ZADD', LEASE, now + ARGV[5], key)
      keys[#keys + 1] = key
      hand_out(key, fence)
      tell(key, 'active')
    end
  end
  if #keys > 0 then redis.call('HSET', CLAIMS, worker, claim .. '\n' .. table.concat(keys, '\n')) end
end

-- What this worker leaves behind is for another one. And these leases may be the first that end one
-- day: whoever waits without knowing of any must know by when to look.
redis.call('ZADD', WORKERS, now + ARGV[6], worker)
if redis.call('LLEN', READY) > 0 or (unwatched and #jobs > 0 and redis.call('ZCARD', WORKERS) > 1) then wake() end

local function earliest(set)
  local first = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
  return first[2] and first[2] ~= 'inf' and tonumber(first[2]) or -1
end
return { now, earliest(SCHEDULED), earliest(LEASE), earliest(FINISHED), jobs }

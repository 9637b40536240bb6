-- What every script begins with: the moment, the keys, and the moves that several scripts share.
-- KEYS[1] is the queue's root, ARGV[1] is `now` in ms; empty means the server's own clock, so that
-- hosts whose clocks differ agree. Scripts are not transactions: read and check first, then write.

local root = KEYS[1]
local now = tonumber(ARGV[1])
local virtual = now ~= nil
if not virtual then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local READY, SCHEDULED, LEASE, FINISHED = root .. ':ready', root .. ':scheduled', root .. ':lease', root .. ':finished'
local TOMBSTONE_MS = 60000
local terminal = { complete = true, failed = true, aborted = true }

local function job_of(key) return root .. ':job:' .. key end
local function call_of(key) return root .. ':call:' .. key end

-- A job's state as codec.py reads it. HGETALL would do, but its order is nobody's.
local function state_of(key)
  return redis.call('HMGET', job_of(key), 'status', 'attempts', 'failures', 'losses', 'queued', 'started', 'completed',
    'touched', 'due', 'worker', 'progress', 'meta', 'result', 'error', 'exception', 'fence', 'claim')
end

-- There is something to claim, or something earlier to wait for. The token is a level, not an
-- event: one is enough, and whoever takes it looks for itself.
local function wake()
  if redis.call('LLEN', root .. ':wake') == 0 then redis.call('RPUSH', root .. ':wake', '1') end
end

local function tell(key, status) redis.call('PUBLISH', root .. ':event:' .. key, status) end

-- Put a queued job where it waits: for its time, or for a worker.
local function place(key, due, front)
  if due > now then
    redis.call('ZADD', SCHEDULED, due, key)
    if redis.call('ZRANGE', SCHEDULED, 0, 0)[1] == key then wake() end
  else
    redis.call(front and 'LPUSH' or 'RPUSH', READY, key)
    wake()
  end
end

-- A new life for a key: everything of an earlier one goes. The first write allocates, so that a
-- server whose memory is full refuses it whole.
local function begin(key, id, payload, due)
  redis.call('SET', call_of(key), payload)
  redis.call('DEL', job_of(key))
  redis.call('ZREM', FINISHED, key)
  redis.call('HSET', job_of(key), 'status', 'queued', 'id', id, 'queued', now)
  if due > now then redis.call('HSET', job_of(key), 'due', due) end
  place(key, due, false)
  tell(key, 'queued')
end

-- The end of a job: its record is kept for ttl ms (0: for ever). With a negative ttl only a
-- tombstone stays for a minute, invisible to readers: it answers moves that are sent twice.
-- Nothing relies on the server's expiry: `expires` says when a record ends, PEXPIRE frees memory.
local function finish(key, status, ttl, fields)
  local job, call = job_of(key), call_of(key)
  redis.call('HDEL', job, 'due')
  redis.call('HSET', job, 'status', status, 'completed', now, 'touched', now, unpack(fields))
  local expires = now + (ttl < 0 and TOMBSTONE_MS or ttl)
  if ttl < 0 then
    redis.call('DEL', call)
    redis.call('HDEL', job, 'result', 'error', 'exception', 'meta')
    redis.call('HSET', job, 'gone', 1)
  end
  if ttl == 0 then
    redis.call('ZADD', FINISHED, '+inf', key)
  else
    redis.call('HSET', job, 'expires', expires)
    redis.call('ZADD', FINISHED, expires, key)
    if not virtual then
      redis.call('PEXPIRE', job, expires - now)
      redis.call('PEXPIRE', call, expires - now)
    end
  end
  tell(key, status)
end

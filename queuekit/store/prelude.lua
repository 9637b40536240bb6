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

local READY, SUSPECT, FOLLOWERS, GROUPS = root .. ':ready', root .. ':suspect', root .. ':followers', root .. ':groups'
local SCHEDULED, LEASE, FINISHED = root .. ':scheduled', root .. ':lease', root .. ':finished'
local QUARANTINE, WORKERS, SOLO = root .. ':quarantine', root .. ':workers', root .. ':solo'
local TOMBSTONE_MS = 60000
local QUARANTINE_MS = 30 * 86400000
local terminal = { complete = true, failed = true, aborted = true }
local known = { queued = true, active = true, aborting = true, complete = true, failed = true, aborted = true }

local function job_of(key) return root .. ':job:' .. key end
local function call_of(key) return root .. ':call:' .. key end
local function foreign_of(key) return root .. ':foreign:' .. key end

-- On a server whose memory is full, a script passes whose first write frees memory, were it in vain.
-- Whatever ends work, or keeps it going, begins with this; what brings new work does not.
local function relieve() redis.call('ZREM', LEASE, '') end

-- Fields of a job's state; nil when something that is no hash lies where it should be.
local function fields(key, ...)
  local got = redis.pcall('HMGET', job_of(key), ...)
  if got.err then return nil end
  return got
end

-- A job's state as codec.py reads it. HGETALL would do, but its order is nobody's.
local function state_of(key)
  return fields(key, 'status', 'attempts', 'failures', 'losses', 'abandoned', 'started', 'completed', 'touched', 'due',
    'worker', 'progress', 'meta', 'result', 'error', 'exception', 'fence', 'claim', 'priority', 'group', 'solo', 'unknown')
end

-- What is to be run, behind its head; false when it is not there, nor when it is no string.
local function call_record(key)
  local call = redis.pcall('GET', call_of(key))
  return type(call) == 'string' and call
end

-- The head of a call: the id of its enqueue, and the moment. A job that was only enqueued has no more
-- than its call: no state means queued, as long as there is a call.
local function head_of(key)
  local head = redis.pcall('GETRANGE', call_of(key), 0, 127)
  if type(head) ~= 'string' then return nil end
  return string.match(head, '^(%S+) (%d+)\n')
end

local function status_of(key)
  local state = fields(key, 'status')
  return state and state[1] or (head_of(key) and 'queued') or nil
end

-- There is something to claim, or something earlier to wait for. The token is a level, not an
-- event: one is enough, and whoever takes it looks for itself.
local function wake()
  if redis.call('LLEN', root .. ':wake') == 0 then redis.call('RPUSH', root .. ':wake', '1') end
end

local function tell(key, status) redis.call('PUBLISH', root .. ':event:' .. key, status) end

-- Order. Each priority owns a band of scores, wide enough for 2^36 jobs either way of its middle
-- while it is never empty; a set's own ends say what comes next, so there is no counter to lose.
local BAND, MIDDLE = 2 ^ 37, 2 ^ 36
local function exact(number) return string.format('%.0f', number) end

local function behind(set, priority)
  local low, high = exact(priority * BAND), '(' .. exact((priority + 1) * BAND)
  local last = redis.call('ZREVRANGEBYSCORE', set, high, low, 'WITHSCORES', 'LIMIT', 0, 1)[2]
  return last and last + 1 or priority * BAND + MIDDLE
end

local function before(set, priority)
  local low, high = exact(priority * BAND), '(' .. exact((priority + 1) * BAND)
  local first = redis.call('ZRANGEBYSCORE', set, low, high, 'WITHSCORES', 'LIMIT', 0, 1)[2]
  return first and first - 1 or priority * BAND + MIDDLE
end

-- Groups. Of each group one job at most is ready, suspect or active: GROUPS names it. The others that
-- could start follow it in one sorted set of equal scores, ordered by group and place.
local function rank(group, place) return group .. '\1' .. string.format('%017.0f', place + 2 ^ 52) end
local function follower(group, place, key) return rank(group, place) .. '\1' .. key end
local function place_of(member)
  local padded = string.match(member, '\1(%d+)\1')
  return padded and tonumber(padded) - 2 ^ 52
end

-- Followers of one priority keep their order too: behind the last of them, or before the first.
local function among(group, place, front)
  local band = math.floor(place / BAND)
  local low, high = '[' .. rank(group, band * BAND), '(' .. rank(group, (band + 1) * BAND)
  if front then
    local first = redis.call('ZRANGEBYLEX', FOLLOWERS, low, high, 'LIMIT', 0, 1)[1]
    return first and math.min(place, (place_of(first) or place) - 1) or place
  end
  local last = redis.call('ZREVRANGEBYLEX', FOLLOWERS, high, low, 'LIMIT', 0, 1)[1]
  return last and math.max(place, (place_of(last) or place) + 1) or place
end

local function follow(group, place, key)
  redis.call('ZADD', FOLLOWERS, 0, follower(group, place, key))
  redis.call('HSET', job_of(key), 'follows', exact(place))
end

local function unfollow(group, place, key)
  redis.call('ZREM', FOLLOWERS, follower(group, tonumber(place) or 0, key))
  redis.call('HDEL', job_of(key), 'follows')
end

-- A job takes its place among those that could start, or behind the one of its group that has.
local function enter(key, set, place, group, front)
  if group then
    local first = redis.call('HGET', GROUPS, group)
    if first and first ~= key then
      local theirs = tonumber(redis.call('ZSCORE', READY, first) or nil)
      if not theirs or theirs <= place then return follow(group, among(group, place, front), key) end
      redis.call('ZREM', READY, first)
      follow(group, theirs, first)
    end
    redis.call('HSET', GROUPS, group, key)
  end
  redis.call('ZADD', set, exact(place), key)
end

-- Its group goes on without this job: the next one that follows could start now.
local function leave(key, group)
  if not group or redis.call('HGET', GROUPS, group) ~= key then return end
  local next = redis.call('ZRANGEBYLEX', FOLLOWERS, '[' .. group .. '\1', '(' .. group .. '\2', 'LIMIT', 0, 1)[1]
  if not next then
    redis.call('HDEL', GROUPS, group)
    return
  end
  local place, follows = place_of(next), string.match(next, '[^\1]*$')
  if not place then -- no entry of ours: it would hold up the group
    redis.call('ZREM', FOLLOWERS, next)
    return leave(key, group)
  end
  unfollow(group, place, follows)
  redis.call('HSET', GROUPS, group, follows)
  local solo = redis.call('HGET', job_of(follows), 'solo')
  redis.call('ZADD', solo and SUSPECT or READY, exact(place), follows)
  wake()
end

-- Put a queued job where it waits: for its time, its group, or a worker.
local function place(key, due, front, priority, group, solo)
  if due > now then
    redis.call('ZADD', SCHEDULED, due, key)
    if redis.call('ZRANGE', SCHEDULED, 0, 0)[1] == key then wake() end
    return
  end
  local set = solo and SUSPECT or READY
  -- A state that somebody has damaged must not end a script half-way.
  priority = tonumber(priority or 0) or 0
  if math.abs(priority) > 32768 then priority = 0 end
  enter(key, set, front and before(set, priority) or behind(set, priority), group, front)
  wake()
end

-- A new life for a key: everything of an earlier one goes. The first write allocates, so that a
-- server whose memory is full refuses it whole.
local function begin(key, id, payload, due, priority, group)
  redis.call('SET', call_of(key), id .. ' ' .. exact(now) .. '\n' .. payload)
  redis.call('DEL', job_of(key))
  if redis.call('ZREM', FINISHED, key) == 1 and redis.call('ZREM', QUARANTINE, key) == 1 then
    redis.call('DEL', foreign_of(key))
  end
  local state = {}
  if due > now then state = { 'due', exact(due) } end
  if priority and priority ~= '0' then state[#state + 1] = 'priority'; state[#state + 1] = priority end
  if group and group ~= '' then state[#state + 1] = 'group'; state[#state + 1] = group else group = nil end
  if #state > 0 then redis.call('HSET', job_of(key), 'status', 'queued', unpack(state)) end
  place(key, due, false, priority, group, nil)
  tell(key, 'queued')
end

-- The end of a job: its record is kept for ttl ms (0: for ever). With a negative ttl only a
-- tombstone stays for a minute, invisible to readers: it answers moves that are sent twice.
-- Nothing relies on the server's expiry: `expires` says when a record ends, PEXPIREAT frees memory.
local function finish(key, status, ttl, written)
  local job, call = job_of(key), call_of(key)
  redis.call('HDEL', job, 'due', 'follows', 'solo')
  redis.call('HSET', job, 'status', status, 'completed', exact(now), 'touched', exact(now), unpack(written))
  local expires = now + (ttl < 0 and TOMBSTONE_MS or ttl)
  if ttl < 0 then
    redis.call('HSET', job, 'gone', head_of(key) or '')
    redis.call('DEL', call)
    redis.call('HDEL', job, 'result', 'error', 'exception', 'meta', 'log')
  end
  if ttl == 0 then
    redis.call('ZADD', FINISHED, '+inf', key)
  else
    redis.call('HSET', job, 'expires', exact(expires))
    redis.call('ZADD', FINISHED, exact(expires), key)
    if not virtual then
      redis.call('PEXPIREAT', job, exact(expires))
      redis.call('PEXPIREAT', call, exact(expires))
    end
  end
  tell(key, status)
end

-- A job whose record is not one of queuekit's, or not whole, is set aside where it can be seen; what
-- lies at its keys is kept. It has left its container by then.
local function set_aside(key, reason)
  local kind = redis.call('TYPE', job_of(key)).ok
  if kind ~= 'hash' and kind ~= 'none' then redis.call('RENAME', job_of(key), foreign_of(key)) end
  local group = redis.call('HGET', job_of(key), 'group')
  finish(key, 'failed', QUARANTINE_MS, { 'error', reason })
  redis.call('ZADD', QUARANTINE, exact(now), key)
  if group then leave(key, group) end
end

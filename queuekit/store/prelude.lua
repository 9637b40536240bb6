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
local LEADERS = root .. ':leaders'
local SCHEDULED, LEASE, FINISHED = root .. ':scheduled', root .. ':lease', root .. ':finished'
local QUARANTINE, WORKERS, SOLO = root .. ':quarantine', root .. ':workers', root .. ':solo'
local TOMBSTONE_MS = 60000
-- Of the last eight lives of a key: ids of 16 characters, a space around each.
local IDS_BYTES = 137
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

-- A word to one worker. Sent twice, it is said once, as long as it lies there.
local function tell_worker(worker, word)
  local control = root .. ':control:' .. worker
  if redis.call('LINDEX', control, -1) ~= word then redis.call('RPUSH', control, word) end
end
-- A hint is never the truth. Whoever may not publish it has moved the job all the same, and goes on.
local function tell(key, status) redis.pcall('PUBLISH', root .. ':event:' .. key, status) end

-- Order. Each priority owns a band of scores, wide enough for 2^36 jobs either way of its middle
-- while it is never empty; a set's own ends say what comes next, so there is no counter to lose.
local BAND, MIDDLE = 2 ^ 37, 2 ^ 36
local function exact(number) return string.format('%.0f', number) end

-- Groups. Of each group one job at most is ready, suspect or active: GROUPS names it, and LEADERS its
-- group, so that a leader whose record is damaged does not block the others for ever. Those that could
-- start follow it in one sorted set of equal scores, ordered by group and place.
local function follower(group, place, key)
  return group .. '\1' .. string.format('%017.0f', place + 2 ^ 52) .. '\1' .. key
end

local function place_and_key(member)
  local place, key = string.match(member, '\1(%d+)\1([^\1]*)$')
  if not place then return nil end -- no entry of ours
  return place - 2 ^ 52, key
end

-- Whatever lies at a follower's record by now, an error here would stop a move that is half done.
local function follow(group, place, key)
  redis.call('ZADD', FOLLOWERS, 0, follower(group, place, key))
  redis.pcall('HSET', job_of(key), 'follows', exact(place))
end

local function unfollow(group, place, key)
  redis.call('ZREM', FOLLOWERS, follower(group, tonumber(place) or 0, key))
  redis.pcall('HDEL', job_of(key), 'follows')
end

-- The places of those of a group that wait between two scores: its followers', and its leader's. They
-- count beside those of the set, which may have run empty, and begun anew at its middle, since they came.
local function mates(group, low, high, range)
  local places = {}
  if group then
    local from, to = '[' .. follower(group, low, ''), '(' .. follower(group, high, '')
    if range == 'ZREVRANGEBYLEX' then from, to = to, from end
    local member = redis.call(range, FOLLOWERS, from, to, 'LIMIT', 0, 1)[1]
    if member then places[1] = place_and_key(member) end
    local leader = redis.call('HGET', GROUPS, group)
    local theirs = leader and tonumber(redis.call('ZSCORE', READY, leader) or nil)
    if theirs and theirs >= low and theirs < high then places[#places + 1] = theirs end
  end
  return places
end

-- A place behind all of its priority in the set, or before them.
local function behind(set, priority, group)
  local low, high = priority * BAND, (priority + 1) * BAND
  local last = redis.call('ZREVRANGEBYSCORE', set, '(' .. exact(high), exact(low), 'WITHSCORES', 'LIMIT', 0, 1)[2]
  local place = last and last + 1 or low + MIDDLE
  for _, theirs in ipairs(mates(group, low, high, 'ZREVRANGEBYLEX')) do place = math.max(place, theirs + 1) end
  return place
end

local function before(set, priority, group)
  local low, high = priority * BAND, (priority + 1) * BAND
  local first = redis.call('ZRANGEBYSCORE', set, exact(low), '(' .. exact(high), 'WITHSCORES', 'LIMIT', 0, 1)[2]
  local place = first and first - 1 or low + MIDDLE
  for _, theirs in ipairs(mates(group, low, high, 'ZRANGEBYLEX')) do place = math.min(place, theirs - 1) end
  return place
end

-- A job takes its place among those that could start, or behind the one of its group that has.
local function enter(key, set, place, group)
  if group then
    local first = redis.call('HGET', GROUPS, group)
    if first and first ~= key then
      local theirs = tonumber(redis.call('ZSCORE', READY, first) or nil)
      if not theirs or theirs <= place then return follow(group, place, key) end
      redis.call('ZREM', READY, first)
      redis.call('HDEL', LEADERS, first)
      follow(group, theirs, first)
    end
    redis.call('HSET', GROUPS, group, key)
    redis.call('HSET', LEADERS, key, group)
  end
  redis.call('ZADD', set, exact(place), key)
end

-- The first of those that follow in a group. An entry of a job that was damaged and ended, or began a
-- new life elsewhere, is none: it goes. One without a record stays: a claim sets it aside.
local function first_follower(group)
  while true do
    local member = redis.call('ZRANGEBYLEX', FOLLOWERS, '[' .. group .. '\1', '(' .. group .. '\2', 'LIMIT', 0, 1)[1]
    if not member then return end
    local place, key = place_and_key(member)
    local state = key and fields(key, 'status', 'follows', 'solo') or {}
    if place and (not state[1] or tonumber(state[2] or nil) == place) then return key, place, state[3] end
    redis.call('ZREM', FOLLOWERS, member)
  end
end

-- Its group goes on without this job: the next one that follows could start now.
local function leave(key)
  local group = redis.call('HGET', LEADERS, key)
  if not group then
    -- The way back was lost, or never written by a version that did not know it: its record tells.
    local told = fields(key, 'group')
    group = told and told[1]
    if not group or redis.call('HGET', GROUPS, group) ~= key then return end
  end
  redis.call('HDEL', LEADERS, key)
  local follows, place, solo = first_follower(group)
  if not follows then
    redis.call('HDEL', GROUPS, group)
    return
  end
  unfollow(group, place, follows)
  redis.call('HSET', GROUPS, group, follows)
  redis.call('HSET', LEADERS, follows, group)
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
  enter(key, set, (front and before or behind)(set, priority, group), group)
  wake()
end

-- The ids of a key's last lives, for its next one: an enqueue may be sent again when its job has ended
-- already, and somebody else has enqueued the key since.
local function ids_of(key)
  local state = fields(key, 'earlier', 'gone') or {}
  local id = head_of(key) or state[2]
  return id and string.sub((state[1] or ' ') .. id .. ' ', -IDS_BYTES)
end

-- A new life for a key: everything of an earlier one goes but the ids. The first write allocates, so
-- that a server whose memory is full refuses it whole.
local function begin(key, id, payload, due, priority, group, earlier)
  redis.call('SET', call_of(key), id .. ' ' .. exact(now) .. '\n' .. payload)
  redis.call('DEL', job_of(key))
  -- One whose records were lost may still stand somewhere. It is over; so is its turn.
  for _, container in ipairs({ LEASE, READY, SUSPECT, SCHEDULED }) do redis.call('ZREM', container, key) end
  leave(key)
  if redis.call('ZREM', FINISHED, key) == 1 and redis.call('ZREM', QUARANTINE, key) == 1 then
    redis.call('DEL', foreign_of(key))
  end
  local state = {}
  if due > now then state = { 'due', exact(due) } end
  if priority and priority ~= '0' then state[#state + 1] = 'priority'; state[#state + 1] = priority end
  if group and group ~= '' then state[#state + 1] = 'group'; state[#state + 1] = group else group = nil end
  if earlier then state[#state + 1] = 'earlier'; state[#state + 1] = earlier end
  if #state > 0 then redis.call('HSET', job_of(key), 'status', 'queued', unpack(state)) end
  place(key, due, false, priority, group, nil)
  tell(key, 'queued')
end

-- The end of a job: its record is kept for ttl ms (0: for ever). With a negative ttl only a
-- tombstone stays for a minute, invisible to readers: it answers moves that are sent twice.
-- Nothing relies on the server's expiry: `expires` says when a record ends, PEXPIREAT frees memory.
local function finish(key, status, ttl, written)
  local job, call, expires = job_of(key), call_of(key), now + ttl
  redis.call('HDEL', job, 'due', 'follows', 'solo')
  redis.call('HSET', job, 'status', status, 'completed', exact(now), 'touched', exact(now), unpack(written))
  if ttl < 0 then
    expires = now + TOMBSTONE_MS
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

-- One that had to run alone has ended: the next such job may begin.
local function end_solo(key)
  if redis.call('HGET', SOLO, 'key') ~= key then return end
  redis.call('DEL', SOLO)
  wake()
end

-- A job whose record is not one of queuekit's, or not whole, is set aside where it can be seen; what
-- lies at its keys is kept. It has left its container by then.
local function set_aside(key, reason, status)
  local kind = redis.call('TYPE', job_of(key)).ok
  if kind ~= 'hash' and kind ~= 'none' then redis.call('RENAME', job_of(key), foreign_of(key)) end
  finish(key, status or 'failed', QUARANTINE_MS, { 'error', reason })
  redis.call('ZADD', QUARANTINE, exact(now), key)
  leave(key)
  end_solo(key)
end

-- By what a schedule ticks, and the workers that do so, the newest last: `timetable\nworker\nworker\n`.
-- As long as one of them is alive, nobody ticks by another timetable. Of many the last few are known.
local WORKERS_KEPT = 16
local function timetable_of(schedule)
  return string.match(redis.call('HGET', root .. ':timetable', schedule) or '', '^([^\n]*)\n(.*)$')
end

local function tick_by(timetable, schedule, worker, workers)
  local kept = {}
  for each in string.gmatch(workers, '[^\n]+') do
    if each ~= worker then kept[#kept + 1] = each end
  end
  kept[#kept + 1] = worker
  workers = table.concat(kept, '\n', math.max(1, #kept - WORKERS_KEPT + 1))
  redis.call('HSET', root .. ':timetable', schedule, timetable .. '\n' .. workers .. '\n')
end

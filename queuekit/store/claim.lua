-- Purpose: hand up to n jobs to a worker under a lease, after promoting those whose time has come.
--          A job that was lost twice is handed out alone, to a worker that runs nothing else.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 worker, 3 claim id, 4 n, 5 lease (ms), 6 how long the worker counts as alive (ms),
--          7 "1" if it runs nothing and has room, 8 how long it may take to get there (ms; 0: it will not)
-- Answer:  {now, next due or -1, next end of a lease or -1, next end of a record or -1, "1" if the
--          worker is to make room for a job that must run alone, jobs};
--          a job is {key, fence, call record or false, state}. The same claim id again (a reply was
--          lost) is answered with the same jobs, as far as they are still held under it.
-- Moves:   queued -> active | failed

local worker, claim, wanted = ARGV[2], ARGV[3], tonumber(ARGV[4])
local CLAIMS = root .. ':claims'
local PROMOTE_LIMIT = 100
local MAX_BYTES = 4194304
local jobs, keys, bytes = {}, {}, 0
local fence
relieve()
local unwatched = redis.call('ZCARD', LEASE) == 0

-- Make the job active, if its record is whole. The state that is answered is the one after the move.
local function take(key)
  local state, call = state_of(key), call_record(key)
  if not (state and call) then
    return set_aside(key, 'its record cannot be read: '
      .. (state and 'its call is gone' or 'its state is no hash, something else was written to its key'))
  end
  if not tonumber(state[2] or 0) or not known[state[1] or 'queued'] then
    return set_aside(key, 'its record cannot be read: its status or attempts are none of queuekit\'s')
  end
  -- A stray entry, of a job whose record was evicted and made anew: the job itself is elsewhere.
  if state[1] and state[1] ~= 'queued' then return end
  fence = fence + 1
  if state[9] then redis.call('HDEL', job_of(key), 'due') end
  state[1], state[2], state[6], state[8], state[9] = 'active', exact((tonumber(state[2] or 0) or 0) + 1), exact(now), exact(now), false
  state[10], state[16], state[17] = worker, exact(fence), claim
  redis.call('HSET', job_of(key), 'status', 'active', 'attempts', state[2], 'started', state[6], 'touched', state[8],
    'worker', worker, 'fence', exact(fence), 'claim', claim)
  redis.call('ZADD', LEASE, exact(now + ARGV[5]), key)
  keys[#keys + 1] = key
  bytes = bytes + #call
  jobs[#jobs + 1] = { key, fence, call, state }
  tell(key, 'active')
end

-- Fences are taken before the jobs: should that fail, no job has left its place.
local function take_from(set, most)
  if most < 1 or redis.call('ZCARD', set) == 0 then return end
  fence = redis.call('INCRBY', root .. ':fence', most) - most
  while #keys < most and bytes < MAX_BYTES do
    local key = redis.call('ZPOPMIN', set)[1]
    if not key then return end
    take(key)
  end
end

local function promote()
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', SCHEDULED, '-inf', exact(now), 'LIMIT', 0, PROMOTE_LIMIT)) do
    redis.call('ZREM', SCHEDULED, key)
    local state = fields(key, 'priority', 'group', 'solo')
    if state then
      place(key, 0, false, state[1], state[2] or nil, state[3])
    else
      set_aside(key, 'its record cannot be read: its state is no hash, something else was written to its key')
    end
  end
end

-- One worker at a time makes room for a suspect, or runs it: then nobody else does either.
local alone = redis.call('HMGET', SOLO, 'worker', 'until', 'key')
local function solo_is_taken()
  if alone[3] then return redis.call('ZSCORE', LEASE, alone[3]) end
  return alone[1] and alone[1] ~= worker and tonumber(alone[2]) > now
end

local make_room = ''
local last = redis.call('HGET', CLAIMS, worker)
if last and string.sub(last, 1, #claim + 1) == claim .. '\n' then
  for key in string.gmatch(string.sub(last, #claim + 2), '[^\n]+') do
    local state = state_of(key)
    if state and state[17] == claim and (state[1] == 'active' or state[1] == 'aborting') then
      jobs[#jobs + 1] = { key, tonumber(state[16]), call_record(key), state }
    end
  end
else
  promote()
  local idle, can_make_room = ARGV[7] == '1', ARGV[7] == '' and tonumber(ARGV[8]) > 0
  if (idle or can_make_room) and redis.call('ZCARD', SUSPECT) > 0 and not solo_is_taken() then
    redis.call('DEL', SOLO)
    if idle then
      take_from(SUSPECT, 1)
      if keys[1] then redis.call('HSET', SOLO, 'key', keys[1]) end
    else
      make_room = '1'
      redis.call('HSET', SOLO, 'worker', worker, 'until', exact(now + ARGV[8]))
    end
    alone = redis.call('HMGET', SOLO, 'worker', 'until', 'key')
  end
  if make_room == '' and #keys == 0 then take_from(READY, wanted) end
  if #keys > 0 then redis.call('HSET', CLAIMS, worker, claim .. '\n' .. table.concat(keys, '\n')) end
end

-- What this worker leaves behind is for another one. And these leases may be the first that end one
-- day: whoever waits without knowing of any must know by when to look.
redis.call('ZADD', WORKERS, exact(now + ARGV[6]), worker)
local suspects = redis.call('ZCARD', SUSPECT) > 0
if redis.call('ZCARD', READY) > 0 or (suspects and not solo_is_taken() and make_room == '')
  or (unwatched and #jobs > 0 and redis.call('ZCARD', WORKERS) > 1) then
  wake()
end

local function earliest(set)
  local first = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
  return first[2] and first[2] ~= 'inf' and tonumber(first[2]) or -1
end
local lease = earliest(LEASE)
-- Whoever makes room for a suspect may die of it: look again then.
if suspects and alone[2] and (lease < 0 or tonumber(alone[2]) < lease) then lease = tonumber(alone[2]) end
return { now, earliest(SCHEDULED), lease, earliest(FINISHED), make_room, jobs }

-- Purpose: end a run: finish its job, queue it again, or hand it back; also for runs whose lease has
--          ended. Refused unless the job is still held under this fence and claim.
-- KEYS:    1 the queue's root
-- ARGV:    1 now; then for each job: key, fence, claim id, target status, delay (ms), ttl (ms),
--          charge (failures, losses, unknown or empty), flags, outcome, note, result, error, exception
--          (empty: none). Flags: f in front, e only if the lease has ended, s to be run alone from now on,
--          q into quarantine, a the run was abandoned. Outcome and note are for the log of attempts.
-- Answer:  for each job {verdict, text}: ok; done (this very move, sent twice); aborting (an abort
--          came first; text is its reason); lost (text is the status found, or missing)
-- Moves:   active -> complete | failed | queued, aborting -> aborted

local MAX_LINES = 20

-- The log of attempts that did not end the job; the one that does can be told from the state.
local function logged(log, attempt, started, outcome, worker, note)
  local line = table.concat({ attempt or '?', started or '', exact(now), outcome, worker or '', note }, '\t')
  if not log then return line end
  local _, lines = string.gsub(log, '\n', '\n')
  if lines + 2 >= MAX_LINES then log = string.match(log, '\n(.*)') end
  return log .. '\n' .. line
end

-- A counter that somebody has damaged begins anew: it must not end the script half-way.
local function raise(job, counter)
  if type(redis.pcall('HINCRBY', job, counter, 1)) == 'table' then redis.call('HSET', job, counter, 1) end
end

relieve()
local answer = {}
for i = 2, #ARGV, 13 do
  local key, fence, claim, target = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local charge, flags = ARGV[i + 6], ARGV[i + 7]
  local function flag(letter) return string.find(flags, letter, 1, true) ~= nil end
  local job = job_of(key)
  local held = fields(key, 'status', 'fence', 'claim', 'ended', 'error', 'started', 'attempts', 'worker', 'log', 'priority',
    'group', 'solo') or {}
  local status = held[1]
  -- What ended under this fence: the run itself, or, for whoever found its lease over, the lease.
  local ending = fence .. ':' .. claim .. (flag('e') and ':lost' or '')
  local ours = held[2] == fence and held[3] == claim and (status == 'active' or status == 'aborting')
  if ours and flag('e') then ours = tonumber(redis.call('ZSCORE', LEASE, key) or 0) <= now end

  if not ours then
    answer[#answer + 1] = { held[4] == ending and 'done' or 'lost', status or (head_of(key) and 'queued') or 'missing' }
  elseif status == 'aborting' and target ~= 'aborted' then
    answer[#answer + 1] = { 'aborting', held[5] or '' }
  elseif status == 'active' and target == 'aborted' then
    answer[#answer + 1] = { 'lost', status }
  else
    redis.call('ZREM', LEASE, key)
    local group, solo = held[11] or nil, held[12]
    local written = { 'ended', ending }
    local function write(name, value)
      if value ~= '' then
        written[#written + 1] = name
        written[#written + 1] = value
      end
    end
    for offset, name in ipairs({ 'result', 'error', 'exception' }) do write(name, ARGV[i + 9 + offset]) end
    if solo then end_solo(key) end
    if charge ~= '' then raise(job, charge) end
    if flag('a') then raise(job, 'abandoned') end
    leave(key)
    if target == 'queued' then
      local due = now + ARGV[i + 4]
      solo = solo or flag('s')
      write('log', logged(held[9], held[7], held[6], ARGV[i + 8], held[8], ARGV[i + 9]))
      if solo then write('solo', '1') end
      if due > now then write('due', exact(due)) end
      redis.call('HDEL', job, 'started', 'progress', 'worker')
      redis.call('HSET', job, 'status', 'queued', 'touched', exact(now), unpack(written))
      place(key, due, flag('f'), held[10], group, solo)
      tell(key, 'queued')
    else
      finish(key, target, flag('q') and QUARANTINE_MS or tonumber(ARGV[i + 5]), written)
      if flag('q') then redis.call('ZADD', QUARANTINE, exact(now), key) end
    end
    answer[#answer + 1] = { 'ok', target }
  end
end
return answer

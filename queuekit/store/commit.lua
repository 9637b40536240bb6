-- Purpose: end a run: finish its job, queue it again, or hand it back; also for runs whose lease has
--          ended. Refused unless the job is still held under this fence and claim.
-- KEYS:    1 the queue's root
-- ARGV:    1 now; then for each job: key, fence, claim id, target status, delay (ms), ttl (ms),
--          charge (failures, losses or empty), "1" to put it in front, "1" if only for an expired
--          lease, result, error, exception (empty: none)
-- Answer:  for each job {verdict, text}: ok; done (this very move, sent twice); aborting (an abort
--          came first; text is its reason); lost (text is the status found, or missing)
-- Moves:   active -> complete | failed | queued, aborting -> aborted

local answer = {}
for i = 2, #ARGV, 12 do
  local key, fence, claim, target = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local charge, expired_only = ARGV[i + 6], ARGV[i + 8] == '1'
  local job = job_of(key)
  local held = redis.call('HMGET', job, 'status', 'fence', 'claim', 'ended', 'error')
  local status = held[1]
  local ours = held[2] == fence and held[3] == claim and (status == 'active' or status == 'aborting')
  if ours and expired_only then ours = tonumber(redis.call('ZSCORE', LEASE, key) or 0) <= now end

  if not ours then
    local again = held[4] == fence .. ':' .. claim
    answer[#answer + 1] = { again and 'done' or 'lost', status or 'missing' }
  elseif status == 'aborting' and target ~= 'aborted' then
    answer[#answer + 1] = { 'aborting', held[5] or '' }
  elseif status == 'active' and target == 'aborted' then
    answer[#answer + 1] = { 'lost', status }
  else
    redis.call('ZREM', LEASE, key)
    local fields = { 'ended', fence .. ':' .. claim }
    for offset, name in ipairs({ 'result', 'error', 'exception' }) do
      if ARGV[i + 8 + offset] ~= '' then
        fields[#fields + 1] = name
        fields[#fields + 1] = ARGV[i + 8 + offset]
      end
    end
    if charge ~= '' then redis.call('HINCRBY', job, charge, 1) end
    if target == 'queued' then
      local due = now + ARGV[i + 4]
      redis.call('HDEL', job, 'started', 'progress', 'worker')
      redis.call('HSET', job, 'status', 'queued', 'touched', now, unpack(fields))
      if due > now then redis.call('HSET', job, 'due', due) end
      place(key, due, ARGV[i + 7] == '1')
      tell(key, 'queued')
    else
      finish(key, target, tonumber(ARGV[i + 5]), fields)
    end
    answer[#answer + 1] = { 'ok', target }
  end
end
return answer

-- Purpose: put jobs into the queue, each unless an unfinished job has its key.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 how many jobs may wait in the queue (empty: any number); then for each job: key,
--          enqueue id, call payload, due (ms, 0: at once), delay (ms from now), priority, group (empty: none)
-- Answer:  for each job {verdict, queued, due, call record, state}; verdict is new, same (this very
--          enqueue, sent twice), taken (with the record of the job that has the key) or full
-- Moves:   new -> queued

local room
if ARGV[2] ~= '' then
  room = ARGV[2] - redis.call('ZCARD', READY) - redis.call('ZCARD', SUSPECT) - redis.call('ZCARD', FOLLOWERS)
    - redis.call('ZCARD', SCHEDULED)
end

local answer = {}
for i = 3, #ARGV, 7 do
  local key, id = ARGV[i], ARGV[i + 1]
  local due = math.max(tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]) > 0 and now + ARGV[i + 4] or 0)
  local enqueued, moment = head_of(key)
  -- Something that is no job of ours lies there: a new life sweeps it away, as it would an old job.
  local stored = fields(key, 'status', 'due', 'gone', 'earlier') or {}
  local status = stored[1] or (enqueued and 'queued')
  if enqueued == id or stored[3] == id then
    answer[#answer + 1] = { 'same', tonumber(moment or now), tonumber(stored[2] or 0) or 0 }
  elseif stored[4] and string.find(stored[4], ' ' .. id .. ' ', 1, true) then
    answer[#answer + 1] = { 'same', now, 0 }
  elseif status and not terminal[status] then
    answer[#answer + 1] = { 'taken', 0, 0, call_record(key), state_of(key) or false }
  elseif room and room < 1 then
    answer[#answer + 1] = { 'full', 0, 0 }
  else
    begin(key, id, ARGV[i + 2], due, ARGV[i + 5], ARGV[i + 6], status and ids_of(key))
    if room then room = room - 1 end
    answer[#answer + 1] = { 'new', now, due > now and due or 0 }
  end
end
return answer

-- Purpose: put jobs into the queue, each unless an unfinished job has its key.
-- KEYS:    1 the queue's root
-- ARGV:    1 now; then for each job: key, enqueue id, call payload, due (ms, 0: at once), delay (ms from now)
-- Answer:  for each job {verdict, queued, due}; verdict is new, same (this very enqueue, sent twice) or taken
-- Moves:   new -> queued

local answer = {}
for i = 2, #ARGV, 5 do
  local key, id, payload = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local due = math.max(tonumber(ARGV[i + 3]), tonumber(ARGV[i + 4]) > 0 and now + ARGV[i + 4] or 0)
  local stored = redis.call('HMGET', job_of(key), 'status', 'id', 'queued', 'due')
  if stored[2] == id then
    answer[#answer + 1] = { 'same', tonumber(stored[3]), tonumber(stored[4] or 0) }
  elseif stored[1] and not terminal[stored[1]] then
    answer[#answer + 1] = { 'taken', 0, 0 }
  else
    begin(key, id, payload, due)
    answer[#answer + 1] = { 'new', now, due > now and due or 0 }
  end
end
return answer

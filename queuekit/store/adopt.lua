-- Purpose: a worker takes up its schedules; from now on they tick by its timetables.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 the worker's address, then for each: schedule id, timetable
-- Answer:  {now, then for each the moment up to which its ticks are handled}; a schedule that is new, or had
--          another timetable, begins now
-- Moves:   none

relieve()
local answer = { now }
for i = 3, #ARGV, 2 do
  local id, timetable = ARGV[i], ARGV[i + 1]
  local since = tonumber(redis.call('ZSCORE', root .. ':ticked', id) or nil)
  local held, workers = timetable_of(id)
  if held ~= timetable then workers = '' end
  if not since or held ~= timetable then
    -- Never back: a tick that was handled by the server's clock of then is not handled again.
    since = math.max(since or now, now)
    redis.call('ZADD', root .. ':ticked', since, id)
  end
  tick_by(timetable, id, ARGV[2], workers)
  answer[#answer + 1] = since
end
return answer

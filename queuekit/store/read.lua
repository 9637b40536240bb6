-- Purpose: read jobs in one go.
-- KEYS:    1 the queue's root
-- ARGV:    1 now; then the jobs' keys
-- Answer:  for each key {call record or false, state or false, log of attempts or false}, or false when
--          there is no such job (any more)
-- Moves:   none

local found = {}
for i = 2, #ARGV do
  local key = ARGV[i]
  local call, state = call_record(key), state_of(key)
  local more = fields(key, 'expires', 'gone', 'log') or {}
  local over = more[2] or (more[1] and (tonumber(more[1]) or now + 1) <= now)
  if over or not (call or (state and state[1])) then
    found[#found + 1] = false
  else
    found[#found + 1] = { call, state or false, more[3] or false }
  end
end
return found

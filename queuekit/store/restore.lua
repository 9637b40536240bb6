-- Purpose: give a job that was set aside a new life: it is queued again as it was enqueued.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 key, 3 enqueue id
-- Answer:  restored, gone (its call is no longer there) or missing (it is not in quarantine)
-- Moves:   new -> queued

local key = ARGV[2]
if not redis.call('ZSCORE', QUARANTINE, key) then return head_of(key) == ARGV[3] and 'restored' or 'missing' end
local call = call_record(key)
if not call then return 'gone' end
local state = fields(key, 'priority', 'group') or {}
begin(key, ARGV[3], string.match(call, '^%S+ %d+\n(.*)$') or call, 0, state[1] or '0', state[2] or '',
  ids_of(key))
return 'restored'

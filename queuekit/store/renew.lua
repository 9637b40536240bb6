-- Purpose: prolong the leases of a worker's running jobs.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 lease (ms); then for each job: key, fence, claim id
-- Answer:  for each run that does not simply go on: {fence, lost or aborting, reason of the abort}
-- Moves:   none

relieve()
local news = {}
for i = 3, #ARGV, 3 do
  local key, fence, claim = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local held = fields(key, 'status', 'fence', 'claim', 'error') or {}
  local running = held[1] == 'active' or held[1] == 'aborting'
  if running and held[2] == fence and held[3] == claim then
    -- XX: a lease is prolonged, never made.
    redis.call('ZADD', LEASE, 'XX', exact(now + ARGV[2]), key)
    if held[1] == 'aborting' then news[#news + 1] = { tonumber(fence), 'aborting', held[4] or '' } end
  else
    news[#news + 1] = { tonumber(fence), 'lost', '' }
  end
end
return news

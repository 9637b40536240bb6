-- Purpose: give a token back, or end a worker's own wait by a word to it; also while memory is full.
-- KEYS:    1 the queue's root
-- ARGV:    1 now, 2 worker (empty: the token)
-- Answer:  1
-- Moves:   none

relieve()
if ARGV[2] == '' then
  wake()
elseif redis.call('ZSCORE', WORKERS, ARGV[2]) then
  -- A word that was long on its way to somebody who has left meanwhile would lie there for ever.
  tell_worker(ARGV[2], 'nudge')
end
return 1

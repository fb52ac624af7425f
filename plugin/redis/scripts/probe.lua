-- Whether Redis takes writes: one that is full, or a replica, does not.
-- KEYS: probe. ARGV: deadline. Reply: { time }
redis.call('SET', KEYS[1], '1', 'PX', 1000)
return { at }

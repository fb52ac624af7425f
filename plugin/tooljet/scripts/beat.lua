-- An instance is there, whether it mints or not.
--
-- KEYS: instances, budget. ARGV: deadline, instance, longest TTL in ms.
-- Reply: { time, epoch ('': none), limit as learnt (0: none), its window, instances }.
redis.call('ZADD', KEYS[1], at, ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', at - 180000)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local known = redis.call('HMGET', KEYS[2], 'epoch', 'limit', 'window')
return { at, known[1] or '', tonumber(known[2] or 0), tonumber(known[3] or 0), redis.call('ZCARD', KEYS[1]) }

-- A call begins later than it was granted. KEYS: calls. ARGV: deadline, name of the call. Reply: { time }.
redis.call('ZADD', KEYS[1], 'XX', 'GT', at, ARGV[2])
return { at }

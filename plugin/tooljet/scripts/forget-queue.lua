-- Begins anew. KEYS: of the queue. ARGV: deadline. Reply: { time }.
redis.call('DEL', unpack(KEYS))
return { at }

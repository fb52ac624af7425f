-- Adds a forget to the fleet's log of forgets.
--
-- KEYS: the log, a stream.
-- ARGV: deadline, longest life of a URL in ms, user, moment until which mints are concerned, names with ' ' between.
-- Reply: { time }.
local key, life = KEYS[1], tonumber(ARGV[2])
local MAX_ENTRIES = 100000
local ttl = math.max(life, redis.call('PTTL', key))
redis.call('PEXPIRE', key, ttl) -- first, so that an ACL that refuses it leaves no entry without a TTL

local id
if redis.call('XLEN', key) < MAX_ENTRIES then
  id = redis.call('XADD', key, 'MINID', '~', string.format('%.0f', at - life), '*', 'user', ARGV[3], 'moment', ARGV[4], 'names', ARGV[5])
else
  id = redis.call('XADD', key, 'MAXLEN', '~', MAX_ENTRIES, '*', 'user', ARGV[3], 'moment', ARGV[4], 'names', ARGV[5])
end
local ahead = math.max(0, tonumber(id:match('^%d+')) - at) -- Redis's clock went back by this, and the TTL grew by it
redis.call('PEXPIRE', key, math.max(life, ttl - ahead))
return { at }

-- Tells the fleet what was forgotten.
--
-- KEYS: the log, a stream.
-- ARGV: deadline, longest life of a URL in ms, user, moment until which mints are concerned, names with ' ' between.
-- Reply: { time }.
local key, life = KEYS[1], tonumber(ARGV[2])
local MAX_ENTRIES = 100000
local ttl = math.max(life, redis.call('PTTL', key))
redis.call('PEXPIRE', key, ttl) -- an ACL that refuses this refuses it before there is an entry without an end

if redis.call('XLEN', key) < MAX_ENTRIES then
  redis.call('XADD', key, 'MINID', '~', string.format('%.0f', at - life), '*', 'user', ARGV[3], 'moment', ARGV[4], 'names', ARGV[5])
else
  redis.call('XADD', key, 'MAXLEN', '~', MAX_ENTRIES, '*', 'user', ARGV[3], 'moment', ARGV[4], 'names', ARGV[5])
end
redis.call('PEXPIRE', key, ttl)
return { at }

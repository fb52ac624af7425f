-- Tells the fleet what was forgotten.
--
-- KEYS: the log, a stream.
-- ARGV: deadline, longest life of a URL in ms, user, moment until which mints are concerned, names with ' ' between.
-- Reply: { time }.
local key, life = KEYS[1], tonumber(ARGV[2])
local MAX_ENTRIES = 100000

if redis.call('XLEN', key) < MAX_ENTRIES then
  redis.call('XADD', key, 'MINID', '~', string.format('%.0f', at - life), '*', 'user', ARGV[3], 'moment', ARGV[4], 'names', ARGV[5])
else
  redis.call('XADD', key, 'MAXLEN', '~', MAX_ENTRIES, '*', 'user', ARGV[3], 'moment', ARGV[4], 'names', ARGV[5])
end
if redis.call('PTTL', key) < life then redis.call('PEXPIRE', key, life) end
return { at }

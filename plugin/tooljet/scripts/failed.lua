-- One more failure in a row.
--
-- KEYS: failures, "number call". probe.
-- ARGV: deadline, TTL of the failures in ms, pause to the next probe in ms, name of this call.
-- Reply: { time }.
local failures, last = (redis.call('GET', KEYS[1]) or ''):match('^(%d+) (%S+)$')
if last == ARGV[4] then return { at } end
redis.call('SET', KEYS[1], string.format('%d %s', (failures or 0) + 1, ARGV[4]), 'PX', ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return { at }

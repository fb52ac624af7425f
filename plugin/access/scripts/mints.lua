-- Counts a mint of one user, if there is room in the window that ends now.
--
-- KEYS: the user's mints, a sorted set of their moments.
-- ARGV: deadline, name of the mint ('?' before it: it is not counted, the question is whether it would be), window in ms, how many are allowed in it.
-- Reply: { time, how many there are with this one, ms until there is room again (or until the oldest leaves) }: more than
--        are allowed when this one is not.
local key, window, max = KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4])
local dryRun, call = ARGV[2]:match('^(%??)(.*)$')

redis.call('ZREMRANGEBYSCORE', key, '-inf', at - window)
redis.call('ZREMRANGEBYSCORE', key, '(' .. at, '+inf') -- of a clock that went back
local total = redis.call('ZCARD', key)
local isCounted = redis.call('ZSCORE', key, call) or dryRun ~= '' and total < max
if not isCounted and total < max then
  redis.call('ZADD', key, at, call)
  redis.call('PEXPIRE', key, window)
  isCounted, total = true, total + 1
end
local oldest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
local left = oldest[2] and oldest[2] + window - at or window
return { at, isCounted and total or max + 1, math.max(1, left) }

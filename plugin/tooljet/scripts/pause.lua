-- ToolJet asked not to be called. A shorter pause does not end a longer one.
--
-- KEYS: pause. ARGV: deadline, its length in ms, name of this call, longest TTL in ms. Reply: { time }.
local key, length, call, longest = KEYS[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local isSentAgain = (redis.call('GET', key) or ''):match('^%S+') == call
if not isSentAgain and pauseLeft(key) < length then
  redis.call('SET', key, string.format('%s %.0f %.0f', call, at, at + length), 'PX', math.min(length, longest))
end
return { at }

-- ToolJet asked not to be called. A shorter pause does not end a longer one.
--
-- KEYS: pause. ARGV: deadline, its length in ms, name of this call. Reply: { time }.
if redis.call('GET', KEYS[1]) ~= ARGV[3] and redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[2])
end
return { at }

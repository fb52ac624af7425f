-- ToolJet answers. KEYS: failures, probe. ARGV: deadline. Reply: { time }.
redis.call('DEL', KEYS[1], KEYS[2])
return { at }

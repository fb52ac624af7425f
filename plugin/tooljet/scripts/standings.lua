-- How it stands with several ToolJets.
--
-- KEYS: of each pause, queue and budget. ARGV: deadline.
-- Reply: { time, then for each: ms that are left of its pause (0: none), how many wait, limit as learnt (0: none), its window }.
local reply = { at }
for i = 1, #KEYS, 3 do
  local learnt = redis.call('HMGET', KEYS[i + 2], 'limit', 'window')
  for _, value in ipairs({ (pauseLeft(KEYS[i])), redis.call('ZCARD', KEYS[i + 1]), tonumber(learnt[1] or 0), tonumber(learnt[2] or 0) }) do
    reply[#reply + 1] = value
  end
end
return reply

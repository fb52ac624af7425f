-- How long pauses still are. KEYS: pauses. ARGV: deadline. Reply: { time, then for each ms left, 0 without one }.
local reply = { at }
for i, key in ipairs(KEYS) do reply[i + 1] = pauseLeft(key) end
return reply

-- Reads the fleet's log of forgets after an entry.
--
-- KEYS: the log. ARGV: deadline, id of the last entry known ('-': none), how many at most.
-- Reply: { time, 'ok' | 'lost', then for each entry its id, user, moment and names }: 'lost' when the last one known is no
--        longer there, with entries from the first on.
local key, last = KEYS[1], ARGV[2]
local isLost = last ~= '-' and #redis.call('XRANGE', key, last, last) == 0
local from = (isLost or last == '-') and '-' or '(' .. last

local reply = { at, isLost and 'lost' or 'ok' }
for _, entry in ipairs(redis.call('XRANGE', key, from, '+', 'COUNT', ARGV[3])) do
  local values = {}
  for i = 1, #entry[2], 2 do values[entry[2][i]] = entry[2][i + 1] end
  for _, value in ipairs({ entry[1], values.user or '', values.moment or '0', values.names or '' }) do reply[#reply + 1] = value end
end
return reply

-- Removes all entries before one, from the stream and from their indexes. Both at once: were the indexes trimmed after
-- the stream, and that failed, nobody could tell any more which they were. As it is, the next batch finds the same excess.
--
-- KEYS: stream, and the indexes of the entries before that one.
-- ARGV: id of the oldest entry to keep.
-- Returns why something is still there; empty when all is well.
local call, keep = redis.call, ARGV[1]

local function isBefore (a, b)
  local ms, seq = a:match('(%d+)-(%d+)')
  local otherMs, otherSeq = b:match('(%d+)-(%d+)')
  if ms ~= otherMs then return tonumber(ms) < tonumber(otherMs) end
  return tonumber(seq) < tonumber(otherSeq)
end

local function trimIndex (key)
  local before = call('XREVRANGE', key, '(' .. keep, '-', 'COUNT', 1)[1]
  if not before then return end
  local reachesPast = not isBefore(before[2][2]:match('%S+$') or before[1], keep)
  call('XTRIM', key, 'MINID', reachesPast and before[1] or keep)
  if call('XLEN', key) == 0 then call('DEL', key) end
end

local isTrimmed, problem = pcall(call, 'XTRIM', KEYS[1], 'MINID', keep)
if not isTrimmed then return tostring(problem) end
local problems = ''
for i = 2, #KEYS do
  local isDone, reason = pcall(trimIndex, KEYS[i])
  if not isDone then problems = tostring(reason) end
end
return problems

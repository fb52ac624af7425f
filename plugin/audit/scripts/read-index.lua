-- Reads indexes and counters to check them; writes nothing.
--
-- KEYS: stream, index, counts, and one bucket or all. ARGV: deadline, and what:
-- 'state':              { time, entries of the stream, entries that the index accounts for, building, and for each bucket how
--                       long it is and how long it must be }
-- 'records', id:        { time, id of the stream's first entry, records of the bucket after that id }
-- 'absent', ids…:       { time, how many of the ids no entry has, of those after the stream's first }
-- 'counters', cursor:   { time, the next cursor, fields and values }
-- 'newer', id:          { time, ids and fields of the entries after that id }
local RECORD = 14
local MOST_BYTES = 4096 * RECORD
local call, stream, index, counts = redis.call, KEYS[1], KEYS[2], KEYS[3]
local what, given = ARGV[2], ARGV[3]

local function parts (id)
  local ms, number = id:match('^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(number)
end

local function isAfter (ms, number, otherMs, otherNumber)
  return ms > otherMs or (ms == otherMs and number > otherNumber)
end

local first = (call('XRANGE', stream, '-', '+', 'COUNT', 1)[1] or { '' })[1]
if what == 'state' then
  local known = call('HMGET', index, 'entries', 'building')
  local reply = { at, call('XLEN', stream), known[1] or '0', known[2] or '' }
  for i = 4, #KEYS do
    reply[#reply + 1] = redis.pcall('STRLEN', KEYS[i])
    if type(reply[#reply]) == 'table' then reply[#reply] = -1 end -- of another type
    reply[#reply + 1] = call('HGET', index, KEYS[i]:match('%a+:%d+$')) or '0'
  end
  return reply
elseif what == 'records' then
  local afterMs, afterNumber = parts(given)
  local low, high = 0, math.floor(call('STRLEN', KEYS[4]) / RECORD)
  while low < high do
    local middle = math.floor((low + high) / 2)
    local _, ms, number = struct.unpack('>I4I6I4', call('GETRANGE', KEYS[4], middle * RECORD, middle * RECORD + RECORD - 1))
    if isAfter(ms, number, afterMs, afterNumber) then high = middle else low = middle + 1 end
  end
  return { at, first, call('GETRANGE', KEYS[4], low * RECORD, low * RECORD + MOST_BYTES - 1) }
elseif what == 'absent' then
  local absent = 0
  for i = 3, first == '' and 0 or #ARGV do
    local ms, number = parts(ARGV[i])
    if isAfter(ms, number, parts(first)) and #call('XRANGE', stream, ARGV[i], ARGV[i]) == 0 then absent = absent + 1 end
  end
  return { at, absent }
elseif what == 'counters' then
  local page = call('HSCAN', counts, given, 'COUNT', 500)
  return { at, page[1], page[2] }
end
return { at, call('XRANGE', stream, '(' .. given, '+', 'COUNT', 500) }

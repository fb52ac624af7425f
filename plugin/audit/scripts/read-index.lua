-- Reads indexes and counters to check them; writes nothing.
--
-- KEYS: stream, index, counts, and one bucket or all. ARGV: deadline, and what:
-- 'state':              { time, entries of the stream, its newest id, entries that the index accounts for, the last of them,
--                       building, broken, how many entries are gone from the stream (-1: unknown to Redis), and for each
--                       bucket how long it is and how long it must be }
-- 'records', at, id:    { time, ids of the stream's first and newest entry, whether the record before such a byte of the
--                       bucket has that id no more, and the records from there }
-- 'absent', ids…:       { time, how many of the ids no entry has, of those after the stream's first }
-- 'counters', cursor:   { time, the next cursor, fields and values }
-- 'values', fields…:    { time, their values }
-- 'newer', id:          { time, ids and fields of the entries after that id }
local RECORD = 14
local MOST_BYTES = 4096 * RECORD
local call, stream, index, counts = ask, KEYS[1], KEYS[2], KEYS[3]
local what, given = ARGV[2], ARGV[3]

-- Anybody may have written there: what is longer than it can be is not replied, and, where its length can be asked, not read.
local TOO_LONG = '?'

local function factOf (name)
  if call('HSTRLEN', index, name) > MOST_FACT then return TOO_LONG end
  return call('HGET', index, name)
end

local function mostOf (field)
  return #field == 10 and MOST_NAMES or MOST_VALUE
end

local function isAfter (ms, number, otherMs, otherNumber)
  return ms > otherMs or (ms == otherMs and number > otherNumber)
end

local function endOf (command, from, to)
  return (call(command, stream, from, to, 'COUNT', 1)[1] or { '' })[1]
end

local function removed ()
  local reply, info = redis.pcall('XINFO', 'STREAM', stream), {}
  for i = 1, reply.err and 0 or #reply, 2 do info[reply[i]] = reply[i + 1] end
  return info['entries-added'] and info['entries-added'] - info.length or -1
end

if what == 'state' then
  local known = {}
  for i, fact in ipairs { 'entries', 'last', 'building', 'broken' } do known[i] = factOf(fact) end
  local reply = { at, call('XLEN', stream), endOf('XREVRANGE', '+', '-'), known[1] or '0', known[2] or '', known[3] or '', known[4] or '', removed() }
  for i = 4, #KEYS do
    reply[#reply + 1] = redis.pcall('STRLEN', KEYS[i])
    if type(reply[#reply]) == 'table' then reply[#reply] = -1 end -- of another type
    reply[#reply + 1] = factOf(KEYS[i]:match('%a+:%d+$')) or '0'
  end
  return reply
elseif what == 'records' then
  local from, isMoved = tonumber(given), 0
  if from > 0 then
    local before = call('GETRANGE', KEYS[4], from - RECORD, from - 1)
    local _, ms, number = 0, -1, -1
    if #before == RECORD then _, ms, number = struct.unpack('>I4I6I4', before) end
    if string.format('%.0f-%.0f', ms, number) ~= ARGV[4] then isMoved = 1 end
  end
  return { at, endOf('XRANGE', '-', '+'), endOf('XREVRANGE', '+', '-'), isMoved, call('GETRANGE', KEYS[4], from, from + MOST_BYTES - 1) }
elseif what == 'absent' then
  local absent, first = 0, endOf('XRANGE', '-', '+')
  for i = 3, first == '' and 0 or #ARGV do
    local ms, number = idParts(ARGV[i])
    if isAfter(ms, number, idParts(first)) and #call('XRANGE', stream, ARGV[i], ARGV[i]) == 0 then absent = absent + 1 end
  end
  return { at, absent }
elseif what == 'counters' then
  local page = call('HSCAN', counts, given, 'COUNT', 500)
  local fields = page[2]
  for i = 1, #fields, 2 do
    if #fields[i + 1] > mostOf(fields[i]) then fields[i + 1] = TOO_LONG end
    if #fields[i] > MOST_NAME then fields[i] = fields[i]:sub(1, MOST_NAME) end
  end
  return { at, page[1], fields }
elseif what == 'values' then
  local values = {}
  for i = 3, #ARGV do
    local isTooLong = call('HSTRLEN', counts, ARGV[i]) > mostOf(ARGV[i])
    values[i - 2] = isTooLong and TOO_LONG or call('HGET', counts, ARGV[i])
  end
  return { at, values }
end
return { at, entriesAfter(stream, given, 500) }

-- Appends one instance's events in order, each once, with their index entries and counters, and trims the stream. All
-- events are two arguments: most of the cost of a script is in their number. The names of an event's fields are sent once
-- for all events that have the same ones.
--
-- KEYS: stream, written (id of the instance's last entry), index, counts, and the buckets of the events' index entries.
-- ARGV: deadline, id and mac of the entry that this instance wrote last ('' when none is known), longest age in ms (0: any
--       age), most entries (0: any number), the oldest day whose counters are kept, and JSON: { shapes, counters, rows }
--       with shapes: lists of names of fields; counters: pairs of a field of `counts` and an hour; a row: the numbers of
--       its shape and of its counter, how many answers it counts for, the number of its e-mail's bucket among the KEYS (0:
--       none) and its hash, and likewise its app's. Then the values of all events, the mac last, each ended by a NUL; and what
--       the sender knows `written` to be ('*': it may be anything).
-- Reply: { time, how many of the events are in the stream, id of the last of them, why the stream takes no more (''),
--          whether the last entry is where it was ('', 'shortened' or 'replaced'), how many entries were trimmed, what
--          besides could not be done (''), what `written` is when it keeps the events out ('') }

-- How long a batch may be under way, and be sent again: it is longer than any deadline.
local WRITTEN_MS = 20000
-- Entries are trimmed when there are so many too many, or when the oldest is so much too old; and so many at once.
local SPARE_ENTRIES = 100
local SPARE_MS = 3600000
local TRIM_AT_MOST = 160

local stream, index, counts = KEYS[1], KEYS[3], KEYS[4]
local lastId, lastMac, longest, most = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local batch = cjson.decode(ARGV[7])
local rows, expectedMark = batch.rows, ARGV[9]
local besides = ''

-- For what must not keep an event from being written.
local function try (...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  besides = reply.err
end

local function idParts (id)
  local dash = id:find('-', 1, true)
  return tonumber(id:sub(1, dash - 1)), tonumber(id:sub(dash + 1))
end

local formats, valuesOf, macOfRow = {}, {}, {}
for i, names in ipairs(batch.shapes) do formats[i] = string.rep('s', #names) end
do
  local place = 1
  for i, row in ipairs(rows) do
    local format = formats[row[1]]
    local read = { struct.unpack(format, ARGV[8], place) }
    valuesOf[i], macOfRow[i], place = read, read[#format], read[#format + 1]
  end
end

local length = redis.pcall('XLEN', stream)
if type(length) == 'table' then
  if not length.err:find('WRONGTYPE', 1, true) then return length end
  return { at, 0, '', length.err, '', 0, '', '' }
end

-- Whether the index has all of the stream, which only a reindex mends: a number alone may come to be right by chance ------

local macs = {} -- by id, of entries that were looked at

local function lookAt (...)
  local entries = try('XRANGE', stream, ...)
  for _, entry in ipairs(entries or {}) do
    local fields = entry[2]
    macs[entry[1]] = ''
    for i = #fields - 1, 1, -2 do -- ours have it last
      if fields[i] == 'mac' then
        macs[entry[1]] = fields[i + 1]
        break
      end
    end
  end
  return entries
end

local asked = { 'HMGET', index, 'entries', 'last', 'building', 'broken', 'day', 'oldest', 'tidied' }
local LENGTHS = 3 -- after these seven: of the bucket of KEYS[5] the eighth
-- What is longer than it can be was planted: it goes, so that it costs once, and the index with it.
local isPlanted = false
local function drop (fact)
  try('HDEL', index, fact)
  isPlanted = true
end
for i = 3, LENGTHS + 6 do -- unread; of buckets it would cost too much to ask before
  if (try('HSTRLEN', index, asked[i]) or 0) > MOST_FACT then drop(asked[i]) end
end
for bucket = 5, #KEYS do asked[#asked + 1] = KEYS[bucket]:sub(#index + 2) end
local known = try(unpack(asked)) or {}
for i = LENGTHS + 5, #asked - 2 do
  if known[i] and #known[i] > MOST_FACT then drop(asked[i + 2]) end
end
local isComplete = tonumber(known[1] or nil) == length and not known[3] and not known[4] and not isPlanted
if length == 0 then
  isComplete = true -- what is left of another stream goes, below
elseif isComplete then
  local newest = known[2] and known[2]:find('^%d+%-%d+$') and lookAt(known[2], '+', 'COUNT', 2) or {}
  isComplete = #newest == 1 and newest[1][1] == known[2]
end
if not isComplete and not known[3] and not known[4] then try('HSET', index, 'broken', 1) end

-- What was there before: the same batch, sent again, and what this instance wrote last ---------------------------------

-- Nothing where Redis does not tell; false where there is no such entry.
local function macOf (id)
  if macs[id] == nil and lookAt(id, id) then macs[id] = macs[id] or false end
  return macs[id]
end

local written, last = 0, ''
do
  local mark = try('GETRANGE', KEYS[2], 0, MOST_FACT) -- of any length, if somebody else wrote it
  if type(mark) ~= 'string' then mark = '' end
  local mac = mark:find('^%d+%-%d+$') and macOf(mark)
  for i = 1, mac and #rows or 0 do
    if macOfRow[i] == mac then written, last = i, mark end
  end
  -- An attempt of long ago must not come after what was written since; who still waits for an answer sends it again.
  if written == 0 and mark ~= '' and mark ~= expectedMark and expectedMark ~= '*' then return { at, 0, '', '', '', 0, '', mark } end
end

local integrity = ''
if lastId ~= '' then
  local mac = macOf(lastId)
  if mac and mac ~= lastMac then
    integrity = 'replaced'
  elseif mac == false then
    local isOld = longest > 0 and idParts(lastId) < at - longest
    local isFull = most > 0 and length >= most
    if not isOld and not isFull then integrity = 'shortened' end
  end
end

-- The events ------------------------------------------------------------------------------------------------------------

local commands = {}
for i, names in ipairs(batch.shapes) do
  local command = { 'XADD', stream, '*' }
  for n, name in ipairs(names) do command[2 * n + 2] = name end
  commands[i] = command
end

local records, amounts = {}, {}
local isUnfit = false -- an id that no record can hold, as in reindex.lua
local before = written
local refusal = ''
for i = written + 1, #rows do
  local row, values = rows[i], valuesOf[i]
  local command, count = commands[row[1]], #formats[row[1]]
  for v = 1, count do command[2 * v + 3] = values[v] end
  local id = redis.pcall(unpack(command, 1, 2 * count + 3))
  if type(id) == 'table' then
    if not id.err:find('exhausted', 1, true) and written == 0 then return id end
    refusal = id.err
    break
  end
  written, last = i, id
  local ms, number = idParts(id)
  isUnfit = isUnfit or ms >= 2 ^ 48 or number >= 2 ^ 32
  for place = 4, 6, 2 do
    local bucket = row[place]
    if bucket > 0 then
      local list = records[bucket] or {}
      records[bucket] = list
      list[#list + 1] = struct.pack('>I4I6I4', row[place + 1], ms, number)
    end
  end
  amounts[row[2]] = (amounts[row[2]] or 0) + row[3]
end
if last ~= '' then try('SET', KEYS[2], last, 'PX', WRITTEN_MS) end

-- The index: complete as long as it has all entries of the stream, and buckets as long as it says ------------------------

local ABOUT = 'of the audit log: how many entries it has, the last of them, the bytes of each bucket'
local added = written - before
if length == 0 and added > 0 then
  try('DEL', index, unpack(KEYS, 5))
  known = {}
end
local day, oldestMs, tidied = tonumber(known[5] or nil), tonumber(known[6] or nil), known[7]
if isComplete and isUnfit then
  isComplete = false
  try('HSET', index, 'broken', 1)
elseif isComplete and added > 0 then
  -- a text as long as that makes Redis keep a hash as a table, whose fields it need not look for one after the other
  local set = { 'HSET', index, 'about', ABOUT, 'entries', length + added, 'last', last }
  for bucket, list in pairs(records) do
    local data = table.concat(list)
    try('APPEND', KEYS[bucket], data)
    set[#set + 1] = asked[bucket + LENGTHS + 2]
    set[#set + 1] = (tonumber(known[bucket + LENGTHS] or nil) or 0) + #data
  end
  try(unpack(set))
end

local counted = {}
for number, amount in pairs(amounts) do
  local counter = batch.counters[number]
  counted[#counted + 1] = { counter[1], counter[2], amount }
end
addCounts(counts, counted, try)

-- Too much, and too old ----------------------------------------------------------------------------------------------------

local trimmed, today = 0, math.floor(at / 86400000)
local function trim ()
  local excess = most > 0 and length + added - most or 0
  if excess < SPARE_ENTRIES then excess = 0 end
  local latest = longest > 0 and at - longest or 0
  -- of this day, what the index says of the oldest entry is right, or it is gone and the oldest one is younger
  if excess == 0 and (latest == 0 or (oldestMs and day == today and oldestMs >= latest - SPARE_MS)) then return end

  local first = excess == 0 and (try('XRANGE', stream, '-', '+', 'COUNT', 1) or {})[1]
  local isOld = first and idParts(first[1]) < latest - SPARE_MS
  if excess > 0 then
    trimmed = tonumber(try('XTRIM', stream, 'MAXLEN', length + added - math.min(excess, TRIM_AT_MOST)) or 0)
  elseif isOld then
    -- whole nodes are cheap and come first; of one that is left over, what is old
    trimmed = tonumber(try('XTRIM', stream, 'MINID', '~', latest, 'LIMIT', 2 * TRIM_AT_MOST) or 0)
    if trimmed == 0 then trimmed = tonumber(try('XTRIM', stream, 'MINID', latest) or 0) end
  end
  if trimmed > 0 and isComplete then try('HINCRBY', index, 'entries', -trimmed) end
  local oldest = (try('XRANGE', stream, '-', '+', 'COUNT', 1) or {})[1]
  if oldest then try('HSET', index, 'oldest', (idParts(oldest[1]))) end
end
trim()

-- From each new day on, the counters of days that are over go, some with each batch, and what is longer than any counter.
local cursor = day ~= today and '0' or (tidied ~= '0' and (tidied or ''):match('^%d+$'))
local page = cursor and try('HSCAN', counts, cursor, 'COUNT', 100)
if page then
  local old, fields = { 'HDEL', counts }, page[2]
  for i = 1, #fields, 2 do
    local isLonger = #fields[i] > MOST_NAME or #fields[i + 1] > (#fields[i] == 10 and MOST_NAMES or MOST_VALUE)
    if (isLonger or fields[i]:sub(1, 10) < ARGV[6]) and #old < 5000 then old[#old + 1] = fields[i] end
  end
  if #old > 2 then try(unpack(old)) end
  try('HSET', index, 'day', today, 'tidied', page[1])
end

return { at, written, last, refusal, integrity, trimmed, besides, '' }

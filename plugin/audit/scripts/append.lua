-- Appends one instance's events in order, each once, with their index entries and counters, and trims the stream. All
-- events are one argument: most of the cost of a script is in their number. The names of an event's fields are sent once
-- for all events that have the same ones.
--
-- KEYS: stream, written (id of the instance's last entry), index, counts, and the buckets of the events' index entries.
-- ARGV: deadline, id and mac of the entry that this instance wrote last ('' when none is known), longest age in ms (0: any
--       age), most entries (0: any number), the oldest day whose counters are kept, and JSON: { shapes, counters, rows }
--       with shapes: lists of names of fields; counters: pairs of a field of `counts` and an hour; a row: the numbers of
--       its shape and of its counter, how many answers it counts for, the number of its e-mail's bucket among the KEYS (0:
--       none) and its hash, likewise its app's, and the values, the mac last.
-- Reply: { time, how many of the events are in the stream, id of the last of them, why the stream takes no more (''),
--          whether the last entry is where it was ('', 'shortened' or 'replaced'), how many entries were trimmed, what
--          besides could not be done ('') }

-- How long a batch may be under way, and be sent again: it is longer than any deadline.
local WRITTEN_MS = 20000
-- Entries are trimmed when there are so many too many, or when the oldest is so much too old; and so many at once.
local SPARE_ENTRIES = 100
local SPARE_MS = 3600000
local TRIM_AT_MOST = 160

local stream, index, counts = KEYS[1], KEYS[3], KEYS[4]
local lastId, lastMac, longest, most = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local batch = cjson.decode(ARGV[7])
local rows = batch.rows
local besides = ''

-- For what must not keep an event from being written.
local function try (...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  besides = reply.err
end

-- Nothing where Redis does not tell; false where there is no such entry.
local macs = {} -- the same entry is asked for twice as a rule
local function macOf (id)
  if macs[id] ~= nil then return macs[id] end
  local found = try('XRANGE', stream, id, id)
  if not found then return nil end
  macs[id] = false
  local entry = found[1]
  if not entry then return false end
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'mac' then macs[id] = entry[2][i + 1] end
  end
  macs[id] = macs[id] or ''
  return macs[id]
end

local function idParts (id)
  local ms, number = id:match('^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(number)
end

local length = redis.pcall('XLEN', stream)
if type(length) == 'table' then
  if not length.err:find('WRONGTYPE', 1, true) then return length end
  return { at, 0, '', length.err, '', 0, '' }
end

-- What was there before: the same batch, sent again, and what this instance wrote last ---------------------------------

local written, last = 0, ''
do
  local mark = try('GET', KEYS[2])
  local mac = type(mark) == 'string' and mark:find('^%d+%-%d+$') and macOf(mark)
  for i = 1, mac and #rows or 0 do
    if rows[i][#rows[i]] == mac then written, last = i, mark end
  end
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

-- Whether the index has all of the stream, which only a reindex mends: a number alone may come to be right by chance ------

local known = try('HMGET', index, 'entries', 'last', 'building', 'broken') or {}
local isComplete = tonumber(known[1] or nil) == length and not known[3] and not known[4]
if length == 0 then
  isComplete = true -- what is left of another stream goes, below
elseif isComplete then
  local newest = known[2] and known[2]:find('^%d+%-%d+$') and try('XRANGE', stream, known[2], '+', 'COUNT', 2) or {}
  isComplete = #newest == 1 and newest[1][1] == known[2]
end
if not isComplete and not known[3] and not known[4] then try('HSET', index, 'broken', 1) end

-- The events ------------------------------------------------------------------------------------------------------------

local commands = {}
for i, names in ipairs(batch.shapes) do
  local command = { 'XADD', stream, '*' }
  for n, name in ipairs(names) do command[2 * n + 2] = name end
  commands[i] = command
end

local records, amounts = {}, {}
local before = written
local refusal = ''
for i = written + 1, #rows do
  local row = rows[i]
  local command = commands[row[1]]
  for v = 8, #row do command[2 * v - 11] = row[v] end
  local id = redis.pcall(unpack(command, 1, 2 * #row - 11))
  if type(id) == 'table' then
    if not id.err:find('exhausted', 1, true) and written == 0 then return id end
    refusal = id.err
    break
  end
  written, last = i, id
  local ms, number = idParts(id)
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

local buckets, stale, get = {}, { 'DEL', index }, { 'HMGET', index, 'day', 'oldest' }
for bucket in pairs(records) do
  buckets[#buckets + 1], stale[#stale + 1], get[#get + 1] = bucket, KEYS[bucket], KEYS[bucket]:match('%a+:%d+$')
end
local added = written - before
if length == 0 and added > 0 then try(unpack(stale)) end
local lengths = try(unpack(get)) or {}
local day, oldestMs = tonumber(lengths[1] or nil), tonumber(lengths[2] or nil)
if isComplete and added > 0 then
  local set = { 'HSET', index, 'entries', length + added, 'last', last }
  for i, bucket in ipairs(buckets) do
    local data = table.concat(records[bucket])
    try('APPEND', KEYS[bucket], data)
    set[#set + 1] = get[i + 4]
    set[#set + 1] = (tonumber(lengths[i + 2] or nil) or 0) + #data
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

if day ~= today and try('HSET', index, 'day', today) then
  local old = { 'HDEL', counts }
  for _, field in ipairs(try('HKEYS', counts) or {}) do
    if field:sub(1, 10) < ARGV[6] and #old < 5000 then old[#old + 1] = field end
  end
  if #old > 2 then try(unpack(old)) end
end

return { at, written, last, refusal, integrity, trimmed, besides }

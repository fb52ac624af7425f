-- Queries of single events: by an index where it is complete, else by reading the stream.
local PAGE = 50
-- An index is read in windows: records of a window, and windows per call.
local RECORD = 14
local WINDOW = 4680
local WINDOWS = 16
-- As in audit-keys.ts.
local BUCKETS = { email = 32, app = 8 }

local function keyOf (stream, name)
  return (stream:find('^[^{]*{[^}]+}') and stream or '{' .. stream .. '}') .. ':' .. name
end

-- The bucket of an index that has a value's records, and the value's hash.
local function placeOf (stream, kind, value)
  local digest = redis.sha1hex(value)
  local bucket = kind .. ':' .. tonumber(digest:sub(1, 8), 16) % BUCKETS[kind]
  return { key = keyOf(stream, 'index:' .. bucket), name = bucket, hash = struct.pack('>I4', tonumber(digest:sub(9, 16), 16)) }
end

-- Value of a field of the index; '' where it is longer than it can be.
local function factOf (key, name)
  local length = redis.pcall('HSTRLEN', key, name)
  if type(length) == 'table' then return nil, length.err end
  return length > MOST_FACT and '' or ask('HGET', key, name)
end

-- Whether the index is complete, and the newest id in it. For a user who may not read it the stream is read, with a note.
local function isIndexed (stream, place)
  local key, known, err = keyOf(stream, 'index'), {}, nil
  for i, name in ipairs { 'entries', 'last', 'building', 'broken', place and place.name or 'entries' } do
    known[i], err = factOf(key, name)
    if err then break end
  end
  local length = place and redis.pcall('STRLEN', place.key) or 0
  err = err or (type(length) == 'table' and length.err)
  if err then
    note('index cannot be read: ' .. err)
    return false
  end
  local entries = ask('XLEN', stream)
  local newest = (ask('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1] or {})[1]
  local isWhole = tonumber(known[1] or 0) == entries and (entries == 0 or known[2] == newest) and not known[3] and not known[4]
  if isWhole and (not place or (tonumber(known[5] or 0) == length and length % RECORD == 0)) then return true, newest end
  note('index incomplete' .. REMEDY)
  return false
end

local function isBefore (a, b)
  local ms, number = idParts(a)
  local otherMs, otherNumber = idParts(b)
  if ms ~= otherMs then return ms < otherMs end
  return number < otherNumber
end

-- The ids of the range, exclusive.
local function bounds (given)
  local low = given.since and given.since > 0 and string.format('%.0f-%s', given.since - 1, GREATEST) or nil
  local high = given['until'] and string.format('%.0f-0', given['until']) or nil
  local after = given.after ~= '0-0' and given.after
  if after and given.order == 'desc' then
    if not high or isBefore(after, high) then high = after end
  elseif after then
    if not low or isBefore(low, after) then low = after end
  end
  return low, high
end

-- Entries of the stream between two ids, page by page.
local function eachEntry (key, low, high, order)
  local page, at = {}, 0
  return function ()
    if at == #page then
      local first, last = low and '(' .. low or '-', high and '(' .. high or '+'
      if order == 'desc' then
        page = ask('XREVRANGE', key, last, first, 'COUNT', PAGE)
        high = page[#page] and page[#page][1]
      else
        page = low == GREATEST_ID and {} or ask('XRANGE', key, first, last, 'COUNT', PAGE)
        low = page[#page] and page[#page][1]
      end
      at = 0
      if #page == 0 then return nil end
    end
    at = at + 1
    return page[at][1], page[at]
  end
end

-- The id in the record at an offset.
local function idAt (data, at)
  local ms, number = struct.unpack('>I6I4', data, at + 4)
  return string.format('%.0f-%.0f', ms, number)
end

local function recordId (key, record)
  return idAt(ask('GETRANGE', key, record * RECORD, record * RECORD + RECORD - 1), 1)
end

-- How many records of a bucket have an id before the given one, or this one itself; nothing where they are seen not to be in
-- the order of the stream, or to go beyond it.
local function countBefore (key, newest, id, withItself)
  local low, high = 0, math.floor(ask('STRLEN', key) / RECORD)
  if high == 0 then return 0 end
  local lowest, highest = recordId(key, 0), recordId(key, high - 1)
  if isBefore(newest, highest) or isBefore(highest, lowest) then return nil end
  while low < high do
    local middle = math.floor((low + high) / 2)
    local other = recordId(key, middle)
    if isBefore(other, lowest) or isBefore(highest, other) then return nil end
    if isBefore(other, id) or (withItself and other == id) then low, lowest = middle + 1, other else high, highest = middle, other end
  end
  return low
end

-- Offsets of a value's records in a window.
local function placesIn (window, hash)
  local found, at = {}, window:find(hash, 1, true)
  while at do
    local isAligned = at % RECORD == 1
    if isAligned then found[#found + 1] = at end
    at = window:find(hash, at + (isAligned and RECORD or 1), true)
  end
  return found
end

-- The entries of a value between two ids, by its index; an id alone where the event is no longer there, and, after so many
-- windows as one call may read, the last id in them with a further true. Nothing where it is seen to be no index of this stream.
local function eachIndexed (stream, place, newest, low, high, order)
  local isAscending = order ~= 'desc'
  local oldest = ask('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if not oldest then return function () end end
  -- records of trimmed entries stay for a while
  local first = countBefore(place.key, newest, oldest[1], false)
  local after = low and countBefore(place.key, newest, low, true)
  local last = ask('STRLEN', place.key) / RECORD
  if high then last = countBefore(place.key, newest, high, false) end
  if not (first and last and (after or not low)) then return nil end
  first = math.max(first, after or 0)
  local window, found, at, windows, edge = '', {}, 0, 0, nil
  return function ()
    while at == #found do
      if first >= last then return nil end
      if windows == WINDOWS then return edge, nil, true end
      windows = windows + 1
      local from = isAscending and first or math.max(first, last - WINDOW)
      local to = isAscending and math.min(last, first + WINDOW) or last
      window = ask('GETRANGE', place.key, from * RECORD, to * RECORD - 1)
      found, at = placesIn(window, place.hash), 0
      if isAscending then first = to else last = from end
      edge = idAt(window, isAscending and #window - RECORD + 1 or 1)
    end
    at = at + 1
    local id = idAt(window, found[isAscending and at or #found + 1 - at])
    return id, ask('XRANGE', stream, id, id)[1]
  end
end

local function eachEvent (stream, given)
  local low, high = bounds(given)
  local kind = given.email and 'email' or given.app and 'app'
  local place = kind and placeOf(stream, kind, given[kind])
  local isWhole, newest
  if place then isWhole, newest = isIndexed(stream, place) end
  if isWhole then
    local indexed = eachIndexed(stream, place, newest, low, high, given.order)
    if indexed then return indexed end
    note('index damaged' .. REMEDY)
  end
  return eachEntry(stream, low, high, given.order)
end

local FIELDS = { 'email', 'app', 'event', 'outcome', 'code', 'ip', 'url_id' }

local function filterOf (given)
  local wanted, count = {}, 0
  for _, field in ipairs(FIELDS) do
    if given[field] then wanted[field], count = given[field], count + 1 end
  end
  local longCode = wanted.code and 'TOOLJET_EMBED_' .. wanted.code
  return function (fields)
    if count == 0 then return true end
    local found = 0
    for i = 1, #fields, 2 do
      local want = wanted[fields[i]]
      if want then
        if fields[i + 1] ~= want and not (fields[i] == 'code' and fields[i + 1] == longCode) then return false end
        found = found + 1
      end
    end
    return found == count
  end
end

-- Visits the matching events until `visit` returns true, or the bound of a call is reached. Returns the cursor.
local function walk (stream, given, visit)
  local matches = filterOf(given)
  local looked, last = 0, nil
  for id, entry, isEnough in eachEvent(stream, given) do
    if looked == LOOKS_AT then return last end
    if isEnough then return id end
    looked, last = looked + 1, id
    if entry and matches(entry[2]) and visit(entry) then return id end
  end
  return '0-0'
end

-- Filters of fields, by their names.
local QUERIES = {}

-- Returns { cursor, entries }, an entry like those of XRANGE; the newest first unless order is asc.
function QUERIES.tooljet_audit (keys, args)
  local given = parse('tooljet_audit', keys, args)
  given.order = given.order or 'desc'
  local limit, entries = given.limit or 100, {}
  local cursor = walk(keys[1], given, function (entry)
    entries[#entries + 1] = entry
    return #entries == limit
  end)
  return { cursor, entries }
end

-- Queries of fastify-tooljet-embed's audit log: read-only, and bounded in what one call looks at. A reply begins with a
-- cursor: pass it as "after" to go on, until it is 0-0. What else there is to say of it comes at its end, as texts.
local VERSION = 3

local LOOKS_AT = 250 -- events per call: a few milliseconds at the most
local PAGE = 50
-- An index is read in windows of so many records, so many per call.
local RECORD = 14
local WINDOW = 4680
local WINDOWS = 16
-- As in audit-keys.ts.
local BUCKETS = { email = 32, app = 8 }

local FILTERS = '[email E] [app A] [event V] [outcome success|failure] [code C] [ip I] [url_id U] [since T] [until T]'
local USAGE = {
  tooljet_audit = FILTERS .. ' [limit 1..250] [after ID] [order asc|desc]',
  tooljet_audit_stats = 'by email|app|event|code|hour, or two of them: hour,app ' .. FILTERS .. ' [after ID] [users count|list]',
}
local TIMES = 'an ISO 8601 time, milliseconds since 1970, or how long ago: 90s, 30m, 24h, 7d'

-- Wrong arguments: the message says what was wrong, and what is taken.
local refusal
local function refuse (query, problem)
  refusal = 'ERR ' .. query .. ': ' .. problem .. '; usage: ' .. query .. ' ' .. USAGE[query]
  error(refusal)
end

-- What a reply says besides, after its other elements.
local notes
local REMEDY = ': run tooljet-embed-audit verify, then reindex'
local DAMAGED = 'counters are damaged' .. REMEDY

local function note (text)
  for _, other in ipairs(notes) do
    if other == text then return end
  end
  notes[#notes + 1] = text
end

-- Arguments -----------------------------------------------------------------------------------------------------------

local function one_of (allowed) -- Redis 7 has no libraries yet when this runs, but when the function does that it returns
  return function (value)
    for _, option in ipairs(allowed) do
      if value == option then return value end
    end
    return nil, table.concat(allowed, ', ')
  end
end

local function any (value)
  if value ~= '' then return value end
  return nil, 'a value'
end

-- ASCII letters, whatever the locale: string.lower and %s would go by that.
local function lower (text)
  return (text:gsub('[A-Z]', function (letter) return string.char(letter:byte() + 32) end))
end

-- An e-mail as the plugin writes it: without the ASCII white space around, ASCII letters lowered, all else as it is.
local function address (value)
  local first, last = value:find('[^ \t-\r]'), #value
  if not first then return nil, 'a value' end
  while value:find('^[ \t-\r]', last) do last = last - 1 end
  return lower(value:sub(first, last))
end

local function whole_number (value)
  local number = value:match('^%d+$') and tonumber(value)
  if number and number >= 1 and number <= LOOKS_AT then return number end
  return nil, 'a whole number from 1 to ' .. LOOKS_AT
end

local function stream_id (value)
  if value:match('^%d+%-%d+$') then return value end
  if value:match('^%d+$') then return value .. '-0' end
  return nil, 'the id of an event, or the cursor of an earlier reply'
end

local DAYS = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

-- Days since 1970-01-01 in the Gregorian calendar; nothing for a day that there is not.
local function days_since_1970 (year, month, day)
  local leap = (year % 4 == 0 and year % 100 ~= 0) or year % 400 == 0
  local most = (month == 2 and leap) and 29 or DAYS[month]
  if not most or day < 1 or day > most then return nil end
  local before = year - 1
  local days = before * 365 + math.floor(before / 4) - math.floor(before / 100) + math.floor(before / 400) - 719162
  for m = 1, month - 1 do days = days + DAYS[m] end
  if leap and month > 2 then days = days + 1 end
  return days + day - 1
end

local UNITS = { s = 1000, m = 60000, h = 3600000, d = 86400000 }

local function iso_time (value)
  local year, month, day, rest = value:match('^(%d%d%d%d)%-(%d%d)%-(%d%d)(.*)$')
  local days = year and days_since_1970(tonumber(year), tonumber(month), tonumber(day))
  if not days then return nil end
  local ms = days * UNITS.d
  if rest == '' then return ms end
  local hour, minute, tail = rest:match('^[T ](%d%d):(%d%d)(.*)$')
  if not hour or tonumber(hour) > 24 or tonumber(minute) > 59 then return nil end
  ms = ms + tonumber(hour) * UNITS.h + tonumber(minute) * UNITS.m
  local second, fraction = tail:match('^:(%d%d)(%.?%d*)')
  if second then
    if tonumber(second) > 59 or fraction == '.' or (fraction ~= '' and fraction:sub(1, 1) ~= '.') then return nil end
    ms = ms + tonumber(second) * 1000 + math.floor((tonumber('0' .. fraction) or 0) * 1000 + 0.5)
    tail = tail:sub(#second + #fraction + 2)
  end
  if tail == '' or tail == 'Z' then return ms end
  local sign, hours, minutes = tail:match('^([+-])(%d%d):?(%d%d)$')
  if not sign then return nil end
  local offset = tonumber(hours) * UNITS.h + tonumber(minutes) * UNITS.m
  return sign == '+' and ms - offset or ms + offset
end

local function time (value)
  local count, unit = value:match('^(%d+)([smhd])$')
  if count then
    local now = redis.call('TIME')
    return math.max(0, now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(count) * UNITS[unit])
  end
  local ms = value:match('^%d+$') and tonumber(value) or iso_time(value)
  -- as milliseconds a number of seconds would be a moment in 1970
  if ms and (ms == 0 or ms >= 1e11) and ms < 1e14 then return ms end
  return nil, TIMES
end

local GROUPS = { email = true, app = true, event = true, code = true, hour = true }

-- One or two names.
local function grouping (value)
  local first, second = value:match('^(%l+),?(%l*)$')
  local is_right = GROUPS[first] and (second == '' and not value:find(',', 1, true) or GROUPS[second] and first ~= second)
  if not is_right then return nil, 'email, app, event, code, hour, or two of them like hour,app' end
  return { first, second ~= '' and second or nil }
end

local ARGUMENTS = {
  email = address,
  app = any,
  event = one_of { 'url.minted', 'url.reused', 'url.denied', 'url.limited', 'url.failed', 'url.forgotten', 'url.warmed', 'audit.opened', 'audit.closed' },
  outcome = one_of { 'success', 'failure' },
  code = any,
  ip = any,
  url_id = any,
  since = time,
  ['until'] = time,
  limit = whole_number,
  after = stream_id,
  order = one_of { 'asc', 'desc' },
  by = grouping,
  users = one_of { 'count', 'list' },
}

local function parse (query, keys, args)
  if #keys ~= 1 then refuse(query, 'it takes one key, the audit stream, and got ' .. #keys) end
  local given = {}
  for i = 1, #args, 2 do
    local name, value = lower(args[i]), args[i + 1]
    local check = (' ' .. USAGE[query]):find('[ [](' .. name:gsub('%W', '%%%0') .. ') ') and ARGUMENTS[name]
    if not check then refuse(query, 'there is no argument "' .. args[i] .. '"') end
    if value == nil then refuse(query, 'argument "' .. name .. '" has no value') end
    if given[name] ~= nil then refuse(query, 'argument "' .. name .. '" is there twice') end
    local checked, takes = check(value)
    if checked == nil then refuse(query, 'argument "' .. name .. '" is "' .. value .. '", it takes ' .. takes) end
    given[name] = checked
  end
  return given
end

-- Keys of a stream ----------------------------------------------------------------------------------------------------

local function key_of (stream, name)
  return (stream:find('^[^{]*{[^}]+}') and stream or '{' .. stream .. '}') .. ':' .. name
end

-- The bucket of an index in which a value has its records, and what stands for it there.
local function place_of (stream, kind, value)
  local digest = redis.sha1hex(value)
  local bucket = kind .. ':' .. tonumber(digest:sub(1, 8), 16) % BUCKETS[kind]
  return { key = key_of(stream, 'index:' .. bucket), name = bucket, hash = struct.pack('>I4', tonumber(digest:sub(9, 16), 16)) }
end

-- Whether the index has all of the stream, and the newest id in it. A user who may not read it is told, and gets a walk
-- through the stream.
local function is_indexed (stream, place)
  local known = redis.pcall('HMGET', key_of(stream, 'index'), 'entries', 'last', 'building', 'broken', place and place.name or 'entries')
  local length = place and redis.pcall('STRLEN', place.key) or 0
  local err = known.err or (type(length) == 'table' and length.err)
  if err then
    note('index cannot be read: ' .. err)
    return false
  end
  local entries = redis.call('XLEN', stream)
  local newest = (redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1] or {})[1]
  local is_whole = tonumber(known[1] or 0) == entries and (entries == 0 or known[2] == newest) and not known[3] and not known[4]
  if is_whole and (not place or (tonumber(known[5] or 0) == length and length % RECORD == 0)) then return true, newest end
  note('index incomplete' .. REMEDY)
  return false
end

-- Walking -------------------------------------------------------------------------------------------------------------

local function id_parts (id)
  local ms, number = id:match('^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(number)
end

local function is_before (a, b)
  local ms, number = id_parts(a)
  local other_ms, other_number = id_parts(b)
  if ms ~= other_ms then return ms < other_ms end
  return number < other_number
end

-- The ids between which to look, without these themselves.
local function bounds (given)
  local low = given.since and given.since > 0 and string.format('%.0f-18446744073709551615', given.since - 1) or nil
  local high = given['until'] and string.format('%.0f-0', given['until']) or nil
  local after = given.after ~= '0-0' and given.after
  if after and given.order == 'desc' then
    if not high or is_before(after, high) then high = after end
  elseif after then
    if not low or is_before(low, after) then low = after end
  end
  return low, high
end

-- Entries of the stream between two ids, page by page.
local GREATEST = '18446744073709551615-18446744073709551615' -- Redis refuses what would come after it
local LAST_BUT_ONE = '18446744073709551615-18446744073709551614'

local function each_entry (key, low, high, order)
  local page, at = {}, 0
  return function ()
    if at == #page then
      local first, last = low and '(' .. low or '-', high and '(' .. high or '+'
      if order == 'desc' then
        page = redis.call('XREVRANGE', key, last, first, 'COUNT', PAGE)
        high = page[#page] and page[#page][1]
      else
        page = redis.call('XRANGE', key, first, last, 'COUNT', PAGE)
        low = page[#page] and page[#page][1]
      end
      at = 0
      if #page == 0 then return nil end
      if order ~= 'desc' and low == GREATEST then low, high = LAST_BUT_ONE, '0-1' end -- nothing comes after it
    end
    at = at + 1
    return page[at][1], page[at]
  end
end

-- The id in a record that begins at such a place.
local function id_at (data, at)
  local ms, number = struct.unpack('>I6I4', data, at + 4)
  return string.format('%.0f-%.0f', ms, number)
end

local function record_id (key, record)
  return id_at(redis.call('GETRANGE', key, record * RECORD, record * RECORD + RECORD - 1), 1)
end

-- How many records of a bucket have an id before the given one, or this one itself; nothing where they are seen not to be in
-- the order of the stream, or to go beyond it.
local function count_before (key, newest, id, with_itself)
  local low, high = 0, math.floor(redis.call('STRLEN', key) / RECORD)
  if high == 0 then return 0 end
  local lowest, highest = record_id(key, 0), record_id(key, high - 1)
  if is_before(newest, highest) or is_before(highest, lowest) then return nil end
  while low < high do
    local middle = math.floor((low + high) / 2)
    local other = record_id(key, middle)
    if is_before(other, lowest) or is_before(highest, other) then return nil end
    if is_before(other, id) or (with_itself and other == id) then low, lowest = middle + 1, other else high, highest = middle, other end
  end
  return low
end

-- Where in a window the records of a value begin.
local function places_in (window, hash)
  local found, at = {}, window:find(hash, 1, true)
  while at do
    local is_aligned = at % RECORD == 1
    if is_aligned then found[#found + 1] = at end
    at = window:find(hash, at + (is_aligned and RECORD or 1), true)
  end
  return found
end

-- The entries of a value between two ids, by its index; an id alone where the event is no longer there, and, after so many
-- windows as one call may read, the last id in them with a further true. Nothing where it is seen to be no index of this stream.
local function each_indexed (stream, place, newest, low, high, order)
  local is_ascending = order ~= 'desc'
  local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  if not oldest then return function () end end
  -- records of entries that are trimmed are there for a while
  local first = count_before(place.key, newest, oldest[1], false)
  local after = low and count_before(place.key, newest, low, true)
  local last = redis.call('STRLEN', place.key) / RECORD
  if high then last = count_before(place.key, newest, high, false) end
  if not (first and last and (after or not low)) then return nil end
  first = math.max(first, after or 0)
  local window, found, at, windows, edge = '', {}, 0, 0, nil
  return function ()
    while at == #found do
      if first >= last then return nil end
      if windows == WINDOWS then return edge, nil, true end
      windows = windows + 1
      local from = is_ascending and first or math.max(first, last - WINDOW)
      local to = is_ascending and math.min(last, first + WINDOW) or last
      window = redis.call('GETRANGE', place.key, from * RECORD, to * RECORD - 1)
      found, at = places_in(window, place.hash), 0
      if is_ascending then first = to else last = from end
      edge = id_at(window, is_ascending and #window - RECORD + 1 or 1)
    end
    at = at + 1
    local id = id_at(window, found[is_ascending and at or #found + 1 - at])
    return id, redis.call('XRANGE', stream, id, id)[1]
  end
end

local function each_event (stream, given)
  local low, high = bounds(given)
  local kind = given.email and 'email' or given.app and 'app'
  local place = kind and place_of(stream, kind, given[kind])
  local is_whole, newest
  if place then is_whole, newest = is_indexed(stream, place) end
  if is_whole then
    local indexed = each_indexed(stream, place, newest, low, high, given.order)
    if indexed then return indexed end
    note('index damaged' .. REMEDY)
  end
  return each_entry(stream, low, high, given.order)
end

local FIELDS = { 'email', 'app', 'event', 'outcome', 'code', 'ip', 'url_id' }

local function filter_of (given)
  local wanted, count = {}, 0
  for _, field in ipairs(FIELDS) do
    if given[field] then wanted[field], count = given[field], count + 1 end
  end
  local long_code = wanted.code and 'TOOLJET_EMBED_' .. wanted.code
  return function (fields)
    if count == 0 then return true end
    local found = 0
    for i = 1, #fields, 2 do
      local want = wanted[fields[i]]
      if want then
        if fields[i + 1] ~= want and not (fields[i] == 'code' and fields[i + 1] == long_code) then return false end
        found = found + 1
      end
    end
    return found == count
  end
end

-- Visits what matches until a visit says that it is enough, or enough was looked at. Returns the cursor.
local function walk (stream, given, visit)
  local matches = filter_of(given)
  local looked, last = 0, nil
  for id, entry, is_enough in each_event(stream, given) do
    if looked == LOOKS_AT then return last end
    if is_enough then return id end
    looked, last = looked + 1, id
    if entry and matches(entry[2]) and visit(entry) then return id end
  end
  return '0-0'
end

-- Queries -------------------------------------------------------------------------------------------------------------

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

-- A row is as it is replied: here in it are its numbers.
local EVENTS, MINTED, REUSED, REFUSED = 3, 5, 7, 9
local COUNTED = { ['url.minted'] = MINTED, ['url.reused'] = REUSED, ['url.denied'] = REFUSED, ['url.limited'] = REFUSED, ['url.failed'] = REFUSED }

local function is_hourly (given)
  return given.by[1] == 'hour' or given.by[2] == 'hour'
end

-- @param hour by which it is sorted, if by any
local function new_row (group, hour)
  return { group, 'events', 0, 'minted', 0, 'reused', 0, 'refused', 0, hour = hour }
end

-- Counts in groups: of one name, or of two with a comma between.
local function new_table (by)
  return { by = by, by_group = {}, rows = {}, total = new_row('total') }
end

local function row_of (counts, group, hour)
  local row = counts.by_group[group]
  if row then return row end
  row = new_row(group, hour)
  counts.by_group[group], counts.rows[#counts.rows + 1] = row, row
  return row
end

local function add_users (row, users, as_list)
  local list = {}
  for email in pairs(users) do list[#list + 1] = email end
  row[#row + 1] = 'users'
  row[#row + 1] = as_list and list or #list
end

local function finish (row, as_list)
  local given = row[MINTED] + row[REUSED]
  if given > 0 then
    row[10] = 'reuse_rate'
    row[11] = string.format('%.3f', row[REUSED] / given)
  end
  if row.users then add_users(row, row.users, as_list) end -- counters know none
  return row
end

-- By hour, then the most events first.
local function reply_of (cursor, counts, as_list)
  local keys, row_by = {}, {}
  for _, row in ipairs(counts.rows) do
    if row[EVENTS] > 0 then
      local key = (row.hour or '') .. string.format('%016.0f', 1e15 - row[EVENTS]) .. row[1]
      keys[#keys + 1], row_by[key] = key, row
    end
  end
  table.sort(keys) -- texts: to compare them takes no call of Lua
  local rows, total = {}, counts.total
  for i, key in ipairs(keys) do
    local row = row_by[key]
    for at = EVENTS, REFUSED, 2 do total[at] = total[at] + row[at] end
    rows[i] = finish(row, as_list)
  end
  return { cursor, rows, finish(total, as_list) }
end

-- How many answers an entry stands for.
local function count_of (count)
  return count and #count <= 15 and count:find('^%d+$') and tonumber(count) or 1
end

-- Of what this call looked at. To add up several replies count the users of "users list".
local function count_events (stream, given)
  local counts = new_table(given.by)
  counts.total.users = {}
  local cursor = walk(stream, given, function (entry)
    local fields = {}
    for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
    fields.hour = fields.time and fields.time:sub(1, 13) .. ':00Z'
    local group = fields[given.by[1]] or '-'
    if given.by[2] then group = group .. ',' .. (fields[given.by[2]] or '-') end
    local row = row_of(counts, group, is_hourly(given) and (fields.hour or '-') or nil)
    local count, counter = count_of(fields.count), COUNTED[fields.event]
    row[EVENTS] = row[EVENTS] + count
    if counter then row[counter] = row[counter] + count end
    row.users = row.users or {}
    if fields.email then row.users[fields.email], counts.total.users[fields.email] = true, true end
  end)
  return reply_of(cursor, counts, given.users == 'list')
end

-- Totals out of the counters ------------------------------------------------------------------------------------------

-- Like 2026-01-31T08, of milliseconds since 1970.
local function hour_text (ms)
  local days = math.floor(ms / UNITS.d)
  -- years begin in March here, so that the day of a leap year comes last; eras have 400 of them
  local since_era = (days + 719468) % 146097
  local year = math.floor((since_era - math.floor(since_era / 1460) + math.floor(since_era / 36524) - math.floor(since_era / 146096)) / 365)
  local day = since_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * day + 2) / 153)
  year = year + math.floor((days + 719468) / 146097) * 400
  if month >= 10 then year, month, day = year + 1, month - 9, day - math.floor((153 * month + 2) / 5)
  else month, day = month + 3, day - math.floor((153 * month + 2) / 5) end
  return string.format('%04d-%02d-%02dT%02d', year, month, day + 1, math.floor(ms % UNITS.d / UNITS.h))
end

local MOST_DAYS = 100 -- of more, those that there are
local MOST_COUNTERS = 20000 -- per call: some 100 ms
local MOST_FIELDS = 200000 -- of all days
-- Of what has another form than counters.lua writes nothing is counted.
local MOST_NAMES = 262144
local MOST_VALUE = 600

local function is_day (text)
  local year, month, day = text:match('^(%d%d%d%d)%-(%d%d)%-(%d%d)$')
  return year and days_since_1970(tonumber(year), tonumber(month), tonumber(day)) ~= nil
end

-- The days of two hours and between that may have counters; nothing when there is too much to look through.
local function days_of (key, first, last)
  local days = {}
  if first and last - first < MOST_DAYS * UNITS.d then
    for ms = first - first % UNITS.d, last, UNITS.d do days[#days + 1] = hour_text(ms):sub(1, 10) end
    return days
  end
  if redis.call('HLEN', key) > MOST_FIELDS then return nil end
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if #field == 10 then
      if is_day(field) then days[#days + 1] = field else note(DAMAGED) end
    end
  end
  return days
end

-- Values of a hash, whatever their number.
local function fields_of (key, names)
  local values = {}
  for i = 1, #names, 1000 do
    for n, value in ipairs(redis.call('HMGET', key, unpack(names, i, math.min(#names, i + 999)))) do values[i + n - 1] = value end
  end
  return values
end

-- "total hour:count hour:count …" as total, hours and counts; nothing for what has another form.
local function parse_counter (value)
  local total = #value <= MOST_VALUE and value:match('^%d+')
  if not total then return nil end
  local hours, counts, seen, sum, at = {}, {}, {}, 0, #total + 1
  while at <= #value do
    local hour, count = value:match('^ (%d%d):(%d+)', at)
    if not hour or hour > '23' or seen[hour] or #count > 15 then return nil end
    local n = #hours + 1
    hours[n], counts[n], seen[hour] = hour, tonumber(count), true
    sum, at = sum + counts[n], at + 4 + #count
  end
  if #total > 15 or tonumber(total) ~= sum then return nil end
  return sum, hours, counts
end

-- Where a counter of such a name counts, for each hour or on the whole.
local function place_in (counts, name, hourly, shared)
  local parts = {}
  parts.app, parts.event, parts.code = name:match('^([^\t]*)\t([^\t]*)\t([^\t]*)$')
  if not parts.event then return nil end
  local first, second = parts[counts.by[1]], parts[counts.by[2]]
  if not hourly then return { event = parts.event, row = row_of(counts, second and first .. ',' .. second or first) } end
  local other = first or second or ''
  shared[other] = shared[other] or { start = first and first .. ',' or '', rest = second and ',' .. second or '', rows = {} }
  return { event = parts.event, hours = shared[other] }
end

local function new_hour (counts, hours, hour)
  local row = row_of(counts, hours.start .. hour .. ':00Z' .. hours.rest, hour)
  hours.rows[hour] = row
  return row
end

-- A field of a day has the names of its counters. Nothing when it is too much for one call.
local function count_counters (stream, given)
  local key, hourly = key_of(stream, 'counts'), is_hourly(given)
  local first, last = given.since, given['until'] and math.ceil(given['until'] / UNITS.h) * UNITS.h
  local from, to = first and hour_text(first) or '', last and hour_text(last) or '~'
  if first then note('since ' .. from .. ':00Z: counted by whole hours') end
  if last then note('until ' .. to .. ':00Z: counted by whole hours') end

  local counts, places, shared = new_table(given.by), {}, {}
  local days = days_of(key, first, (last or redis.call('TIME')[1] * 1000 + UNITS.d) - 1)
  if not days then return nil end
  local fields, day_of, place_of_field, listed = {}, {}, {}, {}
  for i, date in ipairs(days) do
    local is_too_long = redis.call('HSTRLEN', key, date) > MOST_NAMES
    if is_too_long then note(DAMAGED) end
    local names = not is_too_long and redis.call('HGET', key, date) or ''
    local day = { hours = {}, is_whole = date .. 'T00' >= from and date .. 'T24' <= to }
    for hour = 0, 23 do day.hours[string.format('%02d', hour)] = string.format('%sT%02d', date, hour) end
    for name in names:gmatch('[^\n]+') do
      places[name] = places[name] or place_in(counts, name, hourly, shared)
      local at, field = #fields + 1, date .. '\t' .. name
      if at > MOST_COUNTERS then return nil end
      if places[name] and listed[name] ~= i and redis.call('HSTRLEN', key, field) <= MOST_VALUE then
        fields[at], day_of[at], place_of_field[at], listed[name] = field, day, places[name], i
      else
        note(DAMAGED)
      end
    end
  end
  local values = fields_of(key, fields)
  for i = 1, #fields do
    local day, place = day_of[i], place_of_field[i]
    local row, rows, counter = place.row, place.hours and place.hours.rows, COUNTED[place.event]
    local total, hours, numbers = parse_counter(values[i] or '')
    if not total then
      note(DAMAGED)
    elseif row and day.is_whole then
      row[EVENTS] = row[EVENTS] + total
      if counter then row[counter] = row[counter] + total end
    else
      for n, text in ipairs(hours) do
        local hour, count = day.hours[text], numbers[n]
        if day.is_whole or (hour >= from and hour < to) then
          if rows then row = rows[hour] or new_hour(counts, place.hours, hour) end
          row[EVENTS] = row[EVENTS] + count
          if counter then row[counter] = row[counter] + count end
        end
      end
    end
  end
  return reply_of('0-0', counts)
end

local EXACT = { 'email', 'app', 'event', 'outcome', 'code', 'ip', 'url_id', 'after', 'users' }

-- Whether counters can tell: they know neither users nor other filters than hours.
local function has_counters (stream, given)
  if given.by[1] == 'email' or given.by[2] == 'email' then return false end
  for _, name in ipairs(EXACT) do
    if given[name] then return false end
  end
  local number = redis.pcall('HLEN', key_of(stream, 'counts'))
  if type(number) == 'number' and number > 0 then
    is_indexed(stream) -- else there may be events which were not counted, and it notes that
    return true
  end
  if type(number) == 'table' then
    note('counters cannot be read: ' .. number.err)
  elseif redis.call('XLEN', stream) > 0 then note('counters missing' .. REMEDY) end
  return false
end

-- Returns { cursor, rows, total }. With no filters but times it is the whole at once, by hours that are counted.
function QUERIES.tooljet_audit_stats (keys, args)
  local given = parse('tooljet_audit_stats', keys, args)
  if not given.by then refuse('tooljet_audit_stats', 'argument "by" is missing') end
  if has_counters(keys[1], given) then
    local reply = count_counters(keys[1], given)
    if reply then return reply end
    notes = { 'too many counters for one call, so events are counted one by one: ask for fewer days' }
  end
  return count_events(keys[1], given)
end

local function answer (query, keys, args)
  refusal, notes = nil, {}
  local ok, reply = pcall(QUERIES[query], keys, args)
  if ok then
    for _, note in ipairs(notes) do reply[#reply + 1] = note end
    return reply
  end
  return redis.error_reply(refusal or reply)
end

-- Ways to call them ---------------------------------------------------------------------------------------------------

if redis.register_function then
  redis.register_function {
    function_name = 'tooljet_audit',
    callback = function (keys, args) return answer('tooljet_audit', keys, args) end,
    flags = { 'no-writes' },
  }
  redis.register_function {
    function_name = 'tooljet_audit_stats',
    callback = function (keys, args) return answer('tooljet_audit_stats', keys, args) end,
    flags = { 'no-writes' },
  }
  redis.register_function {
    function_name = 'tooljet_audit_version',
    callback = function () return VERSION end,
    flags = { 'no-writes' },
  }
else
  -- redis-cli --eval queries.lua tooljet-embed:audit , email E; with "stats" before the arguments the other query. Who
  -- has a Redis that insists on declared keys gives, after the stream, those of its index and counters.
  local keys = { KEYS[1] }
  for i = 2, #KEYS do
    if KEYS[i]:sub(1, #key_of(KEYS[1], '')) ~= key_of(KEYS[1], '') then keys[#keys + 1] = KEYS[i] end
  end
  if ARGV[1] ~= 'stats' then return answer('tooljet_audit', keys, ARGV) end
  return answer('tooljet_audit_stats', keys, { unpack(ARGV, 2) })
end

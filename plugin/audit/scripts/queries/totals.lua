-- Counts of events in groups: from the counters, or from the events one by one.

-- A row has the form of the reply: the positions of its numbers.
local EVENTS, MINTED, REUSED, REFUSED, RATE = 3, 5, 7, 9, 11
local COUNTED = { ['url.minted'] = MINTED, ['url.reused'] = REUSED, ['url.denied'] = REFUSED, ['url.limited'] = REFUSED, ['url.failed'] = REFUSED }

local function isHourly (given)
  return given.by[1] == 'hour' or given.by[2] == 'hour'
end

local function newRow (group)
  return { group, 'events', 0, 'minted', 0, 'reused', 0, 'refused', 0, nil, nil } -- with room for a rate
end

-- Lists of rows by hour, those of no hour under '', and of labels: by these rows are sorted that have as many events.
local function newTable ()
  return { byHour = {}, total = newRow('total') }
end

local function addRow (counts, group, hour, label)
  local rows, row = counts.byHour[hour], newRow(group)
  if not rows then
    rows = { labels = {} }
    counts.byHour[hour] = rows
  end
  local at = #rows + 1
  rows[at], rows.labels[at] = row, label
  return row
end

local function addUsers (row, users, asList)
  local list = {}
  for email in pairs(users) do list[#list + 1] = email end
  local at = row[RATE] and RATE + 1 or RATE - 1
  row[at], row[at + 1] = 'users', asList and list or #list
end

local function finish (row, asList)
  local given = row[MINTED] + row[REUSED]
  if given > 0 then row[RATE - 1], row[RATE] = 'reuse_rate', string.format('%.3f', row[REUSED] / given) end
  if row.users then addUsers(row, row.users, asList) end -- counters have no users
  return row
end

-- The places of the labels of all rows in their order.
local function ranksOf (counts)
  local ranks, labels = {}, {}
  for _, rows in pairs(counts.byHour) do
    for _, label in ipairs(rows.labels) do
      if not ranks[label] then ranks[label], labels[#labels + 1] = 0, label end
    end
  end
  table.sort(labels)
  for rank, label in ipairs(labels) do ranks[label] = rank end
  return ranks
end

local MOST_LABELS, MOST_SORTED = 2 ^ 15, 2 ^ 37 -- both fit into one exact number

-- By hour, then the most events first.
local function replyOf (cursor, counts, asList)
  local ranks, hours, replied, total = ranksOf(counts), {}, {}, counts.total
  for hour in pairs(counts.byHour) do hours[#hours + 1] = hour end
  table.sort(hours)
  for _, hour in ipairs(hours) do
    local rows, keys, rowBy = counts.byHour[hour], {}, {}
    for i, row in ipairs(rows) do
      if row[EVENTS] > 0 then
        local key = ranks[rows.labels[i]] - math.min(row[EVENTS], MOST_SORTED) * MOST_LABELS
        keys[#keys + 1], rowBy[key] = key, row
      end
    end
    table.sort(keys) -- numbers are compared without a call of Lua
    for _, key in ipairs(keys) do
      local row = rowBy[key]
      for at = EVENTS, REFUSED, 2 do total[at] = total[at] + row[at] end
      replied[#replied + 1] = finish(row, asList)
    end
  end
  return { cursor, replied, finish(total, asList) }
end

-- Totals of this call. To add up several replies, count the users of "users list".
local function countEvents (stream, given)
  local counts, rowBy, hourly = newTable(), {}, isHourly(given)
  counts.total.users = {}
  local cursor = walk(stream, given, function (entry)
    local fields = {}
    for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
    fields.hour = fields.time and fields.time:sub(1, 13) .. ':00Z'
    local first, second = fields[given.by[1]] or '-', given.by[2] and (fields[given.by[2]] or '-')
    local group = second and first .. ',' .. second or first
    local row = rowBy[group] or addRow(counts, group, hourly and (fields.hour or '-') or '', group)
    rowBy[group] = row
    local count, counter = countOf(fields.count), COUNTED[fields.event]
    row[EVENTS] = row[EVENTS] + count
    if counter then row[counter] = row[counter] + count end
    row.users = row.users or {}
    if fields.email then row.users[fields.email], counts.total.users[fields.email] = true, true end
  end)
  return replyOf(cursor, counts, given.users == 'list')
end

-- Totals from the counters ------------------------------------------------------------------------------------------

local MOST_DAYS = 100 -- for more, the existing ones are listed
local MOST_COUNTERS = 20000 -- per call: some 100 ms
local MOST_FIELDS = 200000 -- of all days

-- The days of two hours and between that may have counters; nothing when there is too much to look through.
local function daysOf (key, first, last)
  local days = {}
  if first and last - first < MOST_DAYS * UNITS.d then
    for ms = first - first % UNITS.d, last, UNITS.d do days[#days + 1] = hourText(ms):sub(1, 10) end
    return days
  end
  if ask('HLEN', key) > MOST_FIELDS then return nil end
  for _, field in ipairs(ask('HKEYS', key)) do
    if #field == 10 then
      if isDay(field) then days[#days + 1] = field else note(DAMAGED) end
    end
  end
  return days
end

-- Values of a hash, whatever their number.
local function fieldsOf (key, names)
  local values = {}
  for i = 1, #names, 1000 do
    for n, value in ipairs(ask('HMGET', key, unpack(names, i, math.min(#names, i + 999)))) do values[i + n - 1] = value end
  end
  return values
end

local HOURS, NUMBER, ALL_HOURS = {}, {}, '^'
for hour = 0, 23 do
  local text = (hour < 10 and '0' or '') .. hour -- as in oneOf, there are no Lua libraries yet
  HOURS[hour + 1], NUMBER[text], ALL_HOURS = text, hour, ALL_HOURS .. ' ' .. text .. ':(%d+)'
end
ALL_HOURS = ALL_HOURS .. '$'
-- Of the counter that was read last; one table for all of them.
local someHours, someCounts = {}, {}

-- The same for hours in any order.
local function readSlowly (value)
  local counts, order = hoursOf(value)
  if not counts then return nil end
  local sum = 0
  for i, hour in ipairs(order) do someHours[i], someCounts[i], sum = hour, counts[hour], sum + counts[hour] end
  return sum, #order, someHours, someCounts
end

-- A counter as its total, how many hours it has, these and their counts; nothing for what has another form. As a rule it has
-- all hours of a day, which one pattern matches, or some in their order.
local function readCounter (value)
  local total = #value <= MOST_VALUE and value:match('^%d+')
  if not total or #total > 15 then return nil end
  local counts = { value:match(ALL_HOURS, #total + 1) }
  local n, sum, hours = #counts, 0, HOURS
  if n > 0 then
    for i = 1, n do
      local count = counts[i] + 0
      counts[i], sum = count, sum + count
    end
  else
    local length, last = #total, -1
    counts, hours = someCounts, someHours
    for hour, count in value:gmatch(' (%d%d):(%d+)') do
      local number = NUMBER[hour]
      if not number or number <= last then return readSlowly(value) end
      n, length, last, count = n + 1, length + 4 + #count, number, count + 0
      hours[n], counts[n], sum = hour, count, sum + count
    end
    if length ~= #value then return nil end
  end
  if total + 0 ~= sum then return nil end
  return sum, n, hours, counts
end

-- Where a counter of such a name counts: in a row on the whole, or in one for each hour.
local function placeIn (counts, given, name, others)
  local parts = {}
  parts.app, parts.event, parts.code = name:match('^([^\t]*)\t([^\t]*)\t([^\t]*)$')
  if not parts.event then return nil end
  local place, first, second = { counter = COUNTED[parts.event] }, parts[given.by[1]], parts[given.by[2]]
  local hourly = isHourly(given)
  local other = hourly and (first or second or '') or second and first .. ',' .. second or first
  local known = others[other]
  if not known and hourly then
    known = { label = other, start = first and first .. ',' or '', rest = ':00Z' .. (second and ',' .. second or ''), rows = {} }
  elseif not known then
    known = addRow(counts, other, '', other)
  end
  others[other], place[hourly and 'hourly' or 'row'] = known, known
  return place
end

local function addTo (row, counter, count)
  row[EVENTS] = row[EVENTS] + count
  if counter then row[counter] = row[counter] + count end
end

-- A day with its hours as texts, of which a query wants those from one on and before another.
local function newDay (date, from, to)
  local day = { date = date, hours = {}, isWhole = true }
  for _, hour in ipairs(HOURS) do
    local text = date .. 'T' .. hour
    local isWanted = text >= from and text < to
    day.hours[hour], day.isWhole = isWanted and text, day.isWhole and isWanted
  end
  return day
end

local function addHours (counts, place, day, number, hours, numbers)
  local hourly, counter = place.hourly, place.counter
  for i = 1, number do
    local hour = day.hours[hours[i]]
    if hour then
      local row = place.row or hourly.rows[hour]
      if not row then
        row = addRow(counts, hourly.start .. hour .. hourly.rest, hour, hourly.label)
        hourly.rows[hour] = row
      end
      addTo(row, counter, numbers[i])
    end
  end
end

-- A field of a day has the names of its counters. Nothing when it is too much for one call.
local function countCounters (stream, given)
  local key = keyOf(stream, 'counts')
  local first, last = given.since, given['until'] and math.ceil(given['until'] / UNITS.h) * UNITS.h
  local from, to = first and hourText(first) or '', last and hourText(last) or '~'
  if first then note('since ' .. from .. ':00Z: counted by whole hours') end
  if last then note('until ' .. to .. ':00Z: counted by whole hours') end

  local counts, places, others = newTable(), {}, {}
  local days = daysOf(key, first, (last or ask('TIME')[1] * 1000 + UNITS.d) - 1)
  if not days then return nil end
  local fields, dayOf, placeOfField, listed = {}, {}, {}, {}
  for i, date in ipairs(days) do
    local isTooLong = ask('HSTRLEN', key, date) > MOST_NAMES
    if isTooLong then note(DAMAGED) end
    local names, day = not isTooLong and ask('HGET', key, date) or '', newDay(date, from, to)
    for name in names:gmatch('[^\n]+') do
      places[name] = places[name] or placeIn(counts, given, name, others)
      local at, field = #fields + 1, date .. '\t' .. name
      if at > MOST_COUNTERS then return nil end
      if places[name] and listed[name] ~= i and ask('HSTRLEN', key, field) <= MOST_VALUE then
        fields[at], dayOf[at], placeOfField[at], listed[name] = field, day, places[name], i
      else
        note(DAMAGED)
      end
    end
  end
  local values = fieldsOf(key, fields)
  for i, day in ipairs(dayOf) do
    local place = placeOfField[i]
    local total, number, hours, numbers = readCounter(values[i] or '')
    if not total then
      note(DAMAGED)
    elseif place.row and day.isWhole then
      addTo(place.row, place.counter, total)
    else
      addHours(counts, place, day, number, hours, numbers)
    end
  end
  return replyOf('0-0', counts)
end

local EXACT = { 'email', 'app', 'event', 'outcome', 'code', 'ip', 'url_id', 'after', 'users' }

-- Whether the counters can answer: they have neither users nor filters other than hours.
local function hasCounters (stream, given)
  if given.by[1] == 'email' or given.by[2] == 'email' then return false end
  for _, name in ipairs(EXACT) do
    if given[name] then return false end
  end
  local number = redis.pcall('HLEN', keyOf(stream, 'counts'))
  if type(number) == 'number' and number > 0 then
    isIndexed(stream) -- else some events may not be counted, and a note says so
    return true
  end
  if type(number) == 'table' then
    note('counters cannot be read: ' .. number.err)
  elseif ask('XLEN', stream) > 0 then note('counters missing' .. REMEDY) end
  return false
end

-- Returns { cursor, rows, total }. Without filters other than times it is complete, from the counters of whole hours.
function QUERIES.tooljet_audit_stats (keys, args)
  local given = parse('tooljet_audit_stats', keys, args)
  if not given.by then refuse('tooljet_audit_stats', 'argument "by" is missing') end
  if hasCounters(keys[1], given) then
    local reply = countCounters(keys[1], given)
    if reply then return reply end
    notes = { 'too many counters for one call, so events are counted one by one: ask for fewer days' }
  end
  return countEvents(keys[1], given)
end

-- Makes the indexes and counters anew: a start, then page after page of the stream. While it is under way the plugin adds
-- no records of its own, since the index is not complete; the page that reaches the end completes it. A call that is
-- sent again changes nothing.
--
-- KEYS: stream, index, counts, the new counts, all buckets.
-- ARGV: deadline, a name of this reindex, id after which the page begins ('': the start), the first hour whose counters are
--       made anew whatever they had, like 2026-01-31T08 ('': all).
-- Reply: { time, state, id, number }: 'page' with the id after which the next one begins and how many entries were indexed;
--        'done' with how many entries there are; 'taken' when another reindex has begun; 'unfit' with an id that no index
--        can hold.
local PAGE = 250
local call, stream, index, counts, new = redis.call, KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local name, from, firstHour = ARGV[2], ARGV[3], ARGV[4]

local buckets, number = {}, { email = 0, app = 0 }
for i = 5, #KEYS do
  local bucket = KEYS[i]:match('%a+:%d+$')
  local kind = bucket:match('^%a+')
  buckets[bucket], number[kind] = KEYS[i], number[kind] + 1
end

-- The counters of earlier hours, of which entries may be trimmed, do not get less. What is damaged is left behind.
local function keepEarlier (made)
  local known = redis.pcall('HGETALL', counts)
  local lastDay, lastHour = firstHour:sub(1, 10), firstHour:sub(12)
  for i = 1, known.err and 0 or #known, 2 do
    local field, day = known[i], known[i]:sub(1, 10)
    local isEarlier = day <= lastDay and isDay(day) and #field <= MOST_NAME and field:find('^\t[^\t\n]*\t[^\t\n]*\t[^\t\n]*$', 11)
    local earlier, order = nil, nil
    if isEarlier then earlier, order = hoursOf(known[i + 1]) end
    if earlier then
      local now, all = hoursOf(made[field] or '0')
      for _, hour in ipairs(order) do
        if day < lastDay or hour < lastHour then
          if not now[hour] then all[#all + 1] = hour end
          now[hour] = math.max(now[hour] or 0, earlier[hour])
        end
      end
      if #all > 0 then made[field] = valueOf(now, all) end
    end
  end
end

-- The new counters in place of the old ones, and the names of each day.
local function replaceCounters ()
  local made, names, list = {}, {}, {}
  local known = call('HGETALL', new)
  for i = 1, #known, 2 do
    if #known[i] > 10 then made[known[i]] = known[i + 1] end
  end
  if firstHour ~= '' then keepEarlier(made) end
  for field, value in pairs(made) do
    local day = field:sub(1, 10)
    names[day] = names[day] or {}
    table.insert(names[day], field:sub(12) .. '\n')
    list[#list + 1], list[#list + 2] = field, value
  end
  for day, fields in pairs(names) do list[#list + 1], list[#list + 2] = day, table.concat(fields) end
  call('DEL', counts, new)
  for i = 1, #list, 1000 do call('HSET', counts, unpack(list, i, math.min(i + 999, #list))) end
end

local building = redis.pcall('HGET', index, 'building')
local builder, position = (type(building) == 'string' and building or ''):match('^(%S+) (%S+)$')
if from == '' then
  if builder ~= name then
    call('DEL', unpack(KEYS, 4))
    call('DEL', index)
    call('HSET', index, 'building', name .. ' 0-0', 'entries', 0)
  end
  return { at, 'page', '0-0', 0 }
end
if not builder then return { at, 'done', '', call('XLEN', stream) } end
if builder ~= name then return { at, 'taken', '', 0 } end
if position ~= from then return { at, 'page', position, 0 } end

-- As `counterOf` in append.ts; of what somebody else wrote, only what can be a counter.
local function counterOf (fields)
  local day, hour = (fields.time or ''):match('^(%d%d%d%d%-%d%d%-%d%d)T(%d%d):')
  if not day or not isDay(day) or hour > '23' or not fields.event then return end
  local isCounted = fields.outcome == 'success' or fields.code == 'TOOLJET_EMBED_ACCESS_DENIED'
  local parts = { isCounted and fields.app or '-', fields.event, fields.code or '-' }
  for i, part in ipairs(parts) do parts[i] = part:gsub('[\t\n]', ' ') end
  local field = day .. '\t' .. table.concat(parts, '\t')
  if #field <= MOST_NAME then return field, hour end
end

local places = {}
local function placeOf (kind, value)
  local known = places[kind .. value]
  if known then return known end
  local digest = redis.sha1hex(value)
  known = { bucket = kind .. ':' .. tonumber(digest:sub(1, 8), 16) % number[kind], hash = tonumber(digest:sub(9, 16), 16) }
  places[kind .. value] = known
  return known
end

local entries = entriesAfter(stream, from, PAGE)
local records, amounts, amountOf = {}, {}, {}
for _, entry in ipairs(entries) do
  local ms, count = idParts(entry[1])
  if ms >= 2 ^ 48 or count >= 2 ^ 32 then return { at, 'unfit', entry[1], 0 } end
  local fields = {}
  for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
  for kind in pairs(number) do
    if fields[kind] then
      local place = placeOf(kind, fields[kind])
      local list = records[place.bucket] or {}
      records[place.bucket] = list
      list[#list + 1] = struct.pack('>I4I6I4', place.hash, ms, count)
    end
  end
  local field, hour = counterOf(fields)
  if field then
    local key = field .. '\n' .. hour
    if not amountOf[key] then
      amountOf[key] = { field, hour, 0 }
      amounts[#amounts + 1] = amountOf[key]
    end
    amountOf[key][3] = amountOf[key][3] + countOf(fields.count)
  end
end

for bucket, list in pairs(records) do
  call('HSET', index, bucket, call('APPEND', buckets[bucket], table.concat(list)))
end
addCounts(new, amounts, call)
if #entries == PAGE then
  call('HINCRBY', index, 'entries', #entries)
  call('HSET', index, 'building', name .. ' ' .. entries[PAGE][1])
  return { at, 'page', entries[PAGE][1], #entries }
end

-- what was trimmed meanwhile is in no bucket's way
call('HSET', index, 'entries', call('XLEN', stream), 'last', (entries[#entries] or { from })[1])
call('HDEL', index, 'building')
replaceCounters()
return { at, 'done', '', call('XLEN', stream) }

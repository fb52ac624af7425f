-- Counters of a day: "total hour:count hour:count …"; a field of the day itself lists their names, in lines, so that a
-- query finds those of some days without reading all. Anybody may have written there: no pattern runs over a value,
-- and no list of names is read, before its length is known. `queries/totals.lua` and `verify-indexes.ts` take the same form.
local MOST_VALUE = 600 -- 24 hours take less
local MOST_NAMES = 262144
local MOST_NAME = 4096 -- more than a counter of the plugin's has

-- Longest field of the index about itself: two ids and a name.
local MOST_FACT = 64

-- The counts by hour, and the hours in their order; nothing where the value has another form.
local function hoursOf (value)
  local total = #value <= MOST_VALUE and value:match('^%d+')
  if not total then return nil end
  local counts, order, sum, place = {}, {}, 0, #total + 1
  while place <= #value do
    local hour, count = value:match('^ (%d%d):(%d+)', place)
    if not hour or hour > '23' or counts[hour] or #count > 15 then return nil end
    order[#order + 1], counts[hour] = hour, tonumber(count)
    sum, place = sum + counts[hour], place + 4 + #count
  end
  if #total > 15 or tonumber(total) ~= sum then return nil end
  return counts, order
end

local function valueOf (counts, order)
  local total, parts = 0, {}
  for i, hour in ipairs(order) do
    total, parts[i] = total + counts[hour], string.format(' %s:%.0f', hour, counts[hour])
  end
  return string.format('%.0f', total) .. table.concat(parts)
end

-- A damaged counter stays as it is, for readers to see, until a reindex; a value that is no counter at all starts anew.
local function plus (counted, hour, amount)
  local total, hours = nil, nil
  if #counted <= MOST_VALUE then total, hours = counted:match('^(%d+)(.*)$') end
  if not total then return string.format('%.0f %s:%.0f', amount, hour, amount) end
  local first, last, count = hours:find(' ' .. hour .. ':(%d+)')
  if not first then return string.format('%.0f%s %s:%.0f', total + amount, hours, hour, amount) end
  return string.format('%.0f%s %s:%.0f%s', total + amount, hours:sub(1, first - 1), hour, count + amount, hours:sub(last + 1))
end

-- The names that the field of a day lists; '' where that is longer than it may be.
local function namesOf (counts, day, try)
  if (try('HSTRLEN', counts, day) or 0) > MOST_NAMES then return '' end
  return try('HGET', counts, day) or ''
end

-- Adds to the counters of a hash. @param amounts list of { field, hour, amount } @param try as redis.call
local function addCounts (counts, amounts, try)
  if #amounts == 0 then return end
  local get = { 'HMGET', counts }
  for i, amount in ipairs(amounts) do get[i + 2] = amount[1] end
  local known = try(unpack(get)) or {}

  local values, names = {}, {} -- two hours of one day have the same field
  for i, amount in ipairs(amounts) do
    local field = amount[1]
    local day, value = field:sub(1, 10), values[field] or known[i]
    if not value then names[day] = (names[day] or namesOf(counts, day, try)) .. field:sub(12) .. '\n' end
    values[field] = plus(value or '', amount[2], amount[3])
  end
  local set = { 'HSET', counts }
  for _, changed in ipairs { values, names } do
    for field, value in pairs(changed) do
      set[#set + 1] = field
      set[#set + 1] = value
    end
  end
  try(unpack(set))
end

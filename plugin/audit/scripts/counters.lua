-- Counters of a day: "total hour:count hour:count …"; a field of the day itself lists their names, in lines, so that a
-- query finds those of some days without reading all. What is there may have been planted: no value is read, and no pattern
-- goes over it, before its length is known. `queries.lua` and `verify-indexes.ts` take the same form.
local MOST_VALUE = 600 -- 24 hours take less
local MOST_NAMES = 262144

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

-- A damaged counter starts anew.
local function plus (counted, hour, amount)
  local counts, order = hoursOf(counted)
  if not counts then counts, order = {}, {} end
  if not counts[hour] then order[#order + 1] = hour end
  counts[hour] = (counts[hour] or 0) + amount
  return valueOf(counts, order)
end

-- The value of a field; '' where it is longer than it may be.
local function fieldOf (counts, field, most, try)
  if (try('HSTRLEN', counts, field) or 0) > most then return '' end
  return try('HGET', counts, field)
end

-- Adds to the counters of a hash. @param amounts list of { field, hour, amount } @param try as redis.call
local function addCounts (counts, amounts, try)
  if #amounts == 0 then return end
  local values, names = {}, {} -- two hours of one day have the same field
  for _, amount in ipairs(amounts) do
    local field = amount[1]
    local day, known = field:sub(1, 10), values[field] or fieldOf(counts, field, MOST_VALUE, try)
    if not known then
      names[day] = (names[day] or fieldOf(counts, day, MOST_NAMES, try) or '') .. field:sub(12) .. '\n'
    end
    values[field] = plus(known or '', amount[2], amount[3])
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

-- Counters of a day: "total hour:count hour:count …"; a field of the day itself lists their names, in lines, so that a
-- query finds those of some days without reading all.

local function plus (counted, hour, amount)
  local total, hours, count = counted:match('^(%d+)(.* ' .. hour .. ':)(%d+)$')
  if total then return total + amount .. hours .. count + amount end -- the latest hour, as a rule
  total, hours = counted:match('^(%d+)(.*)$')
  local start, known, rest = (hours or ''):match('^(.* ' .. hour .. ':)(%d+)(.*)$')
  hours = start and start .. known + amount .. rest or (hours or '') .. ' ' .. hour .. ':' .. amount
  return (total or 0) + amount .. hours
end

-- Adds to the counters of a hash. @param amounts list of { field, hour, amount } @param try as redis.call
local function addCounts (counts, amounts, try)
  if #amounts == 0 then return end
  local get = { 'HMGET', counts }
  for i, amount in ipairs(amounts) do get[i + 2] = amount[1] end
  local known = try(unpack(get))
  if not known then return end
  local values, names = {}, {} -- two hours of one day have the same field
  for i, amount in ipairs(amounts) do
    local field = amount[1]
    if not (known[i] or values[field]) then
      local day = field:sub(1, 10)
      names[day] = (names[day] or try('HGET', counts, day) or '') .. field:sub(12) .. '\n'
    end
    values[field] = plus(values[field] or known[i] or '', amount[2], amount[3])
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

-- The Gregorian calendar, in UTC.
local UNITS = { s = 1000, m = 60000, h = 3600000, d = 86400000 }
local DAYS = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

-- Days since 1970-01-01 in the Gregorian calendar; nothing for a day that does not exist.
local function daysSince1970 (year, month, day)
  local leap = (year % 4 == 0 and year % 100 ~= 0) or year % 400 == 0
  local most = (month == 2 and leap) and 29 or DAYS[month]
  if not most or day < 1 or day > most then return nil end
  local before = year - 1
  local days = before * 365 + math.floor(before / 4) - math.floor(before / 100) + math.floor(before / 400) - 719162
  for m = 1, month - 1 do days = days + DAYS[m] end
  if leap and month > 2 then days = days + 1 end
  return days + day - 1
end

-- Whether a text begins with an existing day, like 2026-01-31.
local function isDay (text)
  local year, month, day = text:match('^(%d%d%d%d)%-(%d%d)%-(%d%d)')
  return year ~= nil and daysSince1970(tonumber(year), tonumber(month), tonumber(day)) ~= nil
end

-- Like 2026-01-31T08, of milliseconds since 1970.
local function hourText (ms)
  local days = math.floor(ms / UNITS.d)
  -- years begin in March here, so that a leap day is the last day; an era is 400 years
  local sinceEra = (days + 719468) % 146097
  local year = math.floor((sinceEra - math.floor(sinceEra / 1460) + math.floor(sinceEra / 36524) - math.floor(sinceEra / 146096)) / 365)
  local day = sinceEra - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * day + 2) / 153)
  year = year + math.floor((days + 719468) / 146097) * 400
  if month >= 10 then year, month, day = year + 1, month - 9, day - math.floor((153 * month + 2) / 5)
  else month, day = month + 3, day - math.floor((153 * month + 2) / 5) end
  return string.format('%04d-%02d-%02dT%02d', year, month, day + 1, math.floor(ms % UNITS.d / UNITS.h))
end

-- Queries of fastify-tooljet-embed's audit log: read-only, and bounded in what one call looks at. A reply begins with a
-- cursor: pass it as "after" to go on, until it is 0-0. Notes follow at its end, as texts.
local VERSION = 3

local LOOKS_AT = 250 -- events per call: a few milliseconds at the most
local FILTERS = '[email E] [app A] [event V] [outcome success|failure] [code C] [ip I] [url_id U] [since T] [until T]'
local USAGE = {
  tooljet_audit = FILTERS .. ' [limit 1..250] [after ID] [order asc|desc]',
  tooljet_audit_stats = 'by email|app|event|code|hour, or two of them: hour,app ' .. FILTERS .. ' [after ID] [users count|list]',
}
local TIMES = 'an ISO 8601 time, milliseconds since 1970, or how long ago: 90s, 30m, 24h, 7d'

-- Wrong arguments: the message has the problem and the usage.
local refusal
local function refuse (query, problem)
  refusal = 'ERR ' .. query .. ': ' .. problem .. '; usage: ' .. query .. ' ' .. USAGE[query]
  error(refusal)
end

-- Notes of a reply, after its other elements.
local notes
local REMEDY = ': run tooljet-embed-audit verify, then reindex'
local DAMAGED = 'counters are damaged' .. REMEDY

local function note (text)
  for _, other in ipairs(notes) do
    if other == text then return end
  end
  notes[#notes + 1] = text
end

local function oneOf (allowed) -- Redis 7 has no Lua libraries while this runs, only while the returned function runs
  return function (value)
    for _, option in ipairs(allowed) do
      if value == option then return value end
    end
    return nil, 'one of ' .. table.concat(allowed, ', ')
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

-- An e-mail as the plugin writes it: ASCII white space around it trimmed, ASCII letters lowered, all else unchanged.
local function address (value)
  local first, last = value:find('[^ \t-\r]'), #value
  if not first then return nil, 'a value' end
  while value:find('^[ \t-\r]', last) do last = last - 1 end
  return lower(value:sub(first, last))
end

local function wholeNumber (value)
  local number = value:match('^%d+$') and tonumber(value)
  if number and number >= 1 and number <= LOOKS_AT then return number end
  return nil, 'a whole number from 1 to ' .. LOOKS_AT
end

local function streamId (value)
  if value:match('^%d+%-%d+$') then return value end
  if value:match('^%d+$') then return value .. '-0' end
  return nil, 'the id of an event, or the cursor of an earlier reply'
end

local function isoTime (value)
  local year, month, day, rest = value:match('^(%d%d%d%d)%-(%d%d)%-(%d%d)(.*)$')
  local days = year and daysSince1970(tonumber(year), tonumber(month), tonumber(day))
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
    local now = ask('TIME')
    return math.max(0, now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(count) * UNITS[unit])
  end
  local ms = value:match('^%d+$') and tonumber(value) or isoTime(value)
  -- smaller numbers may be seconds: as milliseconds they would be a time in 1970
  if ms and (ms == 0 or ms >= 1e11) and ms < 1e14 then return ms end
  return nil, TIMES
end

local GROUPS = { email = true, app = true, event = true, code = true, hour = true }

-- One or two names.
local function grouping (value)
  local first, second = value:match('^(%l+),?(%l*)$')
  local isRight = GROUPS[first] and (second == '' and not value:find(',', 1, true) or GROUPS[second] and first ~= second)
  if not isRight then return nil, 'email, app, event, code, hour, or two of them like hour,app' end
  return { first, second ~= '' and second or nil }
end

local ARGUMENTS = {
  email = address,
  app = any,
  event = oneOf { 'url.minted', 'url.reused', 'url.denied', 'url.limited', 'url.failed', 'url.forgotten', 'url.warmed', 'audit.opened', 'audit.closed' },
  outcome = oneOf { 'success', 'failure' },
  code = any,
  ip = any,
  url_id = any,
  since = time,
  ['until'] = time,
  limit = wholeNumber,
  after = streamId,
  order = oneOf { 'asc', 'desc' },
  by = grouping,
  users = oneOf { 'count', 'list' },
}

local function parse (query, keys, args)
  if #keys ~= 1 then refuse(query, 'expected one key, the audit stream, and got ' .. #keys) end
  local given = {}
  for i = 1, #args, 2 do
    local name, value = lower(args[i]), args[i + 1]
    local check = (' ' .. USAGE[query]):find('[ [](' .. name:gsub('%W', '%%%0') .. ') ') and ARGUMENTS[name]
    if not check then refuse(query, 'unknown argument "' .. args[i] .. '"') end
    if value == nil then refuse(query, 'argument "' .. name .. '" has no value') end
    if given[name] ~= nil then refuse(query, 'argument "' .. name .. '" is there twice') end
    local checked, expected = check(value)
    if checked == nil then refuse(query, 'argument "' .. name .. '" is "' .. value .. '", expected ' .. expected) end
    given[name] = checked
  end
  return given
end

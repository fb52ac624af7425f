-- Queries of fastify-tooljet-embed's audit log: read-only, and bounded in what one call looks at. A reply begins with a
-- cursor: pass it as "after" to go on, until it is 0-0.
local VERSION = 2

local LOOKS_AT = 250 -- events per call: a few milliseconds at the most
local PAGE = 50

local FILTERS = '[email E] [app A] [event V] [outcome success|failure] [code C] [ip I] [url_id U] [since T] [until T]'
local USAGE = {
  tooljet_audit = FILTERS .. ' [limit 1..250] [after ID] [order asc|desc]',
  tooljet_audit_stats = 'by email|app|event|code|hour ' .. FILTERS .. ' [after ID] [users count|list]',
}
local TIMES = 'an ISO 8601 time, milliseconds since 1970, or how long ago: 90s, 30m, 24h, 7d'

-- Wrong arguments: the message says what was wrong, and what is taken.
local refusal
local function refuse (query, problem)
  refusal = 'ERR ' .. query .. ': ' .. problem .. '; usage: ' .. query .. ' ' .. USAGE[query]
  error(refusal)
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

local ARGUMENTS = {
  email = address,
  app = any,
  event = one_of { 'url.minted', 'url.reused', 'url.denied', 'url.limited', 'url.failed', 'url.forgotten', 'audit.opened', 'audit.closed' },
  outcome = one_of { 'success', 'failure' },
  code = any,
  ip = any,
  url_id = any,
  since = time,
  ['until'] = time,
  limit = whole_number,
  after = stream_id,
  order = one_of { 'asc', 'desc' },
  by = one_of { 'email', 'app', 'event', 'code', 'hour' },
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

-- Walking -------------------------------------------------------------------------------------------------------------

local function is_before (a, b)
  local ms, seq = a:match('(%d+)-(%d+)')
  local other_ms, other_seq = b:match('(%d+)-(%d+)')
  if ms ~= other_ms then return tonumber(ms) < tonumber(other_ms) end
  return tonumber(seq) < tonumber(other_seq)
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

-- Entries of a stream between two ids, page by page.
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
    end
    at = at + 1
    return page[at]
  end
end

-- An index has an entry for each batch: its own id, and in "ids" the further ones.
local function ids_of (entry, order)
  local ids = { entry[1] }
  for id in entry[2][2]:gmatch('%S+') do ids[#ids + 1] = id end
  if order == 'desc' then
    for i = 1, math.floor(#ids / 2) do ids[i], ids[#ids + 1 - i] = ids[#ids + 1 - i], ids[i] end
  end
  return ids
end

-- The ids that an index names between two ids.
local function each_id (index, low, high, order)
  local ascending = order ~= 'desc'
  local entries = each_entry(index, ascending and low or nil, high, order)
  local straddling = ascending and low and redis.call('XREVRANGE', index, low, '-', 'COUNT', 1)[1]
  local ids, at = {}, 0
  return function ()
    while true do
      at = at + 1
      local id = ids[at]
      if not id then
        local entry = straddling or entries()
        if not entry then return nil end
        straddling, ids, at = nil, ids_of(entry, order), 0
        if not ascending and low and not is_before(low, ids[1]) then return nil end
      elseif (not low or is_before(low, id)) and (not high or is_before(id, high)) then
        return id
      end
    end
  end
end

local function index_of (stream, given)
  local start = stream:find('{[^}]+}') and stream or '{' .. stream .. '}'
  if given.email then return start .. ':email:' .. redis.sha1hex(given.email):sub(1, 20) end
  if given.app then return start .. ':app:' .. given.app end
end

-- Ids and entries; an id alone where the event is no longer there.
local function each_event (stream, given)
  local low, high = bounds(given)
  local index = index_of(stream, given)
  if not index then
    local entries = each_entry(stream, low, high, given.order)
    return function ()
      local entry = entries()
      if entry then return entry[1], entry end
    end
  end
  local ids = each_id(index, low, high, given.order)
  return function ()
    local id = ids()
    if id then return id, redis.call('XRANGE', stream, id, id)[1] end
  end
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
  for id, entry in each_event(stream, given) do
    if looked == LOOKS_AT then return last end
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

local COUNTED = { ['url.minted'] = 'minted', ['url.reused'] = 'reused', ['url.denied'] = 'refused', ['url.limited'] = 'refused', ['url.failed'] = 'refused' }

local function new_row (group)
  return { group = group, events = 0, minted = 0, reused = 0, refused = 0, users = {}, user_count = 0 }
end

local function count_in (row, event, email)
  row.events = row.events + 1
  local counter = COUNTED[event]
  if counter then row[counter] = row[counter] + 1 end
  if email and not row.users[email] then row.users[email], row.user_count = true, row.user_count + 1 end
end

local function told (row, with_users)
  local given = row.minted + row.reused
  local reply = { row.group, 'events', row.events, 'minted', row.minted, 'reused', row.reused, 'refused', row.refused }
  if given > 0 then
    reply[#reply + 1] = 'reuse_rate'
    reply[#reply + 1] = string.format('%.3f', row.reused / given)
  end
  reply[#reply + 1] = 'users'
  if not with_users then
    reply[#reply + 1] = row.user_count
    return reply
  end
  local users = {}
  for email in pairs(row.users) do users[#users + 1] = email end
  reply[#reply + 1] = users
  return reply
end

-- Returns { cursor, rows, total } of what this call looked at. To add up several replies count the users of "users list".
function QUERIES.tooljet_audit_stats (keys, args)
  local given = parse('tooljet_audit_stats', keys, args)
  if not given.by then refuse('tooljet_audit_stats', 'argument "by" is missing') end
  local rows, groups, total = {}, {}, new_row('total')
  local cursor = walk(keys[1], given, function (entry)
    local fields = {}
    for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
    local group = fields[given.by]
    if given.by == 'hour' then group = fields.time and fields.time:sub(1, 13) .. ':00Z' end
    if not group then return end
    if not rows[group] then
      rows[group] = new_row(group)
      groups[#groups + 1] = group
    end
    count_in(rows[group], fields.event, fields.email)
    count_in(total, fields.event, fields.email)
  end)
  table.sort(groups, function (a, b)
    if given.by == 'hour' or rows[a].events == rows[b].events then return a < b end
    return rows[a].events > rows[b].events
  end)
  local reply = {}
  for i, group in ipairs(groups) do reply[i] = told(rows[group], given.users == 'list') end
  return { cursor, reply, told(total, given.users == 'list') }
end

local function answer (query, keys, args)
  refusal = nil
  local ok, reply = pcall(QUERIES[query], keys, args)
  if ok then return reply end
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
  -- redis-cli --eval queries.lua tooljet-embed:audit , email E; with "stats" before the arguments the other query
  if ARGV[1] ~= 'stats' then return answer('tooljet_audit', KEYS, ARGV) end
  return answer('tooljet_audit_stats', KEYS, { unpack(ARGV, 2) })
end

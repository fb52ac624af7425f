-- Shared by all scripts of the cache. Their only key is the hash of one user, read as a whole and written field by field:
--
--   n<app>   id of the URL that this name of an app stands for; a name is "id:…" or "slug:…". "-start" where that URL
--            was reported dead: no older URL takes its place
--   u<id>    a URL: the start of its mint call and its end, 13 digits each in Redis's ms, and the ciphertext
--   l<app>   who mints: "owner start end"
--   o<app>   how the last mint failed: "owner end denial error", with denial 1 for ToolJet's verdict and the error as JSON
--   s        how the user's e-mail is spelled for ToolJet: its end, and the ciphertext
--   f        what was forgotten: "app moment call dropped names" for each, app "*" for all, with ";" between
--
-- Ends are compared with Redis's clock; the key's TTL is for garbage collection only.
local key = KEYS[1]
local fields = {}
do
  local flat = redis.call('HGETALL', key)
  for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
end

local function set (field, value)
  fields[field] = value
  redis.call('HSET', key, field, value)
end

local function drop (field)
  if fields[field] == nil then return end
  fields[field] = nil
  redis.call('HDEL', key, field)
end

-- Returns nothing when the times cannot be read.
local function urlOf (id)
  local kept = id and fields['u' .. id] or ''
  local starts, ends = tonumber(kept:sub(1, 13)), tonumber(kept:sub(14, 26))
  if starts and ends then return starts, ends, kept end
end

local function namesOf (id)
  local names = {}
  for field, value in pairs(fields) do
    if value == id and field:sub(1, 1) == 'n' then names[#names + 1] = field:sub(2) end
  end
  return names
end

local function dropUrl (id)
  for _, name in ipairs(namesOf(id)) do drop('n' .. name) end
  drop('u' .. id)
end

-- The start of the URL that was reported dead last.
local function invalidatedOf (app)
  return tonumber((fields['n' .. app] or ''):match('^%-(%d+)$'))
end

local function lockOf (app)
  local owner, starts, ends = (fields['l' .. app] or ''):match('^(%S+) (%d+) (%d+)$')
  if not owner or tonumber(ends) <= at or tonumber(starts) > at then return end
  return owner, tonumber(starts)
end

local function outcomeOf (app)
  local owner, ends, denial, failure = (fields['o' .. app] or ''):match('^(%S+) (%d+) (%d) (.*)$')
  if not owner or tonumber(ends) <= at then return end
  return owner, denial, failure
end

local function spelling ()
  local ends, ciphertext = (fields.s or ''):match('^(%d+) (.+)$')
  return ends and tonumber(ends) > at and ciphertext or ''
end

-- '': leaves it as it is.
local function keepSpelling (ciphertext, life)
  if ciphertext ~= '' then set('s', string.format('%.0f ', at + life) .. ciphertext) end
end

-- Forgetting ----------------------------------------------------------------------------------------------------------

-- Whether a forget concerns a URL with these names. An app may be known by its id alone, or by its slug alone: a forget by
-- the other kind of name then concerns it.
local function concerns (names, forgotten)
  if forgotten == '*' then return true end
  local kind = forgotten:match('^%a+:')
  local isOfKind = false
  for _, name in ipairs(names) do
    if name == forgotten then return true end
    if name:sub(1, #kind) == kind then isOfKind = true end
  end
  return not isOfKind
end

local function forgets ()
  local list = {}
  for entry in (fields.f or ''):gmatch('[^;]+') do -- entry by entry, so that a damaged field costs no time
    local app, moment, call, dropped, names = entry:match('^(%S+) (%d+) (%S+) (%d+) (.+)$')
    if app then list[#list + 1] = { app = app, moment = tonumber(moment), call = call, dropped = tonumber(dropped), names = names } end
  end
  return list
end

local function isForgotten (names, starts)
  for _, one in ipairs(forgets()) do
    if starts <= one.moment then
      for name in one.names:gmatch('%S+') do
        if concerns(names, name) then return true end
      end
    end
  end
  return false
end

local MAX_FORGETS = 8

-- Drops the URLs of an app ("*": of all) whose mint began until that moment, and prevents that such URLs are stored later.
local function forget (app, moment, call, life)
  local list, names = forgets(), app
  for _, one in ipairs(list) do
    if one.call == call then return one.moment, one.dropped, one.names end
  end

  local linked = app ~= '*' and fields['n' .. app]
  if linked then names = table.concat(namesOf(linked), ' ') end
  local ids, dropped = {}, 0
  for field in pairs(fields) do
    if field:sub(1, 1) == 'u' then ids[#ids + 1] = field:sub(2) end
  end
  for _, id in ipairs(ids) do
    local starts = urlOf(id)
    if (not starts or starts <= moment) and concerns(namesOf(id), app) then
      dropUrl(id)
      dropped = dropped + 1
    end
  end

  list[#list + 1] = { app = app, moment = moment, call = call, dropped = dropped, names = names }
  while #list > MAX_FORGETS do -- the two oldest are merged to one of all apps
    list[2].app, list[2].names, list[2].moment = '*', '*', math.max(list[1].moment, list[2].moment)
    table.remove(list, 1)
  end
  local kept = {}
  for _, one in ipairs(list) do
    if one.moment > at - life then kept[#kept + 1] = string.format('%s %.0f %s %d %s', one.app, one.moment, one.call, one.dropped, one.names) end
  end
  set('f', table.concat(kept, ';'))
  return moment, dropped, names
end

-- Called before a script writes: an ACL that would refuse its last command refuses this one, with nothing written.
local function begin (life)
  redis.call('HDEL', key, '')
  redis.call('PEXPIRE', key, math.max(life, 180000))
end

-- Called at the end of a script that writes: drops what has expired, and sets the key's TTL to the longest end that is left,
-- at most `life` ms or three minutes.
local function finish (life)
  local last = 0
  local function over (field, ends, isOver)
    if isOver or ends <= at then drop(field) elseif ends > last then last = ends end
  end
  local all = {}
  for field in pairs(fields) do all[#all + 1] = field end
  for _, field in ipairs(all) do
    local kind, rest = field:sub(1, 1), field:sub(2)
    if kind == 'u' then
      local starts, ends = urlOf(rest)
      if not ends then over(field, 0) else over(field, ends, starts > at) end
    elseif kind == 'l' then
      local _, starts, ends = fields[field]:match('^(%S+) (%d+) (%d+)$')
      over(field, tonumber(ends or 0), not starts or tonumber(starts) > at)
    elseif kind == 'o' then
      over(field, tonumber(fields[field]:match('^%S+ (%d+) ') or 0))
    elseif field == 's' then
      over(field, tonumber(fields[field]:match('^(%d+) ') or 0))
    elseif kind == 'f' then
      local newest = 0
      for _, one in ipairs(forgets()) do newest = math.max(newest, one.moment) end
      over(field, newest + life)
    elseif kind == 'n' then
      local invalidated = invalidatedOf(rest)
      if invalidated then over(field, invalidated + life, invalidated > at) end
    else
      over(field, 0)
    end
  end
  for _, field in ipairs(all) do
    if field:sub(1, 1) == 'n' and fields[field] and not invalidatedOf(field:sub(2)) and not fields['u' .. fields[field]] then drop(field) end
  end
  if last > at then redis.call('PEXPIRE', key, math.ceil(math.min(last - at, math.max(life, 180000)))) end
end

-- What the requests of one turn of the event loop want of Redis: for each user a count of requests, and the cached URLs.
-- Each user's part fails on its own.
--
-- KEYS: for each user the limiter's counter and the hash of URLs.
-- ARGV: deadline; "call window", the name of this call and the window in ms; then for each user how many requests are
--       counted ("0": none), and after a ";" for each app "app known": its name, and the id of the URL that the instance
--       holds already ("-": none).
-- Reply: time; then for each user requests in the window and its ms left (0 and 0 where none are counted), or an error's
--        text and 0; and for each app false (no URL), 1 (the known one), { id, URL as it is kept }, or an error's text.
--
-- The limiter's counter: "count end", and " call:count" for each of its last calls, by which one that is sent again
-- counts once. A call's name is that of its instance, "." and a number.
local call = redis.call
local name, window = ARGV[2]:match('^(%S+) (%d+)$')
window = tonumber(window)
local KEPT_CALLS = 120 -- characters, six calls at least: what one user has under way at a time
local MOST_CALLS = 1200 -- characters: calls of other instances may be sent again while this one goes on
local mark, ours = ' ' .. name .. ':', ' ' .. name:match('^[^.]*') .. '.'
local SENT_AGAIN_MS = math.max(5000, deadline - at) -- a call that is sent again after the window's end is known, too

local function count (key, requests)
  local kept = call('GET', key)
  local total, ends, calls = nil, nil, ''
  if kept then
    total, ends, calls = kept:match('^(%d+) (%d+)(.*)$')
    total, ends = tonumber(total), tonumber(ends)
    if not total then
      if call('PTTL', key) < 0 then call('PEXPIRE', key, window) end
      error({ err = 'ERR the limit counter of a user is not readable' })
    end
    local _, found = calls:find(mark, 1, true)
    if found then return tonumber(calls:match('^%d+', found + 1)), math.max(0, ends - at) end
  end

  if not ends or ends <= at or ends > at + window then total, ends = 0, at + window end
  total = total + requests
  if #calls > KEPT_CALLS and calls:sub(1, #ours) == ours or #calls > MOST_CALLS then calls = calls:match('^ %S+(.*)$') end
  local left = ends - at
  call('SET', key, string.format('%d %d%s%s%d', total, ends, calls, mark, total), 'PX', left + SENT_AGAIN_MS)
  return total, left
end

local function lookUp (key, app, known)
  local found = call('HMGET', key, 'n' .. app, 'u' .. known)
  local id = found[1]
  if not id then return false end
  if id == known then return found[2] and 1 end
  local url = call('HGET', key, 'u' .. id)
  return url and { id, url }
end

local function textOf (problem)
  return type(problem) == 'table' and problem.err or tostring(problem)
end

local reply, length = { at }, 1
local function add (value)
  length = length + 1
  reply[length] = value
end

for i = 3, #ARGV do
  local limiter, urls = KEYS[2 * i - 5], KEYS[2 * i - 4]
  local requests, apps = ARGV[i]:match('^(%d+)(.*)$')
  local isCounted, total, left = true, 0, 0
  if requests ~= '0' then isCounted, total, left = pcall(count, limiter, tonumber(requests)) end
  add(isCounted and total or textOf(total))
  add(isCounted and left or 0)
  for app, known in apps:gmatch(';(%S+) ([^;]+)') do
    local isFound, found = pcall(lookUp, urls, app, known)
    add(isFound and found or (not isFound and textOf(found)))
  end
end
return reply

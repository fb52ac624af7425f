-- What the requests of one turn of the event loop want of Redis: for each user a count of requests, and the cached URLs.
-- Each user's part fails on its own.
--
-- KEYS: for each user the limiter's hash and the hash of URLs.
-- ARGV: deadline; "instance window" with the window in ms; then for each user "count number", and after a ";" for each
--       app "app known": how many requests are counted ("0": none), the number of this call among those of the
--       instance, the app's name, and the id of the URL that the instance holds already ("-": none).
-- Reply: { time, one list for each user }: requests in the window and its ms left (0 and 0 where none are counted), or an
--        error's text and 0; then for each app false (no URL), 1 (the known one), { id, URL as it is kept }, or an
--        error's text.
--
-- The limiter's hash: "window" with "count end", and for each instance "number:count number:count …" of its last calls,
-- by which one that is sent again counts once.
local instance, window = ARGV[2]:match('^(%S+) (%d+)$')
window = tonumber(window)
local KEPT_CALLS = 8
local MAX_INSTANCES = 64
local SENT_AGAIN_MS = math.max(5000, deadline - at) -- a call that is sent again after the window's end is known, too

local function count (key, requests, number)
  local state, calls = unpack(redis.call('HMGET', key, 'window', instance))
  local total, ends
  if state then
    total, ends = state:match('^(%d+) (%d+)$')
    total, ends = tonumber(total), tonumber(ends)
    if not total then
      if redis.call('PTTL', key) < 0 then redis.call('PEXPIRE', key, window) end
      error({ err = 'ERR the limit counter of a user is not readable' })
    end
  end
  calls = calls or ''
  local counted = (' ' .. calls):match(' ' .. number .. ':(%d+)')
  if counted then return tonumber(counted), ends and math.max(0, ends - at) or 0 end

  if not ends or ends <= at or ends > at + window then
    total, ends = 0, at + window
    if redis.call('HLEN', key) > MAX_INSTANCES then redis.call('DEL', key) end
  end
  total = total + requests
  local _, kept = calls:gsub(':', '')
  if kept >= KEPT_CALLS then calls = calls:match('^%S+ (.*)$') end
  local call = number .. ':' .. string.format('%.0f', total)
  redis.call('HSET', key, 'window', string.format('%.0f %.0f', total, ends), instance, calls == '' and call or calls .. ' ' .. call)
  redis.call('PEXPIRE', key, ends - at + SENT_AGAIN_MS)
  return total, ends - at
end

local function lookUp (key, app, known)
  local id = redis.call('HGET', key, 'n' .. app)
  if not id then return false end
  if id == known then return redis.call('HEXISTS', key, 'u' .. id) == 1 and 1 end
  local url = redis.call('HGET', key, 'u' .. id)
  return url and { id, url }
end

local function textOf (problem)
  return type(problem) == 'table' and problem.err or tostring(problem)
end

local reply = { at }
for i = 3, #ARGV do
  local limiter, urls = KEYS[2 * i - 5], KEYS[2 * i - 4]
  local requests, number, apps = ARGV[i]:match('^(%d+) (%d+)(.*)$')
  local part = { 0, 0 }
  if requests ~= '0' then
    local isCounted, total, left = pcall(count, limiter, tonumber(requests), number)
    part[1], part[2] = isCounted and total or textOf(total), isCounted and left or 0
  end
  for app, known in apps:gmatch(';(%S+) ([^;]+)') do
    local isFound, found = pcall(lookUp, urls, app, known)
    part[#part + 1] = isFound and found or (not isFound and textOf(found))
  end
  reply[i - 1] = part
end
return reply

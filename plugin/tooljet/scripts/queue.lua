-- What the scripts of one ToolJet's mint queue share. Its keys, the same and in this order in each of them:
--
--   pause      ToolJet asked not to be called: "call start end"
--   failures   of ToolJet, in a row: "number call moment", of the last one and of the first
--   probe      the one call that is let through while it fails
--   calls      sorted set of calls by the moment at which they were granted, for as long as they may count
--   unminted   sorted set of those of them that brought no URL: ToolJet's limit may count them, or not
--   flight     sorted set of calls that may be refused yet, while no limit is known
--   queue      sorted set of those who wait and come in time, "user app": by class, then by the moment of first asking
--   due        sorted set of the same: when its owner is late, or, of one who is not in the queue, when the place ends
--   tickets    hash with a field per user: "app place class ends refused rests" for each, with ";" between; class 0: has
--              nothing, 1: has another app, 2: has reported a URL dead; refused: how often in a row ToolJet refused it; rests:
--              until then it lets others go first
--   instances  sorted set of instances by the moment at which they were heard last
--   budget     hash:
--     epoch             the queue's name, another one after Redis has lost it; epochStartedAt
--     recoveringUntil   until then slots go to those who were here before Redis lost the queue
--     promisesKnown     an instance has said until when it had promised turns
--     blackout          no slot until then
--     noTakerUntil      until then slots were free, and nobody could take them
--     returnedAt        when ToolJet answered again; returnGap: for how long those who are next are waited for
--     limit, window     as learnt; learnedAt
--     trial             the call that tries for one more; nextTrialAt; trialsRefused: how many in a row
--     mintsThisHour     of the hour `hour`; mintsLastHour; warnedHour: in which the log was told
--
-- ARGV of all: deadline, name of this call, longest TTL in ms, limit ('auto': it is learnt; 'off': there is none), its
-- window in ms, ms after which a call counts as answered, failures after which ToolJet is only probed.
local PAUSE, FAILURES, PROBE, CALLS, UNMINTED, FLIGHT, QUEUE, DUE, TICKETS, INSTANCES, BUDGET = unpack(KEYS)
local call, longestTtl, configured, callMs, FAILURES_TO_PROBE = ARGV[2], tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[6]), tonumber(ARGV[7])

-- So long the one whose turn it is may be late, ms.
local GRACE = 2000
-- Without `Retry-After` a limit is taken for ToolJet's documented one, of a minute; ms.
local MINUTE = 60000
local HOUR = 3600000
-- A call that was not refused by then was granted, however long it takes; ms.
local ANSWERED_AFTER = 1000
-- So many moments are kept at most while no limit is known.
local MOST_MOMENTS = 1000
-- At least so long a place is kept, ms.
local LEAST_PLACE = 60000
local CLASS_OFFSET = 1e15
-- The first time that somebody far behind asks again, at the latest, ms.
local FIRST_RETURN = 120000
-- So long, at most, slots go to those who were here before Redis lost the queue, ms.
local RECOVERY = 120000
-- The first in line asks again within this, ms, however long ToolJet is down.
local LONGEST_DOWN_GAP = 90000

local budget = {}
do
  local flat = redis.call('HGETALL', BUDGET)
  for i = 1, #flat, 2 do budget[flat[i]] = flat[i + 1] end
end

local function set (field, value)
  if type(value) == 'number' then value = string.format('%.0f', value) end
  budget[field] = value
  redis.call('HSET', BUDGET, field, value)
end

local function unset (...)
  for _, field in ipairs({ ... }) do budget[field] = nil end
  redis.call('HDEL', BUDGET, ...)
end

local function number (field)
  return tonumber(budget[field] or '') or 0
end

-- A moment of the future is one of a clock that went back.
local function moment (field)
  return math.min(number(field), at)
end

local limit, window = tonumber(configured), tonumber(ARGV[5])
if configured == 'auto' then limit, window = tonumber(budget.limit or ''), tonumber(budget.window or '') end

-- So long a call counts: what is between a grant and the call at ToolJet differs, and the window is longer by what that may make.
local function span ()
  return window + math.max(math.min(100, window / 20), window / 100)
end

-- The sets are read from here on as if the clock had never gone back, and without what counts no more.
local function tidy ()
  for _, key in ipairs({ CALLS, UNMINTED, FLIGHT }) do
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', key, '(' .. at, '+inf')) do redis.call('ZADD', key, at, name) end
  end
  local counts = limit and math.max(span() + GRACE, configured == 'auto' and MINUTE + GRACE or 0) + number('returnGap')
  for _, key in ipairs({ CALLS, UNMINTED }) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', at - (counts or HOUR))
    if not limit then redis.call('ZREMRANGEBYRANK', key, 0, -1 - MOST_MOMENTS) end
  end
  redis.call('ZREMRANGEBYSCORE', FLIGHT, '-inf', at - ANSWERED_AFTER)
  if budget.trial and (tonumber(redis.call('ZSCORE', CALLS, budget.trial) or '') or 0) < at - callMs then -- nobody says what became of it
    unset('trial')
    set('nextTrialAt', at + window)
  end
  if number('blackout') > at + (window or 0) then set('blackout', at) end -- the clock went back
  if limit and (number('returnedAt') > at or number('returnGap') > LONGEST_DOWN_GAP or number('returnedAt') + number('returnGap') + span() < at) then unset('returnedAt', 'returnGap') end
end

local function callsIn (ms, key)
  return redis.call('ZCOUNT', key or CALLS, '(' .. string.format('%.3f', at - ms), '+inf')
end

-- Every call takes a slot, for ToolJet's limit may count it; only those that minted show what it grants, for it may not.
local function mintedIn (ms)
  return callsIn(ms) - callsIn(ms, UNMINTED)
end

-- Calls that count now, and, with `later`, that would have counted so many ms ago.
local function used (later)
  return callsIn(span() + (later or 0))
end

-- While no limit is known: few calls at once, twice as many when all were granted. Small steps up to ToolJet's documented
-- limit, so that few are refused where it has one.
local function allowedAtOnce ()
  local granted = mintedIn(MINUTE) - redis.call('ZCARD', FLIGHT)
  if granted < 1 then return 1 end
  if granted < 3 then return 2 end
  if granted < 12 then return 3 end
  return 2 ^ math.floor(math.log(granted + 1) / math.log(2))
end

-- After an outage slots come one by one, for a window, once everybody has had the time to ask again.
-- Returns how many have come and are not taken; less than 0: they have not come yet.
local function paced ()
  if not budget.returnedAt then return limit end
  return (at - number('returnedAt') - number('returnGap')) * limit / span() - callsIn(at - number('returnedAt'))
end

-- Slots that are free now; the first in line need not wait for what is paced.
local function free ()
  if at < number('blackout') then return 0 end
  if limit then return math.max(0, math.min(limit - used(), math.max(1, math.floor(paced()) + 1))) end
  return math.max(0, allowedAtOnce() - redis.call('ZCARD', FLIGHT))
end

-- Ms until the slot comes that is given after so many others.
local function slotAfter (others)
  local count, total = used(), redis.call('ZCARD', CALLS)
  local unused = math.max(0, limit - count)
  local least = math.max(0, number('blackout') - at, budget.returnedAt and (others - paced()) * span() / limit or 0)
  if others < unused then return least end
  local turns, index = math.floor((others - unused) / limit), (others - unused) % limit
  local first = total - math.min(count, limit) + index -- of those that count, the ones that make room leave in this order
  local leaves = span()
  if index < math.min(count, limit) then
    leaves = redis.call('ZRANGE', CALLS, first, first, 'WITHSCORES')[2] + span() - at
  end
  return math.max(least, leaves + turns * span())
end

-- Of ToolJet's failures in a row: how many, the call of the last, and the moment of the first.
local failed, failedCall, failingSince = (redis.call('GET', FAILURES) or ''):match('^(%d+) (%S+) (%d+)$')
failed, failingSince = tonumber(failed) or 0, math.min(tonumber(failingSince) or at, at)

-- While ToolJet is down: ms until the first in line is to ask again, the longer it is down the longer.
local function downGap ()
  return math.min(LONGEST_DOWN_GAP, math.max(4000, window / 4, (at - failingSince) / 2))
end

-- Tickets -------------------------------------------------------------------------------------------------------------

local function newTicket (app, place, class, ends, refused, rests)
  return { app = app, place = place, class = class or 0, ends = ends or 0, refused = refused or 0, rests = rests or 0 }
end

local function ticketsOf (user)
  local list = {}
  for entry in (redis.call('HGET', TICKETS, user) or ''):gmatch('[^;]+') do
    local app, place, class, ends, refused, rests = entry:match('^(%S+) (%d+) (%d) (%d+) (%d+) (%d+)$')
    if app and tonumber(ends) > at then
      list[#list + 1] = newTicket(app, tonumber(place), tonumber(class), tonumber(ends), tonumber(refused), tonumber(rests))
    end
  end
  return list
end

local function keepTickets (user, list)
  local entries = {}
  for i, one in ipairs(list) do
    entries[i] = string.format('%s %.0f %d %.0f %d %.0f', one.app, one.place, one.class, one.ends, one.refused, one.rests)
  end
  if #entries > 0 then redis.call('HSET', TICKETS, user, table.concat(entries, ';')) else redis.call('HDEL', TICKETS, user) end
end

local function findIn (list, app)
  for i, one in ipairs(list) do
    if one.app == app then return one, i end
  end
end

local function dropTicket (user, app)
  local list = ticketsOf(user)
  local _, i = findIn(list, app)
  if i then table.remove(list, i) end
  keepTickets(user, list)
  redis.call('ZREM', QUEUE, user .. ' ' .. app)
  redis.call('ZREM', DUE, user .. ' ' .. app)
end

-- Takes a place out of the way of the others, and keeps it until it ends.
local function putAside (user, ticket)
  local member = user .. ' ' .. ticket.app
  redis.call('ZREM', QUEUE, member)
  redis.call('ZADD', DUE, string.format('%.0f', ticket.ends), member)
end

-- Whoever did not come when it was time.
local function putAsideTheLate ()
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', DUE, '-inf', at, 'LIMIT', 0, 200)) do
    local user, app = member:match('^(%S+) (%S+)$')
    local ticket = user and findIn(ticketsOf(user), app)
    if ticket then
      putAside(user, ticket)
    else
      redis.call('ZREM', QUEUE, member)
      redis.call('ZREM', DUE, member)
    end
  end
  for _, member in ipairs(redis.call('ZRANGE', QUEUE, 0, 9)) do -- nobody's
    if not redis.call('ZSCORE', DUE, member) then redis.call('ZREM', QUEUE, member) end
  end
end

-- Whom ToolJet refuses keeps the place: most often somebody else had used the slot. One whom it refuses every time lets others
-- go first from the third time on, for 1, 4, 16 … windows: else its pauses would leave no time for them. Ms.
local function restAfter (refused)
  return refused < 3 and 0 or (window or MINUTE) * 4 ^ (refused - 3)
end

-- Returns how many are before it, and ms for which it lets others go first.
local function enqueue (user, ticket)
  local member = user .. ' ' .. ticket.app
  redis.call('ZADD', QUEUE, string.format('%.0f', CLASS_OFFSET * math.min(ticket.class, 1) + ticket.place), member)
  local others = redis.call('ZRANK', QUEUE, member)
  local rests = math.min(ticket.rests - at, restAfter(ticket.refused)) -- the clock may have gone back
  if rests <= 0 or redis.call('ZCARD', QUEUE) == 1 then return others, 0 end
  redis.call('ZREM', QUEUE, member)
  return others, rests
end

-- Keeps a place for twice the time that is promised. Those far behind ask again before it has passed, the sooner the less
-- they have waited: others may have left by then, and slots are not to wait for anybody.
-- While ToolJet is down nobody's turn is known, and who stands further in front is asked back sooner.
-- Returns ms until its turn (-1: unknown), and until it is to ask again.
local function promise (user, ticket, others, least)
  local isDown = failed >= FAILURES_TO_PROBE
  local wait = -1
  if limit and not isDown then wait = math.max(least, slotAfter(others)) elseif not isDown and least > 0 then wait = least end
  local again, latest = wait, math.max(FIRST_RETURN, 2 * (at - ticket.place))
  if isDown then
    again = math.max(least, limit and math.min(downGap() + others * span() / limit, latest) or 1000)
  elseif wait < 0 then
    again = 1000
  elseif limit and wait > 4000 and others >= limit then
    again = math.max(least, math.min(0.8 * wait, latest))
  end
  ticket.ends = at + math.max(LEAST_PLACE, 2 * math.max(wait, again))
  -- while no limit is known, who waits is held and looks all the time
  redis.call('ZADD', DUE, string.format('%.0f', at + again + (limit and GRACE or 0)), user .. ' ' .. ticket.app)
  return math.floor(wait), math.floor(again)
end

local function keepKeys ()
  for i = 4, #KEYS do redis.call('PEXPIRE', KEYS[i], longestTtl) end
end

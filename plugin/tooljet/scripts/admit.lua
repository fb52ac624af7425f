-- Whether a call to ToolJet may begin now, and when else.
--
-- ARGV, after those of queue.lua:
--   8      TTL of a probe, ms
--   9      this instance
--   10-12  the epoch that it knows ('-': none), with its limit and window ('0': none)
--   13     ms for which it has promised turns in that epoch
--   14-15  the user and the app
--   16     purpose: 'first' (the user has nothing), 'more', 'replaces', 'warm', or 'again' (one more call of a granted mint)
--   17     how many tickets a user may have
--   18-20  of the ticket that came with the request: epoch ('-': none), place and end
--   21-    for each of the last calls of this instance: name, ms since then, and '1' if it brought no URL; Redis may not
--          know them (any more)
-- Reply:
--   1      time
--   2      'granted', 'wait', 'paused', 'failing' or 'tooManyTickets'
--   3      ms: granted: since the first request for it; wait: until its turn (-1: unknown); paused: until the end
--   4      ms until it is to ask again
--   5-7    position, place, and the place's end
--   8-10   epoch, limit (0: none) and its window
--   11-12  instances, failures of ToolJet in a row
--   13     mints of the last hour, where they are near the limit (0: they are not)
--   14     ms of ToolJet's pause
local probeTtl, instance, known, knownLimit, knownWindow, promised = ARGV[8], ARGV[9], ARGV[10], tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local user, app, purpose, maxTickets, broughtEpoch, broughtPlace, broughtEnds = ARGV[14], ARGV[15], ARGV[16], tonumber(ARGV[17]), ARGV[18], tonumber(ARGV[19]), tonumber(ARGV[20])
local member = user .. ' ' .. app

local paused, pauseLength = pauseLeft(PAUSE)
if paused > 0 then
  local name, starts = redis.call('GET', PAUSE):match('^(%S+) (%d+)')
  if tonumber(starts) > at then -- the clock went back: the pause begins again
    redis.call('SET', PAUSE, string.format('%s %.0f %.0f', name, at, at + pauseLength))
  end
  redis.call('PEXPIRE', PAUSE, math.min(paused, longestTtl))
end
local probing = failed >= FAILURES_TO_PROBE and redis.call('PTTL', PROBE) or 0
local isFailing = probing > 0 and redis.call('GET', PROBE) ~= call

local instances, mintsToWarnOf = 1, 0
local function reply (kind, ms, again, position, ticket)
  return {
    at, kind, math.floor(ms), math.floor(again or ms), position or 0, string.format('%.0f', ticket and ticket.place or 0),
    string.format('%.0f', ticket and ticket.ends or 0), budget.epoch or '', limit or 0, window or 0, instances, failed, mintsToWarnOf, paused,
  }
end

local function probe ()
  if failed >= FAILURES_TO_PROBE then redis.call('SET', PROBE, call, 'PX', probeTtl) end
end

if configured == 'off' then
  if paused > 0 then return reply('paused', paused) end
  if isFailing then return reply('failing', probing) end
  probe()
  return reply('granted', 0)
end

-- For those who were here before.
local function recoverUntil (moment)
  if moment > number('recoveringUntil') then set('recoveringUntil', moment) end
end

-- The epoch: from when on this queue remembers. One that an instance knows, and Redis does not, is lost.
if not budget.epoch then
  set('epoch', call)
  set('epochStartedAt', at)
  set('noTakerUntil', at)
end
if known ~= '-' and known ~= budget.epoch then
  local since = moment('epochStartedAt')
  if configured == 'auto' and not limit and knownLimit > 0 then
    limit, window = knownLimit, knownWindow
    set('limit', limit)
    set('window', window)
  end
  if limit then set('blackout', since + window) end
  recoverUntil(since + math.min(RECOVERY, promised))
  set('promisesKnown', 1)
end
for i = 21, #ARGV, 3 do
  local began = string.format('%.0f', at - ARGV[i + 1])
  redis.call('ZADD', CALLS, 'GT', began, ARGV[i])
  if ARGV[i + 2] == '1' then redis.call('ZADD', UNMINTED, 'GT', began, ARGV[i]) end
end

redis.call('ZADD', INSTANCES, at, instance)
redis.call('ZREMRANGEBYSCORE', INSTANCES, '-inf', at - 3 * MINUTE)
instances = redis.call('ZCARD', INSTANCES)
tidy()
putAsideTheLate()

local function countMint ()
  local hour = math.floor(at / HOUR)
  if number('hour') ~= hour then
    set('mintsLastHour', number('hour') == hour - 1 and number('mintsThisHour') or 0)
    set('hour', hour)
    set('mintsThisHour', 0)
  end
  set('mintsThisHour', number('mintsThisHour') + 1)
  if not limit or number('warnedHour') == hour then return end
  local lastHour = number('mintsThisHour') + number('mintsLastHour') * (1 - at % HOUR / HOUR)
  if lastHour < 0.8 * limit * HOUR / window then return end
  set('warnedHour', hour)
  mintsToWarnOf = math.floor(lastHour)
end

local function grant (ticket)
  redis.call('ZADD', CALLS, at, call)
  if not limit then redis.call('ZADD', FLIGHT, at, call) end
  probe()
  countMint()
  keepKeys()
  return reply('granted', ticket and at - ticket.place or 0)
end

if redis.call('ZSCORE', CALLS, call) then return grant() end -- this very call, sent again

if purpose == 'again' then
  redis.call('ZREM', FLIGHT, user) -- its own earlier call, which is answered
  if paused == 0 and (not limit or free() > 0) then return grant() end
  return reply('wait', 0)
end
if purpose == 'warm' then
  local waiting = redis.call('ZCARD', QUEUE)
  local allowed = limit and math.max(1, math.floor(0.8 * limit)) or 10
  local since = limit and span() or MINUTE
  local count = callsIn(since)
  if paused == 0 and not isFailing and waiting == 0 and count < allowed and at >= number('blackout') and free() > 0 then return grant() end
  local first = redis.call('ZRANGE', CALLS, -allowed, -allowed, 'WITHSCORES')
  local wait = math.max(100, paused, isFailing and probing or 0, count >= allowed and first[2] + since - at or 0, waiting > 0 and limit and slotAfter(waiting) or 0)
  keepKeys()
  return reply('wait', wait)
end

-- Whether the limit is tried by one more: when ToolJet has surely granted all that is known of in this window.
local function mayTry (others)
  local granted = window == MINUTE and callsIn or mintedIn
  return configured == 'auto' and limit and others < limit and not budget.trial and at >= math.max(number('nextTrialAt'), number('blackout'))
    and granted(0.9 * window) >= limit and used() == limit
end

-- Places --------------------------------------------------------------------------------------------------------------

local tickets = ticketsOf(user)
local ticket = findIn(tickets, app)
-- where there is a queue it stands still
if isFailing and not (limit and (ticket or redis.call('ZCARD', QUEUE) > 0)) then return reply('failing', probing) end

local hasOther = purpose ~= 'first'
for _, one in ipairs(tickets) do
  if one.app ~= app and one.class == 0 then hasOther = true end
end
local isKnown = ticket ~= nil
if not ticket then
  if #tickets >= maxTickets then -- what nobody came for in time is given up
    for _, one in ipairs(tickets) do
      if not redis.call('ZSCORE', QUEUE, user .. ' ' .. one.app) then dropTicket(user, one.app) end
    end
    tickets = ticketsOf(user)
  end
  if #tickets >= maxTickets then
    if limit then return reply('tooManyTickets', 30000) end
    return reply('wait', -1, 1000, redis.call('ZCARD', QUEUE) + 1) -- it will be soon
  end
  ticket = newTicket(app, at)
  -- of an epoch that Redis has forgotten: a place is kept for those who have nothing
  if purpose == 'first' and broughtEpoch ~= '-' and broughtEpoch ~= budget.epoch and broughtEnds > at and broughtPlace < moment('epochStartedAt') then
    ticket.place, isKnown = broughtPlace, true
    if not budget.promisesKnown then recoverUntil(moment('epochStartedAt') + RECOVERY) end -- no instance knows what was promised
  end
  tickets[#tickets + 1] = ticket
end
-- a reported URL is gone at the next request for another one: it does not make a beginner of its user
if purpose == 'replaces' then ticket.class = math.max(2, ticket.class) elseif ticket.class < 2 then ticket.class = hasOther and 1 or 0 end
local others, rests = enqueue(user, ticket)

local recovers = ticket.place >= moment('epochStartedAt') and number('recoveringUntil') - at or 0
if recovers > RECOVERY then recovers = 0 end -- the clock went back
if paused <= 0 and not isFailing and recovers <= 0 and rests <= 0 then
  local isFree = others < free()
  -- nobody who had a better right has come for it
  if not isFree and limit and failed < FAILURES_TO_PROBE and at - moment('noTakerUntil') >= GRACE and limit - used(GRACE) > 0 and at >= number('blackout') then isFree = true end
  if not isFree and ticket.refused == 0 and mayTry(others) then
    set('trial', call)
    isFree = true
  end
  if isFree then
    if isKnown then -- the place is kept until it is known that it was of use
      ticket.ends = math.max(ticket.ends, at + math.max(LEAST_PLACE, 2 * callMs))
      putAside(user, ticket)
      keepTickets(user, tickets)
    else
      redis.call('ZREM', QUEUE, member)
    end
    return grant(ticket)
  end
end

local wait, again = promise(user, ticket, others, math.max(paused, recovers, rests))
keepTickets(user, tickets)
keepKeys()
return reply('wait', wait, again, others + 1, ticket)

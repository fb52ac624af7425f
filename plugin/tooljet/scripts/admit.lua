-- Whether a call to ToolJet may begin now, and when else.
--
-- ARGV besides: TTL of a probe in ms, this instance, the epoch that it knows
-- ('-': none), limit and window of that ('0': none), ms for which it has promised turns in it; the user, the app, what for
-- ('first': the user has nothing; 'more'; 'replaces'; 'again': one more call of a mint that was granted; 'warm'), how many
-- tickets a user may have; of the ticket that came with the request epoch, place and end ('-', '0', '0': none); then, for
-- each of the last calls of this instance, its name, ms since then and '1' if it brought no URL: Redis may not know them (any more).
-- Reply: { time, 'granted' | 'wait' | 'paused' | 'failing' | 'many', ms (since the first request for what is granted; until the turn
--        of who waits, -1: unknown; until the end of a pause), ms until it is to ask again, position, place, its end, epoch,
--        limit or 0, its window, instances, failures, mints of the last hour where they are too many or 0, ms of ToolJet's pause }.
local probeTtl, instance, known, knownLimit, knownWindow, promised = ARGV[8], ARGV[9], ARGV[10], tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local user, app, what, most, broughtEpoch, broughtPlace, broughtEnds = ARGV[14], ARGV[15], ARGV[16], tonumber(ARGV[17]), ARGV[18], tonumber(ARGV[19]), tonumber(ARGV[20])
local member = user .. ' ' .. app

local paused, pauseLength = pauseLeft(PAUSE)
if paused > 0 then
  local name, starts = redis.call('GET', PAUSE):match('^(%S+) (%d+)')
  if tonumber(starts) > at then -- the clock went back: the pause begins again
    redis.call('SET', PAUSE, string.format('%s %.0f %.0f', name, at, at + pauseLength))
  end
  redis.call('PEXPIRE', PAUSE, math.min(paused, longest))
end
local probing = failed >= MAX and redis.call('PTTL', PROBE) or 0
local isFailing = probing > 0 and redis.call('GET', PROBE) ~= call

local instances, mintsToTell = 1, 0
local function reply (kind, ms, again, position, ticket)
  return {
    at, kind, math.floor(ms), math.floor(again or ms), position or 0, string.format('%.0f', ticket and ticket.place or 0),
    string.format('%.0f', ticket and ticket.ends or 0), budget.epoch or '', limit or 0, window or 0, instances, failed, mintsToTell, paused,
  }
end

local function probe ()
  if failed >= MAX then redis.call('SET', PROBE, call, 'PX', probeTtl) end
end

if given == 'off' then
  if paused > 0 then return reply('paused', paused) end
  if isFailing then return reply('failing', probing) end
  probe()
  return reply('granted', 0)
end

-- For those who were here before.
local function recoverUntil (moment)
  if moment > number('recovers') then set('recovers', moment) end
end

-- The epoch: from when on this queue remembers. One that an instance knows, and Redis does not, is lost.
if not budget.epoch then
  set('epoch', call)
  set('began', at)
  set('resumed', at)
end
if known ~= '-' and known ~= budget.epoch then
  local since = moment('began')
  if given == 'auto' and not limit and knownLimit > 0 then
    limit, window = knownLimit, knownWindow
    set('limit', limit)
    set('window', window)
  end
  if limit then set('blackout', since + window) end
  recoverUntil(since + math.min(RECOVERY, promised))
  set('told', 1)
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
    set('last', number('hour') == hour - 1 and number('now') or 0)
    set('hour', hour)
    set('now', 0)
  end
  set('now', number('now') + 1)
  if not limit or number('warned') == hour then return end
  local lastHour = number('now') + number('last') * (1 - at % HOUR / HOUR)
  if lastHour < 0.8 * limit * HOUR / window then return end
  set('warned', hour)
  mintsToTell = math.floor(lastHour)
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

if what == 'again' then
  redis.call('ZREM', FLIGHT, user) -- its own earlier call, which is answered
  if paused == 0 and (not limit or free() > 0) then return grant() end
  return reply('wait', 0)
end
if what == 'warm' then
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
local function mayProbe (others)
  local granted = window == MINUTE and callsIn or mintedIn
  return given == 'auto' and limit and others < limit and not budget.probe and at >= math.max(number('probes'), number('blackout'))
    and granted(0.9 * window) >= limit and used() == limit
end

-- Places --------------------------------------------------------------------------------------------------------------

local tickets = ticketsOf(user)
local ticket = findIn(tickets, app)
-- where there is a queue it stands still
if isFailing and not (limit and (ticket or redis.call('ZCARD', QUEUE) > 0)) then return reply('failing', probing) end

local hasOther = what ~= 'first'
for _, one in ipairs(tickets) do
  if one.app ~= app and one.class == 0 then hasOther = true end
end
local isKnown = ticket ~= nil
if not ticket then
  if #tickets >= most then -- what nobody came for in time is given up
    for _, one in ipairs(tickets) do
      if not redis.call('ZSCORE', QUEUE, user .. ' ' .. one.app) then dropTicket(user, one.app) end
    end
    tickets = ticketsOf(user)
  end
  if #tickets >= most then
    if limit then return reply('many', 30000) end
    return reply('wait', -1, 1000, redis.call('ZCARD', QUEUE) + 1) -- it will be soon
  end
  ticket = newTicket(app, at)
  -- of an epoch that Redis has forgotten: a place is kept for those who have nothing
  if what == 'first' and broughtEpoch ~= '-' and broughtEpoch ~= budget.epoch and broughtEnds > at and broughtPlace < moment('began') then
    ticket.place, isKnown = broughtPlace, true
    if not budget.told then recoverUntil(moment('began') + RECOVERY) end -- no instance knows what was promised
  end
  tickets[#tickets + 1] = ticket
end
-- a reported URL is gone at the next request for another one: it does not make a beginner of its user
if what == 'replaces' then ticket.class = math.max(2, ticket.class) elseif ticket.class < 2 then ticket.class = hasOther and 1 or 0 end
local others, rests = enqueue(user, ticket)

local recovers = ticket.place >= moment('began') and number('recovers') - at or 0
if recovers > RECOVERY then recovers = 0 end -- the clock went back
if paused <= 0 and not isFailing and recovers <= 0 and rests <= 0 then
  local isFree = others < free()
  -- nobody who had a better right has come for it
  if not isFree and limit and failed < MAX and at - moment('resumed') >= GRACE and limit - used(GRACE) > 0 and at >= number('blackout') then isFree = true end
  if not isFree and ticket.refused == 0 and mayProbe(others) then
    set('probe', call)
    isFree = true
  end
  if isFree then
    redis.call('ZREM', QUEUE, member)
    if isKnown then -- the place is kept until it is known that it was of use
      ticket.ends = math.max(ticket.ends, at + math.max(LEAST_PLACE, 2 * callMs))
      redis.call('ZADD', DUE, string.format('%.0f', ticket.ends), member)
      keepTickets(user, tickets)
    end
    return grant(ticket)
  end
end

local wait, again = promise(user, ticket, others, math.max(paused, recovers, rests))
keepTickets(user, tickets)
keepKeys()
return reply('wait', wait, again, others + 1, ticket)

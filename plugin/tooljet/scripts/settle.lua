-- What became of calls that were granted: 'done' (ToolJet has minted), 'denied' (it has answered, and not minted), 'respelled' (the
-- same, and it is asked once more for the user), 'failed' (it is not there), 'refused' (it asked not to be called) or 'unused'.
--
-- ARGV, after those of queue.lua:
--   8      outcome
--   9-10   user and app ('-' for both: nobody waits for it)
--   11     ms of the pause that ToolJet asked for
--   12     ms of its `Retry-After` (-1: it had none; 0: it was no limit)
--   13-14  TTL of the failures, and pause to the next probe, ms
--   15-    the earlier calls of the same mint
-- Reply, for who waits again:
--   1      time
--   2-3    ms until its turn (-1: unknown), and until it is to ask again
--   4-6    position, place, and the place's end
--   7      ms of ToolJet's pause
local outcome, user, app, pauseMs, retryAfter = ARGV[8], ARGV[9], ARGV[10], tonumber(ARGV[11]), tonumber(ARGV[12])
local keepsPlace = user ~= '-' and configured ~= 'off'

local grantedAt = tonumber(redis.call('ZSCORE', CALLS, call) or '')
redis.call('ZREM', FLIGHT, call, unpack(ARGV, 15))
-- a given limit is one of calls, a learnt one of those that ToolJet has granted
if outcome == 'unused' or outcome == 'refused' and configured == 'auto' then redis.call('ZREM', CALLS, call) end
local unminted = { unpack(ARGV, 15) }
if outcome == 'denied' or outcome == 'respelled' or outcome == 'failed' then unminted[#unminted + 1] = call end
for _, name in ipairs(unminted) do
  local began = redis.call('ZSCORE', CALLS, name)
  if began then redis.call('ZADD', UNMINTED, began, name) end
end
redis.call('PEXPIRE', UNMINTED, longestTtl)
local isTrial = budget.trial == call
if isTrial then unset('trial') end

if outcome == 'done' or outcome == 'denied' or outcome == 'respelled' then
  if keepsPlace and outcome ~= 'respelled' then dropTicket(user, app) end
  if limit and failed >= FAILURES_TO_PROBE then -- until then those who are first in line come, and each other one before its turn
    set('returnedAt', at)
    set('returnGap', downGap())
    set('noTakerUntil', at + number('returnGap') + 2 * span())
  end
  redis.call('DEL', FAILURES, PROBE)
  if isTrial and outcome == 'done' then -- it may have been much too low: the next try need not wait
    set('limit', limit + 1)
    set('nextTrialAt', at)
    unset('trialsRefused')
  end
  if outcome ~= 'respelled' then return { at } end
end

if outcome == 'failed' and failedCall ~= call then -- not sent again
  failed = failed + 1
  redis.call('SET', FAILURES, string.format('%d %s %.0f', failed, call, failingSince), 'PX', ARGV[13])
  redis.call('PEXPIRE', PROBE, ARGV[14])
end

-- What comes near a minute is taken for ToolJet's documented one: a fixed window began before the first call that is known of.
local function learnt (max, length)
  limit, window = math.max(1, max), length > MINUTE / 3 and length < MINUTE + 1500 and MINUTE or length
  set('limit', limit)
  set('window', window)
end

-- The window reaches back to the oldest call that may count: one of the last minute, of twice a window that is known, or of
-- as long as `Retry-After` says. Calls that brought no URL count where nothing else can have used the limit up, and in a
-- minute: it is ToolJet's own then, and one that is too high costs one refusal. In any other window they do not: one that is
-- too long costs turns.
local function measure ()
  local reach = math.max(limit and math.min(2 * window, math.max(MINUTE, window)) or MINUTE, retryAfter)
  local calls = redis.call('ZRANGEBYSCORE', CALLS, at - reach, '+inf', 'WITHSCORES')
  local oldest, oldestMinted = calls[2], nil
  for i = #calls - 1, 1, -2 do
    if not redis.call('ZSCORE', UNMINTED, calls[i]) then oldestMinted = calls[i + 1] end
  end
  local function lengthFrom (moment) return math.max(1000, (moment and at - moment or 0) + retryAfter) end
  local length = retryAfter < 0 and MINUTE or lengthFrom(oldest)
  local countsAll = not oldestMinted or length >= MINUTE - 500 and length < MINUTE + 1500
  if not countsAll then length = lengthFrom(oldestMinted) end
  learnt((countsAll and callsIn or mintedIn)(length), length)
end

-- A limit that is known holds but for one call, which somebody else has made: one refusal says no more. It says more when
-- `Retry-After` is longer than the window, or when less than that limit was granted since it was learnt: then the window is
-- longer, twice as long where nothing else tells.
local function learn (wasKnown)
  local since = at - moment('learnedAt')
  local neverHeld = wasKnown and since < 2 * window + GRACE and mintedIn(since) < limit
  if not limit or retryAfter < 0 or retryAfter > window then
    measure()
  elseif neverHeld or wasKnown and limit == 1 then
    local length = math.min(2 * window, math.max(MINUTE, window))
    learnt(mintedIn(length), length)
  else
    learnt(limit - 1, window)
  end
  set('learnedAt', at)
end

local isSentAgain = (redis.call('GET', PAUSE) or ''):match('^%S+') == call
local tickets = keepsPlace and ticketsOf(user) or {}
local ticket = findIn(tickets, app)
-- one whom ToolJet refuses every time is no measure of its limit
local isRefusedAgain = ticket and ticket.refused > 0

if outcome == 'refused' then
  if not isSentAgain and pauseLeft(PAUSE) < pauseMs then -- a shorter pause does not end a longer one
    redis.call('SET', PAUSE, string.format('%s %.0f %.0f', call, at, at + pauseMs), 'PX', math.min(pauseMs, longestTtl))
  end
  if configured ~= 'off' then set('noTakerUntil', at + pauseMs) end
  if configured == 'auto' and retryAfter ~= 0 and grantedAt and not isRefusedAgain then
    local wasKnown = limit and grantedAt > number('learnedAt')
    if not isTrial then learn(wasKnown) end
    set('trialsRefused', wasKnown and math.min(10, number('trialsRefused') + 1) or number('trialsRefused'))
    set('nextTrialAt', at + math.min(window, math.max(pauseMs, 2 * MINUTE)) * 2 ^ number('trialsRefused'))
  end
end
if not keepsPlace then return { at } end
if not ticket then
  if not limit and outcome ~= 'respelled' then return { at } end
  ticket = newTicket(app, grantedAt or at)
  tickets[#tickets + 1] = ticket
end
if outcome == 'refused' and grantedAt and not isSentAgain then
  ticket.refused = math.min(6, ticket.refused + 1)
  ticket.rests = at + restAfter(ticket.refused)
end
if outcome == 'respelled' or outcome == 'failed' and not (limit and failed >= FAILURES_TO_PROBE) then -- its owner comes again soon, or does not
  ticket.ends = math.max(ticket.ends, at + LEAST_PLACE)
  putAside(user, ticket)
  keepTickets(user, tickets)
  keepKeys()
  return { at }
end
local others, rests = enqueue(user, ticket)
local paused = pauseLeft(PAUSE)
local wait, again = promise(user, ticket, others, math.max(paused, rests))
keepTickets(user, tickets)
keepKeys()
return { at, wait, again, others + 1, string.format('%.0f', ticket.place), string.format('%.0f', ticket.ends), paused }

-- Whether ToolJet may be called. Who takes part becomes the one that probes, where it is only probed.
--
-- KEYS: pause, failures, probe.
-- ARGV: deadline, failures after which ToolJet is only probed, TTL of a probe in ms ('0': takes no part), name of this
--       call, longest TTL in ms.
-- Reply: { time, 'open' | 'paused' | 'failing', ms left, failures }.
local MAX, ttl, call, longest = tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])

local paused, length = pauseLeft(KEYS[1])
if paused > 0 then
  local name, starts = redis.call('GET', KEYS[1]):match('^(%S+) (%d+)')
  if tonumber(starts) > at then -- the clock went back: the pause begins again
    redis.call('SET', KEYS[1], string.format('%s %.0f %.0f', name, at, at + length))
  end
  redis.call('PEXPIRE', KEYS[1], math.min(paused, longest))
  return { at, 'paused', paused, 0 }
end
local failures = tonumber((redis.call('GET', KEYS[2]) or '0'):match('^%d+')) or 0
if failures < MAX then return { at, 'open', 0, failures } end
local probing = redis.call('PTTL', KEYS[3])
if probing > 0 and redis.call('GET', KEYS[3]) ~= call then return { at, 'failing', probing, failures } end
if ttl ~= '0' then redis.call('SET', KEYS[3], call, 'PX', ttl) end
return { at, 'open', 0, failures }

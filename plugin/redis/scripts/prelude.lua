-- What all scripts share. Redis's clock is the only one that decides; ARGV[1] is the moment, in its milliseconds, after
-- which a call does nothing (0: none is known), so that what a client sends again much later has no effect.
local function now ()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local at = now()
local deadline = tonumber(ARGV[1])
if deadline > 0 and at > deadline then return { at, 'late' } end

-- ToolJet's pause: "call start end", with times by Redis's clock. The TTL of its key may be shorter than the pause, and is
-- renewed by who looks.
-- Returns the ms that are left, and its length: no more than that is left when the clock went back.
local function pauseLeft (key)
  local starts, ends = (redis.call('GET', key) or ''):match('^%S+ (%d+) (%d+)$')
  if not starts then return 0, 0 end
  local length = ends - starts
  return math.max(0, math.min(ends - at, length)), length
end

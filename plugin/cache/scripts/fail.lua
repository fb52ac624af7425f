-- Ends an owner's mint that failed: stores the error for those who wait, and releases the lock. A denial by ToolJet is a
-- forget of the app, too.
--
-- KEYS: user.
-- ARGV: deadline, longest life of a URL in ms, app, owner, error as JSON, ms for which it is kept, '1' for a denial, start
--       of the mint call, how the e-mail is spelled for ToolJet ('': as before).
-- Reply: { time, moment up to which URLs are forgotten ('0': none are), names forgotten }. The error of an owner whose
--        lock has ended is not stored; its denial concerns what was minted before its call.
local life, app, owner, failure, keptFor, denial, started, spelled = unpack(ARGV, 2)
life = tonumber(life)
begin(life)
local isMine = lockOf(app) == owner

local moment, names = 0, ''
if denial == '1' then
  local _
  moment, _, names = forget(app, isMine and at or math.min(at, tonumber(started)), owner, life)
end
if isMine then
  drop('l' .. app)
  set('o' .. app, string.format('%s %.0f %s %s', owner, at + keptFor, denial, failure))
  keepSpelling(spelled, life)
end
finish(life)
return { at, string.format('%.0f', moment), names }

-- Lets go of a lock, if it is one's own.
--
-- KEYS: user. ARGV: deadline, longest life of a URL in ms, app, owner. Reply: { time }.
if lockOf(ARGV[3]) == ARGV[4] then
  drop('l' .. ARGV[3])
  finish(tonumber(ARGV[2]))
end
return { at }

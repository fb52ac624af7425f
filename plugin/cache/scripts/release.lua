-- Releases a lock, if this owner has it.
--
-- KEYS: user. ARGV: deadline, longest life of a URL in ms, app, owner. Reply: { time }.
if lockOf(ARGV[3]) == ARGV[4] then
  drop('l' .. ARGV[3])
  finish(tonumber(ARGV[2]))
end
return { at }

-- Releases a lock, if this owner has it.
--
-- KEYS: user. ARGV: deadline, longest life of a URL in ms, app, owner, how the e-mail is spelled for ToolJet
-- ('': as before). Reply: { time }.
if lockOf(ARGV[3]) == ARGV[4] then
  drop('l' .. ARGV[3])
  keepSpelling(ARGV[5], tonumber(ARGV[2]))
  finish(tonumber(ARGV[2]))
end
return { at }

-- Drops a user's URLs and stored failures, of one app or of all, and prevents that a mint under way is stored.
--
-- KEYS: user.
-- ARGV: deadline, longest life of a URL in ms, app ('*': all), id of this call, moment until which mints are concerned
--       (0: now).
-- Reply: { time, moment, how many URLs were dropped, names forgotten with ' ' between }.
local life, app, call, until_ = unpack(ARGV, 2)
life = tonumber(life)
begin(life)
until_ = math.min(tonumber(until_), at)
local moment, dropped, names = forget(app, until_ > 0 and until_ or at, call, life)
for name in names:gmatch('%S+') do
  if name ~= '*' then drop('o' .. name) end
end
if app == '*' then
  local all = {}
  for field in pairs(fields) do
    if field:sub(1, 1) == 'o' then all[#all + 1] = field end
  end
  for _, field in ipairs(all) do drop(field) end
end
finish(life)
return { at, string.format('%.0f', moment), dropped, names }

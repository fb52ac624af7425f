-- Stores a URL for each name of its app: that of a lock's owner, whose lock is released, or one that was minted while
-- Redis was unavailable. A URL that was forgotten since its mint began is not stored, nor one that is older than the present one.
--
-- KEYS: user.
-- ARGV: deadline, longest life of a URL in ms, app, owner ('-': minted while Redis was unavailable), id, start of its mint
--       call and its end in Redis's ms (13 digits each), ciphertext, names of the app with ' ' between, how the
--       e-mail is spelled for ToolJet ('': as before).
-- Reply: { time, 'stored' | 'forgotten' | 'superseded' }.
local life, app, owner, id, starts, ends, ciphertext, joined, spelled = unpack(ARGV, 2)
life = tonumber(life)
begin(life)
local names = {}
for name in joined:gmatch('%S+') do names[#names + 1] = name end

local isMine = owner ~= '-' and lockOf(app) == owner
if isMine then drop('l' .. app) end

local function outcome ()
  if fields['u' .. id] then return 'stored' end -- by this very call, the first time it was sent
  if isForgotten(names, tonumber(starts)) then return 'forgotten' end
  if not isMine and owner ~= '-' then return 'superseded' end
  for _, name in ipairs(names) do
    if owner == '-' and lockOf(name) then return 'superseded' end
    local other = urlOf(fields['n' .. name]) or invalidatedOf(name)
    if other and other >= tonumber(starts) then return 'superseded' end
  end
  for _, name in ipairs(names) do
    local other = fields['n' .. name]
    if other then dropUrl(other) end
  end
  set('u' .. id, starts .. ends .. ciphertext)
  for _, name in ipairs(names) do
    set('n' .. name, id)
    drop('o' .. name)
  end
  return 'stored'
end

local result = outcome()
keepSpelling(spelled, life)
finish(life)
return { at, result }

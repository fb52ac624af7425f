-- Returns the cached URL, or acquires the lock where a mint is needed and nobody mints yet.
--
-- KEYS: user.
-- ARGV: deadline, longest lifetime of a URL in ms, app, owner, lock's TTL in ms, time in ms for which a reused URL must
--       still be valid, its whole lifetime in ms by this name of the app, id of a URL that is reported dead ('-': none), id of one that cannot be
--       decrypted ('-': none), the owner this request has been waiting for ('-': none), '1' when it is in no hurry.
-- Reply: { time, 'url' | 'failed' | 'wait' | 'acquired', detail, id or '', URL as it is kept or '', and, if acquired, how many
--        other URLs the user has, and how the e-mail is spelled for ToolJet or '' } with detail: the error for 'failed', the
--        owner for 'wait', the lock's start for 'acquired'.
local life, app, owner, lockTtl, least, own, invalidated, unreadable, observed, isInNoHurry = unpack(ARGV, 2)
life = tonumber(life)

local id = fields['n' .. app]
if id and (id == invalidated or id == unreadable) then
  local starts, names = urlOf(id), namesOf(id)
  dropUrl(id)
  for _, name in ipairs(starts and names or {}) do set('n' .. name, string.format('-%.0f', starts)) end
  id = nil
end
local starts, ends, kept = urlOf(id)
local left = kept and starts <= at and math.min(ends, starts + own) - at or 0
if left <= 0 then id, kept = nil, nil end

local function others ()
  local count = 0
  for field in pairs(fields) do
    local other = field:match('^u(.+)$')
    local _, otherEnds = urlOf(other)
    if other and other ~= id and (otherEnds or 0) > at then count = count + 1 end
  end
  return count
end

local function reply (kind, detail)
  local isMine = kind == 'acquired'
  return { at, kind, detail, id or '', kept or '', isMine and others() or 0, isMine and spelling() or '' }
end

local lockOwner, since = lockOf(app)
if left > 0 and left >= tonumber(least) then
  if lockOwner == owner then -- this very call, sent again: its lock is not needed any more
    drop('l' .. app)
    finish(life)
  end
  return reply('url', '')
end

if lockOwner == owner then return reply('acquired', string.format('%.0f', since)) end

local failed, denial, failure = outcomeOf(app)
if failed and (denial == '1' or failed == observed) then return reply('failed', failure) end
if not lockOwner and isInNoHurry == '1' then -- a mint by another name may be of the same app
  for field in pairs(fields) do
    local other = field:match('^l(.+)$')
    if other and concerns({ app }, other) then lockOwner = lockOwner or lockOf(other) end
  end
end
if lockOwner then return reply('wait', lockOwner) end

begin(life)
set('l' .. app, string.format('%s %.0f %.0f', owner, at, at + lockTtl))
finish(life)
return reply('acquired', string.format('%.0f', at))

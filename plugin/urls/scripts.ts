import { Script } from '../redis/script.js'

/*
 * All keys of one script carry one user's hash tag, those too that it names itself, after the index: one slot in Redis
 * Cluster. A stored value reads `<url id>.<sealed>`, so that Lua can tell one URL from another without being able to
 * read it. Redis's own clock and TTLs are the only ones used. A lock holds the name of its owner, and '!' after that
 * when the URL was forgotten while it was minted.
 */
const COMMON = `
local function now ()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function key (index, kind, app)
  return string.sub(index, 1, -#'urls' - 1) .. kind .. ':' .. app
end

local function holds (lock, owner)
  local holder = redis.call('GET', lock)
  return holder == owner, holder == owner .. '!'
end

-- a URL is cached under each name of its app
local function drop (index, id)
  local names = redis.call('HGETALL', index)
  for i = 1, #names, 2 do
    if names[i + 1] == id then
      redis.call('DEL', key(index, 'url', names[i]))
      redis.call('HDEL', index, names[i])
    end
  end
end
`

/** KEYS: url. Returns { value or '', milliseconds left }. */
export const LOOK = new Script(`
return { redis.call('GET', KEYS[1]) or '', redis.call('PTTL', KEYS[1]) }
`)

/**
 * Takes the lock where a mint is needed and nobody mints yet.
 *
 * KEYS: index, url, lock, outcome.
 * ARGV: owner, lock's bound in ms, life in ms that a reused URL must still have, id of a URL that is dead ('': none),
 *       a value that cannot be read ('': none), the holder waited for so far ('': none), app key.
 * Returns { 'url' | 'failed' | 'wait' | 'mine', detail, value or '', milliseconds left, Redis's time in ms }
 * with detail: the outcome for 'failed', the holder for 'wait'.
 */
export const CLAIM = new Script(`${COMMON}
local index, url, lock, outcome = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local owner, bound, least, dead, unreadable, awaited, app = unpack(ARGV)

local value = redis.call('GET', url) or ''
local isDead = dead ~= '' and string.sub(value, 1, #dead + 1) == dead .. '.'
if isDead then drop(index, dead) end
if isDead or (unreadable ~= '' and value == unreadable) then
  redis.call('DEL', url)
  value = ''
end
local left = value ~= '' and redis.call('PTTL', url) or 0
if value ~= '' and left >= tonumber(least) then
  return { 'url', '', value, left, now() }
end

local failed = redis.call('GET', outcome)
if failed then
  local holder, denial = string.match(failed, '^(%S+) (%d) ')
  if denial == '1' or holder == awaited then
    return { 'failed', failed, value, left, now() }
  end
end

local holder = redis.call('GET', lock)
if holder then
  return { 'wait', (string.gsub(holder, '!$', '')), value, left, now() }
end

redis.call('SET', lock, owner, 'PX', bound)
-- forget() finds through the index what is being minted, too
redis.call('HSETNX', index, app, '')
if redis.call('PTTL', index) < tonumber(bound) then redis.call('PEXPIRE', index, bound) end
return { 'mine', '', value, left, now() }
`)

/**
 * The holder's good end: stores the URL under each name of its app and lets go of the lock. A holder that comes
 * after its lock's end, whose URL was forgotten meanwhile, or that finds a younger URL of the same app, stores nothing.
 * Without an owner it is a URL that was minted while Redis was away: stored where nobody mints a younger one now.
 *
 * KEYS: index, lock, outcome.
 * ARGV: owner or '', end of the URL's life in Redis's ms, url id, then app key and value for each name of the app.
 * Returns 1 when stored, else 0.
 */
export const STORE = new Script(`${COMMON}
local index, lock, outcome = KEYS[1], KEYS[2], KEYS[3]
local owner, ends, id = ARGV[1], ARGV[2], ARGV[3]
local left = ends - now()

if owner == '' then
  if redis.call('EXISTS', lock) == 1 then return 0 end
else
  local mine, forgotten = holds(lock, owner)
  if mine or forgotten then redis.call('DEL', lock) end
  if not mine then return 0 end
end
for i = 4, #ARGV, 2 do
  if redis.call('PTTL', key(index, 'url', ARGV[i])) > left then return 0 end
end

for i = 4, #ARGV, 2 do
  local url = key(index, 'url', ARGV[i])
  redis.call('SET', url, ARGV[i + 1])
  redis.call('PEXPIREAT', url, ends)
  redis.call('HSET', index, ARGV[i], id)
end
if redis.call('PTTL', index) < left then redis.call('PEXPIREAT', index, ends) end
redis.call('DEL', outcome)
return 1
`)

/**
 * The holder's bad end: tells those who wait, and lets go of the lock. A denial also ends a URL still cached.
 *
 * KEYS: index, lock, outcome.
 * ARGV: owner, outcome, its life in ms, '1' for a denial, app key.
 */
export const FAIL = new Script(`${COMMON}
local index, lock, outcome = KEYS[1], KEYS[2], KEYS[3]
local owner, failure, life, denial, app = unpack(ARGV)

local mine, forgotten = holds(lock, owner)
if not mine and not forgotten then return 0 end
redis.call('DEL', lock)
redis.call('SET', outcome, failure, 'PX', life)
local id = redis.call('HGET', index, app)
if id == '' then redis.call('HDEL', index, app) end
if id and id ~= '' and denial == '1' then drop(index, id) end
return 1
`)

/** Lets go of a lock, if it is one's own. KEYS: lock. ARGV: owner. */
export const RELEASE = new Script(`${COMMON}
local mine, forgotten = holds(KEYS[1], ARGV[1])
if mine or forgotten then redis.call('DEL', KEYS[1]) end
return 1
`)

/**
 * Drops a user's URLs and remembered failures, and keeps what is being minted right now from being stored.
 *
 * KEYS: index.
 * ARGV: app key ('': all of the user's).
 * Returns how many URLs were dropped; one under two names counts once.
 */
export const FORGET = new Script(`${COMMON}
local index, app = KEYS[1], ARGV[1]
local dropped, counted = 0, {}

local function forget (name, id)
  local lock = key(index, 'lock', name)
  local existed = redis.call('DEL', key(index, 'url', name)) == 1
  redis.call('DEL', key(index, 'outcome', name))
  redis.call('HDEL', index, name)
  local holder = redis.call('GET', lock)
  if holder and string.sub(holder, -1) ~= '!' then redis.call('APPEND', lock, '!') end
  if existed and not counted[id] then
    counted[id] = true
    dropped = dropped + 1
  end
end

local names = redis.call('HGETALL', index)
local wanted = app ~= '' and redis.call('HGET', index, app) or ''
for i = 1, #names, 2 do
  if app == '' or names[i] == app or (wanted ~= '' and names[i + 1] == wanted) then forget(names[i], names[i + 1]) end
end
if app ~= '' then forget(app, '') end
return dropped
`)

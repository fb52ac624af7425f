import { Script } from '../redis/script.js'

/*
 * All keys of one script carry one user's hash tag, those too that it names itself, after the index: one slot in Redis
 * Cluster. A URL is kept once, under its own id, so that Lua can tell one from another without being able to read it;
 * the index says which id each name of an app stands for: '' while its first URL is being minted, and an id that is no
 * more is a miss. Redis's own clock and TTLs are the only ones used. A lock holds the name of its owner, and '!' after
 * that when the URL was forgotten while it was minted.
 */
const KEY = `
local function key (index, kind, name)
  return string.sub(index, 1, -#'urls' - 1) .. kind .. ':' .. name
end
`

const COMMON = `${KEY}
local function now ()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function holds (lock, owner)
  local holder = redis.call('GET', lock)
  return holder == owner, holder == owner .. '!'
end
`

/**
 * KEYS: index. ARGV: app key.
 * Returns { url id or '', sealed or '', milliseconds left }.
 */
export const LOOK = new Script(`${KEY}
local id = redis.call('HGET', KEYS[1], ARGV[1])
if not id then return { '', '', 0 } end
local url = key(KEYS[1], 'url', id)
return { id, redis.call('GET', url) or '', redis.call('PTTL', url) }
`)

/**
 * Takes the lock where a mint is needed and nobody mints yet.
 *
 * KEYS: index, lock, outcome.
 * ARGV: owner, lock's bound in ms, life in ms that a reused URL must still have, id of a URL that is dead ('': none),
 *       id of one that does not open ('': none), the holder waited for so far ('': none), app key.
 * Returns { 'url' | 'failed' | 'wait' | 'mine', detail, url id or '', sealed or '', milliseconds left, Redis's time in ms }
 * with detail: the outcome for 'failed', the holder for 'wait'.
 */
export const CLAIM = new Script(`${COMMON}
local index, lock, outcome = KEYS[1], KEYS[2], KEYS[3]
local owner, bound, least, dead, unreadable, awaited, app = unpack(ARGV)

local id = redis.call('HGET', index, app) or ''
if id ~= '' and (id == dead or id == unreadable) then
  redis.call('DEL', key(index, 'url', id))
  id = ''
end
local sealed = id ~= '' and redis.call('GET', key(index, 'url', id)) or ''
local left = sealed ~= '' and redis.call('PTTL', key(index, 'url', id)) or 0
if sealed ~= '' and left >= tonumber(least) then
  return { 'url', '', id, sealed, left, now() }
end

local failed = redis.call('GET', outcome)
if failed then
  local holder, denial = string.match(failed, '^(%S+) (%d) ')
  if denial == '1' or holder == awaited then
    return { 'failed', failed, id, sealed, left, now() }
  end
end

local holder = redis.call('GET', lock)
if holder then
  return { 'wait', (string.gsub(holder, '!$', '')), id, sealed, left, now() }
end

redis.call('SET', lock, owner, 'PX', bound)
-- forget() finds through the index what is being minted, too
redis.call('HSETNX', index, app, '')
if redis.call('PTTL', index) < tonumber(bound) then redis.call('PEXPIRE', index, bound) end
return { 'mine', '', id, sealed, left, now() }
`)

/**
 * The holder's good end: stores the URL for each name of its app and lets go of the lock. A holder that comes after its
 * lock's end, whose URL was forgotten meanwhile, or that finds a younger URL of the same app, stores nothing.
 * Without an owner it is a URL that was minted while Redis was away: stored where nobody mints a younger one now.
 *
 * KEYS: index, lock, outcome.
 * ARGV: owner or '', end of the URL's life in Redis's ms, url id, sealed, then the app key of each name of the app.
 * Returns 1 when stored, else 0.
 */
export const STORE = new Script(`${COMMON}
local index, lock, outcome = KEYS[1], KEYS[2], KEYS[3]
local owner, ends, id, sealed = unpack(ARGV, 1, 4)
local left = ends - now()

if owner == '' then
  if redis.call('EXISTS', lock) == 1 then return 0 end
else
  local mine, forgotten = holds(lock, owner)
  if mine or forgotten then redis.call('DEL', lock) end
  if not mine then return 0 end
end
local olds = {}
for i = 5, #ARGV do
  local old = redis.call('HGET', index, ARGV[i])
  if old then olds[#olds + 1] = key(index, 'url', old) end
end
for _, old in ipairs(olds) do
  if redis.call('PTTL', old) > left then return 0 end
end

local url = key(index, 'url', id)
for _, old in ipairs(olds) do redis.call('DEL', old) end
redis.call('SET', url, sealed)
redis.call('PEXPIREAT', url, ends)
for i = 5, #ARGV do redis.call('HSET', index, ARGV[i], id) end
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
if id and denial == '1' then redis.call('DEL', key(index, 'url', id)) end
if id == '' or denial == '1' then redis.call('HDEL', index, app) end
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
local dropped = 0

local function forget (name, id)
  local lock = key(index, 'lock', name)
  if id ~= '' and redis.call('DEL', key(index, 'url', id)) == 1 then dropped = dropped + 1 end
  redis.call('DEL', key(index, 'outcome', name))
  redis.call('HDEL', index, name)
  local holder = redis.call('GET', lock)
  if holder and string.sub(holder, -1) ~= '!' then redis.call('APPEND', lock, '!') end
end

local names = redis.call('HGETALL', index)
local wanted = app ~= '' and redis.call('HGET', index, app) or ''
for i = 1, #names, 2 do
  if app == '' or names[i] == app or (wanted ~= '' and names[i + 1] == wanted) then forget(names[i], names[i + 1]) end
end
if app ~= '' then forget(app, '') end
return dropped
`)

import { Script } from '../redis/script.js'

/*
 * All keys of one script carry one user's hash tag. A stored value reads `<url id>.<sealed>`, so that Lua can tell
 * one URL from another without being able to read it. Redis's own clock and TTLs are the only ones used.
 */

/** KEYS: url. Returns { value or '', milliseconds left }. */
export const LOOK = new Script(`
return { redis.call('GET', KEYS[1]) or '', redis.call('PTTL', KEYS[1]) }
`)

/**
 * Takes the lock where a mint is needed and nobody mints yet.
 *
 * KEYS: lock, url, outcome, index.
 * ARGV: owner, lock's bound in ms, life in ms that a reused URL must still have, start of a value that is not wanted
 *       ('': none), the holder waited for so far ('': none), app key.
 * Returns { 'url' | 'failed' | 'wait' | 'mine', detail, value or '', milliseconds left, Redis's time in ms }
 * with detail: the outcome for 'failed', the holder for 'wait'.
 */
export const CLAIM = new Script(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local value = redis.call('GET', KEYS[2]) or ''
if ARGV[4] ~= '' and string.sub(value, 1, #ARGV[4]) == ARGV[4] then
  redis.call('DEL', KEYS[2])
  value = ''
end
local left = value ~= '' and redis.call('PTTL', KEYS[2]) or 0
if value ~= '' and left >= tonumber(ARGV[3]) then
  return { 'url', '', value, left, now }
end

local outcome = redis.call('GET', KEYS[3])
if outcome then
  local holder, denial = string.match(outcome, '^(%S+) (%d) ')
  if denial == '1' or holder == ARGV[5] then
    return { 'failed', outcome, value, left, now }
  end
end

local holder = redis.call('GET', KEYS[1])
if holder then
  return { 'wait', (string.gsub(holder, '!$', '')), value, left, now }
end

redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
-- forget() finds through the index what is being minted, too
redis.call('HSETNX', KEYS[4], ARGV[6], '')
if redis.call('PTTL', KEYS[4]) < tonumber(ARGV[2]) then
  redis.call('PEXPIRE', KEYS[4], ARGV[2])
end
return { 'mine', '', value, left, now }
`)

/**
 * The holder's good end: stores the URL under each name of its app and lets go of the lock. A holder that comes
 * after its lock's end, or whose URL was forgotten meanwhile (lock marked '!'), stores nothing.
 *
 * KEYS: lock, outcome, index, url, more urls.
 * ARGV: owner, end of the URL's life in Redis's ms, url id, then app key and value for each url.
 * Returns 1 when stored, else 0.
 */
export const STORE = new Script(`
local holder = redis.call('GET', KEYS[1])
if holder ~= ARGV[1] then
  if holder == ARGV[1] .. '!' then redis.call('DEL', KEYS[1]) end
  return 0
end
for i = 4, #KEYS do
  redis.call('SET', KEYS[i], ARGV[i * 2 - 3])
  redis.call('PEXPIREAT', KEYS[i], ARGV[2])
  redis.call('HSET', KEYS[3], ARGV[i * 2 - 4], ARGV[3])
end
local time = redis.call('TIME')
local left = ARGV[2] - (time[1] * 1000 + math.floor(time[2] / 1000))
if redis.call('PTTL', KEYS[3]) < left then
  redis.call('PEXPIREAT', KEYS[3], ARGV[2])
end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
`)

/**
 * The holder's bad end: tells those who wait, and lets go of the lock.
 *
 * KEYS: lock, outcome.
 * ARGV: owner, outcome, its life in ms.
 */
export const FAIL = new Script(`
local holder = redis.call('GET', KEYS[1])
if holder ~= ARGV[1] and holder ~= ARGV[1] .. '!' then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
`)

/**
 * Drops URLs, and keeps what is being minted right now from being stored.
 *
 * KEYS: index, then url, lock and outcome of each app.
 * ARGV: app key of each app.
 * Returns for each app 1 when a URL was dropped, else 0.
 */
export const FORGET = new Script(`
local dropped = {}
for i = 1, #ARGV do
  local lock = KEYS[i * 3]
  dropped[i] = redis.call('DEL', KEYS[i * 3 - 1])
  redis.call('DEL', KEYS[i * 3 + 1])
  redis.call('HDEL', KEYS[1], ARGV[i])
  if redis.call('EXISTS', lock) == 1 then redis.call('APPEND', lock, '!') end
end
return dropped
`)

/**
 * What stands before every script in the simulation. Time is virtual, so Redis's own clock and TTLs say nothing: the
 * ends of keys are kept in a sorted set of their own, keys whose end has passed are deleted before a script runs, and every
 * command that has to do with time or with the life of a key is carried out on that set.
 * The set is the last of KEYS, the virtual time (ms since 1970) the last of ARGV; the script does not see them.
 */
const SHIM = `
local sim_ends = table.remove(KEYS)
local sim_now = tonumber(table.remove(ARGV))
local sim_redis_call, sim_redis_pcall = redis['call'], redis['pcall']

for _, key in ipairs(sim_redis_call('ZRANGEBYSCORE', sim_ends, '-inf', '(' .. string.format('%.0f', sim_now))) do
  sim_redis_call('DEL', key)
  sim_redis_call('ZREM', sim_ends, key)
end

local function sim_set_end (key, at, flag)
  if sim_redis_call('EXISTS', key) == 0 then return 0 end
  local old = tonumber(sim_redis_call('ZSCORE', sim_ends, key) or nil)
  flag = flag and string.upper(flag)
  if flag == 'NX' and old or flag == 'XX' and not old then return 0 end
  if flag == 'GT' and (not old or at <= old) or flag == 'LT' and old and at >= old then return 0 end
  if at <= sim_now then
    sim_redis_call('DEL', key)
    sim_redis_call('ZREM', sim_ends, key)
  else
    sim_redis_call('ZADD', sim_ends, string.format('%.0f', at), key)
  end
  return 1
end

local function sim_end_of (key)
  if sim_redis_call('EXISTS', key) == 0 then return -2 end
  return tonumber(sim_redis_call('ZSCORE', sim_ends, key) or '-1')
end

-- a key that is gone has no end either
local function sim_after (key, ...)
  if sim_redis_call('EXISTS', key) == 0 then sim_redis_call('ZREM', sim_ends, key) end
  return ...
end

local sim = {}
function sim.TIME () return { string.format('%.0f', math.floor(sim_now / 1000)), string.format('%.0f', sim_now % 1000 * 1000) } end
function sim.PEXPIRE (call, key, ms, flag) return sim_set_end(key, sim_now + ms, flag) end
function sim.EXPIRE (call, key, s, flag) return sim_set_end(key, sim_now + s * 1000, flag) end
function sim.PEXPIREAT (call, key, at, flag) return sim_set_end(key, tonumber(at), flag) end
function sim.EXPIREAT (call, key, at, flag) return sim_set_end(key, at * 1000, flag) end
function sim.PERSIST (call, key) return sim_redis_call('ZREM', sim_ends, key) end
function sim.PEXPIRETIME (call, key) return sim_end_of(key) end
function sim.PTTL (call, key)
  local at = sim_end_of(key)
  return at < 0 and at or at - sim_now
end
function sim.TTL (call, key)
  local at = sim_end_of(key)
  return at < 0 and at or math.floor((at - sim_now + 500) / 1000)
end
function sim.SET (call, key, value, ...)
  local rest, at, keep = {}, nil, false
  local options, i = { ... }, 1
  while i <= #options do
    local option = string.upper(options[i])
    if option == 'PX' then at = sim_now + options[i + 1]; i = i + 1
    elseif option == 'EX' then at = sim_now + options[i + 1] * 1000; i = i + 1
    elseif option == 'PXAT' then at = tonumber(options[i + 1]); i = i + 1
    elseif option == 'EXAT' then at = options[i + 1] * 1000; i = i + 1
    elseif option == 'KEEPTTL' then keep = true
    else rest[#rest + 1] = option end
    i = i + 1
  end
  local done = call('SET', key, value, unpack(rest))
  if done and not (type(done) == 'table' and done.err) then
    if not keep then sim_redis_call('ZREM', sim_ends, key) end
    if at then sim_set_end(key, at) end
  end
  return done
end
function sim.PSETEX (call, key, ms, value) return sim.SET(call, key, value, 'PX', ms) end
function sim.SETEX (call, key, s, value) return sim.SET(call, key, value, 'EX', s) end
function sim.GETEX (call) return call('GETEX of the simulation is not there') end
function sim.GETSET (call, key, value)
  sim_redis_call('ZREM', sim_ends, key)
  return call('GETSET', key, value)
end
function sim.DEL (call, ...)
  sim_redis_call('ZREM', sim_ends, ...)
  return call('DEL', ...)
end
sim.UNLINK = sim.DEL
-- ids of a stream are moments, too
function sim.XADD (call, key, ...)
  local args = { ... }
  for i, arg in ipairs(args) do
    if arg == '*' then
      local last = sim_redis_call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
      local ms, number = (last and last[1] or '0-0'):match('^(%d+)-(%d+)$')
      args[i] = tonumber(ms) < sim_now and string.format('%.0f-0', sim_now) or string.format('%s-%d', ms, number + 1)
      break
    end
  end
  return call('XADD', key, unpack(args))
end
function sim.RENAME (call) return call('RENAME of the simulation is not there') end
sim.COPY, sim.RESTORE = sim.RENAME, sim.RENAME
for _, name in ipairs({ 'HDEL', 'SREM', 'SPOP', 'ZREM', 'ZPOPMIN', 'ZPOPMAX', 'ZREMRANGEBYSCORE', 'ZREMRANGEBYRANK', 'ZREMRANGEBYLEX', 'LPOP', 'RPOP', 'LREM', 'LTRIM', 'GETDEL' }) do
  sim[name] = function (call, key, ...) return sim_after(key, call(name, key, ...)) end
end

local function sim_call (name, ...)
  local instead = sim[string.upper(name)]
  if instead then return instead(sim_redis_call, ...) end
  return sim_redis_call(name, ...)
end
local function sim_pcall (name, ...)
  local instead = sim[string.upper(name)]
  if instead then return instead(sim_redis_pcall, ...) end
  return sim_redis_pcall(name, ...)
end
-- what follows is the script
`
/** After it comes the script itself. */
export const END_OF_SHIM = '-- what follows is the script'

/** The same script in virtual time. */
export function virtualLua (lua: string): string {
  const shebang = /^#!.*\n/.exec(lua)?.[0] ?? ''
  return shebang + SHIM + lua.slice(shebang.length).replaceAll(/\bredis\.(p?call)\b/g, 'sim_$1')
}

/** A command outside of a script. ARGV: its name, its arguments. */
export const COMMAND = 'return redis.call(unpack(ARGV))'

/** ARGV: pattern of the keys of one schedule. Returns { key, dump, … }: all that is in Redis. */
export const SNAPSHOT = `
local all = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  all[#all + 1] = key
  all[#all + 1] = redis.call('DUMP', key)
end
return all
`

/** ARGV: pattern, then { key, dump, … } to put in place of what is there. */
export const RESTORE = `
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end
for i = 2, #ARGV, 2 do redis.call('RESTORE', ARGV[i], 0, ARGV[i + 1]) end
`

import type { AuditKeys } from '../../audit/audit-keys.js'

const SCRIPTS = 'eval evalsha'
const STREAM = 'xadd xtrim xlen xrange xrevrange'
const TAGGED = 'get set del exists pttl pexpire append strlen getrange hget hlen hstrlen hmget hgetall hkeys hscan hset hincrby hdel zadd zcard zscore zcount zrange zrangebyscore zrank zrem zremrangebyscore zremrangebyrank'
const FORGETS = 'xadd xlen xrange pttl pexpire'

/** Commands as the plugin sends them, those of the ACL user in docs/audit.md: Redis is asked whether this user may run them. */
export function neededCommands (keyPrefix: string, keys: AuditKeys): string[] {
  const on = (commands: string, key: string): string[] => commands.split(' ').map((command) => `${command} ${key}${command === 'del' || command === 'exists' ? '' : ' 1 1'}`)
  return [
    'ping',
    'info',
    'time',
    'select 0',
    ...SCRIPTS.split(' ').map((command) => `${command} x 1 ${keyPrefix}x`),
    ...on(STREAM, keys.stream),
    `xinfo stream ${keys.stream}`,
    ...on(TAGGED, `{${keyPrefix}x}`),
    ...on('append hset', keys.index),
    ...on(FORGETS, `${keyPrefix}forgets`),
    ...on('set', `${keyPrefix}probe`),
  ]
}

/** Which of the commands in ARGV this user may not run, each once; from Redis 7 on. */
export const MAY_NOT = `
local refused, seen = {}, {}
for _, line in ipairs(ARGV) do
  local words = {}
  for word in line:gmatch('%S+') do words[#words + 1] = word end
  if not redis.acl_check_cmd(unpack(words)) and not seen[words[1]] then
    seen[words[1]] = true
    refused[#refused + 1] = words[1]
  end
end
return refused`

/** Commands that the plugin does not need, and with which a leaked password could delete the log. */
export const TOO_MUCH = ['flushall', 'config set maxmemory 1', 'keys *']

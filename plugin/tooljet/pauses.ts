import { isRedisDown } from '../errors.js'
import type { RedisGuard } from '../redis/guard.js'
import type { RedisLike } from '../redis/redis-like.js'
import { Script } from '../redis/script.js'

/** Where one question cannot be about several keys: so many are asked about, each with a command of its own. */
const MAX_ASKED_EACH = 20

/** KEYS: pauses. Returns for each of them the milliseconds that are left, not more than 0 without one. */
const PAUSES = new Script(`
local left = {}
for i, key in ipairs(KEYS) do left[i] = redis.call('PTTL', key) end
return left
`)

/**
 * How long the fleet's pauses of several ToolJets still are, in one question for all of them. Their keys lie in many
 * slots: in a Redis Cluster only the first 20 are asked about, and of the others an instance knows what it has seen itself.
 * @param keys the most important ones first
 * @returns milliseconds for each; 0: none, or not known
 */
export async function pausesLeft (guard: RedisGuard, keys: string[]): Promise<number[]> {
  if (keys.length === 0) return []
  try {
    const left = await guard.run((redis) => (redis.nodes === undefined || keys.length === 1 ? together(redis, keys) : each(redis, keys))) as unknown[]
    return keys.map((_, i) => Math.max(0, Number(left[i] ?? 0)))
  } catch (error) {
    if (!isRedisDown(error)) throw error
    return keys.map(() => 0)
  }
}

async function together (redis: RedisLike, keys: string[]): Promise<unknown> {
  try {
    return await PAUSES.run(redis, keys, [])
  } catch (error) {
    // a Cluster behind a proxy, which looks like a single Redis
    if (!(error instanceof Error) || !error.message.startsWith('CROSSSLOT')) throw error
    return each(redis, keys)
  }
}

async function each (redis: RedisLike, keys: string[]): Promise<unknown> {
  return Promise.all(keys.slice(0, MAX_ASKED_EACH).map((key) => redis.pttl(key)))
}

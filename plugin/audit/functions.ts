import { lua } from '../redis/lua.js'
import type { RedisLike } from '../redis/redis-like.js'

/** The queries as a script, for `EVAL` and `redis-cli --eval`. */
export const QUERIES = ['calendar', 'entries', 'counters', 'queries/arguments', 'queries/events', 'queries/totals', 'queries/calls'].map((name) => lua(`audit/scripts/${name}.lua`)).join('\n')

/** The queries as a library of Redis Functions, for `FUNCTION LOAD` of Redis 7 and later. */
export const LIBRARY = `#!lua name=tooljet_embed\n${QUERIES}`

/** Of the library: a newer one has a higher number. */
export const VERSION = Number(/VERSION = (\d+)/.exec(QUERIES)![1])

/**
 * Loads the library into every master; a newer one that is there stays.
 * @throws what Redis says: it is older than 7, or this user may not
 */
export async function loadLibrary (redis: RedisLike): Promise<void> {
  const nodes = redis.nodes?.('master') ?? [redis]
  await Promise.all(nodes.map(async (node) => {
    try {
      await node.call('FUNCTION', 'LOAD', LIBRARY)
    } catch (error) {
      if (!(error instanceof Error) || !error.message.includes('already exists')) throw error
      const loaded = Number(await node.call('FCALL', 'tooljet_audit_version', '0'))
      if (loaded < VERSION) await node.call('FUNCTION', 'LOAD', 'REPLACE', LIBRARY)
    }
  }))
}

import { createHash } from 'node:crypto'
import type { RedisLike } from './redis-like.js'

/**
 * A Lua script that Redis runs by its digest, and gets in full only when it does not know it yet.
 * Not `defineCommand`: that would add a method to a client which belongs to the host.
 */
export class Script {
  readonly #lua: string
  readonly #sha1: string

  constructor (lua: string) {
    this.#lua = lua
    this.#sha1 = createHash('sha1').update(lua).digest('hex')
  }

  async run (redis: Pick<RedisLike, 'eval' | 'evalsha'>, keys: string[], args: (string | number)[]): Promise<unknown> {
    try {
      return await redis.evalsha(this.#sha1, keys.length, ...keys, ...args)
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error
      return redis.eval(this.#lua, keys.length, ...keys, ...args)
    }
  }
}

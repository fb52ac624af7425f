import { createHash } from 'node:crypto'
import { lua } from './lua.js'
import { callForBytes, type RedisArgument, type RedisLike } from './redis-like.js'

/**
 * A Lua script, run by its digest (EVALSHA); the text is sent only when Redis does not know it yet.
 * Not `defineCommand`: that would add a method to a client which belongs to the host.
 */
export class Script {
  readonly #lua: string
  readonly #sha1: string

  constructor (lua: string) {
    this.#lua = lua
    this.#sha1 = createHash('sha1').update(lua).digest('hex')
  }

  /** @param paths of Lua files below plugin/, joined to one script after the prelude */
  static of (...paths: string[]): Script {
    return new Script(['redis/scripts/prelude.lua', ...paths].map(lua).join('\n'))
  }

  /** @returns strings as strings */
  run (redis: Pick<RedisLike, 'eval' | 'evalsha'>, keys: readonly string[], args: readonly RedisArgument[]): Promise<unknown> {
    return this.#runBy((sha1) => redis.evalsha(sha1, keys.length, ...keys, ...args), () => redis.eval(this.#lua, keys.length, ...keys, ...args))
  }

  /** @param onUnknown called when Redis does not know the script yet @returns strings as bytes */
  runForBytes (redis: RedisLike, keys: readonly string[], args: readonly RedisArgument[], onUnknown = (): void => {}): Promise<unknown> {
    const reply = this.#runBy((sha1) => callForBytes(redis, 'evalsha', sha1, keys.length, ...keys, ...args), () => {
      onUnknown()
      return callForBytes(redis, 'eval', this.#lua, keys.length, ...keys, ...args)
    })
    return hasStringNumbers(redis) ? reply.then(withNumbers) : reply
  }

  /** As a user who may only read: Redis 7 has commands for that. @returns strings as bytes */
  async runReadOnly (redis: { callBuffer (command: string, ...args: RedisArgument[]): Promise<unknown> }, keys: readonly string[], args: readonly RedisArgument[]): Promise<unknown> {
    const runAs = (suffix: string): Promise<unknown> => this.#runBy(
      (sha1) => redis.callBuffer(`EVALSHA${suffix}`, sha1, keys.length, ...keys, ...args),
      () => redis.callBuffer(`EVAL${suffix}`, this.#lua, keys.length, ...keys, ...args)
    )
    try {
      return await runAs('_RO')
    } catch (error) {
      if (!(error instanceof Error) || !/unknown command/i.test(error.message)) throw error
      return runAs('')
    }
  }

  async #runBy (byDigest: (sha1: string) => Promise<unknown>, inFull: () => Promise<unknown>): Promise<unknown> {
    try {
      return await byDigest(this.#sha1)
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error
      return inFull()
    }
  }
}

/** Whether a client gives numbers as strings. */
function hasStringNumbers ({ options = {} }: Pick<RedisLike, 'options'>): boolean {
  const { stringNumbers, redisOptions } = options as { stringNumbers?: boolean, redisOptions?: { stringNumbers?: boolean } }
  return stringNumbers === true || redisOptions?.stringNumbers === true
}

/** In a reply whose strings are bytes, any string is a number. */
function withNumbers (reply: unknown): unknown {
  if (Array.isArray(reply)) return reply.map(withNumbers)
  return typeof reply === 'string' ? Number(reply) : reply
}

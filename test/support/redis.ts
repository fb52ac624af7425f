import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { urlFor } from './acl.js'
import { provideRedis, type ProvidedRedis } from '../../example/redis.js'

let pluginUrl: Promise<string> | undefined
let provided: Promise<ProvidedRedis> | undefined

/** The Redis that all tests of a run share: `test/run.ts` names it, a file that runs alone brings its own. */
export async function sharedRedisUrl (): Promise<string> {
  provided ??= process.env['TEST_REDIS_URL'] !== undefined
    ? Promise.resolve({ url: process.env['TEST_REDIS_URL'], how: 'test run', stop: async () => {} })
    : provideRedis()
  return (await provided).url
}

/** The same Redis, as the user that docs/audit.md gives to the plugin: it has exactly what it needs. */
export async function pluginRedisUrl (): Promise<string> {
  pluginUrl ??= urlFor('tooljet-embed', await sharedRedisUrl(), 'test-*:')
  return pluginUrl
}

export async function stopOwnRedis (): Promise<void> {
  await (await provided)?.stop()
}

/** All keys that start with the prefix, or with it inside a hash tag. */
export async function keysOf (redis: Redis, prefix: string): Promise<string[]> {
  const found: string[] = []
  for (const pattern of [`${prefix}*`, `{${prefix}*`]) {
    for await (const page of redis.scanStream({ match: pattern, count: 1000 })) found.push(...page as string[])
  }
  return [...new Set(found)]
}

/** Every value of a key of any type, as text: for looking for what must not be there. */
export async function dump (redis: Redis, key: string): Promise<string> {
  switch (await redis.type(key)) {
    case 'string': return String(await redis.get(key))
    case 'hash': return JSON.stringify(await redis.hgetall(key))
    case 'zset': return JSON.stringify(await redis.zrange(key, '0', '-1'))
    case 'stream': return JSON.stringify(await redis.xrange(key, '-', '+'))
    default: return ''
  }
}

/** A field of a user's hash in the cache. */
export interface CacheField {
  key: string
  field: string
  value: Buffer
}

const KINDS = { url: 'u', name: 'n', lock: 'l', outcome: 'o', forgets: 'f' }

/** What the cache holds of one kind, of all users. */
export async function cacheFields (redis: Redis, prefix: string, kind: keyof typeof KINDS): Promise<CacheField[]> {
  const keys = (await keysOf(redis, prefix)).filter((key) => key.endsWith(':urls'))
  const all = await Promise.all(keys.map(async (key) => {
    return Object.entries(await redis.hgetallBuffer(key)).map(([field, value]) => ({ key, field, value }))
  }))
  return all.flat().filter(({ field }) => field.startsWith(KINDS[kind]))
}

/** By which Redis knows a script of the plugin, of Lua files below plugin/. */
export function digestOf (...paths: string[]): string {
  const texts = ['redis/scripts/prelude.lua', ...paths].map((path) => readFileSync(new URL(`../../plugin/${path}`, import.meta.url), 'utf8'))
  return createHash('sha1').update(texts.join('\n')).digest('hex')
}

/** Of a script of the cache. */
export function cacheScript (name: string): string {
  return digestOf('cache/scripts/user.lua', `cache/scripts/${name}.lua`)
}

/**
 * A client for a real Redis, which does what it is told, that holds up the answers of some scripts.
 * @param isHeldUp gets the arguments of `evalsha`: digest, number of keys, keys and the script's own
 */
export function holdUp (redis: Redis, isHeldUp: (args: unknown[], answer: unknown) => boolean, ms: number): Redis {
  return new Proxy(redis, {
    get (target, name) {
      const method: unknown = Reflect.get(target, name)
      if (typeof method !== 'function') return method
      const run = method.bind(target) as (...args: unknown[]) => Promise<unknown>
      if (name !== 'evalsha' && name !== 'evalshaBuffer') return run
      return async (...args: unknown[]) => {
        const answer = await run(...args)
        if (isHeldUp(args, answer)) await sleep(ms)
        return answer
      }
    },
  })
}

import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
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

export function newClient (url: string): Redis {
  const client = new Redis(url)
  client.on('error', () => {})
  return client
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
    case 'stream': return JSON.stringify(await redis.xrange(key, '-', '+'))
    default: return ''
  }
}

/** A client for a real Redis, which does what it is told, that holds up the answers of some scripts. */
export function holdUp (redis: Redis, isHeldUp: (args: unknown[]) => boolean, ms: number): Redis {
  return new Proxy(redis, {
    get (target, name) {
      const method: unknown = Reflect.get(target, name)
      if (name !== 'evalsha') return typeof method === 'function' ? method.bind(target) : method
      return async (...args: [string, number]) => {
        const answer: unknown = await target.evalsha(...args)
        if (isHeldUp(args)) await sleep(ms)
        return answer
      }
    },
  })
}

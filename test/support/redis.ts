import { Redis } from 'ioredis'
import { provideRedis, type ProvidedRedis } from '../../example/redis.js'

let provided: Promise<ProvidedRedis> | undefined

/** The Redis that all tests of a run share: `test/run.ts` names it, a file that runs alone brings its own. */
export async function sharedRedisUrl (): Promise<string> {
  provided ??= process.env['TEST_REDIS_URL'] !== undefined
    ? Promise.resolve({ url: process.env['TEST_REDIS_URL'], how: 'test run', stop: async () => {} })
    : provideRedis()
  return (await provided).url
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

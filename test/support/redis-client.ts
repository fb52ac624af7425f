import type { Redis } from 'ioredis'

/** The classes of the clients that hosts of the tests have: ioredis's, or those of its fork. */
export const redisClasses: Pick<typeof import('ioredis'), 'Redis' | 'Cluster'> = process.env['TEST_REDIS_CLIENT'] === 'iovalkey'
  ? await import('iovalkey') as never
  : await import('ioredis')

export function newClient (url: string): Redis {
  const client = new redisClasses.Redis(url)
  client.on('error', () => {})
  return client
}

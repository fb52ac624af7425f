import type { Cluster, Redis } from 'ioredis'
import type { RedisLike } from './redis-like.js'

/**
 * The client to use: the host's own, which is never closed here, or one of ours for a URL.
 * Does not wait for the connection.
 */
export async function connect (redis: RedisLike | string): Promise<{ redis: RedisLike, disconnect: () => void }> {
  if (typeof redis !== 'string') return { redis, disconnect: () => {} }
  const { Redis } = await import('ioredis')
  const client = new Redis(redis, { retryStrategy: (times) => Math.min(times * 50, 1000) })
  client.on('error', () => { /* the guard logs each change of state */ })
  return { redis: client, disconnect: () => disconnect(client) }
}

/** Closes a client of ours. */
export function disconnect (client: Redis | Cluster): void {
  // ioredis takes one error of each socket; a TLS handshake that is broken off brings two, and the second would end the process
  for (const { stream } of 'nodes' in client ? client.nodes() : [client]) stream?.on('error', () => {})
  client.disconnect()
}

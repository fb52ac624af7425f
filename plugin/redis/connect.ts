import type { Cluster, Redis } from 'ioredis'
import { isCluster, type RedisLike } from './redis-like.js'

/** A way to Redis. */
export interface Connection {
  redis: RedisLike
  /** Whether the plugin made it. */
  isOwn: boolean
  /** Where Redis is, for log lines; no password. */
  address: string
  disconnect: () => void
}

/**
 * The client to use: the host's own, which is never closed here, or one of ours for a URL.
 * Does not wait for the connection.
 */
export async function connect (redis: RedisLike | string): Promise<Connection> {
  if (typeof redis !== 'string') return { redis, isOwn: false, address: addressOf(redis), disconnect: () => {} }
  const { Redis } = await import('ioredis')
  const client = new Redis(redis, { retryStrategy: (times) => Math.min(times * 50, 1000) })
  client.on('error', () => { /* the circuit breaker logs each change of state */ })
  return { redis: client, isOwn: true, address: addressOf(client), disconnect: () => disconnect(client) }
}

/** Closes a client of ours. */
export function disconnect (client: Redis | Cluster): void {
  // ioredis takes one error of each socket; a TLS handshake that is broken off brings two, and the second would end the process
  for (const { stream } of 'nodes' in client ? client.nodes() : [client]) stream?.on('error', () => {})
  client.disconnect()
}

function addressOf (redis: RedisLike): string {
  if (isCluster(redis)) return 'a Cluster'
  const { host = 'localhost', port = 6379, path } = (redis.options ?? {}) as { host?: string, port?: number, path?: string }
  return path ?? `${host}:${port}`
}

import { errorMonitor, type EventEmitter } from 'node:events'
import type { Cluster, Redis } from 'ioredis'
import { connectionError, isReply } from './errors.js'
import { isCluster, type RedisLike } from './redis-like.js'
import { parseRedisUrl } from './url.js'

/** After Redis has refused what a client of ours begins with. */
const REFUSED_RETRY_MS = 1000

/** A way to Redis. */
export interface Connection {
  redis: RedisLike
  /** Where Redis is, for log lines; no password. */
  address: string
  /** What last went wrong with it, until an answer came. */
  lastFailure?: ConnectionFailure
  /** Before commands are sent: what has to succeed for them to go where they belong; most times nothing. */
  check?: (() => Promise<unknown> | undefined) | undefined
  /** Resolves when it is connected, at the latest after that many milliseconds. */
  whenReady?: (timeoutMs: number) => Promise<void>
  disconnect: () => void
}

/** Why there is no connection: what waits for one hears only that there is no answer. */
export interface ConnectionFailure {
  error?: Error | undefined
}

/**
 * The client to use: the host's own, which is never closed here, or one of ours for a URL.
 * Does not wait for the connection.
 * @throws RedisUrlError when the URL is none
 */
export async function connect (redis: RedisLike | string): Promise<Connection> {
  return typeof redis === 'string' ? connectTo(redis) : useOf(redis)
}

async function connectTo (url: string): Promise<Connection> {
  const options = parseRedisUrl(url)
  const { Redis } = await import('ioredis')
  // the circuit breaker's probe is the check whether it is ready, and the server need not know the library's name
  const client = new Redis({ ...options, retryStrategy: (times) => Math.min(times * 50, 1000), enableReadyCheck: false, disableClientInfo: true })
  const lastFailure = trackFailures(client)
  let isOver = false
  let retry: NodeJS.Timeout | undefined
  endWhenRefused(client)
  client.on('end', () => {
    if (!isOver) retry = setTimeout(() => { client.connect().catch(() => { /* `error` has told */ }) }, REFUSED_RETRY_MS).unref()
  })
  return {
    redis: client,
    address: addressOf(client),
    lastFailure,
    disconnect () {
      isOver = true
      clearTimeout(retry)
      disconnect(client)
    },
  }
}

function useOf (redis: RedisLike): Connection {
  return {
    redis,
    address: addressOf(redis),
    lastFailure: trackFailures(redis),
    check: isCluster(redis) ? undefined : databaseCheck(redis),
    whenReady: (timeoutMs) => whenReady(redis, timeoutMs),
    disconnect: () => {},
  }
}

const tracked = new WeakMap<object, ConnectionFailure>()

/** Hears of errors without handling them: the host's client, too, is as it was. One listener, however often it is used. */
function trackFailures (client: RedisLike): ConnectionFailure {
  const known = tracked.get(client)
  if (known !== undefined) return known
  const lastFailure: ConnectionFailure = {}
  tracked.set(client, lastFailure)
  const { on } = client as Partial<EventEmitter>
  on?.call(client, errorMonitor, (error: unknown) => { lastFailure.error = connectionError(error) })
  return lastFailure
}

/**
 * A client whose SELECT was refused while it connected is in database 0, and does not know it: so each new connection
 * is told once more which database it is believed to be in.
 */
function databaseCheck (redis: RedisLike): () => Promise<unknown> | undefined {
  let checked: unknown
  return () => {
    const { status, stream, condition, options } = redis as RedisLike & { status?: string, condition?: { select?: number }, options?: { db?: number } }
    const database = condition?.select ?? options?.db ?? 0
    if (database === 0 || (status === 'ready' && stream === checked)) return undefined
    return redis.call('SELECT', database).then(() => { checked = redis.stream })
  }
}

/** A client that queues nothing while it connects refuses whatever it is asked first. */
async function whenReady (redis: RedisLike, timeoutMs: number): Promise<void> {
  const { status, once, off } = redis as RedisLike & Partial<EventEmitter> & { status?: string }
  if (status === undefined || status === 'ready' || status === 'end' || once === undefined || off === undefined) return
  if (status === 'wait') redis.ping().catch(() => { /* this connects it */ })
  await new Promise<void>((resolve) => {
    const isReady = (): void => {
      clearTimeout(timer)
      off.call(redis, 'ready', isReady)
      resolve()
    }
    const timer = setTimeout(isReady, timeoutMs)
    once.call(redis, 'ready', isReady)
  })
}

/** A client of ours goes on when its SELECT is refused, in another database: what waits for the connection is to fail with it. */
export function endWhenRefused (client: Redis | Cluster): void {
  client.on('error', (error: unknown) => { if (isReply(error)) client.disconnect() })
}

/** Closes a client of ours. */
export function disconnect (client: Redis | Cluster): void {
  const sockets = ('nodes' in client ? client.nodes() : [client]).flatMap(({ stream }) => stream ?? [])
  // ioredis takes one error of each socket; a TLS handshake that is broken off brings two, and the second would end the process
  for (const socket of sockets) socket.on('error', () => {})
  client.disconnect()
  // ioredis keeps the process for 2 s, or until the socket closes: one that has closed does not do so again, one that was never open not by itself
  for (const socket of sockets) {
    if (socket.closed) socket.emit('close')
    else if (socket.connecting) socket.destroy()
  }
}

function addressOf (redis: RedisLike): string {
  if (isCluster(redis)) return 'a Cluster'
  const { host = 'localhost', port = 6379, path } = (redis.options ?? {}) as { host?: string, port?: number, path?: string }
  return path ?? `${host}:${port}`
}

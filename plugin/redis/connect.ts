import { errorMonitor, type EventEmitter } from 'node:events'
import type { Cluster, Redis } from 'ioredis'
import { connectionError, isReply } from './errors.js'
import { isCluster, type RedisLike } from './redis-like.js'
import { parseRedisUrl } from './url.js'

/** Time until a client of ours connects again after Redis has refused its handshake. */
const REFUSED_RETRY_MS = 1000

/** A client of Redis, and what the circuit breaker needs besides. */
export interface Connection {
  redis: RedisLike
  /** Where Redis is, for log lines; no password. */
  address: string
  /** The last error of the connection, until an answer comes. */
  lastFailure?: ConnectionFailure
  /** Has to succeed before commands are sent, so that they go to the right database; returns nothing when there is nothing to check. */
  check?: (() => Promise<unknown> | undefined) | undefined
  /** Resolves when the client is connected, or after `timeoutMs`. */
  whenReady?: (timeoutMs: number) => Promise<void>
  disconnect: () => void
}

/** Why there is no connection. Commands that wait for one only fail with "no answer". */
export interface ConnectionFailure {
  error?: Error | undefined
}

/**
 * The client to use: the host's own, which is never closed here, or one of ours for a URL.
 * Does not wait for the connection.
 * @throws RedisUrlError when the URL is none
 */
export async function connect (redis: RedisLike | string): Promise<Connection> {
  return typeof redis === 'string' ? createClient(redis) : useClient(redis)
}

async function createClient (url: string): Promise<Connection> {
  const options = parseRedisUrl(url)
  const { Redis } = await import('ioredis')
  // the circuit breaker's probe is the check whether it is ready, and the server need not know the library's name
  const client = new Redis({ ...options, retryStrategy: (times) => Math.min(times * 50, 1000), enableReadyCheck: false, disableClientInfo: true })
  const lastFailure = trackFailures(client)
  let isOver = false
  let retry: NodeJS.Timeout | undefined
  endWhenRefused(client)
  client.on('end', () => {
    if (!isOver) retry = setTimeout(() => { client.connect().catch(() => { /* event `error` has it */ }) }, REFUSED_RETRY_MS).unref()
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

function useClient (redis: RedisLike): Connection {
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

/** Records errors without handling them, so that the host's client behaves as before. One listener for each client. */
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
 * A client whose SELECT was refused while it connected is in database 0 without knowing it: so SELECT is sent once more
 * on each new connection.
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

/** A client with `enableOfflineQueue: false` refuses commands until it is connected: wait for it. */
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

/** Our client would go on in another database when its SELECT is refused: instead, what waits for the connection fails. */
export function endWhenRefused (client: Redis | Cluster): void {
  client.on('error', (error: unknown) => { if (isReply(error)) client.disconnect() })
}

/** Closes a client of ours. */
export function disconnect (client: Redis | Cluster): void {
  const sockets = ('nodes' in client ? client.nodes() : [client]).flatMap(({ stream }) => stream ?? [])
  // ioredis handles one error of each socket; a TLS handshake that is broken off has two, and the second would end the process
  for (const socket of sockets) socket.on('error', () => {})
  client.disconnect()
  // ioredis keeps the process alive for 2 s or until the socket closes, so make sure that each emits `close`
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

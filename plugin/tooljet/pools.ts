import { LRUCache } from 'lru-cache'
import { getProxyForUrl } from 'proxy-from-env'
import type { Socket } from 'node:net'
import { buildConnector, Pool, ProxyAgent, type Dispatcher } from 'undici'
import { embedError } from '../errors.js'

/** Connections to one ToolJet. */
const CONNECTIONS = 16
const MAX_POOLS = 100
const LOOPBACK = /^(?:localhost|.*\.localhost|127(?:\.\d+){3}|\[::1\])$/

/**
 * The connections of this instance: a pool for each ToolJet's URL, so that none waits for another one's calls. At most 100
 * are open, those used last; a pool that is dropped ends its calls first.
 */
export class Pools {
  readonly #open = new LRUCache<string, Dispatcher>({ max: MAX_POOLS, dispose: (pool) => this.#drain(pool) })
  readonly #leaving = new Set<Dispatcher>()
  readonly #calls = new Set<() => void>()
  #closed = false

  get closed (): boolean {
    return this.#closed
  }

  /** The pool for one call; it may be dropped before the next call. */
  of (url: string, timeoutMs: number): Dispatcher {
    const key = `${timeoutMs} ${url}`
    const open = this.#open.get(key)
    if (open !== undefined) return open
    const pool = newPool(url, timeoutMs)
    this.#open.set(key, pool)
    return pool
  }

  /**
   * Registers a call; the returned function ends it.
   * @param breakOff called when the pools are closed meanwhile
   * @throws TOOLJET_EMBED_UNAVAILABLE when they are closed already
   */
  begin (breakOff: () => void): () => void {
    if (this.#closed) throw embedError('TOOLJET_EMBED_UNAVAILABLE', { detail: 'this server is closing' })
    this.#calls.add(breakOff)
    return () => { this.#calls.delete(breakOff) }
  }

  /** Aborts the calls in progress. */
  async close (): Promise<void> {
    this.#closed = true
    for (const breakOff of this.#calls) breakOff()
    await Promise.all([...this.#open.values(), ...this.#leaving].map((pool) => pool.destroy()))
  }

  #drain (pool: Dispatcher): void {
    const gone = (): void => { this.#leaving.delete(pool) }
    this.#leaving.add(pool)
    pool.close().then(gone, gone)
  }
}

/**
 * The proxy of the environment for a URL (HTTPS_PROXY or HTTP_PROXY, and NO_PROXY); never for loopback.
 * @throws TOOLJET_EMBED_OPTIONS when the variable is not a proxy's URL
 */
export function proxyOf (url: string): URL | undefined {
  const { protocol, hostname } = new URL(url)
  const proxy = LOOPBACK.test(hostname) ? '' : getProxyForUrl(url)
  if (proxy === '') return undefined
  if (URL.canParse(proxy) && /^https?:$/.test(new URL(proxy).protocol)) return new URL(proxy)
  throw embedError('TOOLJET_EMBED_OPTIONS', { detail: `the variable ${protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY'} is something else (not shown), expected a URL like http://proxy.example.com:3128` })
}

/** Connections to the origin of a URL, through the environment's proxy where there is one. @throws TOOLJET_EMBED_OPTIONS as `proxyOf` does */
export function newPool (url: string, timeoutMs: number): Dispatcher {
  const proxy = proxyOf(url)
  const options = { connections: CONNECTIONS, headersTimeout: 0, bodyTimeout: 0 }
  const connect = { timeout: timeoutMs }
  if (proxy === undefined) return new Pool(new URL(url).origin, { ...options, connect: watched(buildConnector(connect)) })
  // many proxies open no tunnel to port 80
  return new ProxyAgent({ uri: proxy.href, ...options, requestTls: connect, proxyTls: connect, proxyTunnel: false })
}

const CLOSED_AS_IDLE = Symbol('closed as idle')

/**
 * Whether a request failed because its connection, which had served requests before, ended without a byte of a reply: servers
 * and gateways close idle connections, sometimes just when one is used again. It is no proof (a server that dies in the
 * middle of a call looks the same), so a retry has to be logged.
 */
export function wasClosedAsIdle (error: unknown): boolean {
  return error instanceof Error && CLOSED_AS_IDLE in error
}

/** Marks the errors of connections that were closed as idle. */
function watched (connector: buildConnector.connector): buildConnector.connector {
  return (options, callback) => connector(options, (...outcome) => {
    const [, socket] = outcome
    if (socket) watch(socket) // `undefined` after a failure, whatever undici's types say
    callback(...outcome)
  })
}

function watch (socket: Socket): void {
  let written = 0 // as of the last reply
  const isUnanswered = (): boolean => written > 0 && socket.bytesWritten > written
  const mark = (error: Error): Error => Object.assign(error, { [CLOSED_AS_IDLE]: true })
  socket.prependListener('readable', () => { if (socket.readableLength > 0) written = socket.bytesWritten })
  socket.prependListener('end', () => { if (isUnanswered()) socket.destroy(mark(new Error('other side closed'))) })
  socket.prependListener('error', (error) => { if (isUnanswered()) mark(error) })
}

import { LRUCache } from 'lru-cache'
import { Pool } from 'undici'
import { embedError } from '../errors.js'

/** Of one ToolJet. */
const CONNECTIONS = 16
const MAX_POOLS = 100

/**
 * The connections of this instance: a pool for each ToolJet's URL, so that none waits for the calls of another one. Of
 * more ToolJets than the bound, those called last have one; a pool that has to leave brings its calls to their end.
 */
export class Pools {
  readonly #open = new LRUCache<string, Pool>({ max: MAX_POOLS, dispose: (pool) => this.#letGo(pool) })
  readonly #leaving = new Set<Pool>()
  #closed = false

  get closed (): boolean {
    return this.#closed
  }

  /** For one call: by the next one it may have left. @throws TOOLJET_EMBED_UNAVAILABLE when they are closed */
  of (url: string, timeoutMs: number): Pool {
    if (this.#closed) throw embedError('TOOLJET_EMBED_UNAVAILABLE', { detail: 'this server is closing' })
    const key = `${timeoutMs} ${url}`
    const open = this.#open.get(key)
    if (open !== undefined) return open
    const pool = new Pool(new URL(url).origin, { connections: CONNECTIONS, connect: { timeout: timeoutMs }, headersTimeout: 0, bodyTimeout: 0 })
    this.#open.set(key, pool)
    return pool
  }

  /** Breaks off what is under way. */
  async close (): Promise<void> {
    this.#closed = true
    await Promise.all([...this.#open.values(), ...this.#leaving].map((pool) => pool.destroy()))
  }

  #letGo (pool: Pool): void {
    const gone = (): void => { this.#leaving.delete(pool) }
    this.#leaving.add(pool)
    pool.close().then(gone, gone)
  }
}

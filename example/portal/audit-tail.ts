import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'

/** How long one XREAD waits. Its answer, empty or not, also shows that the connection lives. */
const BLOCK_MS = 5000
const RETRY_MS = 500

/** Tells when the audit log has grown. */
export interface Tail {
  /** @param after an id up to which everything is read @returns leaves again */
  join (after: string): () => void
  /** @returns an id that is newer than this one; nothing when none comes in that time, or something is wrong */
  growsPast (id: string, withinMs: number, signal: AbortSignal): Promise<string | undefined>
}

/**
 * Tells when the audit stream has grown. However many wait for that, one connection blocks in XREAD for all of them,
 * and only while there is anyone; the events themselves each reads at a pace of its own.
 */
export class AuditTail implements Tail {
  readonly #url: string
  readonly #stream: string
  readonly #waiting = new Set<() => void>()
  #joined = 0
  #redis: Redis | undefined
  #newest = '0-0'

  constructor (url: string, stream: string) {
    this.#url = url
    this.#stream = stream
  }

  /** The last one to leave closes the connection. */
  join (after: string): () => void {
    if (this.#joined++ === 0) this.#open(after)
    return () => { if (--this.#joined === 0) this.#close() }
  }

  growsPast (id: string, withinMs: number, signal: AbortSignal): Promise<string | undefined> {
    const newer = (): string | undefined => (compareIds(this.#newest, id) > 0 ? this.#newest : undefined)
    if (newer() !== undefined || signal.aborted) return Promise.resolve(newer())
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        this.#waiting.delete(done)
        resolve(newer())
      }
      const timer = setTimeout(done, withinMs)
      signal.addEventListener('abort', done)
      this.#waiting.add(done)
    })
  }

  #open (after: string): void {
    this.#newest = after
    this.#redis = new Redis(this.#url, {
      connectionName: 'portal-audit-tail',
      maxRetriesPerRequest: 0, // a lost connection fails the XREAD, and those who wait learn of it at once
      retryStrategy: () => RETRY_MS,
      socketTimeout: 2 * BLOCK_MS, // a Redis that hangs counts as lost
    })
    this.#redis.on('error', () => { /* the XREAD fails, too */ })
    this.#follow(this.#redis)
  }

  #close (): void {
    this.#redis?.disconnect()
    this.#redis = undefined
  }

  async #follow (redis: Redis): Promise<void> {
    while (redis === this.#redis) {
      try {
        const [stream] = await redis.xread('COUNT', 250, 'BLOCK', BLOCK_MS, 'STREAMS', this.#stream, this.#newest) ?? []
        const last = stream?.[1].at(-1)
        if (last === undefined || redis !== this.#redis) continue
        this.#newest = last[0]
      } catch {
        await sleep(RETRY_MS)
      }
      if (redis === this.#redis) for (const wake of [...this.#waiting]) wake()
    }
  }
}

/** Ids of stream entries by age. @returns less than 0 when the first is the older one */
export function compareIds (a: string, b: string): number {
  const [ms = 0, seq = 0] = a.split('-').map(Number)
  const [otherMs = 0, otherSeq = 0] = b.split('-').map(Number)
  return ms - otherMs || seq - otherSeq
}

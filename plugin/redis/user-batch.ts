import { randomId } from '../crypto/random-id.js'
import type { Timers } from '../timers.js'
import type { RedisCircuitBreaker } from './circuit-breaker.js'
import { replyError } from './errors.js'
import { Script } from './script.js'
import type { ScriptClient, ScriptReply } from './script-client.js'
import { userKeys } from './user-keys.js'

const SCRIPT = Script.of('redis/scripts/count-and-look-up.lua')

/** As a store of `@fastify/rate-limit` returns it: the requests of a user in the window, this one included, and its milliseconds left. */
export interface Count {
  current: number
  ttl: number
}

/** A cached URL as Redis keeps it. */
export interface FoundUrl {
  /** Redis's time at which it was there, ms. */
  at: number
  /** When the lookup was sent, on the monotonic clock. */
  sentAt: number
  /** Nothing: it is the one that the asker has. */
  url?: { id: string, kept: Buffer }
}

interface Waiting<T> {
  resolve: (value: T) => void
  reject: (error: unknown) => void
}

/** One user's part of a batch. */
interface Part {
  user: string
  counts: Waiting<Count>[]
  lookups: (Waiting<FoundUrl | undefined> & { app: string, known: string })[]
}

/**
 * One question per turn: what all requests of one turn of the event loop want of Redis leaves as one script call; in a
 * Cluster, where a call may touch one slot only, as one for each user.
 */
export class UserBatch {
  readonly #scripts: ScriptClient
  readonly #breaker: RedisCircuitBreaker
  readonly #timers: Timers
  readonly #settings: { keyPrefix: string, windowMs: number }
  /** Tells this process's calls from those of others. */
  readonly #instance = randomId(6)
  #number = 0
  #parts = new Map<string, Part>()

  /** @param settings.windowMs of the limiter */
  constructor (deps: { scripts: ScriptClient, breaker: RedisCircuitBreaker, timers: Timers }, settings: { keyPrefix: string, windowMs: number }) {
    this.#scripts = deps.scripts
    this.#breaker = deps.breaker
    this.#timers = deps.timers
    this.#settings = settings
  }

  /** Counts one request. @param user stands for the user @throws TOOLJET_EMBED_REDIS_DOWN */
  count (user: string): Promise<Count> {
    return new Promise((resolve, reject) => { this.#partOf(user).counts.push({ resolve, reject }) })
  }

  /**
   * Looks for a cached URL.
   * @param known id of the URL that the asker has
   * @throws TOOLJET_EMBED_REDIS_DOWN
   */
  lookUp (user: string, app: string, known = '-'): Promise<FoundUrl | undefined> {
    return new Promise((resolve, reject) => { this.#partOf(user).lookups.push({ resolve, reject, app, known }) })
  }

  #partOf (user: string): Part {
    if (this.#parts.size === 0) this.#timers.endOfTurn(() => this.#send())
    let part = this.#parts.get(user)
    if (part === undefined) this.#parts.set(user, part = { user, counts: [], lookups: [] })
    return part
  }

  #send (): void {
    const parts = [...this.#parts.values()]
    this.#parts = new Map()
    for (const together of this.#scripts.isCluster ? parts.map((part) => [part]) : [parts]) {
      this.#call(together).then((reply) => {
        let place = 0
        for (const part of together) place = this.#settle(part, reply, place)
      }).catch((error: unknown) => {
        for (const { counts, lookups } of together) for (const waiting of [...counts, ...lookups]) waiting.reject(error)
      })
    }
  }

  #call (parts: Part[]): Promise<ScriptReply> {
    const { keyPrefix, windowMs } = this.#settings
    const call = `${this.#instance}.${++this.#number}`
    const keys: string[] = []
    const args = [`${call} ${windowMs}`]
    for (const part of parts) {
      const { limiter, urls } = userKeys(keyPrefix, part.user)
      keys.push(limiter, urls)
      args.push(argumentOf(part))
    }
    return this.#scripts.run(SCRIPT, keys, args)
  }

  /** @param place of this user's values in the reply @returns that of the next one's */
  #settle ({ counts, lookups }: Part, { at, sentAt, values }: ScriptReply, place: number): number {
    const total = values[place++]
    const ttl = Number(values[place++])
    const failure = total instanceof Buffer ? this.#failure(total) : undefined
    let current = Number(total) - counts.length
    for (const waiting of counts) {
      current++
      if (failure === undefined) waiting.resolve({ current, ttl })
      else waiting.reject(failure)
    }
    for (const waiting of lookups) {
      const found = values[place++]
      if (found instanceof Buffer) waiting.reject(this.#failure(found))
      else if (Array.isArray(found)) waiting.resolve({ at, sentAt, url: { id: String(found[0]), kept: found[1] as Buffer } })
      else waiting.resolve(found === null ? undefined : { at, sentAt })
    }
    return place
  }

  #failure (text: Buffer): unknown {
    return this.#breaker.failure(replyError(text.toString()))
  }
}

function argumentOf ({ counts, lookups }: Part): string {
  let text = String(counts.length)
  for (const { app, known } of lookups) text += `;${app} ${known}`
  return text
}

import { embedError, plainError } from '../errors.js'
import type { Log } from '../observability/log.js'
import type { RedisLike } from './redis-like.js'
import { Script } from './script.js'

/** The real one, also where a host's tests hold time still: what is gathered has to leave. */
const atTurnsEnd = setImmediate

/** While Redis is away it is tried that often, and nobody waits for that. */
const PROBE_EVERY_MS = 1000

/** A Redis that cannot be written to is none: it may be full, or a replica. KEYS: probe. */
const PROBE = new Script("return redis.call('SET', KEYS[1], '1', 'PX', 1000)")

/**
 * The one way to Redis: no wait is longer than its deadline, a Redis that is away is tried once a second in the
 * background while all who ask are refused at once, and each change of state is one log line.
 */
export class RedisGuard {
  readonly #redis: RedisLike
  readonly #deadlineMs: number
  readonly #probeKey: string
  readonly #log: Log
  #downSince: number | undefined
  #nextProbe: NodeJS.Timeout | undefined
  #closed = false
  #gathering: RedisLike['stream']

  constructor (redis: RedisLike, options: { deadlineMs: number, probeKey: string }, log: Log) {
    this.#redis = redis
    this.#deadlineMs = options.deadlineMs
    this.#probeKey = options.probeKey
    this.#log = log
  }

  get down (): boolean {
    return this.#downSince !== undefined
  }

  /** Milliseconds since Redis was seen to be away; 0 when it is there. */
  get downForMs (): number {
    return this.#downSince === undefined ? 0 : performance.now() - this.#downSince
  }

  /**
   * Waits for one answer of Redis.
   * @param undo sent, and not waited for, when the command may have been carried out though its answer did not come
   * @throws TOOLJET_EMBED_REDIS_DOWN when Redis refuses, fails or keeps silent past the deadline
   */
  async run<T> (command: (redis: RedisLike) => Promise<T>, undo?: (redis: RedisLike) => Promise<unknown>): Promise<T> {
    if (this.down) throw embedError('TOOLJET_EMBED_REDIS_DOWN')
    this.#gather()
    try {
      return await withDeadline(command(this.#redis), this.#deadlineMs)
    } catch (error) {
      const cause = plainError(error)
      if (isAboutKey(cause)) this.#log.error({ err: cause }, 'tooljet-embed: Redis refuses a command')
      else this.#away(cause)
      if (undo !== undefined) this.post(undo)
      throw embedError('TOOLJET_EMBED_REDIS_DOWN', { cause })
    }
  }

  /** Sends a command whatever the state, and waits for nothing: for tidying up. */
  post (command: (redis: RedisLike) => Promise<unknown>): void {
    command(this.#redis).catch(() => {})
  }

  close (): void {
    this.#closed = true
    clearTimeout(this.#nextProbe)
  }

  /** What is sent in one turn of the event loop leaves in one write: a system call costs more than a command. */
  #gather (): void {
    const { stream } = this.#redis
    if (stream === undefined || stream === this.#gathering) return
    this.#gathering = stream
    stream.cork()
    atTurnsEnd(() => {
      this.#gathering = undefined
      stream.uncork()
    })
  }

  #away (error: Error): void {
    if (this.down) return
    this.#downSince = performance.now()
    this.#log.error({ err: error }, 'tooljet-embed: Redis is not available')
    this.#probeLater()
  }

  #probeLater (): void {
    if (this.#closed) return
    this.#nextProbe = setTimeout(() => {
      withDeadline(PROBE.run(this.#redis, [this.#probeKey], []), this.#deadlineMs).then(() => this.#back(), () => this.#probeLater())
    }, PROBE_EVERY_MS).unref()
  }

  #back (): void {
    const downMs = Math.round(this.downForMs)
    this.#downSince = undefined
    this.#log.info({ downMs }, 'tooljet-embed: Redis is back')
  }
}

/** Redis is there, and something is wrong with one key: no reason to do without it for all others. */
function isAboutKey (error: Error): boolean {
  return /\bWRONGTYPE\b/.test(error.message)
}

/** Rejects when the answer is not there in time; an answer that comes later is let go. */
function withDeadline<T> (answer: Promise<T>, ms: number): Promise<T> {
  return new Promise((resolve, reject) => {
    // A busy process runs its timers before it reads what has long arrived: look once more at the sockets first.
    const timer = setTimeout(() => setImmediate(() => setImmediate(() => {
      reject(new Error(`no answer of Redis within ${ms} ms`))
    })), ms)
    const inTime = <V>(settle: (value: V) => void) => (value: V): void => {
      clearTimeout(timer)
      settle(value)
    }
    answer.then(inTime(resolve), inTime(reject))
  })
}

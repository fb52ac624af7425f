import { embedError, sanitizeError, type EmbedError } from '../errors.js'
import type { Log } from '../observability/log.js'
import type { Timers } from '../timers.js'
import type { Connection, ConnectionFailure } from './connect.js'
import { classify, connectionError, isReply, remedyOf, remedyWhenNeverHeard } from './errors.js'
import { isCluster, type RedisLike } from './redis-like.js'

/** While Redis is unavailable it is tried that often, and no request waits for that. */
const PROBE_EVERY_MS = 1000
/** So long the log does not repeat that Redis refuses a command. */
const REFUSAL_LOGGED_EVERY_MS = 60_000

/** What the breaker has of a connection. */
type Way = Pick<Connection, 'redis'> & Partial<Connection>

/**
 * The one way to Redis: no wait is longer than its bound, a Redis that is unavailable is tried once a second in the
 * background while all requests are refused at once, and each change of state is one log line. What Redis refuses
 * without being unavailable fails the one request that needs it.
 */
export class RedisCircuitBreaker {
  readonly #redis: RedisLike
  readonly #address: string | undefined
  readonly #trouble: ConnectionFailure
  readonly #check: Connection['check']
  readonly timeoutMs: number
  readonly #timers: Timers
  readonly #log: Log
  #openSince: number | undefined
  #reason: (Error & { code?: string }) | undefined
  #remedy: string | undefined
  #cancelProbe = (): void => {}
  #probe!: () => Promise<unknown>
  #closed = false
  #lastAnswerAt = -Infinity
  #refusalLoggedAt = -Infinity

  /** @param timeoutMs bound of each wait */
  constructor ({ redis, address, lastFailure = {}, check }: Way, timeoutMs: number, { timers, log }: { timers: Timers, log: Log }) {
    this.#redis = redis
    this.#address = address
    this.#trouble = lastFailure
    this.#check = check
    this.timeoutMs = timeoutMs
    this.#timers = timers
    this.#log = log
    this.#openSince = timers.now()
  }

  /**
   * Until the first probe has succeeded, Redis counts as unavailable. Resolves when it has ended, well or not.
   * @param probe what has to succeed before Redis counts as available (again), by `attempt`
   */
  async start (probe: () => Promise<unknown> = () => this.attempt((redis) => redis.ping())): Promise<void> {
    this.#probe = probe
    try {
      await this.#probe()
      this.#openSince = undefined
    } catch (error) {
      if (this.#isThere(error)) this.#openSince = undefined
      else {
        this.#logLost(error)
        this.#probeLater()
      }
    }
  }

  /** Whether keys of one call have to be in one slot. */
  get isCluster (): boolean {
    return isCluster(this.#redis)
  }

  get isOpen (): boolean {
    return this.#openSince !== undefined
  }

  /** Milliseconds since Redis was seen to be unavailable; 0 when it is not. */
  get openForMs (): number {
    return this.#openSince === undefined ? 0 : this.#timers.now() - this.#openSince
  }

  /** Why Redis is unavailable, by its own code or the system's; `undefined`: it is not, or keeps silent. */
  get openReason (): string | undefined {
    return this.isOpen ? this.#reason?.code : undefined
  }

  /** Redis has answered something. */
  heard (): void {
    this.#lastAnswerAt = this.#timers.now()
  }

  /** When the last answer came, be it an error or too late for the one who waited, on the monotonic clock. */
  get lastAnswerAt (): number {
    return this.#lastAnswerAt
  }

  /**
   * Waits for one answer of Redis.
   * @throws TOOLJET_EMBED_REDIS_DOWN when Redis is unavailable or keeps silent past the bound, and, with `isRefusal`, when
   * it refuses the command; what code threw is thrown on
   */
  async run<T> (command: (redis: RedisLike) => Promise<T>): Promise<T> {
    if (this.isOpen) throw embedError('TOOLJET_EMBED_REDIS_DOWN')
    try {
      return await this.attempt(command)
    } catch (error) {
      throw this.failure(error)
    }
  }

  /** Waits for one answer within the bound, whatever the state. @throws what the client throws */
  async attempt<T> (command: (redis: RedisLike) => Promise<T>): Promise<T> {
    return this.#withinBound(this.#send(command))
  }

  /** What a request is to be told of an error that `attempt` threw, or that is part of a reply; opens when Redis is unavailable. */
  failure (error: unknown): unknown {
    const kind = classify(error)
    if (kind === 'unexpected') return error
    if (kind === 'refused') return this.#refusal(sanitizeError(error))
    this.#open(error)
    return embedError('TOOLJET_EMBED_REDIS_DOWN', { cause: this.#reasonOf(error) })
  }

  /** Sends a command whatever the state, and waits for nothing: for tidying up. */
  fireAndForget (command: (redis: RedisLike) => Promise<unknown>): void {
    this.#send(command).catch(() => {})
  }

  close (): void {
    this.#closed = true
    this.#cancelProbe()
  }

  #send<T> (command: (redis: RedisLike) => Promise<T>): Promise<T> {
    const check = this.#check?.()
    const answer = check === undefined ? command(this.#redis) : check.then(() => command(this.#redis))
    answer.then(() => {
      this.heard()
      this.#trouble.error = undefined
    }, (error: unknown) => { if (isReply(error)) this.heard() }) // the error is told to who waits
    return answer
  }

  #refusal (cause: Error): EmbedError {
    const now = this.#timers.now()
    if (now - this.#refusalLoggedAt >= REFUSAL_LOGGED_EVERY_MS) {
      this.#refusalLoggedAt = now
      this.#log.error({ err: cause, redis: this.#address }, 'tooljet-embed: Redis refuses a command')
    }
    return embedError('TOOLJET_EMBED_REDIS_DOWN', { detail: 'it refuses a command', cause, isRefusal: true })
  }

  #open (error: unknown): void {
    if (this.isOpen) return
    this.#openSince = this.#timers.now()
    this.#logLost(error)
    this.#probeLater()
  }

  #logLost (error: unknown): void {
    this.#reason = this.#reasonOf(error)
    this.#remedy = this.#remedyFor(this.#reason)
    this.#log.error({ err: this.#reason, redis: this.#address }, `tooljet-embed: Redis connection lost${this.#remedy === undefined ? '' : `: ${this.#remedy}`}`)
  }

  /** Why there is no connection says more than that there was no answer. */
  #reasonOf (error: unknown): Error & { code?: string } {
    return connectionError(isReply(error) ? error : this.#trouble.error ?? error)
  }

  #remedyFor (reason: Error & { code?: string }): string | undefined {
    return (this.#lastAnswerAt === -Infinity ? remedyWhenNeverHeard : remedyOf)(reason)
  }

  #probeLater (): void {
    if (this.#closed) return
    this.#cancelProbe = this.#timers.after(PROBE_EVERY_MS, () => {
      this.#probe().then(() => this.#restored(), (error: unknown) => {
        if (this.#isThere(error)) return this.#restored()
        this.#reason = this.#reasonOf(error)
        const remedy = this.#remedyFor(this.#reason)
        if (remedy !== undefined && remedy !== this.#remedy) this.#logLost(error) // that somebody has to mend it shows only now
        this.#probeLater()
      })
    })
  }

  /** One that refuses a probe is there, and refuses requests by itself. */
  #isThere (error: unknown): boolean {
    if (classify(error) !== 'refused') return false
    this.#refusal(sanitizeError(error))
    return true
  }

  #restored (): void {
    const downMs = Math.round(this.openForMs)
    this.#openSince = undefined
    this.#log.info({ downMs, redis: this.#address }, 'tooljet-embed: Redis connection restored')
  }

  /** Rejects when the answer is not there in time; an answer that comes later is dropped. */
  #withinBound<T> (answer: Promise<T>): Promise<T> {
    const { timeoutMs } = this
    return new Promise((resolve, reject) => {
      const late = (): void => reject(new Error(`no answer of Redis within ${timeoutMs} ms`))
      // A busy process runs its timers before it reads what has long arrived: look once more at the sockets first.
      const cancel = this.#timers.after(timeoutMs, () => this.#timers.endOfTurn(() => this.#timers.endOfTurn(late)))
      const inTime = <V>(settle: (value: V) => void) => (value: V): void => {
        cancel()
        settle(value)
      }
      answer.then(inTime(resolve), inTime(reject))
    })
  }
}

import { embedError, sanitizeError, type EmbedError } from '../errors.js'
import type { Log } from '../observability/log.js'
import type { Timers } from '../timers.js'
import type { Connection, ConnectionFailure } from './connect.js'
import { classify, connectionError, isReply, remedyOf, remedyBeforeFirstAnswer } from './errors.js'
import { isCluster, type RedisLike } from './redis-like.js'

/** Interval of the probes while Redis is unavailable; no request waits for one. */
const PROBE_EVERY_MS = 1000
/** That Redis refuses a command is logged once in this time. */
const REFUSAL_LOGGED_EVERY_MS = 60_000

/** What the breaker needs of a connection. */
type BreakerConnection = Pick<Connection, 'redis'> & Partial<Connection>

/**
 * All commands to Redis pass here. No wait is longer than its bound. While Redis is unavailable all requests are refused
 * at once, and a probe is sent once a second in the background; each change of state is one log line. A command that Redis
 * refuses while it is available fails the one request that needs it.
 */
export class RedisCircuitBreaker {
  readonly #redis: RedisLike
  readonly #address: string | undefined
  readonly #lastFailure: ConnectionFailure
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

  /** @param timeoutMs bound of each wait, ms */
  constructor ({ redis, address, lastFailure = {}, check }: BreakerConnection, timeoutMs: number, { timers, log }: { timers: Timers, log: Log }) {
    this.#redis = redis
    this.#address = address
    this.#lastFailure = lastFailure
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
      if (this.#isAvailable(error)) this.#openSince = undefined
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

  /** Why Redis is unavailable: its own error code or the system's; `undefined` while it is available, or does not answer. */
  get openReason (): string | undefined {
    return this.isOpen ? this.#reason?.code : undefined
  }

  /** Records that Redis has answered. */
  recordAnswer (): void {
    this.#lastAnswerAt = this.#timers.now()
  }

  /** When the last answer came, an error or a late one included, on the monotonic clock. */
  get lastAnswerAt (): number {
    return this.#lastAnswerAt
  }

  /**
   * Waits for one answer of Redis.
   * @throws TOOLJET_EMBED_REDIS_DOWN when Redis is unavailable or does not answer within the bound, and, with `isRefusal`, when
   * it refuses the command; an error of code is thrown as it is
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

  /** The error for a request, of one that `attempt` threw or that is part of a reply; opens the breaker when Redis is unavailable. */
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
      this.recordAnswer()
      this.#lastFailure.error = undefined
    }, (error: unknown) => { if (isReply(error)) this.recordAnswer() }) // the caller gets the error itself
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

  /** The reason why there is no connection, where one is known: it says more than "no answer". */
  #reasonOf (error: unknown): Error & { code?: string } {
    return connectionError(isReply(error) ? error : this.#lastFailure.error ?? error)
  }

  #remedyFor (reason: Error & { code?: string }): string | undefined {
    return (this.#lastAnswerAt === -Infinity ? remedyBeforeFirstAnswer : remedyOf)(reason)
  }

  #probeLater (): void {
    if (this.#closed) return
    this.#cancelProbe = this.#timers.after(PROBE_EVERY_MS, () => {
      this.#probe().then(() => this.#restored(), (error: unknown) => {
        if (this.#isAvailable(error)) return this.#restored()
        this.#reason = this.#reasonOf(error)
        const remedy = this.#remedyFor(this.#reason)
        if (remedy !== undefined && remedy !== this.#remedy) this.#logLost(error) // only now it shows that somebody has to act
        this.#probeLater()
      })
    })
  }

  /** A Redis that refuses the probe is available: it will refuse the requests by itself. */
  #isAvailable (error: unknown): boolean {
    if (classify(error) !== 'refused') return false
    this.#refusal(sanitizeError(error))
    return true
  }

  #restored (): void {
    const downMs = Math.round(this.openForMs)
    this.#openSince = undefined
    this.#log.info({ downMs, redis: this.#address }, 'tooljet-embed: Redis connection restored')
  }

  /** Rejects when the answer does not come within the bound; a later one is dropped. */
  #withinBound<T> (answer: Promise<T>): Promise<T> {
    const { timeoutMs } = this
    return new Promise((resolve, reject) => {
      const late = (): void => reject(new Error(`no answer of Redis within ${timeoutMs} ms`))
      // A busy process runs its timers before it reads what has already arrived: let it read its sockets first.
      const cancel = this.#timers.after(timeoutMs, () => this.#timers.endOfTurn(() => this.#timers.endOfTurn(late)))
      const inTime = <V>(settle: (value: V) => void) => (value: V): void => {
        cancel()
        settle(value)
      }
      answer.then(inTime(resolve), inTime(reject))
    })
  }
}

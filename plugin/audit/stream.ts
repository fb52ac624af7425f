import { MS_PER_DAY } from '../durations.js'
import { embedError, sanitizeError } from '../errors.js'
import type { Log } from '../observability/log.js'
import type { RedisCircuitBreaker } from '../redis/circuit-breaker.js'
import type { RedisClock } from '../redis/clock.js'
import { classify } from '../redis/errors.js'
import type { RedisArgument } from '../redis/redis-like.js'
import { Script } from '../redis/script.js'
import type { ScriptClient } from '../redis/script-client.js'
import type { Timers } from '../timers.js'
import { append, type Appended, type QueuedEvent, type Retention, type WrittenEntry } from './append.js'
import { AuditKeys } from './audit-keys.js'
import type { AuditSource, RawEntry } from './verify.js'
import { entryPages, READ } from './entry-pages.js'
import { streamInfo, type StreamInfo } from './stream-info.js'

const TRIM_INDEX = Script.of('audit/scripts/trim-index.lua')

const FIND = Script.of('audit/scripts/entries.lua', 'audit/scripts/find.lua')

/** By how much the clock that gives ids their time may jump at a failover. */
const CLOCK_SLACK_MS = 2000

export interface StreamSettings extends Retention {
  stream: string
}

/** The audit stream in Redis. Every method throws TOOLJET_EMBED_REDIS_DOWN when Redis is unavailable, or refuses. */
export class AuditStream implements AuditSource {
  readonly #breaker: RedisCircuitBreaker
  readonly #scripts: ScriptClient
  readonly #clock: RedisClock
  readonly #timers: Timers
  readonly #settings: StreamSettings
  readonly #keys: AuditKeys
  readonly #log: Log
  #nextBucket = 0
  #hasLoggedProblem = false

  constructor (deps: { breaker: RedisCircuitBreaker, scripts: ScriptClient, clock: RedisClock, timers: Timers, log: Log }, settings: StreamSettings) {
    this.#breaker = deps.breaker
    this.#scripts = deps.scripts
    this.#clock = deps.clock
    this.#timers = deps.timers
    this.#log = deps.log
    this.#settings = settings
    this.#keys = new AuditKeys(settings.stream)
  }

  get keys (): AuditKeys {
    return this.#keys
  }

  /** Whether Redis counts as unavailable: nothing is sent then. */
  get isUnavailable (): boolean {
    return this.#breaker.isOpen
  }

  /** An id that is not greater than that of any entry written from now on. */
  startOfWrite (): string {
    const earliest = this.#clock.isKnown ? this.#clock.earliest(this.#timers.now()) - CLOCK_SLACK_MS : 0
    return `${Math.max(0, earliest)}-0`
  }

  /**
   * Writes one instance's events, each once, however often it is sent, and trims what is too much or too old.
   * @param own the entry that this instance wrote last
   * @param mark the value of key `written`, as far as this instance knows
   * @returns nothing when it came too late: an earlier attempt may have been carried out long before
   */
  async append (instance: string, events: readonly QueuedEvent[], own: WrittenEntry | undefined, mark: string): Promise<Appended | undefined> {
    const { retentionMs } = this.#settings
    const oldestDay = retentionMs === 0 ? '' : new Date(this.#clock.now() - retentionMs - MS_PER_DAY).toISOString().slice(0, 10)
    const appended = await append(this.#scripts, this.#keys, this.#settings, oldestDay, instance, events, own, mark)
    this.#logProblem(appended?.problem ?? '')
    return appended
  }

  /** Called after entries were trimmed: removes them from one bucket of the indexes, with each call the next. A failure does no harm: a later call does the same. */
  trimIndex (): void {
    const { buckets, stream, index } = this.#keys
    const bucket = buckets[this.#nextBucket++ % buckets.length]!
    this.#scripts.fireAndForget(TRIM_INDEX, [stream, index, bucket], [])
  }

  now (): Promise<number> {
    return Promise.resolve(this.#clock.now())
  }

  info (): Promise<StreamInfo | undefined> {
    return this.#withoutOpening(() => this.#breaker.attempt((redis) => streamInfo(redis, this.#keys.stream)))
  }

  /** For `verify`, which reads much data: a timeout here does not open the circuit breaker. @returns a script's values after the time */
  read (script: Script, keys: readonly string[], args: readonly RedisArgument[]): Promise<unknown[]> {
    return this.#withoutOpening(async () => (await this.#scripts.attempt(script, keys, args)).values)
  }

  /**
   * Looks for events by their macs, in a part of the stream.
   * @returns the number of the last one that was found (0: none) and its id; the id up to which it has searched
   */
  async find (macs: readonly string[], after: string): Promise<{ place: number, id: string, after: string, isEnd: boolean }> {
    const { values } = await this.#scripts.run(FIND, [this.#keys.stream], [after, ...macs])
    const [place, id, looked, isEnd] = values.map(String) as [string, string, string, string]
    return { place: Number(place), id, after: looked, isEnd: isEnd === '1' }
  }

  /** All entries, oldest first, page by page. */
  pages (): AsyncGenerator<RawEntry[]> {
    return entryPages((args) => this.read(READ, [this.#keys.stream], args))
  }

  async #withoutOpening<T> (ask: () => Promise<T>): Promise<T> {
    if (this.isUnavailable) throw embedError('TOOLJET_EMBED_REDIS_DOWN')
    try {
      return await ask()
    } catch (error) {
      throw classify(error) === 'unavailable' ? embedError('TOOLJET_EMBED_REDIS_DOWN', { cause: sanitizeError(error) }) : this.#breaker.failure(error)
    }
  }

  #logProblem (problem: string): void {
    if (problem === '' || this.#hasLoggedProblem) return
    this.#hasLoggedProblem = true
    this.#log.error({ reason: problem }, 'tooljet-embed: Redis does not let this user trim, index or count the audit log')
  }
}

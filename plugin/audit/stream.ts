import { isEmbedError } from '../errors.js'
import type { Log } from '../observability/log.js'
import type { RedisClock } from '../redis/clock.js'
import type { RedisCircuitBreaker } from '../redis/circuit-breaker.js'
import type { Timers } from '../timers.js'
import { append, trim, type Excess, type Retention } from './append.js'
import type { AuditEntry, AuditFields } from './event.js'
import { streamFacts } from './facts.js'
import { AuditKeys } from './indexes.js'
import type { StreamFacts } from './verify.js'

const PAGE = 500

export interface StreamSettings extends Retention {
  stream: string
}

/** The audit stream in Redis. Every method throws TOOLJET_EMBED_REDIS_DOWN when Redis is unavailable, or refuses. */
export class AuditStream {
  readonly #breaker: RedisCircuitBreaker
  readonly #clock: RedisClock
  readonly #settings: StreamSettings
  readonly #keys: AuditKeys
  readonly #timers: Timers
  readonly #log: Log
  #hasToldAboutTrimming = false

  constructor (parts: { breaker: RedisCircuitBreaker, clock: RedisClock, timers: Timers, log: Log }, settings: StreamSettings) {
    this.#breaker = parts.breaker
    this.#clock = parts.clock
    this.#timers = parts.timers
    this.#log = parts.log
    this.#settings = settings
    this.#keys = new AuditKeys(settings.stream)
  }

  /** Id of the newest entry. */
  async tip (): Promise<string> {
    const [newest] = await this.#breaker.run((redis) => redis.xrevrange(this.#keys.stream, '+', '-', 'COUNT', 1))
    return newest?.[0] ?? '0-0'
  }

  /** @returns seq of this instance's last event after that id, and the id of the entry up to which it looked */
  async lookFor (instance: string, after: string): Promise<{ seq: number, after: string }> {
    let seq = 0
    for await (const { id, fields } of this.entries(after)) {
      after = id
      if (fields['instance'] === instance) seq = Number(fields['seq'])
    }
    return { seq, after }
  }

  /**
   * Writes one instance's events, each once, however often it is sent.
   * @returns id of the last one, empty when all were there before; nothing when Redis got them too late and did not
   *   write. And what is now too much or too old, for `trim`.
   */
  async append (instance: string, events: readonly AuditFields[]): Promise<{ last: string | undefined, excess: Excess | undefined }> {
    const sentAt = this.#timers.now()
    const { now, last, excess, problem } = await this.#breaker.run((redis) => append(redis, this.#keys, this.#settings, this.#clock.now(), instance, events))
    this.#clock.observe(now, sentAt)
    this.#tellAboutTrimming(problem)
    return { last, excess }
  }

  /** Where this fails the next batch finds the same excess, so that nobody needs to know. */
  async trim (excess: Excess): Promise<void> {
    try {
      this.#tellAboutTrimming(await this.#breaker.run((redis) => trim(redis, this.#keys, excess)))
    } catch (error) {
      if (!isEmbedError(error)) throw error
    }
  }

  facts (): Promise<StreamFacts | undefined> {
    return this.#breaker.run((redis) => streamFacts(redis, this.#keys.stream))
  }

  /** Every entry after an id, oldest first, read page by page. */
  async * entries (after?: string): AsyncGenerator<AuditEntry> {
    let from = after === undefined ? '-' : `(${after}`
    for (;;) {
      const page = await this.#breaker.run((redis) => redis.xrange(this.#keys.stream, from, '+', 'COUNT', PAGE))
      for (const [id, flat] of page) yield { id, fields: fieldsOf(flat) }
      if (page.length < PAGE) return
      from = `(${page[page.length - 1]![0]}`
    }
  }

  #tellAboutTrimming (problem: string): void {
    if (problem === '' || this.#hasToldAboutTrimming) return
    this.#hasToldAboutTrimming = true
    this.#log.error({ reason: problem }, 'tooljet-embed: the audit log grows, Redis does not let this user trim it')
  }
}

/** Fields and values as Redis gives them. */
export function fieldsOf (flat: readonly string[]): AuditFields {
  const fields: AuditFields = {}
  for (let i = 0; i < flat.length; i += 2) fields[flat[i]!] = flat[i + 1]!
  return fields
}

import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { embedError } from '../errors.js'
import type { Log } from '../observability/log.js'
import type { RedisClock } from '../redis/clock.js'
import type { RedisCircuitBreaker } from '../redis/circuit-breaker.js'
import type { RedisLike } from '../redis/redis-like.js'
import type { Timers } from '../timers.js'
import { CHAIN_START, type Chain } from './chain.js'
import { toFields, type AuditEvent, type AuditFields } from './event.js'
import { loadLibrary } from './library.js'
import type { Pseudonyms } from './pseudonyms.js'
import { AuditStream, type StreamSettings } from './stream.js'
import { verifyAudit, type AuditReport } from './verify.js'
import { AuditWriter } from './writer.js'

export interface AuditSettings extends StreamSettings {
  identity: 'email' | 'hmac'
  /** Whether to load the queries into Redis. */
  functions: boolean
  delivery: 'buffered' | 'required'
  /** Events that may wait for Redis; what comes on top is left to the log. */
  maxBacklog: number
}

/** What `health()` tells of the audit log. */
export interface AuditHealth {
  /** Name of this instance in the stream. */
  instance: string
  /** Events made so far. */
  seq: number
  /** Events that wait for Redis. */
  backlog: number
}

/** Numbers, authenticates, logs and writes this instance's events. */
export class Audit {
  readonly #instance = `${hostname()}-${process.pid}-${randomBytes(4).toString('hex')}`
  readonly #breaker: RedisCircuitBreaker
  readonly #clock: RedisClock
  readonly #chain: Chain
  readonly #log: Log
  readonly #settings: AuditSettings
  readonly #pseudonyms: Pseudonyms
  readonly #stream: AuditStream
  readonly #writer: AuditWriter
  #seq = 0
  #lastMac = CHAIN_START

  constructor (parts: { breaker: RedisCircuitBreaker, clock: RedisClock, timers: Timers, chain: Chain, pseudonyms: Pseudonyms, log: Log }, settings: AuditSettings) {
    this.#breaker = parts.breaker
    this.#clock = parts.clock
    this.#chain = parts.chain
    this.#log = parts.log
    this.#pseudonyms = parts.pseudonyms
    this.#settings = settings
    this.#stream = new AuditStream(parts, settings)
    this.#writer = new AuditWriter(this.#stream, this.#instance, settings.maxBacklog, (fields) => {
      this.#log.error({ tooljetEmbedAudit: fields }, 'tooljet-embed: this audit event could not be written to Redis')
    })
  }

  open (): void {
    this.#writer.add(this.#stamp({ event: 'audit.opened' }), () => {
      if (this.#settings.functions) this.#breaker.fireAndForget((redis) => this.#loadQueries(redis))
    })
  }

  /** Takes an event; Redis gets it soon. */
  record (event: AuditEvent): void {
    this.#writer.add(this.#stamp(event))
  }

  /**
   * Takes the event of a URL that is about to leave; with `delivery: 'required'` Redis has it first.
   * @throws TOOLJET_EMBED_REDIS_DOWN with `delivery: 'required'`, and the URL must not leave
   */
  async recordGiven (event: AuditEvent): Promise<void> {
    if (this.#isRequired) await this.#writer.addAndWait(this.#stamp(event))
    else this.record(event)
  }

  /** @throws TOOLJET_EMBED_REDIS_DOWN when `delivery: 'required'` cannot be kept right now */
  mustBeWritable (): void {
    if (this.#isRequired && this.#breaker.isOpen) throw embedError('TOOLJET_EMBED_REDIS_DOWN', { detail: 'the audit event could not be written' })
  }

  async verify (): Promise<AuditReport> {
    return verifyAudit(this.#stream.entries(), this.#chain, await this.#stream.facts())
  }

  health (): AuditHealth {
    return { instance: this.#instance, seq: this.#seq, backlog: this.#writer.backlog }
  }

  async close (boundMs: number): Promise<void> {
    this.record({ event: 'audit.closed' })
    await this.#writer.close(boundMs)
  }

  get #isRequired (): boolean {
    return this.#settings.delivery === 'required'
  }

  async #loadQueries (redis: RedisLike): Promise<void> {
    try {
      await loadLibrary(redis)
    } catch (error) {
      this.#log.info({ reason: (error as Error).message }, 'tooljet-embed: the audit queries are not loaded into Redis, it is older than 7 or does not let this user')
    }
  }

  #stamp (event: AuditEvent): AuditFields {
    const told = this.#settings.identity === 'hmac' ? this.#pseudonyms.disguise(event) : event
    const fields = toFields(told, { time: this.#clock.now(), instance: this.#instance, seq: ++this.#seq })
    this.#lastMac = fields['mac'] = this.#chain.mac(this.#lastMac, fields)
    this.#log.info({ tooljetEmbedAudit: fields }, `tooljet-embed: ${event.event}`)
    return fields
  }
}

import { randomBytes } from 'node:crypto'
import { hostname } from 'node:os'
import { MS_PER_DAY } from '../durations.js'
import { embedError } from '../errors.js'
import type { Log } from '../observability/log.js'
import type { RedisClock } from '../redis/clock.js'
import type { RedisCircuitBreaker } from '../redis/circuit-breaker.js'
import type { RedisLike } from '../redis/redis-like.js'
import type { ScriptClient } from '../redis/script-client.js'
import type { Timers } from '../timers.js'
import { toQueued, type QueuedEvent } from './append.js'
import { bound, toFields, type AuditEvent } from './event.js'
import { loadLibrary } from './functions.js'
import { LimitedSummary } from './limited-summary.js'
import type { Pseudonyms } from './pseudonyms.js'
import type { EventSigner } from './signer.js'
import { AuditStream, type StreamSettings } from './stream.js'
import { OwnWitness } from './own-witness.js'
import type { AuditReport } from './report.js'
import { verifyAudit } from './verify.js'
import { IndexWitness } from './verify-indexes.js'
import { AuditWriter, type StreamProblem } from './writer.js'

export interface AuditSettings extends StreamSettings {
  identity: 'email' | 'hmac'
  /** Whether to load the queries into Redis. */
  functions: boolean
  delivery: 'buffered' | 'required'
  /** Events that may wait for Redis; further ones are only logged. */
  maxBacklog: number
}

/** The part of `health()` about the audit log. */
export interface AuditHealth {
  /** Name of this instance in the stream. */
  instance: string
  /** Events made so far. */
  seq: number
  /** Events that wait for Redis. */
  backlog: number
  /** A problem of the stream that this instance has seen, and when (ISO 8601); absent without one. */
  problem?: { kind: StreamProblem['kind'], since: string }
}

/** How long events are gathered to a batch, where no answer waits for its event. */
const GATHER_MS = 10

/** An instance repeats its retention after this many events at the earliest. */
const LEAST_EVENTS = 10

/** Numbers, authenticates, logs and writes this instance's events. */
export class Audit {
  readonly #instance = `${hostname()}-${process.pid}-${randomBytes(4).toString('hex')}`
  readonly #breaker: RedisCircuitBreaker
  readonly #clock: RedisClock
  readonly #signer: EventSigner
  readonly #log: Log
  readonly #settings: AuditSettings
  readonly #pseudonyms: Pseudonyms
  readonly #stream: AuditStream
  readonly #writer: AuditWriter
  readonly #limited: LimitedSummary
  #seq = 0
  #lastMac = ''
  #announcedAt = 0
  #announcedSeq = 0
  #problem: AuditHealth['problem']

  /** @param settings.limitWindowMs window of the rate limit, for the summary of its refusals */
  constructor (
    deps: { breaker: RedisCircuitBreaker, scripts: ScriptClient, clock: RedisClock, timers: Timers, signer: EventSigner, pseudonyms: Pseudonyms, log: Log },
    settings: AuditSettings & { limitWindowMs: number }
  ) {
    this.#breaker = deps.breaker
    this.#clock = deps.clock
    this.#signer = deps.signer
    this.#log = deps.log
    this.#pseudonyms = deps.pseudonyms
    this.#settings = settings
    this.#stream = new AuditStream(deps, settings)
    this.#writer = new AuditWriter({
      stream: this.#stream,
      timers: deps.timers,
      onLost: (fields) => this.#log.error({ tooljetEmbedAudit: fields }, 'tooljet-embed: this audit event could not be written to Redis'),
      onProblem: (problem) => this.#recordProblem(problem),
    }, this.#instance, { maxBacklog: settings.maxBacklog, gatherMs: this.#isRequired ? 0 : GATHER_MS })
    this.#limited = new LimitedSummary(deps.timers, settings.limitWindowMs, (event, time) => this.#writer.add(this.#sign(event, time)))
  }

  open (): void {
    this.#announce(() => {
      if (this.#settings.functions) this.#breaker.fireAndForget((redis) => this.#loadQueries(redis))
    })
  }

  /** Records an event, which is written to Redis soon. @param event is this method's own from now on */
  record (event: AuditEvent): void {
    this.#announceAgain()
    bound(event)
    if (event.code === 'TOOLJET_EMBED_RATE_LIMITED') this.#limited.add(event, this.#clock.now())
    else this.#writer.add(this.#sign(event))
  }

  /**
   * Records the event of a URL that is about to be returned; with `delivery: 'required'` it resolves when Redis has the event.
   * @throws TOOLJET_EMBED_REDIS_DOWN with `delivery: 'required'`: the URL must not be returned
   */
  recordIssued (event: AuditEvent): Promise<void> | undefined {
    if (!this.#isRequired) {
      this.record(event)
      return undefined
    }
    this.#announceAgain()
    bound(event)
    return this.#writer.addAndWait(this.#sign(event))
  }

  /** @throws TOOLJET_EMBED_REDIS_DOWN when `delivery: 'required'` cannot be kept right now */
  assertWritable (): void {
    if (!this.#isRequired) return
    if (this.#breaker.isOpen) throw embedError('TOOLJET_EMBED_REDIS_DOWN', { detail: 'the audit event could not be written' })
    if (!this.#writer.isWritable) throw embedError('TOOLJET_EMBED_REDIS_DOWN', { detail: 'the audit stream takes no entry', isRefusal: true })
  }

  verify (): Promise<AuditReport> {
    const indexes = new IndexWitness(this.#stream.keys, (...call) => this.#stream.read(...call))
    return verifyAudit(this.#stream, this.#signer, { known: this.#settings, witnesses: [indexes, new OwnWitness(this.#instance, this.#writer.last, (this.#writer.newestMac ?? '') !== this.#lastMac)] })
  }

  health (): AuditHealth {
    return { instance: this.#instance, seq: this.#seq, backlog: this.#writer.backlog, ...(this.#problem && { problem: this.#problem }) }
  }

  async close (timeoutMs: number): Promise<void> {
    this.#limited.close()
    this.record({ event: 'audit.closed' })
    await this.#writer.close(timeoutMs)
  }

  get #isRequired (): boolean {
    return this.#settings.delivery === 'required'
  }

  /** Records `audit.opened` with the retention of this instance, by which `verify` judges a trimmed log. */
  #announce (written?: () => void): void {
    const { retentionMs, maxEntries } = this.#settings
    this.#announcedAt = this.#clock.now()
    this.#announcedSeq = this.#seq
    this.#writer.add(this.#sign({ event: 'audit.opened', retention: `${retentionMs / MS_PER_DAY}d/${maxEntries}` }), written)
  }

  /** Repeats `audit.opened` before the last one is trimmed. */
  #announceAgain (): void {
    const { retentionMs, maxEntries } = this.#settings
    const afterMs = Math.min(MS_PER_DAY, retentionMs > 0 ? retentionMs / 4 : Infinity)
    const afterEvents = maxEntries > 0 ? Math.max(LEAST_EVENTS, Math.floor(maxEntries / 100)) : Infinity
    if (this.#seq - this.#announcedSeq > afterEvents || this.#clock.now() - this.#announcedAt > afterMs) this.#announce()
  }

  #recordProblem (problem: StreamProblem | undefined): void {
    if (problem === undefined) {
      this.#problem = undefined
      this.#log.info({ stream: this.#settings.stream }, 'tooljet-embed: the audit stream takes entries again')
    } else {
      const { kind, ...details } = problem
      this.#problem = { kind, since: new Date(this.#clock.now()).toISOString() }
      this.#logProblem(kind, { stream: this.#settings.stream, instance: this.#instance, ...details })
    }
  }

  #logProblem (kind: StreamProblem['kind'], details: object): void {
    if (kind === 'shortened') this.#log.error(details, 'tooljet-embed: the last event of this instance is gone from the audit stream, though nothing had to be trimmed')
    else if (kind === 'replaced') this.#log.error(details, 'tooljet-embed: the last event of this instance in the audit stream is not the one that it wrote')
    else this.#log.error(details, 'tooljet-embed: the audit stream takes no entry, events go to this log only')
  }

  async #loadQueries (redis: RedisLike): Promise<void> {
    try {
      await loadLibrary(redis)
    } catch (error) {
      this.#log.info({ reason: (error as Error).message }, 'tooljet-embed: the audit queries are not loaded into Redis, it is older than 7 or does not let this user')
    }
  }

  /** @param event with texts of bounded length */
  #sign (event: AuditEvent, time = this.#clock.now()): QueuedEvent {
    const named = this.#settings.identity === 'hmac' ? this.#pseudonyms.pseudonymize(event) : event
    const fields = toFields(named, time, { instance: this.#instance, seq: ++this.#seq, prev: this.#lastMac })
    const signed = this.#signer.sign(fields, time)
    this.#lastMac = signed.mac
    this.#log.info({ tooljetEmbedAudit: fields }, `tooljet-embed: ${event.event}`)
    return toQueued(signed, fields, this.#stream.keys)
  }
}

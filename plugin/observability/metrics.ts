import type { Aggregator, Registry } from 'prom-client'
import { embedError, errorCodes } from '../errors.js'
import { mintChannel, urlChannel, type TooljetEmbedMintTrace, type TooljetEmbedUrlTrace } from './tracing.js'

/** What the plugin needs of a `Registry` of prom-client, be it of another copy than the plugin's own. */
export interface MetricsRegistry {
  registerMetric (metric: any): void
  getSingleMetric (name: string): unknown
  removeSingleMetric (name: string): void
}

interface ToolJetState {
  /** Seconds. */
  pausedFor?: number
  queue?: { waiting: number }
}

/** One registration of the plugin: its name in trace messages, and its health. */
interface Registration {
  instance: string
  health (): Promise<{ redis: { state: 'up' | 'down' }, tooljet: ToolJetState, tooljets?: ToolJetState[], audit: { backlog: number } }>
}

interface Snapshot {
  redisUp: 0 | 1
  backlog: number
  /** Seconds. */
  pausedFor: number
  waiting: number
}

type PromClient = Pick<typeof import('prom-client'), 'Counter' | 'Gauge' | 'Histogram'>

/** Also the order in which they are shown. */
const NAMES = {
  answers: 'tooljet_embed_answers_total',
  mints: 'tooljet_embed_mint_duration_seconds',
  slots: 'tooljet_embed_mint_slots_total',
  wait: 'tooljet_embed_mint_wait_seconds',
  queue: 'tooljet_embed_mint_queue_length',
  pause: 'tooljet_embed_tooljet_pause_seconds',
  redis: 'tooljet_embed_redis_up',
  backlog: 'tooljet_embed_audit_backlog',
}
const MINT_SECONDS = [0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]
const WAIT_SECONDS = [1, 5, 15, 60, 300, 900, 3600, 4 * 3600]
/** Outcomes of a call that the mint queue granted. */
const SLOTS = { used: 'used', refused: 'refused' }
const OK = 'ok'
const OTHER = 'other'
/** The values of the label `code`, besides `OK` and `OTHER`. */
const CODES = Object.keys(errorCodes).filter((code) => code !== 'TOOLJET_EMBED_OPTIONS')

const registries = new WeakMap<MetricsRegistry, Metrics>()

/**
 * Measures a registration. Registrations with one registry share its metrics: counters add up, gauges have the worst value.
 * @returns a function that ends it
 * @throws TOOLJET_EMBED_OPTIONS without prom-client, or when a name is already taken in the registry
 */
export async function openMetrics (registry: MetricsRegistry, registration: Registration): Promise<() => void> {
  const metrics = registries.get(registry) ?? new Metrics(await promClient(), registry)
  metrics.add(registration)
  return () => metrics.remove(registration)
}

/** The optional peer. In a `try`, bundlers let it be missing; webpack does not see that of a `catch` of the promise. */
async function promClient (): Promise<PromClient> {
  try {
    return await import('prom-client')
  } catch (cause) {
    throw embedError('TOOLJET_EMBED_OPTIONS', { detail: 'option "metrics" needs the package prom-client: npm install prom-client', cause })
  }
}

/** The metrics of one registry. They are made of the channels' messages and of `health()`, and of nothing else. */
class Metrics {
  readonly #registry: MetricsRegistry
  readonly #registrations = new Map<string, Registration>()
  readonly #countAnswer: (message: TooljetEmbedUrlTrace) => void
  readonly #measureMint: (message: TooljetEmbedMintTrace) => void
  #pending: Promise<Snapshot> | undefined

  constructor ({ Counter, Gauge, Histogram }: PromClient, registry: MetricsRegistry) {
    const taken = Object.values(NAMES).find((name) => registry.getSingleMetric(name) !== undefined)
    if (taken !== undefined) throw embedError('TOOLJET_EMBED_OPTIONS', { detail: `option "metrics.registry" already has a metric ${taken}, which is not of this plugin` })
    this.#registry = registry
    const registers = [registry as Registry]

    const answers = new Counter({ name: NAMES.answers, help: 'Answers to requests for an embed URL, by its source and by error code', labelNames: ['source', 'code'], registers })
    const mints = new Histogram({ name: NAMES.mints, help: 'Seconds that mint calls to ToolJet took, retries included, by error code', labelNames: ['code'], buckets: MINT_SECONDS, registers })
    // Prometheus sees an increase only of a series that was there before
    for (const source of ['minted', 'reused']) answers.inc({ source, code: OK }, 0)
    const slots = new Counter({ name: NAMES.slots, help: 'Calls to ToolJet that its mint limit was asked for: used, or refused by ToolJet all the same', labelNames: ['outcome'], registers })
    const wait = new Histogram({ name: NAMES.wait, help: 'Seconds from the first request for a mint to its turn', buckets: WAIT_SECONDS, registers })
    for (const outcome of Object.values(SLOTS)) slots.inc({ outcome }, 0)
    for (const code of [...CODES, OTHER]) answers.inc({ source: 'none', code }, 0)
    mints.zero({ code: OK })

    this.#countAnswer = ({ instance, source, code }) => {
      if (!this.#registrations.has(instance)) return
      answers.inc({ source: source ?? 'none', code: labelOf(code) })
    }
    this.#measureMint = ({ instance, code, durationMs, waitedMs, calls = 1 }) => {
      if (!this.#registrations.has(instance)) return
      mints.observe({ code: labelOf(code) }, durationMs! / 1000)
      wait.observe(waitedMs / 1000)
      const refused = code === 'TOOLJET_EMBED_BUSY' ? 1 : 0
      slots.inc({ outcome: SLOTS.used }, calls - refused)
      slots.inc({ outcome: SLOTS.refused }, refused)
    }

    // `aggregator`: over the processes of a cluster, as prom-client does it
    const gauge = (name: string, help: string, aggregator: Aggregator, value: () => number | Promise<number>): void => {
      const made = new Gauge({ name, help, aggregator, registers, async collect () { made.set(await value()) } })
    }
    gauge(NAMES.pause, 'Seconds left of the pause for which ToolJet asked, 0 without one', 'max', async () => (await this.#snapshot()).pausedFor)
    gauge(NAMES.queue, 'Users and apps that wait for a turn to mint, of the whole fleet', 'max', async () => (await this.#snapshot()).waiting)
    gauge(NAMES.redis, 'Whether Redis answers: 1, or 0', 'min', async () => (await this.#snapshot()).redisUp)
    gauge(NAMES.backlog, 'Audit events that wait for Redis', 'sum', async () => (await this.#snapshot()).backlog)
  }

  add (registration: Registration): void {
    if (this.#registrations.size === 0) {
      registries.set(this.#registry, this)
      urlChannel.asyncEnd.subscribe(this.#countAnswer as (message: unknown) => void)
      mintChannel.asyncEnd.subscribe(this.#measureMint as (message: unknown) => void)
    }
    this.#registrations.set(registration.instance, registration)
  }

  /** With the last registration the metrics are removed, too. */
  remove ({ instance }: Registration): void {
    this.#registrations.delete(instance)
    if (this.#registrations.size > 0) return
    registries.delete(this.#registry)
    urlChannel.asyncEnd.unsubscribe(this.#countAnswer as (message: unknown) => void)
    mintChannel.asyncEnd.unsubscribe(this.#measureMint as (message: unknown) => void)
    for (const name of Object.values(NAMES)) this.#registry.removeSingleMetric(name)
  }

  /** All gauges of one scrape share one snapshot, which waits for Redis no longer than `health()` does. */
  #snapshot (): Promise<Snapshot> {
    this.#pending ??= this.#takeSnapshot().finally(() => { this.#pending = undefined })
    return this.#pending
  }

  async #takeSnapshot (): Promise<Snapshot> {
    const all = await Promise.all([...this.#registrations.values()].map((registration) => registration.health()))
    return {
      redisUp: all.every(({ redis }) => redis.state === 'up') ? 1 : 0,
      backlog: all.reduce((sum, { audit }) => sum + audit.backlog, 0),
      pausedFor: Math.max(0, ...all.flatMap(({ tooljet, tooljets = [tooljet] }) => tooljets.map(({ pausedFor = 0 }) => pausedFor))),
      waiting: Math.max(0, ...all.map(({ tooljet, tooljets = [tooljet] }) => tooljets.reduce((sum, { queue }) => sum + (queue?.waiting ?? 0), 0))),
    }
  }
}

/** Codes of the host's own errors are one label, for there could be any number of them. */
function labelOf (code: string | undefined): string {
  if (code === undefined) return OK
  return CODES.includes(code) ? code : OTHER
}

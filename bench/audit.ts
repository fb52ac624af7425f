import { append, type WrittenEntry } from '../plugin/audit/append.js'
import { AuditKeys } from '../plugin/audit/audit-keys.js'
import { loadLibrary } from '../plugin/audit/functions.js'
import { AuditReader } from '../plugin/audit/reader.js'
import { RedisCircuitBreaker } from '../plugin/redis/circuit-breaker.js'
import { RedisClock } from '../plugin/redis/clock.js'
import { ScriptClient } from '../plugin/redis/script-client.js'
import { systemTimers as timers } from '../plugin/timers.js'
import { AuditEvents, CODE, INSTANCE, type BenchEvent } from './audit-events.js'
import { median, percentile } from './statistics.js'
import { redisCpuOf } from './redis-figures.js'
import { progress } from './progress.js'
import type { BenchRedis, Environment } from './environment.js'

/** What a busy instance writes at once. */
const BATCH = 20
/** The plugin's defaults. */
const RETENTION = { retentionMs: 90 * 86_400_000, maxEntries: 1_000_000 }
const OLDEST_DAY = new Date(Date.now() - 91 * 86_400_000).toISOString().slice(0, 10)
/** So many parts are written, each in all ways; of the bare ones fewer say as much. */
const PARTS = 100
const PIPELINED_SHARE = 0.2
const ONE_BY_ONE_SHARE = 0.05
/** Of a portal that has just begun: the least that a bucket can hold. */
const SPARSE_USERS = 5000

const STREAM = 'tooljet-embed:audit'
const SPARSE_STREAM = 'sparse:audit'
const BARE_STREAM = 'bare:audit'
const ONE_BY_ONE_STREAM = 'one-by-one:audit'

export interface AuditResult {
  events: number
  users: number
  /** µs of Redis's main thread for an event, medians. */
  writeCpu: { append: number, pipelined: number, oneByOne: number }
  /** By `MEMORY USAGE`; `sparse`: what indexes and counters take with one event for each of 5,000 users. */
  bytesPerEvent: { stream: number, indexes: number, total: number, bare: number, sparse: number }
  /** By the time that the call takes inside Redis, `server`, µs; the other times are ms. */
  queries: { query: string, events: number, p50: number, p99: number, server: number }[]
}

/** A log that grows to its full size; on the way its queries are timed at a hundredth and a tenth of that. */
export function audit (environment: Environment): Promise<AuditResult> {
  const { events: total, users, apps, queries } = environment.plan.audit
  return environment.withScope(async (inner) => {
    const redis = await inner.startRedis()
    await loadLibrary(redis.client)
    const scripts = await scriptsOf(redis)
    const keys = new AuditKeys(STREAM)
    const source = new AuditEvents(keys, { users, apps, events: total })
    const part = total / PARTS
    const cpu = { append: [] as number[], pipelined: [] as number[], oneByOne: [] as number[] }
    const timed: AuditResult['queries'] = []

    for (let written = part; written <= total; written += part) {
      const events = source.next(part)
      const some = events.slice(0, part * PIPELINED_SHARE)
      const few = events.slice(0, part * ONE_BY_ONE_SHARE)
      cpu.append.push(await redisCpuOf(redis.client, () => appendAll(scripts, keys, events)) / events.length)
      cpu.pipelined.push(await redisCpuOf(redis.client, () => pipelineAll(redis, some)) / some.length)
      cpu.oneByOne.push(await redisCpuOf(redis.client, () => writeOneByOne(redis, few)) / few.length)
      if ([part, total / 10, total].includes(written)) {
        timed.push(...await timeQueries(redis, source, written, queries))
        progress(`audit: ${written} events`)
      }
    }
    const sparseKeys = new AuditKeys(SPARSE_STREAM)
    await appendAll(scripts, sparseKeys, new AuditEvents(sparseKeys, { users: SPARSE_USERS, apps, events: SPARSE_USERS }).next(SPARSE_USERS))
    const [stream, indexes] = [await bytesOf(redis, STREAM) / total, await indexBytesOf(redis, STREAM) / total]
    return {
      events: total,
      users,
      writeCpu: { append: median(cpu.append), pipelined: median(cpu.pipelined), oneByOne: median(cpu.oneByOne) },
      bytesPerEvent: {
        stream,
        indexes,
        total: stream + indexes,
        bare: await bytesOf(redis, BARE_STREAM) / await redis.client.xlen(BARE_STREAM),
        sparse: await indexBytesOf(redis, SPARSE_STREAM) / SPARSE_USERS,
      },
      queries: timed,
    }
  })
}

/** The plugin's way to Redis. */
async function scriptsOf ({ client }: BenchRedis): Promise<ScriptClient> {
  const breaker = new RedisCircuitBreaker({ redis: client }, 10_000, { timers, log: { info () {}, warn () {}, error: console.error } })
  await breaker.start()
  return new ScriptClient({ breaker, clock: new RedisClock(timers), timers })
}

async function appendAll (scripts: ScriptClient, keys: AuditKeys, events: readonly BenchEvent[]): Promise<void> {
  let own: WrittenEntry | undefined
  for (const batch of batches(events)) {
    own = (await append(scripts, keys, RETENTION, OLDEST_DAY, INSTANCE, batch.map(({ queued }) => queued), own))?.last
  }
}

/** The same fields without indexes, order or retention: the least that writing them can cost. */
async function pipelineAll ({ client }: BenchRedis, events: readonly BenchEvent[]): Promise<void> {
  for (const batch of batches(events)) {
    const pipeline = client.pipeline()
    for (const { fields } of batch) pipeline.xadd(BARE_STREAM, '*', ...Object.entries(fields).flat())
    await pipeline.exec()
  }
}

async function writeOneByOne ({ client }: BenchRedis, events: readonly BenchEvent[]): Promise<void> {
  for (const { fields } of events) await client.xadd(ONE_BY_ONE_STREAM, '*', ...Object.entries(fields).flat())
}

function * batches (events: readonly BenchEvent[]): Generator<readonly BenchEvent[]> {
  for (let i = 0; i < events.length; i += BATCH) yield events.slice(i, i + BATCH)
}

async function timeQueries ({ client }: BenchRedis, source: AuditEvents, events: number, count: number): Promise<AuditResult['queries']> {
  const reader = new AuditReader(client, STREAM)
  const totals = (...args: string[]) => () => client.call('FCALL_RO', 'tooljet_audit_stats', '1', STREAM, 'by', ...args)
  const asked: Record<string, () => Promise<unknown>> = {
    "one user's newest 100": () => reader.query({ email: source.anEmail() }),
    "one app's newest 100": () => reader.query({ app: source.anApp() }),
    'the newest 100, unfiltered': () => reader.query({}),
    'one code, no index: a reply looks at 250': () => reader.query({ code: CODE }),
    'totals by event since 30d': totals('event', 'since', '30d'),
    'totals by hour,app since 7d': totals('hour,app', 'since', '7d'),
    'totals by hour,app since 30d': totals('hour,app', 'since', '30d'),
    'totals by app of all 90 days': totals('app'),
    'one user\'s counts: a reply looks at 250': () => client.call('FCALL_RO', 'tooljet_audit_stats', '1', STREAM, 'by', 'app', 'email', source.anEmail()),
  }
  const timed = []
  for (const [query, run] of Object.entries(asked)) {
    const times: number[] = []
    await run()
    await client.config('RESETSTAT')
    for (let i = 0; i < count; i++) {
      const start = performance.now()
      await run()
      times.push(performance.now() - start)
    }
    const server = Number(/cmdstat_fcall_ro:.*usec_per_call=([\d.]+)/.exec(await client.info('commandstats'))?.[1])
    timed.push({ query, events, p50: median(times), p99: percentile(times, 99), server })
  }
  return timed
}

async function bytesOf ({ client }: BenchRedis, key: string): Promise<number> {
  return Number(await client.memory('USAGE', key, 'SAMPLES', 0))
}

async function indexBytesOf (redis: BenchRedis, stream: string): Promise<number> {
  let bytes = 0
  for await (const keys of redis.client.scanStream({ match: `{${stream}}:*`, count: 1000 }) as AsyncIterable<string[]>) {
    for (const key of keys) bytes += await bytesOf(redis, key)
  }
  return bytes
}

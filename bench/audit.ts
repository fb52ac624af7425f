import { append, trim } from '../plugin/audit/append.js'
import type { AuditFields } from '../plugin/audit/event.js'
import { AuditKeys } from '../plugin/audit/indexes.js'
import { loadLibrary } from '../plugin/audit/library.js'
import { AuditReader } from '../plugin/audit/reader.js'
import { AuditEvents, CODE, INSTANCE } from './audit-events.js'
import { median, percentile } from './numbers.js'
import { redisCpuOf } from './redis-figures.js'
import { progress } from './report.js'
import type { BenchRedis, World } from './world.js'

/** As the plugin's writer. */
const BATCH = 128
/** The plugin's defaults. */
const RETENTION = { retentionMs: 90 * 86_400_000, maxEntries: 1_000_000 }
/** So many parts are written, each in all ways; of the bare ones fewer say as much. */
const PARTS = 100
const PIPELINED_SHARE = 0.2
const ONE_BY_ONE_SHARE = 0.05

const STREAM = 'tooljet-embed:audit'
const BARE_STREAM = 'bare:audit'
const ONE_BY_ONE_STREAM = 'one-by-one:audit'

export interface AuditResult {
  events: number
  users: number
  /** µs of Redis's main thread for an event, medians. */
  writeCpu: { append: number, pipelined: number, oneByOne: number }
  /** By `MEMORY USAGE`. */
  bytesPerEvent: { stream: number, indexes: number, total: number, bare: number }
  queries: { query: string, events: number, p50: number, p99: number, redisCpu: number }[]
}

/** A log that grows to its full size; on the way its queries are timed at a hundredth and a tenth of that. */
export function audit (world: World): Promise<AuditResult> {
  const { events: total, users, apps, queries } = world.plan.audit
  return world.during(async (inner) => {
    const redis = await inner.startRedis()
    await loadLibrary(redis.client)
    const source = new AuditEvents({ users, apps })
    const part = total / PARTS
    const cpu = { append: [] as number[], pipelined: [] as number[], oneByOne: [] as number[] }
    const timed: AuditResult['queries'] = []

    for (let written = part; written <= total; written += part) {
      const events = source.next(part)
      const some = events.slice(0, part * PIPELINED_SHARE)
      const few = events.slice(0, part * ONE_BY_ONE_SHARE)
      cpu.append.push(await redisCpuOf(redis.client, () => appendAll(redis, events)) / events.length)
      cpu.pipelined.push(await redisCpuOf(redis.client, () => pipelineAll(redis, some)) / some.length)
      cpu.oneByOne.push(await redisCpuOf(redis.client, () => writeOneByOne(redis, few)) / few.length)
      if ([part, total / 10, total].includes(written)) {
        timed.push(...await timeQueries(redis, source, written, queries))
        progress(`audit: ${written} events`)
      }
    }
    return {
      events: total,
      users,
      writeCpu: { append: median(cpu.append), pipelined: median(cpu.pipelined), oneByOne: median(cpu.oneByOne) },
      bytesPerEvent: await bytesPerEvent(redis, total),
      queries: timed,
    }
  })
}

async function appendAll ({ client }: BenchRedis, events: readonly AuditFields[]): Promise<void> {
  const keys = new AuditKeys(STREAM)
  for (const batch of batches(events)) {
    const { excess } = await append(client, keys, RETENTION, Date.now(), INSTANCE, batch)
    if (excess !== undefined) await trim(client, keys, excess)
  }
}

/** The same fields without indexes, order or retention: the least that writing them can cost. */
async function pipelineAll ({ client }: BenchRedis, events: readonly AuditFields[]): Promise<void> {
  for (const batch of batches(events)) {
    const pipeline = client.pipeline()
    for (const fields of batch) pipeline.xadd(BARE_STREAM, '*', ...Object.entries(fields).flat())
    await pipeline.exec()
  }
}

async function writeOneByOne ({ client }: BenchRedis, events: readonly AuditFields[]): Promise<void> {
  for (const fields of events) await client.xadd(ONE_BY_ONE_STREAM, '*', ...Object.entries(fields).flat())
}

function * batches (events: readonly AuditFields[]): Generator<readonly AuditFields[]> {
  for (let i = 0; i < events.length; i += BATCH) yield events.slice(i, i + BATCH)
}

async function timeQueries ({ client }: BenchRedis, source: AuditEvents, events: number, count: number): Promise<AuditResult['queries']> {
  const reader = new AuditReader(client, STREAM)
  const stats = async (): Promise<void> => { await client.call('FCALL', 'tooljet_audit_stats', '1', STREAM, 'by', 'app') }
  const asked: Record<string, () => Promise<unknown>> = {
    "one user's newest 100": () => reader.query({ email: source.anEmail() }),
    "one app's newest 100": () => reader.query({ app: source.anApp() }),
    'the newest 100, unfiltered': () => reader.query({}),
    'one code, no index: a reply looks at 250': () => reader.query({ code: CODE }),
    'counts by app: a reply looks at 250': stats,
  }
  const timed = []
  for (const [query, run] of Object.entries(asked)) {
    const times: number[] = []
    const cpu = await redisCpuOf(client, async () => {
      for (let i = 0; i < count; i++) {
        const start = performance.now()
        await run()
        times.push(performance.now() - start)
      }
    })
    timed.push({ query, events, p50: median(times), p99: percentile(times, 99), redisCpu: cpu / count })
  }
  return timed
}

async function bytesPerEvent ({ client }: BenchRedis, events: number): Promise<AuditResult['bytesPerEvent']> {
  const usage = async (key: string): Promise<number> => Number(await client.memory('USAGE', key, 'SAMPLES', 0))
  const stream = await usage(STREAM)
  let indexes = 0
  for await (const keys of client.scanStream({ match: `{${STREAM}}:*`, count: 1000 }) as AsyncIterable<string[]>) {
    for (const bytes of await Promise.all(keys.map(usage))) indexes += bytes
  }
  const bare = await usage(BARE_STREAM) / await client.xlen(BARE_STREAM)
  return { stream: stream / events, indexes: indexes / events, total: (stream + indexes) / events, bare }
}

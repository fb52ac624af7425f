import { randomInt } from 'node:crypto'
import { Redis } from 'ioredis'
import { t as tap, test, type Test } from 'tap'
import { startServer } from '../example/redis.js'
import { AuditKeys } from '../plugin/audit/audit-keys.js'
import type { AuditEntry } from '../plugin/audit/event.js'
import { loadLibrary, LIBRARY, QUERIES } from '../plugin/audit/functions.js'
import { Pseudonyms } from '../plugin/audit/pseudonyms.js'
import { AuditReader, compareIds, type AuditFilters, type AuditGrouping } from '../plugin/audit/reader.js'
import { reindex } from '../plugin/audit/reindex.js'
import type { AuditProblem } from '../plugin/audit/report.js'
import { verifyAudit } from '../plugin/audit/verify.js'
import { IndexWitness, type RunScript } from '../plugin/audit/verify-indexes.js'
import { deriveKeys } from '../plugin/crypto/secret-keys.js'
import type { RedisLike } from '../plugin/redis/redis-like.js'
import { urlFor } from './support/acl.js'
import { cliHere } from './support/cli.js'
import { APPS, CODES, entriesOf, expectedIndexesOf, indexesOf, oneOf, signerOf, someEvent, USERS, writeEvents } from './support/audit-log.js'
import { startCluster } from './support/cluster.js'
import { ANA, API_TOKEN, BEN, CLEO, newPrefix, Portal, releaseRedisAfter, SALES } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { keysOf, sharedRedisUrl } from './support/redis.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

const INCOMPLETE = 'index incomplete: run tooljet-embed-audit verify, then reindex'

/** A stream of this test's own, in the Redis of all. */
async function openStream (t: Test): Promise<{ redis: Redis, stream: string, keys: AuditKeys }> {
  const redis = newClient(await sharedRedisUrl())
  const prefix = newPrefix()
  t.teardown(async () => {
    await Promise.all((await keysOf(redis, prefix)).map((key) => redis.del(key)))
    redis.disconnect()
  })
  await loadLibrary(redis)
  return { redis, stream: `${prefix}audit`, keys: new AuditKeys(`${prefix}audit`) }
}

type Page = [cursor: string, entries: [id: string, fields: string[]][], ...notes: string[]]

/** Pages through a query. */
async function idsOf (ask: (args: string[]) => Promise<unknown>, args: string[]): Promise<{ ids: string[], pages: number, notes: string[] }> {
  const ids: string[] = []
  let pages = 0
  const all = new Set<string>()
  for (let after: string[] = []; ;) {
    const [cursor, entries, ...notes] = await ask([...args, ...after]) as Page
    ids.push(...entries.map(([id]) => id))
    for (const note of notes) all.add(note)
    pages++
    if (cursor === '0-0') return { ids, pages, notes: [...all] }
    after = ['after', cursor]
  }
}

test('a query gives what a look at the whole stream gives: any filters, order and page size, as function and as script, with indexes and without', { timeout: 120_000 }, async (t) => {
  const { redis, stream, keys } = await openStream(t)
  await writeEvents(redis, stream, 1500)
  const all = await entriesOf(redis, stream)
  // trimmed, and the buckets not yet: they know more than there is
  const [cut] = all[100]!.id.split('-')
  await redis.hincrby(keys.index, 'entries', -await redis.xtrim(stream, 'MINID', cut!))

  const ways = {
    function: (args: string[]) => redis.call('FCALL_RO', 'tooljet_audit', '1', stream, ...args),
    script: (args: string[]) => redis.eval(QUERIES, 1, stream, ...args),
    'script with declared keys': (args: string[]) => redis.eval(QUERIES, 43, stream, keys.index, keys.counts, ...keys.buckets, ...args),
  }
  const check = async (entries: AuditEntry[], times: number, isIndexed: boolean): Promise<void> => {
    for (let i = 0; i < times; i++) {
      const maybe = <T>(value: () => T): T | undefined => (randomInt(3) === 0 ? value() : undefined)
      const time = (): number => Number(oneOf(all).id.split('-')[0]) + randomInt(3) - 1
      const filters = {
        email: maybe(() => oneOf([...USERS, 'nobody@acme.test'])),
        app: maybe(() => oneOf(APPS)),
        event: maybe(() => oneOf(['url.minted', 'url.denied'])),
        outcome: maybe(() => oneOf(['success', 'failure'])),
        code: maybe(() => oneOf(CODES)),
        ip: maybe(() => `10.0.0.${randomInt(4)}`),
      }
      const [since, end] = [maybe(time), maybe(time)]
      const order = oneOf(['asc', 'desc'])
      const expected = entries.filter(({ id, fields }) => {
        const ms = Number(id.split('-')[0])
        return Object.entries(filters).every(([name, value]) => value === undefined || fields[name] === value) && ms >= (since ?? 0) && ms < (end ?? Infinity)
      }).map(({ id }) => id)
      if (order === 'desc') expected.reverse()
      const given = { ...filters, since, until: end, order: maybe(() => order) ?? (order === 'desc' ? undefined : order), limit: maybe(() => 1 + randomInt(250)) }
      const args = Object.entries(given).flatMap(([name, value]) => (value === undefined ? [] : [name, String(value)]))
      const way = oneOf(Object.keys(ways) as (keyof typeof ways)[])
      const { ids, notes } = await idsOf(ways[way], args)
      t.same(ids, expected, `${way} ${args.join(' ')}`)
      t.same(notes, isIndexed || (filters.email ?? filters.app) === undefined ? [] : [INCOMPLETE])
    }
  }
  const left = all.filter(({ id }) => compareIds(id, `${cut}-0`) >= 0)
  t.same(await entriesOf(redis, stream), left)
  await check(left, 150, true)
  await redis.xdel(stream, left[700]!.id)
  await check(left.toSpliced(700, 1), 40, false)
})

test('a query looks at 250 events at the most, and one for a user only at theirs', async (t) => {
  const { redis, stream } = await openStream(t)
  await writeEvents(redis, stream, 2600, { make: (seq) => ({ ...someEvent(seq), email: seq % 100 === 7 ? ANA : BEN, app: 'sales' }) })
  const ask = (args: string[]): Promise<unknown> => redis.call('FCALL_RO', 'tooljet_audit', '1', stream, ...args)
  t.match(await idsOf(ask, ['ip', '192.0.2.1']), { ids: [], pages: 11 })
  t.match(await idsOf(ask, ['app', 'sales', 'ip', '192.0.2.1']), { ids: [], pages: 11 })
  t.equal((await idsOf(ask, ['email', ANA])).pages, 1)
  t.equal((await idsOf(ask, ['email', ANA])).ids.length, 26)
  t.match(await ask(['email', ANA, 'limit', '3']), [/-/, { length: 3 }])
  t.match(await ask([]), [/-/, { length: 100 }], 'by default the newest 100')
})

test('an index is read only where it matters, in windows, and in a bounded number of them', async (t) => {
  const server = await startServer()
  const redis = newClient(server.url)
  t.teardown(async () => {
    redis.disconnect()
    await server.stop()
  })
  await loadLibrary(redis)
  const keys = new AuditKeys('audit')
  await writeEvents(redis, 'audit', 3000, { make: (seq) => ({ ...someEvent(seq), email: ANA }) })
  const calls = async (command: string): Promise<number> => Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(await redis.info('commandstats'))?.[1] ?? 0)
  const ids = (await entriesOf(redis, 'audit')).map(({ id }) => id)
  await redis.config('RESETSTAT')
  t.match(await redis.call('FCALL_RO', 'tooljet_audit', '1', 'audit', 'email', ANA, 'after', ids.at(-2)!, 'order', 'asc'), ['0-0', [[ids.at(-1)]]])
  t.match(await redis.call('FCALL_RO', 'tooljet_audit', '1', 'audit', 'email', ANA, 'after', ids[1]!), ['0-0', [[ids[0]]]])
  t.ok(await calls('xrange') + await calls('xrevrange') <= 6 && await calls('getrange') < 60, 'a binary search, and the events themselves')

  // a bucket of 400,000 records of others between two of hers
  const { key, hash } = keys.email(BEN)
  const record = (hash: number, ms: number): Buffer => {
    const bytes = Buffer.alloc(14)
    bytes.writeUInt32BE(hash)
    bytes.writeUIntBE(ms, 4, 6)
    return bytes
  }
  const first = await redis.xadd('audit', '*', 'event', 'url.minted', 'email', BEN)
  const start = Number(first!.split('-')[0])
  const last = await redis.xadd('audit', `${start + 500_000}-0`, 'event', 'url.minted', 'email', BEN)
  const others = Buffer.concat(Array.from({ length: 400_000 }, (_, i) => record(hash ^ 1, start + 1 + i)))
  await redis.set(key, Buffer.concat([record(hash, start), others, record(hash, start + 500_000)]))
  await redis.hset(keys.index, 'entries', 3002, 'last', last!, key.match(/\w+:\d+$/)![0], await redis.strlen(key))
  await redis.config('RESETSTAT')
  for (const order of ['asc', 'desc']) {
    const { ids, pages, notes } = await idsOf((args) => redis.call('FCALL_RO', 'tooljet_audit', '1', 'audit', 'email', BEN, ...args), ['order', order])
    t.same(ids, order === 'asc' ? [first, last] : [last, first])
    t.same(notes, [])
    t.equal(pages, 6, 'each looks at 16 windows of 4,680 records at the most')
  }
  const reads = await calls('getrange')
  t.ok(reads <= 12 * (16 + 45), `${reads} reads: of each call its windows, and a binary search or two`)
})

test('hashes that two values share, and bytes that look like one, are told apart', async (t) => {
  const { redis, stream, keys } = await openStream(t)
  await writeEvents(redis, stream, 40, { make: (seq) => ({ ...someEvent(seq), email: seq % 2 === 0 ? ANA : 'other@acme.test' }) })
  // every record of one bucket gets Ana's hash, and ids have her hash's bytes in them
  const { key, hash } = keys.email(ANA)
  const bytes = await redis.getBuffer(key)
  for (let at = 0; at < bytes!.length; at += 14) bytes!.writeUInt32BE(hash, at)
  const foreign = Buffer.alloc(14)
  foreign.writeUInt32BE(hash, 10)
  const ms = Date.now() + 1000
  foreign.writeUIntBE(ms, 4, 6)
  await redis.set(key, Buffer.concat([bytes!, foreign]))
  const last = await redis.xadd(stream, `${ms}-${hash}`, 'event', 'url.minted', 'email', 'other@acme.test')
  await redis.hset(keys.index, 'entries', 41, 'last', last!, key.match(/\w+:\d+$/)![0], bytes!.length + 14)
  const { ids, notes } = await idsOf((args) => redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'email', ANA, ...args), [])
  t.same(notes, [])
  t.same(ids.reverse(), (await entriesOf(redis, stream)).filter(({ fields }) => fields['email'] === ANA).map(({ id }) => id))
})

test('where an index is incomplete the stream is read, and the reply says so', async (t) => {
  const { redis, stream, keys } = await openStream(t)
  await writeEvents(redis, stream, 300)
  const ofAna = (await entriesOf(redis, stream)).filter(({ fields }) => fields['email'] === USERS[0]).map(({ id }) => id).reverse()
  const { key } = keys.email(USERS[0]!)
  const ask = (args: string[]): Promise<unknown> => redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'email', USERS[0]!, 'limit', '250', ...args)
  const bucket = (await redis.getBuffer(key))!
  const index = await redis.hgetall(keys.index)
  const broken: Record<string, () => Promise<unknown>> = {
    'the bucket is gone': () => redis.del(key),
    'the bucket is shorter': () => redis.set(key, bucket.subarray(14)),
    'the bucket is longer': () => redis.append(key, 'x'),
    'the bucket is of another type': async () => { await redis.del(key); await redis.hset(key, 'a', 'b') },
    'the index is gone': () => redis.del(keys.index),
    'the index is of another type': async () => { await redis.del(keys.index); await redis.set(keys.index, 'x') },
    'it counts less': () => redis.hincrby(keys.index, 'entries', -1),
    'it counts more': () => redis.hincrby(keys.index, 'entries', 1),
    'it is being made': () => redis.hset(keys.index, 'building', 'x 0-0'),
  }
  for (const [what, breakIt] of Object.entries(broken)) {
    t.match(await idsOf(ask, []), { ids: ofAna, notes: [] }, `before ${what}`)
    await breakIt()
    const { ids, notes } = await idsOf(ask, [])
    t.same(ids, ofAna, what)
    t.match(notes, what.includes('another type') ? [/^index cannot be read: .*WRONGTYPE/] : [INCOMPLETE], what)
    const shown = await cliHere(['query', '--redis', await sharedRedisUrl(), '--stream', stream, '--email', USERS[0]!, '--json', '--limit', '1000'])
    t.equal(shown.stderr, `${notes[0]}\n`, 'once, beside the results')
    t.equal(shown.stdout.split('\n').length - 1, ofAna.length)
    await redis.del(key, keys.index)
    await redis.set(key, bucket)
    await redis.hset(keys.index, index)
  }
  await redis.xadd(stream, '*', 'event', 'url.minted', 'email', USERS[0]!)
  await writeEvents(redis, stream, 5, { make: (seq) => ({ ...someEvent(seq), email: USERS[0]! }) })
  t.match(await idsOf(ask, []), { ids: { length: ofAna.length + 6 }, notes: [INCOMPLETE] }, 'an entry of others')
  t.match(await redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'ip', '192.0.2.1'), [/./, []], 'what needs no index says nothing of it')
  t.equal((await redis.call('FCALL_RO', 'tooljet_audit', '1', `${stream}:none`, 'email', ANA) as unknown[]).length, 2, 'nor is an empty stream incomplete')
})

test('times: ISO 8601 with every offset, milliseconds, and how long ago', async (t) => {
  const { redis, stream } = await openStream(t)
  const has = async (...args: string[]): Promise<boolean> => ((await redis.call('FCALL_RO', 'tooljet_audit', '1', stream, ...args)) as Page)[1].length > 0
  const at = (ms: number): Promise<unknown> => redis.xadd(stream, `${ms}-5`, 'event', 'url.minted')
  const begins = async (time: string, ms: number): Promise<void> => {
    await redis.del(stream)
    await at(ms)
    t.ok(await has('since', time), `${time} is not after ${ms}`)
    t.notOk(await has('until', time), `until ${time} is without ${ms}`)
    await redis.del(stream)
    await at(ms - 1)
    t.notOk(await has('since', time), `${time} is after ${ms - 1}`)
    t.ok(await has('until', time))
  }
  for (const time of ['2026-11-17', '2024-02-29', '2000-12-31T23:59', '1999-03-01 00:00:00', '2026-01-15T09:30:00.250Z', '2026-01-15T09:30:00.5+05:30', '2026-06-30T23:00:00-0330', '2100-03-01']) {
    await begins(time, Date.parse(/Z|[+-]\d\d:?\d\d$/.test(time) && time.length > 10 ? time : `${time.replace(' ', 'T')}${time.length > 10 ? 'Z' : 'T00:00Z'}`))
  }
  await begins('1763337600123', 1763337600123)
  for (let i = 0; i < 30; i++) {
    const ms = randomInt(200_000_000_000, 4_000_000_000_000)
    await begins(new Date(ms).toISOString(), ms)
  }
  await redis.del(stream)
  const now = Date.now()
  await at(now - 3_600_000)
  for (const [ago, is] of [['2h', true], ['1d', true], ['70m', true], ['3700s', true], ['30m', false], ['600s', false]] as const) t.equal(await has('since', ago), is, ago)
})

test('wrong arguments get an error that names them, and the usage', async (t) => {
  const { redis, stream } = await openStream(t)
  const refused: [string[], RegExp][] = [
    [['emial', ANA], /unknown argument "emial"/],
    [['[email', ANA], /unknown argument "\[email"/],
    [['by', 'app'], /unknown argument "by"/],
    [['email'], /argument "email" has no value/],
    [['email', ''], /argument "email" is "", expected a value/],
    [['app', 'a', 'app', 'b'], /argument "app" is there twice/],
    [['event', 'url.opened'], /argument "event" is "url.opened", expected one of url.minted, url.reused,/],
    [['outcome', 'good'], /argument "outcome" is "good", expected one of success, failure/],
    [['order', 'up'], /expected one of asc, desc/],
    [['limit', '0'], /expected a whole number from 1 to 250/],
    [['limit', '251'], /expected a whole number from 1 to 250/],
    [['after', 'x'], /expected the id of an event/],
    ...['yesterday', '2026-02-30', '2026-13-01', '2026-01-15T25:00', '2026-01-15T10:60', '2026-01-15T10:00:00.', '2026-01-15T10:00:00+1', '1763337600', '7w'].map((time): [string[], RegExp] => [['since', time], /expected an ISO 8601 time, milliseconds since 1970, or how long ago/]),
  ]
  for (const [args, message] of refused) {
    for (const asked of [redis.call('FCALL_RO', 'tooljet_audit', '1', stream, ...args), redis.eval(QUERIES, 1, stream, ...args)]) {
      const error = await asked.then(() => undefined, (error: Error) => error)
      t.match(error?.message, /^ERR tooljet_audit: .*; usage: tooljet_audit \[email E\] \[app A\]/)
      t.match(error?.message, message)
    }
  }
  await t.rejects(redis.call('FCALL_RO', 'tooljet_audit_stats', '1', stream), { message: /argument "by" is missing; usage: tooljet_audit_stats by email/ })
  await t.rejects(redis.call('FCALL_RO', 'tooljet_audit_stats', '1', stream, 'by', 'ip'), { message: /argument "by" is "ip", expected email, app, event, code, hour, or two of them like hour,app/ })
  for (const by of ['hour,', ',app', 'hour,hour', 'hour,ip', 'hour,app,event', 'hour app', 'HOUR']) await t.rejects(redis.call('FCALL_RO', 'tooljet_audit_stats', '1', stream, 'by', by), { message: /argument "by" is/ }, by)
  await t.rejects(redis.eval(QUERIES, 2, stream, 'another'), { message: /expected one key, the audit stream, and got 2/ })
  await t.rejects(redis.call('FCALL_RO', 'tooljet_audit', '2', stream, stream), { message: /expected one key, the audit stream, and got 2/ })
  t.match(await redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'LIMIT', '5'), ['0-0', []], 'as in Redis, names may be written in capitals')
})

/** Counts of some events by hand. */
function countOf (some: AuditEntry[], withUsers: boolean): object {
  const sum = (is: (fields: AuditEntry['fields']) => boolean): number => some.reduce((sum, { fields }) => sum + (is(fields) ? Number(fields['count'] ?? 1) : 0), 0)
  return {
    events: sum(() => true),
    minted: sum(({ event }) => event === 'url.minted'),
    reused: sum(({ event }) => event === 'url.reused'),
    refused: sum(({ outcome }) => outcome === 'failure'),
    ...withUsers && { users: new Set(some.map(({ fields }) => fields['email']!)) },
  }
}

/** @param isApp whether the app of an event counts */
function groupIn (by: AuditGrouping, { fields }: AuditEntry, isApp = true): string {
  return by.split(',').map((name) => (name === 'hour' ? `${fields['time']!.slice(0, 13)}:00Z` : (name === 'app' && !isApp ? undefined : fields[name]) ?? '-')).join()
}

const GROUPINGS: AuditGrouping[] = ['app', 'event', 'code', 'hour', 'hour,app', 'app,event', 'event,code', 'code,hour', 'app,code']

test('stats count what is there, page by page, each event for as many answers as it stands for', async (t) => {
  const { redis, stream } = await openStream(t)
  await writeEvents(redis, stream, 900)
  const entries = await entriesOf(redis, stream)
  const reader = new AuditReader(redis, stream)
  const filters: AuditFilters[] = [{}, { email: USERS[0] }, { app: APPS[1], outcome: 'failure' }]
  for (const filter of filters) {
    const matching = entries.filter(({ fields }) => Object.entries(filter).every(([name, value]) => fields[name] === value))
    for (const by of [...GROUPINGS, 'email', 'hour,email'] as AuditGrouping[]) {
      const rows = [...groupBy(matching, (entry) => groupIn(by, entry))].map(([group, some]) => ({ group, ...countOf(some, true) }))
      const stats = await reader.stats(by, filter, { users: true })
      t.same(sortRows(stats.rows), sortRows(rows), `by ${by} ${JSON.stringify(filter)}`)
      t.same(stats.total, { group: 'total', ...countOf(matching, true) })
    }
  }
  const [cursor, [first], total] = await redis.call('FCALL_RO', 'tooljet_audit_stats', '1', stream, 'by', 'app', 'email', USERS[0]!) as [string, unknown[][], unknown[]]
  t.equal(cursor, '0-0')
  t.match(first, [/./, 'events', Number, 'minted', Number, 'reused', Number, 'refused', Number, 'reuse_rate', /^[01]\.\d{3}$/, 'users', 1])
  t.equal(total[0], 'total')
  t.same((await redis.call('FCALL_RO', 'tooljet_audit_stats', '1', stream, 'by', 'app', 'email', 'nobody@acme.test') as unknown[])[2], ['total', 'events', 0, 'minted', 0, 'reused', 0, 'refused', 0, 'users', 0])
})

const HOUR_MS = 3_600_000

test('totals come out of counters in one call, by whole hours, the running one included', async (t) => {
  const { redis, stream, keys } = await openStream(t)
  const now = Date.now()
  // over four days, in order; the last ones of this very hour
  const timeOf = (seq: number): number => now - Math.floor((2000 - seq) / 2000 * 4 * 24 * HOUR_MS)
  await writeEvents(redis, stream, 2000, { make: (seq) => ({ ...someEvent(seq), time: new Date(timeOf(seq)).toISOString() }) })
  const entries = await entriesOf(redis, stream)
  const isApp = ({ fields }: AuditEntry): boolean => fields['outcome'] === 'success' || fields['code'] === 'TOOLJET_EMBED_ACCESS_DENIED'
  const wholeHour = (ms: number, round: (hours: number) => number): number => round(ms / HOUR_MS) * HOUR_MS
  const middle = wholeHour(now - 50 * HOUR_MS, Math.floor) + 1_234_567
  const ranges: { since?: string, until?: string, from?: number, to?: number }[] = [
    {},
    { since: String(middle), from: middle },
    { since: '30h', from: now - 30 * HOUR_MS },
    { since: '400d', from: 0 },
    { until: new Date(middle).toISOString(), to: middle },
    { since: new Date(middle).toISOString().slice(0, 10), until: `${new Date(middle).toISOString().slice(0, 13)}:00`, from: Date.parse(new Date(middle).toISOString().slice(0, 10)), to: wholeHour(middle, Math.floor) },
    { since: String(middle), until: String(middle + 1), from: middle, to: middle + 1 },
    { since: String(now + 48 * HOUR_MS), from: now + 48 * HOUR_MS },
  ]
  const notes: string[] = []
  const reader = new AuditReader(redis, stream, undefined, (note) => notes.push(note))
  for (const { from = 0, to = Infinity, ...times } of ranges) {
    const [first, last] = [wholeHour(from, Math.floor), wholeHour(to, Math.ceil)]
    const counted = entries.filter(({ fields }) => Date.parse(fields['time']!) >= first && Date.parse(fields['time']!) < last)
    for (const by of GROUPINGS) {
      const rows = [...groupBy(counted, (entry) => groupIn(by, entry, isApp(entry)))].map(([group, some]) => ({ group, ...countOf(some, false) }))
      const stats = await reader.stats(by, times)
      t.same(sortRows(stats.rows), sortRows(rows), `by ${by} ${JSON.stringify(times)}`)
      t.same(stats.total, { group: 'total', ...countOf(counted, false) })
      const [cursor, replied, ...rest] = await redis.call('FCALL_RO', 'tooljet_audit_stats', '1', stream, 'by', by, ...Object.entries(times).flat()) as [string, string[][], ...string[]]
      t.equal(cursor, '0-0')
      t.same(replied.map(([group]) => group), stats.rows.map(({ group }) => group), 'the reader sorts as Redis does')
      t.equal(rest.length, 1 + Object.keys(times).length)
      t.same(await redis.eval(QUERIES, 1, stream, 'stats', 'by', by, ...Object.entries(times).flat()), [cursor, replied, ...rest])
    }
  }
  const hour = (ms: number): string => `${new Date(ms).toISOString().slice(0, 13)}:00Z`
  t.ok(notes.includes(`since ${hour(middle)}: counted by whole hours`))
  t.ok(notes.includes(`until ${hour(middle + HOUR_MS)}: counted by whole hours`))
  const byHour = (await reader.stats('hour,app', {})).rows
  t.same(byHour.map(({ group }) => group.slice(0, 17)), byHour.map(({ group }) => group.slice(0, 17)).sort(), 'hours come in their order')
  t.match(await redis.call('FCALL_RO', 'tooljet_audit_stats', '1', stream, 'by', 'event'), ['0-0', [[/^url\./, 'events', Number, 'minted', Number, 'reused', Number, 'refused', Number]], ['total', 'events', Number]])

  const shown = await cliHere(['stats', '--redis', await sharedRedisUrl(), '--stream', stream, '--by', 'hour,app', '--since', '30h'])
  t.match(shown, { code: 0, stdout: /^HOUR +APP +EVENTS +MINTED +REUSED +REFUSED +REUSE RATE\n/, stderr: /^since \S+: counted by whole hours\n$/ })
  t.match((await cliHere(['stats', '--redis', await sharedRedisUrl(), '--stream', stream, '--by', 'hour,app', '--users', '--json'])).stdout, /"hour":"[^"]+:00Z","app":"[^"]+","events":\d+,.*"users":\d/)

  await redis.del(keys.counts)
  const walked = await idsOf(async (args) => { const [cursor, , ...rest] = await redis.call('FCALL_RO', 'tooljet_audit_stats', '1', stream, 'by', 'event', ...args) as [string, ...unknown[]]; return [cursor, [], ...rest.slice(1)] }, [])
  t.match(walked, { pages: 8, notes: ['counters missing: run tooljet-embed-audit verify, then reindex'] })
  t.same((await reader.stats('event', {})).total.events, countOf(entries, false)['events' as never])
})

test('what a client makes up is in no name of a key or counter', async (t) => {
  const { redis, stream } = await openStream(t)
  const madeUp = (): string => `made-up-${randomInt(1e9)}`
  const write = (count: number): Promise<void> => writeEvents(redis, stream, count, {
    make: (seq) => (seq % 3 === 0
      ? { ...someEvent(seq), event: 'url.limited', outcome: 'failure', code: 'TOOLJET_EMBED_RATE_LIMITED', email: `${madeUp()}@acme.test`, app: madeUp() }
      : { ...someEvent(seq), event: 'url.denied', outcome: 'failure', code: 'TOOLJET_EMBED_APP_NOT_ALLOWED', app: `made-up\tx\n${seq}` }),
  })
  await write(1000)
  const counters = async (): Promise<[string, string][]> => Object.entries(await redis.hgetall(new AuditKeys(stream).counts))
  const before = await keysOf(redis, stream)
  t.ok(before.length <= 1 + 32 + 8 + 2 + 1, `${before.length} keys`)
  t.equal((await counters()).length, new Set((await counters()).map(([field]) => field.slice(0, 10))).size * 3, 'of a day: two counters and their names')
  await write(500)
  t.ok((await keysOf(redis, stream)).length <= before.length + 1, 'but the mark of the other writer')
  t.notMatch(JSON.stringify([await keysOf(redis, stream), await counters()]), /made-up/)
  await reindex(redis as unknown as RedisLike, stream)
  t.notMatch(JSON.stringify([await keysOf(redis, stream), await counters()]), /made-up/)
})

async function collect<T> (list: AsyncIterable<T>): Promise<T[]> {
  const items: T[] = []
  for await (const item of list) items.push(item)
  return items
}

function groupBy<T, G> (list: T[], groupOf: (item: T) => G): Map<G, T[]> {
  const groups = new Map<G, T[]>()
  for (const item of list) groups.set(groupOf(item), [...groups.get(groupOf(item)) ?? [], item])
  return groups
}

function sortRows<T extends { group: string }> (rows: T[]): T[] {
  return [...rows].sort((a, b) => (a.group < b.group ? -1 : 1))
}

test('the indexes hold each event of the stream, and little that was trimmed', async (t) => {
  const { redis, stream, keys } = await openStream(t)
  const retention = { retentionMs: 0, maxEntries: 300 }
  await writeEvents(redis, stream, 4000, { retention, make: (seq) => ({ ...someEvent(seq), email: seq < 600 ? 'gone@acme.test' : oneOf(USERS) }), most: 120 })
  const kept = await redis.xlen(stream)
  t.ok(kept >= 300 && kept <= 300 + 100 + 120, `${kept} kept`)
  t.same(await indexesOf(redis, stream), await expectedIndexesOf(redis, stream))
  t.match(await idsOf((args) => redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'email', USERS[0]!, ...args), []), { pages: 1, notes: [] })
  t.notOk((await keysOf(redis, stream)).some((key) => key.includes('acme')), 'key names carry no e-mail')
  const lengths = await Promise.all(keys.buckets.map((key) => redis.strlen(key)))
  t.ok(lengths.reduce((sum, length) => sum + length, 0) / 14 < 2 * 4000, 'some of them are trimmed, too')
})

/** As the plugin and the command run what only reads. */
function readerOf (redis: Redis): Record<'plugin' | 'command', RunScript> {
  return {
    plugin: async (script, keys, args) => ((await script.runForBytes(redis as unknown as RedisLike, keys, [0, ...args])) as unknown[]).slice(1),
    command: async (script, keys, args) => ((await script.runReadOnly(redis, keys, [0, ...args])) as unknown[]).slice(1),
  }
}

/** What the witness finds wrong. @param between what happens after the events were read */
async function problemsOf (redis: Redis, stream: string, run: RunScript = readerOf(redis).plugin, between?: () => Promise<unknown>, retentionMs = 0, maxEntries = 0): Promise<AuditProblem[]> {
  const source = {
    async * pages () {
      const entries = await redis.xrange(stream, '-', '+')
      for (let i = 0; i < entries.length; i += 500) yield entries.slice(i, i + 500).map(([id, flat]) => ({ id, flat }))
      await between?.()
    },
    info: () => Promise.resolve(undefined),
    now: () => Promise.resolve(Date.now()),
  }
  const { problems } = await verifyAudit(source, signerOf(stream), { retention: { retentionMs, maxEntries }, witnesses: [new IndexWitness(new AuditKeys(stream), run)] })
  return problems.filter(({ kind }) => kind === 'index' || kind === 'counts')
}

/** Over the last hours, so that some of them are whole. */
const hoursAgo = (hours: number, count: number) => (seq: number): Record<string, string> => ({ ...someEvent(seq), time: new Date(Date.now() - Math.floor((count - seq) / count * hours * HOUR_MS)).toISOString() })

/** A log of 600 events of the last 30 hours, with ids as if they had been written then, and no indexes. */
async function openUnindexedLog (t: Test): Promise<Awaited<ReturnType<typeof openStream>>> {
  const opened = await openStream(t)
  const { redis, stream } = opened
  await writeEvents(redis, stream, 600, { make: hoursAgo(30, 600) })
  const entries = await entriesOf(redis, stream)
  await redis.del(...await keysOf(redis, stream))
  for (const [i, { fields }] of entries.entries()) await redis.xadd(stream, `${Date.parse(fields['time']!)}-${i}`, ...Object.entries(fields).flat())
  return opened
}

/** The same with indexes, and 50 events of now. */
async function openIndexedLog (t: Test): Promise<Awaited<ReturnType<typeof openStream>> & { restore: () => Promise<void> }> {
  const opened = await openUnindexedLog(t)
  const { redis, stream } = opened
  await reindex(redis as unknown as RedisLike, stream)
  await writeEvents(redis, stream, 50)
  const saved = new Map(await Promise.all(await keysOf(redis, stream).then((all) => all.map(async (key) => [key, await redis.dumpBuffer(key)] as const))))
  const restore = async (): Promise<void> => { for (const [key, dump] of saved) await redis.restore(key, 0, dump, 'REPLACE') }
  return { ...opened, restore }
}

test('verify reports that the indexes lack what the stream has, and nothing once it is reindexed and written to', { timeout: 60_000 }, async (t) => {
  const { redis, stream } = await openUnindexedLog(t)
  t.match(await problemsOf(redis, stream), [{ kind: 'index', detail: 'the indexes have 0 of 600 entries, and queries read the stream: run tooljet-embed-audit reindex' }, ...Array(4).fill({ kind: 'counts' })])
  await reindex(redis as unknown as RedisLike, stream)
  for (const run of Object.values(readerOf(redis))) t.same(await problemsOf(redis, stream, run), [])
  await writeEvents(redis, stream, 50)
  t.same(await problemsOf(redis, stream), [])
})

/** Ways to damage indexes and counters, each with what verify reports of it. */
async function damages ({ redis, keys }: Awaited<ReturnType<typeof openStream>>): Promise<[what: string, damage: () => Promise<unknown>, expected: RegExp][]> {
  const { key } = keys.email(USERS[0]!)
  const name = key.match(/\w+:\d+$/)![0]
  const bucket = (await redis.getBuffer(key))!
  const setBucket = async (bytes: Buffer): Promise<void> => { await redis.set(key, bytes); await redis.hset(keys.index, name, bytes.length) }
  const [field, value] = Object.entries(await redis.hgetall(keys.counts)).find(([field, value]) => field.length > 10 && value.split(' ').length > 3)!
  const other = async (change: (value: string) => string): Promise<void> => { await redis.hset(keys.counts, field, change(value)) }
  const lastHour = (value: string, by: number): string => value.replace(/:(\d+)$/, (_, count) => `:${Number(count) + by}`).replace(/^\d+/, (total) => String(Number(total) + by))
  return [
    ['a bucket is gone', () => redis.del(key), /email:\d+ has 0 bytes in place of \d+: run/],
    ['a bucket is gone, and said to be empty', async () => { await redis.del(key); await redis.hdel(keys.index, name) }, /email:\d+ lacks (\d+) of \1 events/],
    ['a record is gone', () => setBucket(Buffer.concat([bucket.subarray(0, 28), bucket.subarray(42)])), /lacks 1 of \d+ events/],
    ['the last record is gone', () => setBucket(bucket.subarray(0, -14)), /lacks 1 of/],
    ['the first record is gone', () => setBucket(bucket.subarray(14)), /lacks 1 of/],
    ['a record is of another value', () => setBucket(Buffer.concat([bucket.subarray(0, 28), Buffer.alloc(4), bucket.subarray(32)])), /lacks 1 of/],
    ['records are in another order', () => setBucket(Buffer.concat([bucket.subarray(14, 28), bucket.subarray(0, 14), bucket.subarray(28)])), /is out of order/],
    ['records of nothing', () => setBucket(Buffer.concat([bucket.subarray(0, 28), Buffer.concat([bucket.subarray(14, 24), Buffer.from([1, 0, 0, 0])]), bucket.subarray(28)])), /has 1 records of no entry/],
    ['a bucket of another type', async () => { await redis.del(key); await redis.hset(key, 'a', 'b') }, /is of another type/],
    ['the index is gone', () => redis.del(keys.index), /the indexes have 0 of 650 entries/],
    ['a reindex was interrupted', () => redis.hset(keys.index, 'building', 'x 0-0'), /are being made anew, or that was interrupted/],
    ['a counter counts more', () => other((value) => lastHour(value, 1)), /the counter of .* has \d+ in place of \d+ for the hour from \d\d:00 UTC: run/],
    ['a counter counts less', () => other((value) => lastHour(value, -1)), /the counter of .* has \d+ in place of \d+/],
    ['a counter is gone', () => redis.hdel(keys.counts, field), /the counter of .* has 0 in place of \d+/],
    ['a counter of nothing', () => redis.hset(keys.counts, `${field}x`, value), /x has \d+ in place of 0/],
    ['a total is wrong', () => other((value) => value.replace(/^\d+/, '1')), /is damaged \(1 /],
    ['a day does not list its counters', () => redis.hset(keys.counts, field.slice(0, 10), ''), /is not among those of its day/],
  ]
}

test('verify reports each kind of damage to indexes and counters', { timeout: 60_000 }, async (t) => {
  const log = await openIndexedLog(t)
  const { redis, stream, restore } = log
  for (const [what, damage, expected] of await damages(log)) {
    await damage()
    const found = await problemsOf(redis, stream)
    t.ok(found.length > 0, what)
    t.match(found[0]!.detail, expected, what)
    t.equal(found[0]!.kind, /counter|total|list/.test(what) ? 'counts' : 'index')
    await restore()
  }
  t.same(await problemsOf(redis, stream), [])
})

test('verify reports nothing when others have written since it read the events', { timeout: 60_000 }, async (t) => {
  const { redis, stream } = await openIndexedLog(t)
  t.same(await problemsOf(redis, stream, undefined, () => writeEvents(redis, stream, 50, { make: hoursAgo(20, 50) })), [])
})

test('verify misses counters, unless they are too old to be kept although their events are not trimmed yet', { timeout: 60_000 }, async (t) => {
  const { redis, stream, keys } = await openIndexedLog(t)
  const yesterday = new Date(Date.now() - 24 * HOUR_MS).toISOString().slice(0, 10) // which has hours that are wholly in the stream, at any time of the day
  await redis.hdel(keys.counts, ...Object.keys(await redis.hgetall(keys.counts)).filter((field) => field.startsWith(yesterday)))
  t.match((await problemsOf(redis, stream))[0], { kind: 'counts' })
  t.same(await problemsOf(redis, stream, undefined, undefined, 1), [])
})

test('verify reports a forged entry that is in no index, and a reindex takes it up', { timeout: 60_000 }, async (t) => {
  const { redis, stream } = await openIndexedLog(t)
  await redis.xadd(stream, '*', 'event', 'url.minted', 'email', USERS[0]!, 'outcome', 'success')
  t.match(await problemsOf(redis, stream), [{ detail: /have 650 of 651 entries/ }])
  await reindex(redis as unknown as RedisLike, stream)
  t.same((await problemsOf(redis, stream)).filter(({ kind }) => kind === 'index'), [])
})

test('the users of the docs: an auditor asks and checks, and changes nothing; the plugin\'s may make indexes anew', async (t) => {
  const server = await startServer()
  const admin = newClient(server.url)
  const [auditor, plugin] = await Promise.all((['auditor', 'tooljet-embed'] as const).map(async (user) => newClient(await urlFor(user, server.url, 'tooljet-embed:')))) as [Redis, Redis]
  t.teardown(async () => {
    for (const client of [admin, auditor, plugin]) client.disconnect()
    await server.stop()
  })
  const stream = 'tooljet-embed:audit'
  await loadLibrary(admin)
  await writeEvents(plugin, stream, 400)
  t.match(await auditor.call('FCALL_RO', 'tooljet_audit', '1', stream, 'email', ANA), { length: 2 })
  t.match(await auditor.call('FCALL_RO', 'tooljet_audit_stats', '1', stream, 'by', 'app'), { length: 3 })
  await redisUnchanged(t, admin, async () => {
    t.same(await problemsOf(admin, stream, readerOf(auditor).command), [])
    await t.rejects(reindex(auditor as unknown as RedisLike, stream), { message: /NOPERM/ })
    await t.rejects(auditor.call('EVAL_RO', "return redis.call('DEL', KEYS[1])", '1', stream), { message: /can't run this command|NOPERM/ })
  })
  await admin.del(new AuditKeys(stream).index)
  t.match(await reindex(plugin as unknown as RedisLike, stream), { state: 'done', entries: 400 })
  t.same(await problemsOf(admin, stream), [])

  const asked = (redis: Redis) => new AuditReader(redis, stream).query({ email: USERS[0]! })
  const answer = await asked(auditor)
  await admin.call('FUNCTION', 'FLUSH')
  t.same(await asked(auditor), answer, 'without functions, too')
  await loadLibrary(admin)

  await admin.call('ACL', 'SETUSER', 'auditor-test', '-strlen', '-hmget')
  t.match(await auditor.call('FCALL_RO', 'tooljet_audit', '1', stream, 'email', USERS[0]!), [/-/, Array, /^index cannot be read: .*(?:can't run|NOPERM)/], 'a user of a former version reads the stream')
})

test('a user who lacks a command on the stream: nothing is called shortened, and verify says which one it is', { timeout: 60_000 }, async (t) => {
  const server = await startServer()
  const admin = newClient(server.url)
  t.teardown(async () => {
    admin.disconnect()
    await server.stop()
  })
  const [plugin, auditor] = [await urlFor('tooljet-embed', server.url, 'test-*:', '+xrange'), await urlFor('auditor', server.url, 'test-*:', '+xrange')]
  await loadLibrary(admin)
  const portal = await Portal.open(t, { redisUrl: plugin })
  const stream = `${portal.prefix}audit`
  for (let events = 2; events <= 4; events++) {
    t.equal((await portal.ask(ANA)).status, 200)
    await until(`${events} events are written`, async () => await admin.xlen(stream) === events)
  }
  t.match(await portal.app.tooljetEmbed.health(), { redis: { state: 'up' }, audit: { backlog: 0, problem: undefined } })
  t.notMatch(portal.logText, /is gone from the audit stream|is not the one that it wrote/)
  await t.rejects(portal.app.tooljetEmbed.audit.verify(), { code: 'TOOLJET_EMBED_REDIS_DOWN', isRefusal: true, cause: { message: /XRANGE: / } })
  for (const command of [['verify'], ['export'], ['query', '--order', 'asc'], ['stats', '--users']]) {
    t.match(await cliHere([...command, '--redis', auditor, '--stream', stream], { env: { TOOLJET_EMBED_ENCRYPTION_KEY: API_TOKEN } } as never), { code: 3, stderr: /XRANGE/ }, command[0]!)
  }
})

async function redisUnchanged (t: Test, redis: Redis, work: () => Promise<unknown>): Promise<void> {
  const all = async (): Promise<object> => Object.fromEntries(await Promise.all((await redis.keys('*')).map(async (key) => [key, await redis.dump(key)])))
  const before = await all()
  await work()
  t.same(await all(), before)
}

test('verify while others write, trim and forget counters finds nothing wrong', { timeout: 60_000 }, async (t) => {
  const { redis, stream } = await openStream(t)
  await writeEvents(redis, stream, 400)
  const retention = { retentionMs: 0, maxEntries: 200 }
  for (let i = 0; i < 8; i++) t.same(await problemsOf(redis, stream, readerOf(redis).plugin, () => writeEvents(redis, stream, 150, { retention, make: hoursAgo(3, 150) }), 0, 200), [])
})

test('a reindex makes what the plugin would have written, while it writes', { timeout: 60_000 }, async (t) => {
  const { redis, stream, keys } = await openStream(t)
  await writeEvents(redis, stream, 3000, { make: hoursAgo(60, 3000) })
  const counts = await redis.hgetall(keys.counts)
  const normal = (counts: Record<string, string>): object => Object.fromEntries(Object.entries(counts).map(([field, value]) => [field, value.split(field.length === 10 ? '\n' : ' ').sort()]))
  await redis.hset(keys.index, 'building', 'somebody 0-0')
  await redis.del(...keys.buckets, keys.counts)
  t.match(await reindex(redis as unknown as RedisLike, stream), { state: 'done', entries: 3000 })
  t.same(await indexesOf(redis, stream), await expectedIndexesOf(redis, stream))
  t.same(normal(await redis.hgetall(keys.counts)), normal(counts))
  t.notOk(await redis.exists(keys.newCounts))

  await redis.del(...keys.buckets, keys.index)
  const end = new AbortController()
  const [result] = await Promise.all([
    reindex(redis as unknown as RedisLike, stream).finally(() => end.abort()),
    (async () => { while (!end.signal.aborted) await writeEvents(redis, stream, 7, { retention: { retentionMs: 0, maxEntries: 2000 } }) })(),
  ])
  t.equal(result.state, 'done')
  await writeEvents(redis, stream, 10)
  t.equal(Number(await redis.hget(keys.index, 'entries')), await redis.xlen(stream))
  t.same(await indexesOf(redis, stream), await expectedIndexesOf(redis, stream))
  t.same(await problemsOf(redis, stream, undefined, undefined, 0, 1), [])

  const length = await redis.xlen(stream)
  let pages = 0
  t.match(await reindex(redis as unknown as RedisLike, stream, () => { redis.xtrim(stream, 'MAXLEN', length - 40 * ++pages).catch(t.fail) }), { state: 'done', entries: length - 40 * pages }, 'what was indexed is trimmed')
  t.ok(pages > 5)
  await writeEvents(redis, stream, 10)
  t.equal(Number(await redis.hget(keys.index, 'entries')), await redis.xlen(stream))
  t.same(await problemsOf(redis, stream, undefined, undefined, 0, 1), [])
})

test('counters of hours that are no longer in the stream stay when it is reindexed', async (t) => {
  const { redis, stream, keys } = await openStream(t)
  const day = '2026-01-10'
  const at = (hour: number, number: number): string => `${Date.parse(`${day}T00:00:00Z`) + hour * HOUR_MS}-${number}`
  const name = '-\turl.failed\tTOOLJET_EMBED_TIMEOUT'
  for (const hour of [8, 9, 10, 10, 11]) await redis.xadd(stream, at(hour, (await redis.xlen(stream)) + 1), 'time', `${day}T${String(hour).padStart(2, '0')}:00:00.000Z`, 'event', 'url.failed', 'outcome', 'failure', 'code', 'TOOLJET_EMBED_TIMEOUT')
  await redis.xtrim(stream, 'MINID', at(9, 0))
  await redis.hset(keys.counts, `${day}\t${name}`, '50 08:40 09:2 10:3 12:5', '2026-01-09\tsales\turl.minted\t-', '7 23:7', '2026-01-09', 'sales\turl.minted\t-\n', day, `${name}\n`, '2026-01-11\tx\ty\tz', '1 00:1', '2026-01-11', 'x\ty\tz\n')
  await reindex(redis as unknown as RedisLike, stream)
  t.same(await redis.hgetall(keys.counts), { [`${day}\t${name}`]: '45 09:2 10:2 11:1 08:40', [day]: `${name}\n`, '2026-01-09\tsales\turl.minted\t-': '7 23:7', '2026-01-09': 'sales\turl.minted\t-\n' })
})

test('counters of hours before a log that was written anew are not believed, since nothing of it can have been trimmed', async (t) => {
  const { redis, stream, keys } = await openStream(t)
  await writeEvents(redis, stream, 20)
  const flats = (await redis.xrange(stream, '-', '+')).map(([, flat]) => flat)
  await redis.xtrim(stream, 'MAXLEN', 0)
  for (const flat of flats) await redis.xadd(stream, '*', ...flat)
  await reindex(redis as unknown as RedisLike, stream)
  t.same(await problemsOf(redis, stream), [])
  const yesterday = new Date(Date.now() - 24 * HOUR_MS).toISOString().slice(0, 10)
  await redis.hset(keys.counts, `${yesterday}\tpayroll\turl.minted\t-`, '42 05:42', yesterday, 'payroll\turl.minted\t-\n')
  t.match(await problemsOf(redis, stream), [{ kind: 'counts', detail: /payroll.* has 42 in place of 0 for the hour from 05:00/ }])
  t.match(await problemsOf(redis, stream, undefined, undefined, 365 * 24 * HOUR_MS), [{ kind: 'counts' }], 'nor if it might be trimmed a year later')
})

test('of two reindexes the later one goes on; what is sent again changes nothing; an id that no record can hold ends it', async (t) => {
  const { redis, stream, keys } = await openStream(t)
  await writeEvents(redis, stream, 1200)
  let second: Promise<unknown> | undefined
  const twice = new Proxy(redis, { // each call is carried out twice, as after a lost reply
    get (target, name) {
      const method: unknown = Reflect.get(target, name)
      if (typeof method !== 'function') return method
      const run = method.bind(target) as (...args: unknown[]) => Promise<unknown>
      if (name !== 'evalsha') return run
      return async (...args: unknown[]) => { await run(...args); return run(...args) }
    },
  }) as unknown as RedisLike
  t.match(await reindex(twice, stream), { state: 'done', entries: 1200 })
  t.same(await indexesOf(redis, stream), await expectedIndexesOf(redis, stream))
  t.same(await problemsOf(redis, stream, undefined, undefined, 0, 1), [])

  t.match(await reindex(redis as unknown as RedisLike, stream, () => { second ??= reindex(twice, stream) }), { state: 'taken' })
  t.match(await second, { state: 'done' })
  t.same(await indexesOf(redis, stream), await expectedIndexesOf(redis, stream))

  const command = async (): Promise<unknown> => cliHere(['reindex', '--redis', await sharedRedisUrl(), '--stream', stream])
  t.match(await command(), { code: 0, stdout: '1,200 events indexed\n', stderr: '' })
  await redis.xadd(stream, `${Date.now() + 1e9}-4294967296`, 'a', 'b')
  t.match(await command(), { code: 3, stdout: '', stderr: /the entry \d+-4294967296 has an id that no index can hold: queries go on reading the stream/ })
  t.match(await redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'email', USERS[0]!), { length: 3 })
  await redis.del(stream)
  t.match(await command(), { code: 0, stdout: '0 events indexed\n' })
  t.equal(await redis.exists(keys.counts), 0)
})

test('the plugin loads the queries when it starts; a newer version stays, an older one goes', async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const portal = await Portal.open(t, { redisUrl: server.url })
  await portal.ask(ANA)
  await portal.ask(CLEO)
  await portal.audit()
  const query = (...args: string[]): Promise<unknown> => portal.redis.call('FCALL_RO', 'tooljet_audit', '1', `${portal.prefix}audit`, ...args)
  await until('the queries are loaded', () => query().then(() => true, () => false))
  t.match(await query('email', ANA), ['0-0', [[/-/, ['time', /./, 'event', 'url.minted']]]])
  t.match(await query('code', 'ACCESS_DENIED'), ['0-0', [[/-/, { length: 30 }]]])
  t.match(await query('email', ANA.toUpperCase()), ['0-0', { length: 1 }])

  const versions: [number, number][] = [[2, 3], [3, 3], [4, 4]]
  for (const [loaded, expected] of versions) {
    await portal.redis.call('FUNCTION', 'LOAD', 'REPLACE', LIBRARY.replace('VERSION = 3', `VERSION = ${loaded}`))
    await loadLibrary(portal.redis)
    t.equal(await portal.redis.call('FCALL', 'tooljet_audit_version', '0'), expected)
  }
})

test('audit.functions: false loads nothing; a user who may not load them gets a line in the log and a working portal', async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const admin = newClient(server.url)
  t.teardown(() => admin.disconnect())
  const quiet = await Portal.open(t, { redisUrl: server.url, options: { audit: { functions: false } } })
  await quiet.audit({ all: true })
  await admin.call('ACL', 'SETUSER', 'limited', 'on', 'nopass', '~*', '+@all', '-function')
  const limited = new Redis(server.url.replace('redis://', 'redis://limited:any@'))
  const portal = await Portal.open(t, { redis: limited })
  t.equal((await portal.ask(ANA)).status, 200)
  await until('the log tells', () => portal.logLines.some(({ msg }) => /the audit queries are not loaded/.test(String(msg))))
  t.match(portal.logLines.find(({ msg }) => /the audit queries/.test(String(msg))), { level: 30, reason: /NOPERM|permission/ })
  t.notMatch(portal.logText, /local VERSION/, 'without the whole library')
  t.notOk(quiet.logLines.some(({ msg }) => /audit queries/.test(String(msg))))
  t.same(await admin.call('FUNCTION', 'LIST'), [])
})

test('a reader falls back on the script, goes on page by page, and keeps to its limit', async (t) => {
  const { redis, stream } = await openStream(t)
  await writeEvents(redis, stream, 700)
  const entries = await entriesOf(redis, stream)
  const calls: string[] = []
  const old = new Proxy(redis, { // as Redis 6.2 answers
    get (target, name) {
      if (name === 'call') return async (command: string) => { calls.push(command); throw new Error(`ERR unknown command \`${command}\``) }
      const method: unknown = Reflect.get(target, name)
      return typeof method === 'function' ? method.bind(target) : method
    },
  })
  for (const reader of [new AuditReader(redis, stream), new AuditReader(old, stream)]) {
    const asc = await collect(reader.all({ outcome: 'failure' }, 'asc'))
    t.same(asc, entries.filter(({ fields }) => fields['outcome'] === 'failure'))
    t.same(await collect(reader.all({}, 'desc', { limit: 260 })), entries.toReversed().slice(0, 260))
    t.same(await collect(reader.entries(entries[9]!.id)), entries.slice(10))
  }
  t.same(calls, ['FCALL_RO'], 'asked once')
  const outdated = new Proxy(redis, {
    get (target, name) {
      if (name === 'call') return async (_: string, query: string) => { calls.push(query); return 2 }
      const method: unknown = Reflect.get(target, name)
      return typeof method === 'function' ? method.bind(target) : method
    },
  })
  t.same(await collect(new AuditReader(outdated, stream).all({}, 'asc')), entries)
  t.same(calls.slice(1), ['tooljet_audit_version'], 'a former library, which looks for other indexes, is not asked')
  await t.rejects(new AuditReader(redis, stream).query({ since: 'x' }), { message: /argument "since"/ })
})

test("identity 'hmac': the log names nobody, and whoever has the key finds them", async (t) => {
  const portal = await Portal.open(t)
  const options = { keyPrefix: portal.prefix, audit: { identity: 'hmac' } } as const
  await portal.ask(ANA, { appId: SALES.id }, { 'user-agent': 'Firefox/1' })
  await portal.audit()
  const discreet = await Portal.open(t, { options })
  for (let i = 0; i < 3; i++) await discreet.ask(ANA, { appId: SALES.id }, { 'user-agent': 'Firefox/1' })
  await discreet.ask(CLEO)
  await discreet.app.tooljetEmbed.forget({ email: ANA })
  await until('all is written', async () => (await discreet.app.tooljetEmbed.health()).audit.backlog === 0)

  const { instance } = (await discreet.app.tooljetEmbed.health()).audit
  const entries = await entriesOf(portal.redis, `${portal.prefix}audit`)
  const own = entries.filter(({ fields }) => fields['instance'] === instance)
  t.equal(own.length, 6)
  for (const text of [JSON.stringify(own), JSON.stringify(discreet.logLines.filter((line) => 'tooljetEmbedAudit' in line))]) {
    t.notMatch(text, /acme|Firefox|127\.0\.0\.1/)
  }
  t.match(own[1]!.fields, { email: /^hmac:[0-9a-f]{32}$/, app: SALES.id, request_id: /./ })
  t.equal(own[1]!.fields['email'], own[3]!.fields['email'], 'stable')
  t.not(own[1]!.fields['email'], own[4]!.fields['email'])

  const find = async (keys?: string[], order: 'asc' | 'desc' = 'asc'): Promise<string[]> => (await collect(new AuditReader(portal.redis, `${portal.prefix}audit`, keys && new Pseudonyms(await deriveKeys(keys, 'audit identity'))).all({ email: ANA.toUpperCase() }, order))).map(({ id }) => id)
  const ofAna = entries.filter(({ fields: { email } }) => email === ANA || email === own[1]!.fields['email']).map(({ id }) => id)
  t.equal(ofAna.length, 5)
  t.same(await find([API_TOKEN]), ofAna, 'with what came before, under the e-mail')
  t.same(await find(['new', API_TOKEN], 'desc'), ofAna.toReversed(), 'after a change of the key')
  t.same(await find(), ofAna.slice(0, 1))
  t.same(await find(['another']), ofAna.slice(0, 1))
  const { total } = await new AuditReader(portal.redis, `${portal.prefix}audit`, new Pseudonyms(await deriveKeys([API_TOKEN], 'audit identity'))).stats('event', { email: ANA })
  t.equal(total.events, 5)
  t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true })
})

test('in a Cluster every master has the queries, and the indexes are in the slot of the stream', { timeout: 60_000 }, async (t) => {
  const { connect, servers } = await startCluster(t)
  for (const name of [undefined, 'a-{tag}:log']) {
    const portal = await Portal.open(t, { redis: connect(), options: { audit: { stream: name } } })
    await portal.ask(ANA)
    await portal.ask(CLEO)
    const stream = name ?? `${portal.prefix}audit`
    await until('the events are written', async () => (await portal.app.tooljetEmbed.health()).audit.backlog === 0)
    await until('the queries are loaded', async () => (await Promise.all(servers.map(async ({ url }) => {
      const node = newClient(url)
      try { return await node.call('FCALL', 'tooljet_audit_version', '0') } catch { return 0 } finally { node.disconnect() }
    }))).every((version) => version === 3))
    const reader = new AuditReader(portal.redis, stream)
    t.match(await reader.query({ email: ANA }), { entries: [{ fields: { email: ANA } }] })
    t.match(await reader.query({ app: SALES.id, outcome: 'failure' }), { entries: [{ fields: { email: CLEO } }] })
    t.match(await portal.redis.eval(QUERIES, 1, stream, 'email', ANA), ['0-0', { length: 1 }])
    t.match(await reindex(portal.redis as unknown as RedisLike, stream), { state: 'done' })
    t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true, trimmed: 0 })
  }
})

test('a replica answers too', { timeout: 60_000 }, async (t) => {
  const master = await startServer({ args: ['--repl-diskless-sync-delay', '0'] })
  const replica = await startServer({ args: ['--replicaof', `127.0.0.1 ${master.port}`] })
  t.teardown(() => Promise.all([replica.stop(), master.stop()]))
  const portal = await Portal.open(t, { redisUrl: master.url })
  await portal.ask(ANA)
  await portal.audit()
  const reading = newClient(replica.url)
  t.teardown(() => reading.disconnect())
  const reply = await until('the replica has it', async () => {
    const [, entries] = await reading.call('FCALL_RO', 'tooljet_audit', '1', `${portal.prefix}audit`, 'email', ANA).catch(() => ['', []]) as Page
    return entries.length > 0 ? entries : undefined
  })
  t.match(reply, [[/-/, ['time', /./, 'event', 'url.minted']]])
})

const NAME = 'sales\turl.denied\tTOOLJET_EMBED_ACCESS_DENIED'
const DAMAGED = 'counters are damaged: run tooljet-embed-audit verify, then reindex'

type Totals = [cursor: string, rows: unknown[][], total: unknown[], ...notes: string[]]

test('planted counters: verify names each, totals leave out what has another form and say so, a reindex takes all away', { timeout: 60_000 }, async (t) => {
  const { redis, stream, keys: { counts } } = await openStream(t)
  const day = new Date(Date.now() - 24 * HOUR_MS).toISOString().slice(0, 10)
  await writeEvents(redis, stream, 48, { make: (seq) => ({ ...someEvent(seq), time: `${day}T${String(seq % 24).padStart(2, '0')}:00:00.000Z`, event: 'url.minted', outcome: 'success', code: undefined, count: undefined, app: 'sales' } as never) })
  const field = `${day}\tsales\turl.minted\t-`
  const all = await redis.hgetall(counts)
  const value = all[field]!
  const total = async (...args: string[]): Promise<[events: unknown, notes: string[]]> => {
    const [, , sum, ...notes] = await redis.call('FCALL_RO', 'tooljet_audit_stats', '1', stream, 'by', 'event', ...args) as Totals
    return [sum[2], notes]
  }
  t.same(await total(), [48, []])
  const set = (...fields: string[]) => () => redis.hset(counts, ...fields)
  const planted = (day: string, name = NAME, value = '5000 08:5000') => set(day, `${name}\n`, `${day}\t${name}`, value)
  const attacks: [what: string, attack: () => Promise<unknown>, problem: RegExp, events?: number | undefined][] = [
    ['hexadecimal', set(field, value.replace(/\d+(?= |$)/g, (n) => `0x${Number(n).toString(16)}`)), /is damaged/, 0],
    ['an exponent', set(field, value.replace(/^48/, '4.8e1')), /is damaged/, 0],
    ['hours of one digit', set(field, value.replace(/ 0(\d):/g, ' $1:')), /is damaged/, 0],
    ['an hour twice', set(field, '48 08:24 08:24'), /is damaged/, 0],
    ['an hour that there is not', set(field, '48 24:48'), /is damaged/, 0],
    ['another total', set(field, value.replace(/^48/, '9048')), /is damaged/, 0],
    ['a tail', set(field, `${value} `), /is damaged/, 0],
    ['many digits', set(field, '1'.repeat(40_000)), /is damaged/, 0],
    ['a name thrice', set(day, all[day]!.repeat(3)), /the list of the counters of \S+ is damaged/, 48],
    ['a name that is none', set(day, `${all[day]!}x\n`), /the list of the counters of \S+ is damaged/, 48],
    ['a name of nothing', set(day, `${all[day]!}${NAME}\n`), /is gone, and in the list of its day/, 48],
    ['a list too long', set(day, `${all[day]!}${Array.from({ length: 20_000 }, (_, i) => `sales\turl.${i}\t-\n`).join('')}`), /the list of the counters/, 0],
    ['a day that is none', planted('aaaaaaaaaa'), /the field aaaaaaaaaa .* is no counter/, 48],
    ['a day that there is not', planted('2026-02-30'), /the field 2026-02-30 .* is no counter/, 48],
    ['a field of no use', set('x', 'y'), /the field x of .* is no counter/],
    ['a name of four parts', set(`${field}\tx`, '1 08:1'), /the field .* is no counter/],
    ['an earlier day, of a stream that was never trimmed', planted('2026-01-01'), /the counter of 2026-01-01 .* has 5000 in place of 0/],
    ['a day to come', planted('2100-01-01'), /the counter of 2100-01-01 .* has 5000 in place of 0/],
    ['bytes that look like a name', async () => redis.call('HSET', counts, Buffer.concat([Buffer.from(`${day}\tsales`), Buffer.from([0xff]), Buffer.from('\turl.denied\t-')]), '5 08:5'), /has 5 in place of 0/],
  ]
  for (const [what, attack, problem, events] of attacks) {
    await attack()
    const found = await problemsOf(redis, stream)
    t.ok(found.some(({ kind, detail }) => kind === 'counts' && problem.test(detail) && detail.length < 600), `${what}: ${JSON.stringify(found).slice(0, 600)}`)
    if (events !== undefined) t.same(await total(), [events, [DAMAGED]], what)
    await reindex(redis as unknown as RedisLike, stream)
    t.same(await redis.hgetall(counts), all, what)
    t.same(await problemsOf(redis, stream), [])
  }

  await redis.xtrim(stream, 'MAXLEN', 24)
  await redis.hset(counts, '2026-01-01', `${NAME}\nx\n`, `2026-01-01\t${NAME}`, '5 08:4', '2026-01-02', `${NAME}\nx\n`, `2026-01-02\t${NAME}`, '5 08:5', '2026-02-30', `${NAME}\n`, `2026-02-30\t${NAME}`, '5 08:5')
  await redis.hset(counts, field, value.replace(/^48 (\d\d:)2/, '46 $10'))
  const found = (await problemsOf(redis, stream, undefined, undefined, 0, 24)).map(({ detail }) => detail).join('\n')
  t.match(found, /the counter of 2026-01-01 .* is damaged/, 'the form holds for what is no longer in the stream')
  t.match(found, /the list of the counters of 2026-01-02 is damaged/)
  await reindex(redis as unknown as RedisLike, stream)
  t.same((await redis.hkeys(counts)).filter((field) => !field.startsWith(day)).sort(), ['2026-01-02', `2026-01-02\t${NAME}`], 'what is damaged is not carried over')
  t.equal(await redis.hget(counts, '2026-01-02'), `${NAME}\n`)
  t.same((await problemsOf(redis, stream, undefined, undefined, 0, 24)), [])
})

test('a counter counts no less than what is there, also in an hour of which some events are trimmed', async (t) => {
  const { redis, stream, keys: { counts } } = await openStream(t)
  const time = new Date(Date.now()).toISOString()
  await writeEvents(redis, stream, 40, { make: () => ({ time, event: 'url.minted', outcome: 'success', email: ANA, app: 'sales' }) })
  await redis.hincrby(new AuditKeys(stream).index, 'entries', -await redis.xtrim(stream, 'MAXLEN', 30))
  const field = `${time.slice(0, 10)}\tsales\turl.minted\t-`
  const hour = time.slice(11, 13)
  t.same(await problemsOf(redis, stream, undefined, undefined, 0, 30), [])
  await redis.hset(counts, field, `29 ${hour}:29`)
  t.match(await problemsOf(redis, stream, undefined, undefined, 0, 30), [{ kind: 'counts', detail: /has 29 in place of 30/ }])
  await reindex(redis as unknown as RedisLike, stream)
  t.equal(await redis.hget(counts, field), `30 ${hour}:30`)
  t.same(await problemsOf(redis, stream, undefined, undefined, 0, 30), [])
  await redis.hset(counts, field, `40 ${hour}:40`)
  await reindex(redis as unknown as RedisLike, stream)
  t.equal(await redis.hget(counts, field), `40 ${hour}:40`, 'what was trimmed is still counted')
})

test('planted values of any length hold Redis up neither in a write nor in a query', { timeout: 60_000 }, async (t) => {
  const server = await startServer()
  const redis = newClient(server.url)
  t.teardown(async () => {
    redis.disconnect()
    await server.stop()
  })
  await loadLibrary(redis)
  const { counts } = new AuditKeys('audit')
  const make = (): Record<string, string> => ({ time: new Date().toISOString(), event: 'url.minted', outcome: 'success', app: 'sales' })
  await writeEvents(redis, 'audit', 1, { make })
  const [field, day] = [(await redis.hkeys(counts)).find((field) => field.length > 10)!, new Date().toISOString().slice(0, 10)]
  await redis.config('SET', 'slowlog-log-slower-than', 700_000)
  const isSlow = async (): Promise<boolean> => Number(await redis.call('SLOWLOG', 'LEN')) > 0
  for (const planted of ['1'.repeat(40_000), `1 ${'08:'.repeat(20_000)}`, `1${' 08:1'.repeat(20_000)}`, 'x'.repeat(1_000_000)]) {
    await redis.hset(counts, field, planted)
    await writeEvents(redis, 'audit', 1, { make })
    t.match(await redis.hget(counts, field), /^1 \d\d:1$/, 'it starts anew')
  }
  await redis.hset(counts, day, 'sales\turl.minted\t-\n'.repeat(4_000_000))
  t.match(await redis.call('FCALL_RO', 'tooljet_audit_stats', '1', 'audit', 'by', 'event'), ['0-0', [], ['total', 'events', 0], DAMAGED])
  await writeEvents(redis, 'audit', 1, { make: () => ({ ...make(), app: 'payroll' }) })
  t.equal(await redis.hget(counts, day), 'payroll\turl.minted\t-\n', 'a list starts anew, too')
  // lists that are no longer than they may be, and too many
  const list = Array.from({ length: 8000 }, (_, i) => `sales\turl.${i}\t-\n`).join('')
  const days = Array.from({ length: 90 }, (_, i) => new Date(Date.now() - i * 24 * HOUR_MS).toISOString().slice(0, 10))
  await redis.hset(counts, Object.fromEntries(days.map((day) => [day, list])))
  const tooMany = 'too many counters for one call, so events are counted one by one: ask for fewer days'
  for (const args of [['since', '80d'], []]) t.match(await redis.call('FCALL_RO', 'tooljet_audit_stats', '1', 'audit', 'by', 'event', ...args), ['0-0', [['url.minted', 'events', 6]], ['total'], tooMany])
  await redis.del(counts)
  for (let i = 0; i < 210; i++) await redis.hset(counts, Object.fromEntries(Array.from({ length: 1000 }, (_, n) => [`x${i}-${n}`, ''])))
  t.match(await redis.call('FCALL_RO', 'tooljet_audit_stats', '1', 'audit', 'by', 'event'), ['0-0', [['url.minted', 'events', 6]], ['total'], tooMany])
  t.notOk(await isSlow(), JSON.stringify(await redis.call('SLOWLOG', 'GET', '1')).slice(0, 300))
})

test('what is planted in an index is not read for ever: it goes with the next batch, and everybody says that the index is none', async (t) => {
  const { redis, stream, keys } = await openStream(t)
  await writeEvents(redis, stream, 5, { make: (seq) => ({ ...someEvent(seq), email: ANA, app: 'sales' }) })
  const long = 'x'.repeat(1_000_000)
  for (const fact of ['entries', 'last', 'building', 'broken', 'day', 'oldest', 'tidied', keys.email(ANA).key.slice(keys.index.length + 1)]) {
    await redis.hset(keys.index, fact, long)
    const asked = await redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'email', ANA) as Page
    if (!['day', 'oldest', 'tidied'].includes(fact)) t.match(asked[2], INCOMPLETE, fact)
    t.equal((await problemsOf(redis, stream)).some(({ detail }) => detail.length > 1000), false, `${fact} in a report`)
    await writeEvents(redis, stream, 1, { make: (seq) => ({ ...someEvent(seq), email: ANA, app: 'sales' }) })
    t.ok(await redis.hstrlen(keys.index, fact) < 100, `${fact} went`)
    t.match((await redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'email', ANA) as Page)[2], INCOMPLETE, `after ${fact}`)
    t.match(await reindex(redis as unknown as RedisLike, stream), { state: 'done' })
    t.equal((await redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'email', ANA) as Page).length, 2)
  }
  await redis.hset(keys.counts, long, '1', '2099-01-01\tx\turl.minted\t-', long)
  await redis.hdel(keys.index, 'day')
  await writeEvents(redis, stream, 1)
  t.same((await redis.hgetall(keys.counts))[long], undefined, 'a name that no counter has')
  t.equal(await redis.hexists(keys.counts, '2099-01-01\tx\turl.minted\t-'), 0)
})

test('of very many wrong counters the first thousand are told, and of more than there can be none is kept', { timeout: 60_000 }, async (t) => {
  const { redis, stream, keys } = await openStream(t)
  await writeEvents(redis, stream, 5)
  const plant = async (count: number, name: (i: number) => string): Promise<void> => {
    for (let i = 0; i < count; i += 10_000) await redis.hset(keys.counts, Object.fromEntries(Array.from({ length: Math.min(10_000, count - i) }, (_, n) => [name(i + n), '1 08:1'])))
  }
  await plant(1500, (i) => `garbage${i}`)
  const problems = await problemsOf(redis, stream)
  t.match([problems.length, problems.at(-1)!.detail], [1000, `501 more fields of ${keys.counts} are wrong: run tooljet-embed-audit reindex`])
  await plant(200_000, (i) => `2020-01-01\tx${i}\turl.minted\t-`)
  t.match(await problemsOf(redis, stream), [{ kind: 'counts', detail: /has more than any log's counters take: delete it/ }])
})

test('a count of many digits in a forged entry counts as one answer', async (t) => {
  const { redis, stream, keys: { counts } } = await openStream(t)
  await redis.xadd(stream, '*', 'time', new Date().toISOString(), 'event', 'url.limited', 'outcome', 'failure', 'count', '9'.repeat(400))
  await redis.xadd(stream, '*', 'time', '2026-02-30T99:00:00.000Z', 'event', 'url.limited', 'outcome', 'failure')
  const stats = (...args: string[]): Promise<unknown> => redis.call('FCALL_RO', 'tooljet_audit_stats', '1', stream, 'by', 'event', ...args)
  t.match(await stats('users', 'count'), ['0-0', [['url.limited', 'events', 2]]])
  await reindex(redis as unknown as RedisLike, stream)
  t.match(await stats(), { 1: [['url.limited', 'events', 1]], length: 3 }, 'nor does a time that is none make a counter')
  t.equal((await redis.hkeys(counts)).length, 2)
})

test('records that lead a query astray: verify reads each bucket to its end, and a query that sees it reads the stream', async (t) => {
  const { redis, stream, keys } = await openStream(t)
  await writeEvents(redis, stream, 300, { make: (seq) => ({ ...someEvent(seq), email: seq % 3 === 0 ? ANA : BEN }) })
  const { key } = keys.email(ANA)
  const bucket = (await redis.getBuffer(key))!
  const record = (ms: number, number = 0): Buffer => {
    const bytes = Buffer.alloc(14)
    bytes.writeUIntBE(ms, 4, 6)
    bytes.writeUInt32BE(number, 10)
    return bytes
  }
  const many = Array<Buffer>(bucket.length / 14 + 3).fill(record(1))
  const doubled = Buffer.concat([bucket, bucket.subarray(-14)])
  const attacks: [Buffer, RegExp][] = [
    [Buffer.concat([bucket, record(2 ** 48 - 1), ...many]), /has the record 281474976710655-0, after the newest entry|is out of order/],
    [Buffer.concat([bucket, record(2 ** 48 - 1)]), /has the record 281474976710655-0, after the newest entry/],
    [Buffer.concat([bucket, ...many]), /is out of order/],
    [doubled, /is out of order/],
    [Buffer.concat([bucket, Buffer.from('xyz')]), /has \d+ bytes, which are no whole records/],
    [Buffer.concat([bucket.subarray(0, 28), ...many, bucket.subarray(28)]), /is out of order/],
  ]
  for (const [bytes, problem] of attacks) {
    await redis.set(key, bytes)
    await redis.hset(keys.index, key.match(/\w+:\d+$/)![0], bytes.length)
    t.match(await problemsOf(redis, stream), [{ kind: 'index', detail: problem }], String(problem))
    const { ids, notes } = await idsOf((args) => redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'email', ANA, ...args), [])
    t.equal(new Set(ids).size, 100, String(problem))
    if (!bytes.equals(doubled)) t.match(notes, [/^index (?:damaged|incomplete): run tooljet-embed-audit verify, then reindex$/])
    await reindex(redis as unknown as RedisLike, stream)
    t.same(await problemsOf(redis, stream), [])
  }
})

test('verify reads a bucket out of which records are taken meanwhile', async (t) => {
  const { redis, stream, keys } = await openStream(t)
  await writeEvents(redis, stream, 9000, { most: 400, make: (seq) => ({ ...someEvent(seq), email: ANA }) })
  const { key } = keys.email(ANA)
  let reads = 0
  const run: RunScript = async (...call) => {
    const [, , args] = call
    if (args[0] === 'records' && call[1][3] === key && ++reads === 2) {
      await redis.set(key, (await redis.getBuffer(key))!.subarray(14 * 3000))
      await redis.xtrim(stream, 'MAXLEN', 6000)
    }
    return readerOf(redis).plugin(...call)
  }
  t.same((await problemsOf(redis, stream, run)).filter(({ kind }) => kind === 'index'), [])
  t.ok(reads > 3)
})

test('an index that lacked an entry stays incomplete, whatever the numbers come to be, until a reindex', async (t) => {
  const { redis, stream, keys } = await openStream(t)
  const incomplete = async (): Promise<boolean> => (await redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'email', ANA) as unknown[])[2] === INCOMPLETE
  const make = (): Record<string, string> => ({ time: new Date().toISOString(), event: 'url.minted', outcome: 'success', email: ANA })
  const write = (count: number): Promise<void> => writeEvents(redis, stream, count, { make, most: 1 })
  const foreign = (): Promise<unknown> => redis.xadd(stream, '*', 'event', 'url.minted', 'email', ANA)
  const ways: [string, () => Promise<unknown>][] = [
    ['a foreign entry, and one that is trimmed', async () => { await foreign(); await redis.xtrim(stream, 'MAXLEN', 20) }],
    ['a foreign entry, a write, and two that are trimmed', async () => { await foreign(); await write(1); await redis.xtrim(stream, 'MAXLEN', 20) }],
    ['a foreign entry that is deleted, and an event that comes to be the last', async () => { await foreign(); await write(1); await redis.xtrim(stream, 'MAXLEN', 20); await redis.hset(keys.index, 'last', (await redis.xrevrange(stream, '+', '-', 'COUNT', 1))[0]![0]) }],
    ['another stream of the same length', async () => { await redis.del(stream); for (let i = 0; i < 20; i++) await foreign() }],
  ]
  for (const [what, way] of ways) {
    await Promise.all((await keysOf(redis, stream)).map((key) => redis.del(key)))
    await write(20)
    t.notOk(await incomplete(), what)
    await way()
    t.equal(await redis.xlen(stream), 20)
    t.ok(await incomplete(), what)
    t.match((await problemsOf(redis, stream)).filter(({ kind }) => kind === 'index'), { length: what.startsWith('another') ? 0 : 1 }, what)
    await write(3)
    t.ok(await incomplete(), `${what}, and later`)
    await reindex(redis as unknown as RedisLike, stream)
    t.notOk(await incomplete())
    await write(2)
    t.notOk(await incomplete(), 'and goes on')
    t.same(await indexesOf(redis, stream), await expectedIndexesOf(redis, stream))
  }
})

test('a stream that begins anew has a new index; of what is left of the former one a query says that it is none', async (t) => {
  const { redis, stream, keys } = await openStream(t)
  const make = (email: string) => (seq: number): Record<string, string> => ({ ...someEvent(seq), email })
  await writeEvents(redis, stream, 30, { make: (seq) => make(seq % 2 === 0 ? ANA : BEN)(seq) })
  await redis.hset(keys.index, 'broken', 1)
  await redis.del(stream)
  await writeEvents(redis, stream, 5, { make: make(ANA) })
  const ask = (email: string): Promise<unknown> => redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'email', email)
  t.match(await ask(ANA), { 1: { length: 5 }, length: 2 })
  t.match(await ask(BEN), ['0-0', [], INCOMPLETE])
  t.match((await problemsOf(redis, stream)).filter(({ kind }) => kind === 'index')[0], { detail: /has \d+ bytes in place of 0/ })
  await reindex(redis as unknown as RedisLike, stream)
  t.match(await ask(BEN), { length: 2 })
})

test('where ids are such that no record can hold them, queries read the stream and say so, and a reindex stops in order', async (t) => {
  const { redis, stream } = await openStream(t)
  const ask = (): Promise<unknown> => redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'email', ANA)
  for (const id of [`${Date.now() + 1e9}-4294967295`, `${2 ** 48}-0`, '9000000000000000-0']) { // no Date holds the last one
    await redis.xadd(stream, 'MAXLEN', '=', 0, id, 'a', 'b')
    await writeEvents(redis, stream, 5, { make: (seq) => ({ ...someEvent(seq), email: ANA }) })
    t.match(await ask(), ['0-0', { length: 5 }, INCOMPLETE], id)
    t.match(await reindex(redis as unknown as RedisLike, stream), { state: 'unfit' }, id)
    await writeEvents(redis, stream, 1)
    t.match((await problemsOf(redis, stream)).map(({ kind }) => kind), ['index'], id)
  }
})

test('keys of another type are a problem that verify names, and no end of it; who may not write is told whom a reindex needs', async (t) => {
  const server = await startServer()
  const admin = newClient(server.url)
  t.teardown(async () => {
    admin.disconnect()
    await server.stop()
  })
  const portal = await Portal.open(t, { redisUrl: server.url })
  await portal.ask(ANA)
  await portal.audit()
  const stream = `${portal.prefix}audit`
  const { index, counts } = new AuditKeys(stream)
  await admin.del(index, counts)
  await admin.set(index, 'x')
  await admin.set(counts, 'x')
  await admin.xadd(stream, '*', 'event', 'url.minted')
  const expected = [{ kind: 'forged' }, { kind: 'index', detail: `${index} is of another type: run tooljet-embed-audit reindex` }, { kind: 'counts', detail: `${counts} is of another type: run tooljet-embed-audit reindex` }]
  t.match((await portal.app.tooljetEmbed.audit.verify()).problems, expected)
  const command = (name: string, url: string) => cliHere([name, '--redis', url, '--stream', stream], { env: { TOOLJET_EMBED_ENCRYPTION_KEY: API_TOKEN } } as never)
  const verified = await command('verify', server.url)
  t.match(verified, { code: 1, stdout: /is of another type/ })
  const auditor = await urlFor('auditor', server.url, portal.prefix)
  t.match(await command('reindex', auditor), { code: 3, stderr: /reindex needs the plugin's own one or an administrator's: .*NOPERM/ })
  t.match(await command('reindex', await urlFor('tooljet-embed', server.url, portal.prefix)), { code: 0 })
  t.equal(await admin.type(counts), 'hash')
})

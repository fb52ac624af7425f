import { randomInt } from 'node:crypto'
import { Redis } from 'ioredis'
import { t as tap, test, type Test } from 'tap'
import { startServer } from '../example/redis.js'
import { append, trim, type Excess } from '../plugin/audit/append.js'
import type { AuditEntry } from '../plugin/audit/event.js'
import { AuditKeys } from '../plugin/audit/indexes.js'
import { loadLibrary, LIBRARY, QUERIES } from '../plugin/audit/library.js'
import { Pseudonyms } from '../plugin/audit/pseudonyms.js'
import { AuditReader, compareIds, type AuditFilters, type AuditGrouping } from '../plugin/audit/reader.js'
import { deriveKeys } from '../plugin/crypto/secret-keys.js'
import { APPS, CODES, entriesOf, expectedIndexesOf, indexesOf, oneOf, someEvent, USERS, writeEvents } from './support/audit-log.js'
import { startCluster } from './support/cluster.js'
import { ANA, API_TOKEN, BEN, CLEO, newPrefix, Portal, releaseRedisAfter, SALES } from './support/portal.js'
import { keysOf, newClient, sharedRedisUrl } from './support/redis.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

/** A stream of this test's own, in the Redis of all. */
async function openStream (t: Test): Promise<{ redis: Redis, stream: string }> {
  const redis = newClient(await sharedRedisUrl())
  const prefix = newPrefix()
  t.teardown(async () => {
    await Promise.all((await keysOf(redis, prefix)).map((key) => redis.del(key)))
    redis.disconnect()
  })
  await loadLibrary(redis)
  return { redis, stream: `${prefix}audit` }
}

type Page = [cursor: string, entries: [id: string, fields: string[]][]]

/** Pages through a query. */
async function idsOf (ask: (args: string[]) => Promise<unknown>, args: string[]): Promise<{ ids: string[], pages: number }> {
  const ids: string[] = []
  let pages = 0
  for (let after: string[] = []; ;) {
    const [cursor, entries] = await ask([...args, ...after]) as Page
    ids.push(...entries.map(([id]) => id))
    pages++
    if (cursor === '0-0') return { ids, pages }
    after = ['after', cursor]
  }
}

test('a query gives what a look at the whole stream gives: any filters, order and page size, as function and as script', { timeout: 120_000 }, async (t) => {
  const { redis, stream } = await openStream(t)
  await writeEvents(redis, stream, 1500)
  const all = await entriesOf(redis, stream)
  const [cut] = all[100]!.id.split('-') // trimmed behind the plugin's back: the indexes know more than there is
  await redis.xtrim(stream, 'MINID', cut!)
  const entries = all.filter(({ id }) => compareIds(id, `${cut}-0`) >= 0)
  t.same(await entriesOf(redis, stream), entries)

  const ways = {
    function: (args: string[]) => redis.call('FCALL_RO', 'tooljet_audit', '1', stream, ...args),
    script: (args: string[]) => redis.eval(QUERIES, 1, stream, ...args),
  }
  for (let i = 0; i < 150; i++) {
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
    const way = oneOf(['function', 'script'] as const)
    t.same((await idsOf(ways[way], args)).ids, expected, `${way} ${args.join(' ')}`)
  }
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

test('an index is read only where it matters', async (t) => {
  const server = await startServer()
  const redis = newClient(server.url)
  t.teardown(async () => {
    redis.disconnect()
    await server.stop()
  })
  await loadLibrary(redis)
  await writeEvents(redis, 'audit', 3000, { make: (seq) => ({ ...someEvent(seq), email: ANA }), most: 1 })
  const [newest] = (await redis.xrevrange('audit', '+', '-', 'COUNT', 1))[0]!
  await redis.config('RESETSTAT')
  t.match(await redis.call('FCALL_RO', 'tooljet_audit', '1', 'audit', 'email', ANA, 'since', newest.split('-')[0]!), ['0-0', [[newest]]])
  t.ok(Number(/cmdstat_xrevrange:calls=(\d+)/.exec(await redis.info('commandstats'))![1]) <= 2)
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
    [['emial', ANA], /there is no argument "emial"/],
    [['[email', ANA], /there is no argument "\[email"/],
    [['by', 'app'], /there is no argument "by"/],
    [['email'], /argument "email" has no value/],
    [['email', ''], /argument "email" is "", it takes a value/],
    [['app', 'a', 'app', 'b'], /argument "app" is there twice/],
    [['event', 'url.opened'], /argument "event" is "url.opened", it takes url.minted, url.reused,/],
    [['outcome', 'good'], /argument "outcome" is "good", it takes success, failure/],
    [['order', 'up'], /it takes asc, desc/],
    [['limit', '0'], /it takes a whole number from 1 to 250/],
    [['limit', '251'], /it takes a whole number from 1 to 250/],
    [['after', 'x'], /it takes the id of an event/],
    ...['yesterday', '2026-02-30', '2026-13-01', '2026-01-15T25:00', '2026-01-15T10:60', '2026-01-15T10:00:00.', '2026-01-15T10:00:00+1', '1763337600', '7w'].map((time): [string[], RegExp] => [['since', time], /it takes an ISO 8601 time, milliseconds since 1970, or how long ago/]),
  ]
  for (const [args, message] of refused) {
    for (const asked of [redis.call('FCALL_RO', 'tooljet_audit', '1', stream, ...args), redis.eval(QUERIES, 1, stream, ...args)]) {
      const error = await asked.then(() => undefined, (error: Error) => error)
      t.match(error?.message, /^ERR tooljet_audit: .*; usage: tooljet_audit \[email E\] \[app A\]/)
      t.match(error?.message, message)
    }
  }
  await t.rejects(redis.call('FCALL_RO', 'tooljet_audit_stats', '1', stream), { message: /argument "by" is missing; usage: tooljet_audit_stats by email/ })
  await t.rejects(redis.call('FCALL_RO', 'tooljet_audit_stats', '1', stream, 'by', 'ip'), { message: /argument "by" is "ip", it takes email, app, event, code, hour/ })
  await t.rejects(redis.call('FCALL_RO', 'tooljet_audit', '2', stream, stream), { message: /it takes one key, the audit stream, and got 2/ })
  t.match(await redis.call('FCALL_RO', 'tooljet_audit', '1', stream, 'LIMIT', '5'), ['0-0', []], 'as in Redis, names may be written in capitals')
})

test('stats count what is there, page by page', async (t) => {
  const { redis, stream } = await openStream(t)
  await writeEvents(redis, stream, 900)
  const entries = await entriesOf(redis, stream)
  const reader = new AuditReader(redis, stream)
  const count = (some: AuditEntry[]): object => ({
    events: some.length,
    minted: some.filter(({ fields }) => fields['event'] === 'url.minted').length,
    reused: some.filter(({ fields }) => fields['event'] === 'url.reused').length,
    refused: some.filter(({ fields }) => fields['outcome'] === 'failure').length,
    users: new Set(some.map(({ fields }) => fields['email']!)),
  })
  const groupOf = (by: AuditGrouping, { fields }: AuditEntry): string | undefined => (by === 'hour' ? `${fields['time']!.slice(0, 13)}:00Z` : fields[by])
  const filters: AuditFilters[] = [{}, { email: USERS[0] }, { app: APPS[1], outcome: 'failure' }]
  for (const filter of filters) {
    const matching = entries.filter(({ fields }) => Object.entries(filter).every(([name, value]) => fields[name] === value))
    for (const by of ['email', 'app', 'event', 'code', 'hour'] as const) {
      const grouped = groupBy(matching, (entry) => groupOf(by, entry))
      const rows = [...grouped].flatMap(([group, some]) => (group === undefined ? [] : [{ group, ...count(some) }]))
      const stats = await reader.stats(by, filter)
      t.same(sortRows(stats.rows), sortRows(rows), `by ${by} ${JSON.stringify(filter)}`)
      t.same(stats.total, { group: 'total', ...count(matching.filter((entry) => groupOf(by, entry) !== undefined)) })
    }
  }
  const [cursor, [first], total] = await redis.call('FCALL_RO', 'tooljet_audit_stats', '1', stream, 'by', 'app', 'email', USERS[0]!) as [string, unknown[][], unknown[]]
  t.equal(cursor, '0-0')
  t.match(first, [/./, 'events', Number, 'minted', Number, 'reused', Number, 'refused', Number, 'reuse_rate', /^[01]\.\d{3}$/, 'users', 1])
  t.equal(total[0], 'total')
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

test('the indexes hold each event of the stream, and nothing that was trimmed', async (t) => {
  const { redis, stream } = await openStream(t)
  const retention = { retentionMs: 0, maxEntries: 300 }
  await writeEvents(redis, stream, 2000, { retention, make: (seq) => ({ ...someEvent(seq), email: seq < 600 ? 'gone@acme.test' : oneOf(USERS) }), most: 120 })
  const kept = await redis.xlen(stream)
  t.ok(kept >= 300 && kept <= 300 + 100 + 120, `${kept} kept`)
  const indexes = await indexesOf(redis, stream)
  t.same(new Map([...indexes].sort()), new Map([...await expectedIndexesOf(redis, stream)].sort()))
  t.notOk([...indexes.keys()].some((key) => key.includes('acme')), 'key names carry no e-mail')
  t.ok((await redis.pttl((await keysOf(redis, stream)).find((key) => key.includes(':written:'))!)) > 0)
})

test('nothing is left for ever by who wrote and ended before it trimmed, or trims late or twice', async (t) => {
  const { redis, stream } = await openStream(t)
  const keys = new AuditKeys(stream)
  const retention = { retentionMs: 0, maxEntries: 50 }
  let seq = 0
  const write = async (email: () => string): Promise<Excess> => {
    const events = Array.from({ length: 120 }, () => ({ ...someEvent(++seq), email: email() }))
    return (await append(redis, keys, retention, Date.now(), 'portal-1', events)).excess!
  }
  t.equal(await write(() => 'gone@acme.test'), undefined)
  const found = [await write(() => 'gone@acme.test'), await write(() => oneOf(USERS)), await write(() => oneOf(USERS))]
  t.equal(await redis.xlen(stream), 480, 'all that are gone again have trimmed nothing')
  t.ok(found.every(({ keep }) => compareIds(keep, found[0]!.keep) >= 0))
  for (const excess of [found[2]!, found[0]!, found[2]!]) t.equal(await trim(redis, keys, excess), '')
  t.equal(await redis.xlen(stream), 320, 'at most 160 at once')
  for (let i = 0; i < 4; i++) t.equal(await trim(redis, keys, await write(() => oneOf(USERS))), '')
  t.notOk((await entriesOf(redis, stream)).some(({ fields }) => fields['email'] === 'gone@acme.test'))
  t.same(await indexesOf(redis, stream), await expectedIndexesOf(redis, stream))
})

test('an index that cannot be trimmed does not keep the others, nor the log', async (t) => {
  const { redis, stream } = await openStream(t)
  const keys = new AuditKeys(stream)
  await writeEvents(redis, stream, 120, { make: (seq) => ({ ...someEvent(seq), email: seq % 2 ? ANA : BEN }) })
  await redis.set(keys.email(ANA), 'a string')
  const keep = (await entriesOf(redis, stream))[110]!.id
  t.match(await trim(redis, keys, { keep, emails: [ANA, BEN], apps: [] }), /WRONGTYPE/)
  t.equal(await redis.xlen(stream), 10)
  await redis.del(keys.email(ANA))
  const held = (await expectedIndexesOf(redis, stream)).get(keys.email(BEN))
  t.same((await indexesOf(redis, stream)).get(keys.email(BEN)), held)
})

test('what is too old leaves stream and indexes, a little at a time', async (t) => {
  const { redis, stream } = await openStream(t)
  await writeEvents(redis, stream, 500)
  const old = await entriesOf(redis, stream)
  const keys = [...await expectedIndexesOf(redis, stream)]
  await redis.del(stream, ...keys.map(([key]) => key))
  const before = Date.now() - 2 * 86_400_000
  const aged = new Map(old.map(({ id }, i) => [id, `${before + i}-0`]))
  for (const { id, fields } of old) await redis.xadd(stream, aged.get(id)!, ...Object.entries(fields).flat())
  for (const [key, ids] of keys) for (const id of ids) await redis.xadd(key, aged.get(id)!, 'ids', '')
  const retention = { retentionMs: 86_400_000, maxEntries: 0 }
  let events = 500
  const writeOne = (): Promise<void> => writeEvents(redis, stream, 1, { retention, make: () => ({ ...someEvent(++events), email: 'new@acme.test' }) })
  await writeOne()
  t.equal(await redis.xlen(stream), 500 + 1 - 160, 'so that Redis is never held up')
  t.same(await indexesOf(redis, stream), await expectedIndexesOf(redis, stream))
  for (let i = 0; i < 3; i++) { await redis.del(...(await keysOf(redis, stream)).filter((key) => key.includes(':written:'))); await writeOne() }
  t.same((await entriesOf(redis, stream)).map(({ fields }) => fields['email']), Array(4).fill('new@acme.test'))
  t.same(await indexesOf(redis, stream), await expectedIndexesOf(redis, stream))
})

test('an index that is left of a deleted stream does not stop the log', async (t) => {
  const { redis, stream } = await openStream(t)
  await writeEvents(redis, stream, 10, { make: (seq) => ({ ...someEvent(seq), email: ANA }) })
  const [[key]] = [...await indexesOf(redis, stream)].filter(([key]) => key.includes(':email:')) as [[string, string[]]]
  await redis.xadd(key, `${Date.now() + 1_000_000}-0`, 'ids', '')
  await writeEvents(redis, stream, 11, { make: (seq) => ({ ...someEvent(seq), email: ANA }) })
  t.equal(await redis.xlen(stream), 11)
  t.equal((await indexesOf(redis, stream)).get(key)!.length, 1)
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
  t.match(await query('code', 'ACCESS_DENIED'), ['0-0', [[/-/, { length: 28 }]]])
  t.match(await query('email', ANA.toUpperCase()), ['0-0', { length: 1 }])

  const versions: [number, number][] = [[1, 2], [2, 2], [3, 3]]
  for (const [loaded, expected] of versions) {
    await portal.redis.call('FUNCTION', 'LOAD', 'REPLACE', LIBRARY.replace('VERSION = 2', `VERSION = ${loaded}`))
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
    }))).every((version) => version === 2))
    const reader = new AuditReader(portal.redis, stream)
    t.match(await reader.query({ email: ANA }), { entries: [{ fields: { email: ANA } }] })
    t.match(await reader.query({ app: SALES.id, outcome: 'failure' }), { entries: [{ fields: { email: CLEO } }] })
    t.match(await portal.redis.eval(QUERIES, 1, stream, 'email', ANA), ['0-0', { length: 1 }])
    t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true, stream: { removed: 0 } })
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

import { once } from 'node:events'
import { connect } from 'node:net'
import type { Redis } from 'ioredis'
import { t as tap, test } from 'tap'
import { DEMO_USERS, usersOf } from '../example/portal/users.js'
import { startServer } from '../example/redis.js'
import { AS_REDIS_6, countByHand, halfHour, OMAR, openAuditedPortal, writeLog, type AuditedPortal } from './support/audit-portal.js'
import type { Entry } from './support/live.js'
import { ANA, BEN, CLEO, releaseRedisAfter } from './support/portal.js'
import { stopwatch } from './support/stopwatch.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

/** Some answers of every kind. */
async function someAnswers ({ ask, logOf }: AuditedPortal): Promise<Entry[]> {
  await ask(ANA, { app: 'sales' })
  await ask(ANA, { app: 'sales' })
  await ask(ANA, { app: 'inventory' })
  await ask(BEN, { app: 'inventory' })
  await ask(BEN, { app: 'sales', email: ANA })
  await ask(CLEO, { app: 'sales' })
  await ask(CLEO, { app: 'inventory' })
  return logOf(7)
}

/** How many connections of this name there are. */
async function connections (redis: Redis, name: string): Promise<number> {
  return String(await redis.client('LIST')).split('\n').filter((line) => line.includes(` name=${name} `)).length
}

test('only the admin sees the audit log', async (t) => {
  const { url, get, cookie } = await openAuditedPortal(t)
  const paths = ['/admin/audit/events', '/admin/audit/summary', '/admin/audit/live']
  const anonymous = await fetch(`${url}/admin/audit`, { redirect: 'manual' })
  t.same([anonymous.status, anonymous.headers.get('location')], [302, '/sign-in'])
  for (const path of paths) t.equal((await fetch(url + path)).status, 401)

  const page = (email: string) => fetch(`${url}/admin/audit`, { headers: cookie(email) })
  for (const { email } of DEMO_USERS.filter(({ email }) => email !== OMAR)) {
    const refused = await page(email)
    t.equal(refused.status, 403)
    t.match(await refused.text(), 'The audit log is not for you to see')
    for (const path of paths) t.match(await get(path, email), { status: 403, body: { message: 'The audit log is for its admin only.' } })
    t.equal((await get('/api/me', email)).body['isAdmin'], false)
  }
  const shown = await page(OMAR)
  t.equal(shown.status, 200)
  t.equal(shown.headers.get('cache-control'), 'no-store')
  t.match(await shown.text(), '<h1>Audit log</h1>')
  t.equal((await get('/admin/audit/events')).headers.get('cache-control'), 'no-store')
  t.equal((await get('/api/me')).body['isAdmin'], true)
  t.equal((await page('OMAR@acme.test')).status, 403, 'an e-mail that is nobody\'s')

  const admins = (list?: string, admin?: string) => usersOf(list, admin).filter(({ isAdmin }) => isAdmin).map(({ email }) => email)
  t.same(admins(), [OMAR])
  t.same(admins('you@example.com'), [], 'nobody, until DEMO_ADMIN says who')
  t.same(admins('you@example.com', 'boss@example.com'), ['boss@example.com'])
  t.same(usersOf('you@example.com,Boss@example.com', 'boss@example.com').map(({ email }) => email), ['you@example.com', 'boss@example.com'], 'once')
  t.same(admins('', ANA), [ANA], 'and then only that one')
})

test('events: filters, pages, and the same by redis-cli', async (t) => {
  const portal = await openAuditedPortal(t)
  const { get, redis, stream } = portal
  const entries = await someAnswers(portal)
  const newestFirst = [...entries].reverse()
  const idsFor = async (query: string) => ((await get(`/admin/audit/events?${query}`)).body['entries'] as Entry[]).map(({ id }) => id)
  const idsWhere = (test: (fields: Record<string, string>) => boolean) => newestFirst.filter(({ fields }) => test(fields)).map(({ id }) => id)

  t.same((await get('/admin/audit/events')).body['entries'], newestFirst, 'all fields of all events')
  const cases: [string, (fields: Record<string, string>) => boolean, number][] = [
    ['email=ANA@acme.test', ({ email }) => email === ANA, 3],
    ['app=inventory', ({ app }) => app === 'inventory', 3],
    ['event=url.reused', ({ event }) => event === 'url.reused', 1],
    ['outcome=failure', ({ outcome }) => outcome === 'failure', 2],
    ['code=ACCESS_DENIED', ({ code }) => code === 'TOOLJET_EMBED_ACCESS_DENIED', 1],
    ['email=ben@acme.test&outcome=success&app=', ({ email, outcome }) => email === BEN && outcome === 'success', 1],
    ['email=nobody@acme.test', () => false, 0],
  ]
  for (const [query, test, count] of cases) {
    const ids = await idsFor(query)
    t.same(ids, idsWhere(test), query)
    t.equal(ids.length, count)
  }
  const moment = Number(entries[4]!.id.split('-')[0])
  t.same(await idsFor(`since=${moment}`), newestFirst.filter(({ id }) => Number(id.split('-')[0]) >= moment).map(({ id }) => id))
  t.same(await idsFor(`until=${new Date(moment).toISOString()}`), newestFirst.filter(({ id }) => Number(id.split('-')[0]) < moment).map(({ id }) => id))

  const paged: Entry[] = []
  for (let after = ''; ;) {
    const { body } = await get(`/admin/audit/events?limit=3${after}`)
    t.ok(body['entries'].length <= 3)
    paged.push(...body['entries'])
    if (body['cursor'] === undefined) break
    after = `&after=${body['cursor']}`
  }
  t.same(paged, newestFirst, 'page by page, each event once')

  const { body } = await get('/admin/audit/events?email=ana@acme.test&limit=2')
  const [, command] = /^redis-cli (FCALL_RO .+)$/.exec(body['command']) ?? []
  const [name, ...args] = command!.split(' ')
  const [, replied] = await redis.call(name!, ...args) as [string, [string][]]
  t.same(replied.map(([id]) => id), body['entries'].map(({ id }: Entry) => id))
  t.equal((await get(`/admin/audit/events?app=${encodeURIComponent("o'hara; rm")}`)).body['command'], `redis-cli FCALL_RO tooljet_audit 1 ${stream} app 'o'\\''hara; rm' limit 50`)

  t.match(await get('/admin/audit/events?since=yesterday'), { status: 400, body: { message: /^argument "since" is "yesterday", expected an ISO 8601 time.*7d$/ } })
  t.match(await get('/admin/audit/events?event=url.lost'), { status: 400, body: { message: /^argument "event" is "url.lost"/ } })
  for (const query of ['limit=0', 'limit=251', 'after=x', 'email=a&email=b']) t.equal((await get(`/admin/audit/events?${query}`)).status, 400, query)
})

test('events: a rare one is found behind thousands of others, and the work of one answer is bounded', async (t) => {
  const portal = await openAuditedPortal(t)
  const now = Date.now()
  const common = { event: 'url.reused', outcome: 'success' }
  const rare = { event: 'url.failed', outcome: 'failure', code: 'TOOLJET_EMBED_TIMEOUT' }
  await writeLog(portal, Array.from({ length: 6000 }, (_, i) => ({ ms: now - 60_000 + i, fields: i === 0 || i === 3000 ? rare : common })))

  const first = await portal.get('/admin/audit/events?code=TIMEOUT')
  t.equal(first.body['entries'].length, 1, 'behind 3,000')
  t.ok(first.body['cursor'], 'there is more to look at')
  const second = await portal.get(`/admin/audit/events?code=TIMEOUT&after=${first.body['cursor']}`)
  t.equal(second.body['entries'].length, 1)
  t.equal(second.body['cursor'], undefined)
})

test('summary and live events together count each answer of the log once', async (t) => {
  const portal = await openAuditedPortal(t)
  const now = Date.now()
  await writeLog(portal, halfHour(now))
  await portal.ask(ANA, { app: 'sales' })
  await until('a new answer', async () => (await portal.log()).length === 902)
  const { body } = await portal.get('/admin/audit/summary')
  t.equal(body['isComplete'], true)
  await portal.ask(CLEO, { app: 'sales' })
  const live = await portal.live(`?after=${body['after']}`)
  const entries = await until('all is in the log', async () => {
    const log = await portal.log()
    return log.length === 903 ? log : undefined
  })
  await live.until(entries.at(-1)!.id)

  const counted = countByHand(live.entries)
  for (const { at, codes, ...sources } of body['minutes']) {
    for (const [name, count] of [...Object.entries(sources), ...Object.entries(codes)]) {
      if (Number(count) > 0) counted[`${at} ${name}`] = (counted[`${at} ${name}`] ?? 0) + Number(count)
    }
  }
  const start = Math.floor(body['now'] / 60_000) * 60_000 - 29 * 60_000
  t.same(counted, countByHand(entries.filter(({ id }) => Number(id.split('-')[0]) >= start)))
})

test('live: viewers share one connection, which goes with the last of them', async (t) => {
  const portal = await openAuditedPortal(t, { server: await startServer() })
  const { redis, ask, logOf } = portal
  const tails = () => connections(redis, 'portal-audit-tail')
  await logOf(0)
  t.equal(await tails(), 0)

  const viewers = await Promise.all(Array.from({ length: 4 }, () => portal.live()))
  await until('the tail is connected', async () => await tails() === 1)
  const waited = stopwatch()
  await ask(ANA, { app: 'sales' })
  for (const viewer of viewers) await until('the event', () => viewer.entries.length > 0)
  t.ok(waited() < 2000, 'at once')
  const [event] = (await logOf(1)).slice(-1)
  for (const { entries } of viewers) t.same(entries, [event])
  t.equal(await tails(), 1)
  t.match(viewers[0]!.reply.headers['content-type'], /^text\/event-stream/)
  t.equal(viewers[0]!.reply.headers['cache-control'], 'no-store')

  for (const viewer of viewers.slice(1)) viewer.close()
  await ask(ANA, { app: 'sales' })
  await until('the one who stays has it', () => viewers[0]!.entries.length === 2)
  t.equal(await tails(), 1)
  viewers[0]!.close()
  await until('the connection is gone', async () => await tails() === 0)

  const late = await portal.live()
  await until('there is one again', async () => await tails() === 1)
  await ask(ANA, { app: 'sales' })
  await until('the next event', () => late.entries.length === 1)
})

test('live: who comes back misses nothing, nor gets anything twice', async (t) => {
  const portal = await openAuditedPortal(t, { server: await startServer() })
  const { redis, ask, logOf } = portal
  await logOf(0)
  const first = await portal.live()
  await ask(ANA, { app: 'sales' })
  await until('the first event', () => first.entries.length === 1)
  first.close()

  for (let i = 0; i < 3; i++) await ask(ANA, { app: 'sales' })
  await logOf(4)
  const back = await portal.live('?after=0-0', { 'last-event-id': first.entries[0]!.id })
  await ask(BEN, { app: 'sales' })
  const log = await logOf(5)
  await back.until(log.at(-1)!.id)
  t.same(back.entries, log.slice(-4), 'what came meanwhile, and then what is new')

  const fromTheStart = await portal.live('?after=0-0')
  await fromTheStart.until(log.at(-1)!.id)
  t.same(fromTheStart.entries, log)
  const fromTheFuture = await portal.live('?after=99999999999999-0')
  await ask(CLEO, { app: 'inventory' })
  const latest = (await logOf(6)).at(-1)!
  for (const viewer of [back, fromTheStart, fromTheFuture]) await viewer.until(latest.id)
  t.same(fromTheFuture.entries, [latest], 'an id that is not there yet hides nothing')

  await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
  await ask(CLEO, { app: 'inventory' })
  const whole = await logOf(7)
  for (const viewer of [back, fromTheStart, fromTheFuture]) await viewer.until(whole.at(-1)!.id)
  t.same(fromTheStart.entries, whole, 'lost connections to Redis cost no event')
})

test('live: says when Redis goes and comes, and when too much was missed', async (t) => {
  const server = await startServer()
  const portal = await openAuditedPortal(t, { server })
  await portal.logOf(0)
  const viewer = await portal.live()
  await until('the tail is connected', async () => await connections(portal.redis, 'portal-audit-tail') === 1)
  server.process.kill('SIGKILL')
  await until('it says that Redis is away', () => viewer.others.includes('away'))
  t.match(await portal.get('/admin/audit/events'), { status: 503, body: { message: 'Redis does not answer.' } })
  const again = await startServer({ port: server.port })
  t.teardown(() => again.stop())
  t.equal(again.port, server.port)
  await until('it says that Redis is back', () => viewer.others.includes('back'))
  await portal.ask(ANA, { app: 'sales' })
  await until('and events come', () => viewer.entries.some(({ fields }) => fields['event'] === 'url.minted'))
  t.same(viewer.others, ['away', 'back'])

  const filler = portal.redis.pipeline()
  for (let i = 0; i < 5500; i++) filler.xadd(portal.stream, '*', 'event', 'url.reused')
  await filler.exec()
  const sleeper = await portal.live('?after=0-0')
  await sleeper.ended
  t.same(sleeper.others, ['stale'])
})

test('app.close() does not wait for viewers, and leaves no connection', async (t) => {
  const portal = await openAuditedPortal(t, { server: await startServer() })
  const { redis, app, port, cookie, logOf, stream } = portal
  await logOf(0)
  const viewers = await Promise.all([portal.live(), portal.live()])
  const filler = redis.pipeline()
  for (let i = 0; i < 4000; i++) filler.xadd(stream, '*', 'event', 'url.reused', 'user_agent', 'x'.repeat(2000))
  await filler.exec()
  const deaf = connect(port, 'localhost') // asks, and never reads the answer
  deaf.on('error', () => {})
  await once(deaf, 'connect')
  deaf.pause().write(`GET /admin/audit/live?after=0-0 HTTP/1.1\r\nHost: localhost\r\nCookie: ${cookie(OMAR).cookie}\r\n\r\n`)
  await until('the others have all of it', () => viewers.every(({ entries }) => entries.length >= 4000))
  t.ok(await connections(redis, 'portal-audit-log'))

  const waited = stopwatch()
  await app.close()
  t.ok(waited() < 3000, 'bounded by the plugin\'s own closing')
  await Promise.all(viewers.map(({ ended }) => ended))
  await until('nothing is left', async () => await connections(redis, 'portal-audit-tail') + await connections(redis, 'portal-audit-log') === 0)
  deaf.destroy()
})

test('a Redis without the functions: it says so, and new events still come', async (t) => {
  const old = await openAuditedPortal(t, { server: await startServer({ args: AS_REDIS_6 }) })
  await old.ask(ANA, { app: 'sales' })
  await old.logOf(1)
  for (const path of ['events', 'summary']) t.match(await old.get(`/admin/audit/${path}`), { status: 501, body: { code: 'NO_FUNCTIONS', message: /^This Redis is older than 7/ } })
  const live = await old.live()
  await old.ask(ANA, { app: 'sales' })
  await until('the event', () => live.entries.length === 1)

  const without = await openAuditedPortal(t, { server: await startServer(), audit: { functions: false } })
  await without.logOf(0)
  t.match(await without.get('/admin/audit/events'), { status: 501, body: { code: 'NO_FUNCTIONS', message: /are not in this Redis: the plugin was told not to/ } })
})

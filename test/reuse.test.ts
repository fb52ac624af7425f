import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { t as tap, test } from 'tap'
import { startServer } from '../example/redis.js'
import type { App } from '../plugin/access/apps.js'
import { openCache } from '../plugin/cache/open.js'
import { Encryptor } from '../plugin/crypto/encryption.js'
import { systemTimers } from '../plugin/timers.js'
import type { Fault } from '../example/tooljet/server.js'
import type { TokenMode } from '../example/tooljet/tokens.js'
import { ANA, API_TOKEN, BEN, CLEO, INVENTORY, Portal, releaseRedisAfter, SALES } from './support/portal.js'
import { refusal } from './support/refusal.js'
import { newClient } from './support/redis-client.js'
import { cacheFields, cacheScript, holdUp } from './support/redis.js'
import { stopwatch } from './support/stopwatch.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

test('a URL is minted once, and reused by every instance', async (t) => {
  const [one, two] = await Portal.openSeveral(t, 2) as [Portal, Portal]
  t.match(await one.ask(ANA), { status: 200, body: { source: 'minted' } })
  t.match(await two.ask(ANA), { status: 200, body: { source: 'reused' } })
  one.toolJet.faults = () => ({ reply: { status: 503 } })
  t.match(await one.ask(ANA), { status: 200 }, 'a cached URL needs no ToolJet')
  t.same((await one.audit()).map(({ event }) => event).sort(), ['url.minted', 'url.reused', 'url.reused'])
})

test('a hit asks Redis once, for limit and URL', async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const redis = newClient(server.url)
  const portal = await Portal.open(t, { redis, options: { audit: { functions: false, delivery: 'required' } } })
  await portal.ask(ANA)
  const reads = async () => Number(/total_reads_processed:(\d+)/.exec(await redis.info('stats'))![1])
  const before = await reads()
  t.equal((await portal.ask(ANA)).body.source, 'reused')
  t.equal(await reads() - before - 1, 2, 'one to ask, one to write the event')
})

test('what is forgotten while authorize takes its time is not given', async (t) => {
  let held: Promise<void> | undefined
  let letGo!: () => void
  let isHeld = false
  const [portal, other] = await Portal.openSeveral(t, 2, { options: { authorize: async () => { isHeld = held !== undefined; await held; return true } } }) as [Portal, Portal]
  const first = await portal.ask(ANA)
  held = new Promise((resolve) => { letGo = resolve })
  const late = portal.ask(ANA)
  await until('it is held', () => isHeld)
  t.equal(await other.app.tooljetEmbed.forget({ email: ANA }), 1)
  held = undefined
  const second = await other.ask(ANA)
  t.not(second.body.urlId, first.body.urlId)
  letGo()
  t.equal((await late).body.urlId, second.body.urlId)
})

const IO = '/proc/self/io'

test('what is asked of Redis at the same time is one question', existsSync(IO) ? {} : { skip: 'this system does not count the writes of a process' }, async (t) => {
  const portal = await Portal.open(t)
  await portal.ask(ANA)
  await portal.audit()
  const writes = () => Number(/syscw: (\d+)/.exec(readFileSync(IO, 'utf8'))![1])
  const before = writes()
  await Promise.all(Array.from({ length: 20 }, () => portal.ask(ANA)))
  const writesOfTwenty = writes() - before
  t.ok(writesOfTwenty < 20, `${writesOfTwenty} for 40 questions and 20 events`)

  const users = Array.from({ length: 20 }, (_, i) => `user${i}@acme.test`)
  const questions = async () => Number(/cmdstat_evalsha:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1] ?? 0)
  const server = await startServer()
  t.teardown(() => server.stop())
  const redis = newClient(server.url)
  const ofMany = await Portal.open(t, { redis, options: { audit: { functions: false } }, toolJet: { seed: { apps: [SALES], users: users.map((email) => ({ email, apps: [SALES.slug] })) } } })
  await Promise.all(users.map((user) => ofMany.ask(user)))
  await ofMany.audit()
  const asked = await questions()
  await Promise.all(users.map((user) => ofMany.ask(user)))
  await ofMany.audit()
  const questionsOfMany = await questions() - asked
  t.ok(questionsOfMany < 10, `${questionsOfMany} for 20 users, their events included`)
})

const SECOND = 1000

test('patExpiry 5, minRemaining 1: steady asks mint every 4 s', { timeout: 60_000 }, async (t) => {
  const portal = await Portal.open(t, { options: { patExpiry: 5, minRemaining: 1, rateLimit: false } })
  const answers: { askedAt: number, answeredAt: number, source: string }[] = []
  while (portal.toolJet.calls.length < 3) {
    const askedAt = performance.now()
    const { status, body } = await portal.ask(ANA)
    t.equal(status, 200)
    answers.push({ askedAt, answeredAt: performance.now(), source: body.source })
    await sleep(50)
  }
  const mints = answers.filter(({ source }) => source === 'minted')
  t.equal(mints.length, 3)
  // a mint lies somewhere between its question and its answer
  for (const [i, { askedAt, answeredAt }] of mints.slice(0, -1).entries()) {
    const next = mints[i + 1]!
    t.ok(next.answeredAt - askedAt >= 3 * SECOND, `not long before that: after ${next.answeredAt - askedAt} ms`)
    const last = answers[answers.indexOf(next) - 1]!
    t.ok(last.askedAt - answeredAt <= 4 * SECOND + 100, `never less than a second of life left: the last one after ${last.askedAt - answeredAt} ms`)
  }
})

test('life counts from before the mint request was sent', async (t) => {
  const portal = await Portal.open(t, { options: { patExpiry: 60, minRemaining: 1 } })
  portal.toolJet.faults = () => ({ delayMs: 1200 })
  const { body } = await portal.ask(ANA)
  t.ok(body.expiresIn <= 58, `${body.expiresIn}`)
  const [url] = await portal.cached('url')
  const [startsAt, endsAt] = [0, 13].map((from) => Number(url!.value.toString('latin1', from, from + 13))) as [number, number]
  t.equal(endsAt - startsAt, 60_000)
  t.ok(endsAt - Date.now() <= 58_800)
})

test('a URL that expired on its way is not handed out', async (t) => {
  const portal = await Portal.open(t, { options: { patExpiry: 1 } })
  portal.toolJet.faults = () => ({ delayMs: 1050 })
  t.match(await portal.ask(ANA), { status: 504, body: { code: 'TOOLJET_EMBED_TIMEOUT' } })
})

test('asks at once share one mint, of which one answer says minted', async (t) => {
  const portals = await Portal.openSeveral(t, 3, { options: { rateLimit: false } })
  portals[0]!.toolJet.faults = () => ({ delayMs: 100 })
  const replies = await Promise.all(Array.from({ length: 300 }, (_, i) => portals[i % 3]!.ask(ANA)))
  t.equal(portals[0]!.toolJet.calls.length, 1)
  t.equal(new Set(replies.map(({ body }) => body.redirectUrl)).size, 1)
  t.equal(replies.filter(({ body }) => body.source === 'minted').length, 1)
  for (const portal of portals) await portal.audit()
  t.equal((await portals[0]!.audit()).length, 300)
})

test('those who wait get the error, too, without asking ToolJet again', async (t) => {
  const portals = await Portal.openSeveral(t, 2, { options: { rateLimit: false } })
  portals[0]!.toolJet.faults = () => ({ delayMs: 300, reply: { status: 500 } })
  const replies = await Promise.all(Array.from({ length: 40 }, (_, i) => portals[i % 2]!.ask(ANA)))
  t.ok(replies.every(({ status, body }) => status === 503 && body.code === 'TOOLJET_EMBED_UNAVAILABLE'))
  t.equal(portals[0]!.toolJet.calls.length, 1)
  portals[0]!.toolJet.faults = undefined
  t.equal((await portals[1]!.ask(ANA)).status, 200, 'a failure is for those who waited, the next one asks')
})

test('replaces: ten tabs that report the same dead URL cause one mint', async (t) => {
  const portals = await Portal.openSeveral(t, 2)
  const { body: dead } = await portals[0]!.ask(ANA)
  portals[0]!.toolJet.faults = () => ({ delayMs: 100 })
  const replies = await Promise.all(Array.from({ length: 10 }, (_, i) => portals[i % 2]!.ask(ANA, { appId: SALES.id, replaces: dead.urlId })))
  t.equal(portals[0]!.toolJet.calls.length, 2)
  t.equal(new Set(replies.map(({ body }) => body.urlId)).size, 1)
  t.not(replies[0]!.body.urlId, dead.urlId)
  t.equal(replies.filter(({ body }) => body.source === 'minted').length, 1)

  const late = await portals[1]!.ask(ANA, { appId: SALES.id, replaces: dead.urlId })
  t.match(late.body, { source: 'reused', urlId: replies[0]!.body.urlId }, 'one that comes late gets what is cached by then')
  const unknown = await portals[1]!.ask(ANA, { appId: SALES.id, replaces: 'never-given' })
  t.equal(unknown.body.source, 'reused')
  t.equal(portals[0]!.toolJet.calls.length, 2)
})

test('a URL reported dead is served to nobody again, even when ToolJet cannot mint another', async (t) => {
  const portal = await Portal.open(t)
  const { body: dead } = await portal.ask(ANA)
  portal.toolJet.faults = () => ({ reply: { status: 500 } })
  t.equal((await portal.ask(ANA, { appId: SALES.id, replaces: dead.urlId })).status, 503)
  t.equal((await portal.ask(ANA)).status, 503)
  t.equal((await portal.ask(ANA, { appSlug: SALES.slug })).status, 503, 'by its other name neither')
})

test('who reports a URL dead does not get it from a flight that is under way', async (t) => {
  const portal = await Portal.open(t, { options: { patExpiry: 10, minRemaining: 9 } })
  const { body: dead } = await portal.ask(ANA)
  await sleep(1050) // until less than minRemaining is left
  portal.toolJet.faults = () => ({ delayMs: 300, reply: { status: 500 } })
  const unaware = portal.ask(ANA)
  await until('a mint is under way, for little life is left', () => portal.toolJet.calls.length === 2)
  t.match(await portal.ask(ANA, { appId: SALES.id, replaces: dead.urlId }), { status: 503, body: { code: 'TOOLJET_EMBED_UNAVAILABLE' } })
  t.match(await unaware, { status: 200, body: { urlId: dead.urlId } })
})

test('who reports a URL dead does not get it from a load that finds it later', async (t) => {
  const one = await Portal.open(t)
  const redis = holdUp(one.redis, ([digest]) => digest === cacheScript('claim'), 500)
  const other = await Portal.open(t, { options: { redis, keyPrefix: one.prefix, tooljet: { url: one.toolJet.url, apiToken: API_TOKEN } } })
  one.toolJet.faults = () => (one.toolJet.calls.length === 1 ? { delayMs: 200 } : undefined)
  const minting = one.ask(ANA)
  await until('the mint is under way', () => one.toolJet.calls.length === 1)
  const waits = other.ask(ANA)
  const { body: dead } = await minting
  const { body } = await other.ask(ANA, { appId: SALES.id, replaces: dead.urlId })
  t.equal((await waits).body.urlId, dead.urlId)
  t.equal(body.source, 'minted')
})

test('a claim that took the lock, sent again after another has stored a URL of the app, leaves no lock behind', async (t) => {
  const { prefix, redis } = await Portal.open(t)
  const { breaker, store, close } = openCache({ redis, address: '' }, { keyPrefix: prefix, redisTimeoutMs: 5000, limitWindowMs: 1000, longestPatExpiry: 60, serveWithoutRedis: true }, { encryptor: new Encryptor([Buffer.alloc(32)]), timers: systemTimers, log: { info () {}, warn () {}, error () {} } as never })
  await breaker.start()
  t.teardown(close)
  const app = (key: string) => ({ key, patExpiry: 60, minRemaining: 0 }) as App
  const byId = app(`id:${SALES.id}`)
  const bySlug = app('slug:sales')
  const claim = (app: App, owner: string) => store.claim('a user', app, { owner, lockTtlMs: 30_000, invalidatedId: undefined, unreadableId: undefined, observedOwner: undefined })
  t.equal((await claim(byId, 'one')).kind, 'acquired')
  const other = await claim(bySlug, 'other')
  if (other.kind !== 'acquired') throw new Error(other.kind)
  t.equal(await store.store('a user', bySlug, { redirectUrl: 'http://tooljet/embed-apps/x', urlId: 'anid', names: [byId.key, bySlug.key], bornAt: performance.now(), lifeMs: 60_000, startsAt: other.start.at }, { owner: 'other' }), 'stored')
  t.equal((await claim(byId, 'one')).kind, 'url', 'sent again')
  t.same((await cacheFields(redis, prefix, 'lock')).map(({ field }) => field), [])
})

test('whoever waits for a holder that never lets go gets an error in the end', async (t) => {
  const { toolJet } = await Portal.open(t)
  const portal = await Portal.open(t, { options: { tooljet: { url: toolJet.url, apiToken: API_TOKEN, timeoutMs: 200 }, redisTimeoutMs: 500 } })
  await portal.ask(ANA)
  const [url] = await portal.cached('url')
  await portal.redis.hdel(url!.key, url!.field)
  const [since, until] = [Date.now() - SECOND, Date.now() + 3600 * SECOND]
  await portal.redis.hset(url!.key, `lid:${SALES.id}`, `nobody ${since} ${until}`)
  const waited = stopwatch()
  t.match(await portal.ask(ANA), { status: 504, body: { code: 'TOOLJET_EMBED_TIMEOUT' } })
  t.ok(waited() < 8 * SECOND)
})

test('a lock of a clock that went back is none', async (t) => {
  const portal = await Portal.open(t)
  await portal.ask(ANA)
  const [url] = await portal.cached('url')
  await portal.redis.hset(url!.key, `lid:${INVENTORY.id}`, `nobody ${Date.now() + 60 * SECOND} ${Date.now() + 75 * SECOND}`)
  t.equal((await portal.ask(ANA, { appId: INVENTORY.id })).body.source, 'minted')
})

test('a report of one user touches nobody else', async (t) => {
  const portal = await Portal.open(t)
  const { body: anas } = await portal.ask(ANA)
  const { body: bens } = await portal.ask(BEN, { appId: SALES.id, replaces: anas.urlId })
  t.equal(bens.source, 'minted')
  t.equal((await portal.ask(ANA)).body.urlId, anas.urlId)
  t.equal((await portal.ask(BEN, { appId: SALES.id, replaces: anas.urlId })).body.urlId, bens.urlId)
})

test('forget drops one app or all, and counts', async (t) => {
  const [one, other] = await Portal.openSeveral(t, 2) as [Portal, Portal]
  await one.ask(ANA)
  await one.ask(ANA, { appId: INVENTORY.id })
  await one.ask(BEN)
  t.equal(await other.app.tooljetEmbed.forget({ email: ' Ana@acme.test', appId: SALES.id }), 1)
  t.equal((await one.ask(ANA)).body.source, 'minted')
  t.equal((await one.ask(ANA, { appId: INVENTORY.id })).body.source, 'reused')
  t.equal(await other.app.tooljetEmbed.forget({ email: ANA }), 2)
  t.equal(await other.app.tooljetEmbed.forget({ email: ANA }), 0)
  t.equal((await one.ask(ANA, { appId: INVENTORY.id })).body.source, 'minted')
  t.equal((await one.ask(BEN)).body.source, 'reused')
  await other.audit()
  t.match((await one.audit()).filter(({ event }) => event === 'url.forgotten'), [
    { email: ANA, app: SALES.id, outcome: 'success' }, { email: ANA, outcome: 'success' }, { email: ANA },
  ])
  await t.rejects(one.app.tooljetEmbed.forget({ email: '' }), { code: 'TOOLJET_EMBED_BAD_REQUEST' })
})

test('a mint under way when forget is called is not cached', async (t) => {
  const portal = await Portal.open(t)
  portal.toolJet.faults = () => ({ delayMs: 300 })
  const asked = portal.ask(ANA)
  await until('the mint is under way', () => portal.toolJet.calls.length === 1)
  await portal.app.tooljetEmbed.forget({ email: ANA })
  t.equal((await asked).body.source, 'minted', 'whoever asked before is answered')
  t.same([await portal.cached('url'), await portal.cached('lock')], [[], []], 'nothing is cached or locked')
  t.equal((await portal.ask(ANA)).body.source, 'minted')
})

test('one app under its id and its slug is one URL', async (t) => {
  const portal = await Portal.open(t, { toolJet: { tokens: 'replace' } })
  const { body: bySlug } = await portal.ask(ANA, { appSlug: 'sales' })
  t.match((await portal.ask(ANA, { appId: SALES.id })).body, { source: 'reused', urlId: bySlug.urlId })
  t.equal(await portal.app.tooljetEmbed.forget({ email: ANA, appId: SALES.id }), 1, 'one URL, not two')
  t.equal((await portal.ask(ANA, { appSlug: 'sales' })).body.source, 'minted')
})

test('a name of an app with a shorter patExpiry gets no more of a URL than that', async (t) => {
  const apps = { sales: { appId: SALES.id }, brief: { appSlug: SALES.slug, patExpiry: 3, minRemaining: 2 } }
  const [one, other] = await Portal.openSeveral(t, 2, { options: { apps } }) as [Portal, Portal]
  const { body: first } = await one.ask(ANA, { app: 'sales' })
  t.ok(first.expiresIn > 3500)
  for (const portal of [one, other]) {
    const { body } = await portal.ask(ANA, { app: 'brief' })
    t.match(body, { source: 'reused', urlId: first.urlId })
    t.ok(body.expiresIn <= 2, `${body.expiresIn}`)
    t.ok(Date.parse(first.expiresAt) - Date.parse(body.expiresAt) > 3590 * SECOND)
  }
  await sleep(1050) // until less than minRemaining is left by this name
  t.equal((await other.ask(ANA, { app: 'brief' })).body.source, 'minted')
})

test('what a younger URL replaces is gone at once', async (t) => {
  const portal = await Portal.open(t, { options: { patExpiry: 10, minRemaining: 9 } })
  const { body: old } = await portal.ask(ANA)
  await sleep(1050) // until less than minRemaining is left
  const { body: younger } = await portal.ask(ANA, { appSlug: SALES.slug })
  t.not(younger.urlId, old.urlId)
  const urls = await portal.cached('url')
  t.match(urls, [{ field: `u${younger.urlId}` }])
  t.equal(urls.length, 1)
})

test("ToolJet's denials are remembered for half a minute, for this user and app only", async (t) => {
  const portals = await Portal.openSeveral(t, 2)
  const { calls } = portals[0]!.toolJet
  for (let i = 0; i < 4; i++) t.equal((await portals[i % 2]!.ask(CLEO)).body.code, 'TOOLJET_EMBED_ACCESS_DENIED')
  t.equal(calls.length, 1)
  t.equal((await portals[1]!.ask(CLEO, { appId: INVENTORY.id })).status, 200)
  const outcomeOf = async () => (await portals[0]!.cached('outcome')).find(({ field }) => field === `oid:${SALES.id}`)!
  const { key, field, value } = await outcomeOf()
  const [owner, endsAt, ...failure] = String(value).split(' ') as [string, string, ...string[]]
  const left = Number(endsAt) - Date.now()
  t.ok(left > 25 * SECOND && left <= 30 * SECOND, `${left}`)
  await portals[0]!.redis.hset(key, field, [owner, Date.now() - 1, ...failure].join(' ')) // as if its time had passed
  await portals[0]!.ask(CLEO)
  t.equal(calls.length, 3)
  t.equal(await portals[0]!.app.tooljetEmbed.forget({ email: CLEO, appId: SALES.id }), 0)
  await portals[0]!.ask(CLEO)
  t.equal(calls.length, 4, 'forget ends it, too')
  const outcome = await outcomeOf()
  await portals[0]!.redis.hset(key, field, String(outcome.value).replace('ACCESS_DENIED', 'OF_TOMORROW'))
  t.match(await portals[0]!.ask(CLEO), { status: 503, body: { code: 'TOOLJET_EMBED_UNAVAILABLE' } }, 'one of another version is one that this version knows')
  for (const [failure, retryAfter] of [['{', '5'], ['null', '5'], ['{"code":7}', '5'], ['{"code":"TOOLJET_EMBED_BUSY","retryAfter":"soon"}', '60'], ['{"code":"TOOLJET_EMBED_BUSY","retryAfter":9e9}', '60']] as const) {
    await portals[0]!.redis.hset(key, field, ['x', Date.now() + 10 * SECOND, 1, failure].join(' '))
    t.match(await portals[0]!.ask(CLEO), { status: retryAfter === '5' ? 503 : 429, headers: { 'retry-after': retryAfter } }, failure)
  }
  await portals[0]!.app.tooljetEmbed.forget({ email: CLEO })
  t.equal((await portals[0]!.ask(CLEO)).body.code, 'TOOLJET_EMBED_ACCESS_DENIED')
  t.equal(calls.length, 5, 'forget of all apps ends it, too')
})

test('a user who lost access loses the cached URL with the next mint', async (t) => {
  const portal = await Portal.open(t, { options: { patExpiry: 10, minRemaining: 9 } })
  await portal.ask(ANA)
  await sleep(1100)
  portal.toolJet.faults = () => refusal(403, 'no access')
  t.equal((await portal.ask(ANA)).body.code, 'TOOLJET_EMBED_ACCESS_DENIED', 'ToolJet said no, a URL still alive does not help')
  t.same(await portal.cached('url'), [])
})

test('a URL in its last seconds is served rather than an error', async (t) => {
  const faults: Fault[] = [
    { reply: { status: 500 } }, { reply: { status: 429 } }, refusal(403, 'Unauthorized'), { cut: 'before' }, { reply: { status: 201, body: 'x' } },
  ]
  for (const fault of faults) {
    const portal = await Portal.open(t, { options: { patExpiry: 10, minRemaining: 9 } })
    const { body: first } = await portal.ask(ANA)
    await sleep(1050) // until less than minRemaining is left
    portal.toolJet.faults = () => fault
    const { status, body } = await portal.ask(ANA)
    t.equal(status, 200, JSON.stringify(fault))
    t.match(body, { source: 'reused', urlId: first.urlId, expiresIn: 8 })
    t.match((await portal.audit()).map(({ event }) => event), ['url.minted', 'url.reused'])
  }
})

test("ToolJet's 429 pauses the whole fleet for as long as it says", async (t) => {
  const [one, other] = await Portal.openSeveral(t, 2, { mintLimit: false, options: { patExpiry: 10, minRemaining: 9, rateLimit: false } }) as [Portal, Portal]
  await one.ask(BEN)
  await sleep(1050)
  one.toolJet.faults = () => ({ reply: { status: 429, headers: { 'retry-after': '3' } } })
  const begun = performance.now()
  t.match(await one.ask(ANA), { status: 429, headers: { 'retry-after': '3' }, body: { code: 'TOOLJET_EMBED_BUSY' } })
  one.toolJet.faults = undefined
  const called = one.toolJet.calls.length
  t.match(await other.ask(CLEO, { appId: INVENTORY.id }), { status: 429, headers: { 'retry-after': /^[23]$/ }, body: { code: 'TOOLJET_EMBED_BUSY' } })
  t.match(await other.ask(BEN), { status: 200, body: { source: 'reused' } }, 'who has a URL alive gets that')
  t.equal((await other.app.tooljetEmbed.health()).tooljet.state, 'paused')
  t.equal(one.toolJet.calls.length, called, 'nobody calls before its end')
  await until('the pause is over', async () => (await other.ask(ANA)).status === 200)
  t.ok(performance.now() - begun >= 2900)
})

const PAUSES: [name: string, status: number, headers: Record<string, string>, seconds: number][] = [
  ['429 without Retry-After', 429, {}, 60],
  ['429 with nonsense', 429, { 'retry-after': 'soon' }, 60],
  ['429 with zero', 429, { 'retry-after': '0' }, 1],
  ['429 with a year', 429, { 'retry-after': '31536000' }, 3600],
  ['429 with a date, counted from the Date of the reply', 429, { date: 'Wed, 01 Jan 2020 00:00:00 GMT', 'retry-after': 'Wed, 01 Jan 2020 00:00:40 GMT' }, 40],
  ['503 with Retry-After', 503, { 'retry-after': '9' }, 9],
]
for (const [name, status, headers, seconds] of PAUSES) {
  test(`pause: ${name}`, async (t) => {
    const portal = await Portal.open(t, { mintLimit: false })
    portal.toolJet.faults = () => ({ reply: { status, headers } })
    t.match(await portal.ask(ANA), { status: 429, headers: { 'retry-after': String(seconds) }, body: { code: 'TOOLJET_EMBED_BUSY' } })
    t.equal(portal.toolJet.calls.length, 1)
    t.match(await portal.app.tooljetEmbed.health(), { tooljet: { state: 'paused', pausedFor: seconds } })
    if (seconds > 1) t.match(await portal.ask(BEN), { status: 429, headers: { 'retry-after': String(seconds) } }, 'rounded up')
  })
}

test('a shorter pause does not end a longer one', async (t) => {
  const [one, other, third] = await Portal.openSeveral(t, 3, { mintLimit: false }) as [Portal, Portal, Portal]
  const { toolJet } = one
  toolJet.faults = () => {
    const [delayMs, seconds] = toolJet.calls.length === 1 ? [100, '30'] : [250, '1']
    return { delayMs, reply: { status: 429, headers: { 'retry-after': seconds } } }
  }
  const asked = one.ask(ANA)
  await until('the first call is under way', () => toolJet.calls.length === 1)
  await Promise.all([asked, other.ask(BEN)])
  t.equal(toolJet.calls.length, 2)
  t.match(await third.app.tooljetEmbed.health(), { tooljet: { state: 'paused', pausedFor: 30 } })
})

for (const mode of ['insert', 'replace', 'keep', 'per-app'] satisfies TokenMode[]) {
  test(`TOOLJET_TOKENS=${mode}: what is cached is the last one minted, and a dead one heals`, async (t) => {
    const [one, other] = await Portal.openSeveral(t, 2, { toolJet: { tokens: mode } }) as [Portal, Portal]
    const opens = (url: string) => one.toolJet.tokens.isAlive(one.toolJet.tokenOf(url)!.token)
    const { body: first } = await one.ask(ANA)
    t.ok(opens(first.redirectUrl))
    t.equal((await other.ask(ANA)).body.urlId, first.urlId)

    await other.ask(BEN)
    const anasIsDead = mode === 'per-app'
    t.equal(opens(first.redirectUrl), !anasIsDead)

    one.toolJet.tokens.revoke(one.toolJet.tokenOf(first.redirectUrl)!.token)
    const { body: healed } = await other.ask(ANA, { appId: SALES.id, replaces: first.urlId })
    t.ok(opens(healed.redirectUrl))
    t.equal((await one.ask(ANA)).body.urlId, healed.urlId)
    t.equal(one.toolJet.calls.length, 3)
  })
}

test('a value that was changed, or copied to another user, cannot be decrypted: it is a miss, and logged', async (t) => {
  const portal = await Portal.open(t)
  const { body: anas } = await portal.ask(ANA)
  const { body: bens } = await portal.ask(BEN)
  const fieldOf = async ({ urlId }: { urlId: string }) => (await portal.cached('url')).find(({ field }) => field === `u${urlId}`)!
  const [ofAna, ofBen] = [await fieldOf(anas), await fieldOf(bens)]
  const changedAt = (kept: Buffer, at: number, by: number): Buffer => {
    const changed = Buffer.from(kept)
    changed[at]! += by
    return changed
  }

  const tampers: ((kept: Buffer) => Buffer)[] = [
    () => ofBen.value, (kept) => changedAt(kept, kept.length - 1, 1), (kept) => changedAt(kept, 14, 1), (kept) => changedAt(kept, 2, -1), // the last two: a later end, an earlier start
    (kept) => kept.subarray(4), () => Buffer.from('rubbish'), () => Buffer.from('AAAA'), (kept) => Buffer.concat([kept.subarray(0, 26), randomBytes(200)]),
  ]
  for (const tamper of tampers) {
    const { body: given } = await portal.ask(ANA)
    const fresh = await Portal.open(t, { options: { keyPrefix: portal.prefix, tooljet: { url: portal.toolJet.url, apiToken: API_TOKEN } } })
    const value = tamper((await fieldOf(given)).value)
    await portal.redis.hset(ofAna.key, `u${given.urlId}`, value)
    const { status, body } = await fresh.ask(ANA)
    t.equal(status, 200)
    t.equal(body.source, 'minted', 'minted anew')
    t.equal(portal.toolJet.tokenOf(body.redirectUrl)!.email, ANA)
    if (String(value).startsWith('17')) t.ok(fresh.logLines.some((line) => /cannot be decrypted/.test(String(line['msg'])) && line['key'] === ofAna.key && line['urlId'] === given.urlId))
    await portal.redis.del(...(await portal.keys()).filter((key) => key.includes(':limit:')))
  }

  const fresh = await Portal.open(t, { options: { keyPrefix: portal.prefix, tooljet: { url: portal.toolJet.url, apiToken: API_TOKEN } } })
  await portal.redis.hset(ofAna.key, { [ofBen.field]: ofBen.value, [`nid:${SALES.id}`]: bens.urlId })
  t.equal((await fresh.ask(ANA)).body.source, 'minted', 'nor does all of what another user has')

  const { body: sales } = await portal.ask(ANA)
  const { body: inventory } = await portal.ask(ANA, { appId: INVENTORY.id })
  await portal.redis.hset(ofAna.key, `nid:${INVENTORY.id}`, sales.urlId)
  const { body } = await portal.ask(ANA, { appId: INVENTORY.id })
  t.equal(body.source, 'minted', 'nor does a URL open as one of another app')
  t.notOk([sales.urlId, inventory.urlId].includes(body.urlId))
  t.equal(portal.toolJet.tokenOf(body.redirectUrl)!.appId, INVENTORY.id)
})

test('encryptionKey: the first encrypts, all decrypt, the last names keys, so that a key can be rotated', async (t) => {
  const [oldKey, newKey, otherKey, naming] = ['encryption-key-old', 'encryption-key-new', 'encryption-key-other', 'encryption-key-naming']
  const portal = await Portal.open(t, { options: { encryptionKey: [oldKey, naming] } })
  const { body: first } = await portal.ask(ANA)
  const options = (encryptionKey: string[]) => ({ options: { encryptionKey, keyPrefix: portal.prefix, tooljet: { url: portal.toolJet.url, apiToken: API_TOKEN } } })
  const rotated = await Portal.open(t, options([newKey, oldKey, naming]))
  t.match((await rotated.ask(ANA)).body, { source: 'reused', urlId: first.urlId })
  t.equal((await rotated.ask(BEN)).body.source, 'minted')
  t.equal((await Portal.open(t, options([newKey, naming])).then((portal) => portal.ask(BEN))).body.source, 'reused')
  t.equal((await Portal.open(t, options([otherKey, naming])).then((portal) => portal.ask(BEN))).body.source, 'minted')
})

test('two ToolJets that share Redis and prefix are never mixed', async (t) => {
  const one = await Portal.open(t)
  const other = await Portal.open(t, { options: { keyPrefix: one.prefix } })
  const { body: first } = await one.ask(ANA)
  const { body: second } = await other.ask(ANA)
  t.equal(second.source, 'minted')
  t.equal(new URL(first.redirectUrl).origin, one.toolJet.url)
  t.equal(new URL(second.redirectUrl).origin, other.toolJet.url)
})

test('keys: the prefix first, a TTL on all but the audit log, no e-mail, no TTL of a URL past patExpiry', async (t) => {
  const portal = await Portal.open(t, { options: { patExpiry: 120 } })
  portal.toolJet.faults = ({ body }) => (body['email'] === BEN ? { reply: { status: 429 } } : undefined)
  await portal.ask(ANA)
  await portal.ask(CLEO)
  await portal.ask(BEN)
  const keys = await portal.keys()
  t.ok(keys.length >= 8, keys.join(' '))
  for (const key of keys) {
    t.ok(key.startsWith(portal.prefix) || key.startsWith(`{${portal.prefix}`), key)
    t.notMatch(key, /@|acme/)
    const ttl = await portal.redis.pttl(key)
    if (key === `${portal.prefix}audit` || /:audit\}:(?:index|counts)/.test(key)) t.equal(ttl, -1)
    else t.ok((ttl > 0 && ttl <= 180_000) || ttl === -2, `${key} ${ttl}`) // -2: that one has just ended
  }
  const [url] = await portal.cached('url')
  const left = Number(url!.value.toString('latin1', 13, 26)) - Date.now()
  t.ok(Math.abs(await portal.redis.pttl(url!.key) - left) < 20 * SECOND, 'the hash lives as long as what it holds')
  await portal.redis.hset(url!.key, 'lid:of-an-odd-clock', `nobody ${Date.now() - 1} ${Date.now() + 86_400 * SECOND}`)
  await portal.app.tooljetEmbed.forget({ email: ANA })
  t.ok(await portal.redis.pttl(url!.key) <= 180 * SECOND, 'and in any case no longer than any of it may')
})

test('the log of forgets outlives no URL after Redis\'s clock went back', async (t) => {
  const portal = await Portal.open(t, { options: { patExpiry: 120 } })
  const key = `${portal.prefix}forgets`
  await portal.app.tooljetEmbed.forget({ email: ANA })
  // what a forget has left on a clock that was a day ahead
  await portal.redis.xadd(key, `${Date.now() + 86_400 * SECOND}-0`, 'user', 'nobody', 'moment', '0', 'names', '*')
  await portal.redis.pexpire(key, 86_580 * SECOND)
  await portal.app.tooljetEmbed.forget({ email: ANA })
  t.ok(await portal.redis.pttl(key) <= 181 * SECOND, 'but for what passes between two commands here')
})

test('forget twice during a mint that is then denied leaves no lock behind', async (t) => {
  const [one, other] = await Portal.openSeveral(t, 2) as [Portal, Portal]
  one.toolJet.faults = () => ({ delayMs: 300, ...refusal(403, 'no access') })
  const asked = one.ask(ANA)
  await until('the mint is under way', () => one.toolJet.calls.length === 1)
  const waiting = other.ask(ANA)
  for (let i = 0; i < 2; i++) await one.app.tooljetEmbed.forget({ email: ANA, appId: SALES.id })
  t.equal((await asked).body.code, 'TOOLJET_EMBED_ACCESS_DENIED')
  const waited = stopwatch()
  t.equal((await waiting).body.code, 'TOOLJET_EMBED_ACCESS_DENIED')
  t.ok(waited() < 2 * SECOND)
  t.equal(one.toolJet.calls.length, 1)
  t.same(await one.cached('lock'), [])
})

test('a holder whose lock passed to another stores nothing, and a late denial touches nothing', async (t) => {
  for (const fault of [{ delayMs: 400 }, { delayMs: 400, ...refusal(403, 'no access') }] as Fault[]) {
    const [late, quick] = await Portal.openSeveral(t, 2, { mintLimit: false, toolJet: { tokens: 'replace' } }) as [Portal, Portal]
    late.toolJet.faults = () => (late.toolJet.calls.length === 1 ? fault : undefined)
    const asked = late.ask(ANA)
    await until('the mint is under way', () => late.toolJet.calls.length === 1)
    const [lock] = await late.cached('lock')
    await late.redis.hdel(lock!.key, lock!.field) // as if its time had passed
    const joined = late.ask(ANA)
    quick.toolJet.faults = () => ({ delayMs: 700 })
    const minting = quick.ask(ANA)
    await until('another mint is under way', () => late.toolJet.calls.length === 2)
    const { status, body } = await asked
    t.same(await late.cached('url'), [], 'nothing is stored beside who mints now')
    const { body: newer } = await minting
    t.equal(newer.source, 'minted')
    if (fault.reply === undefined) t.match((await joined).body, { source: 'reused', urlId: newer.urlId }, 'who waited gets the last one minted')
    if (fault.reply === undefined) t.match(body, { source: 'minted', urlId: /./ }, 'each mint has one answer that says so')
    else t.equal(status, 403)
    t.match((await late.ask(ANA)).body, { source: 'reused', urlId: newer.urlId })
  }
})

test('of two mints at once under two names of an app the younger one is cached', async (t) => {
  const [byId, bySlug] = await Portal.openSeveral(t, 2, { mintLimit: false }) as [Portal, Portal]
  byId.toolJet.faults = ({ body }) => ('appId' in body ? { delayMs: 300 } : undefined)
  const slow = byId.ask(ANA, { appId: SALES.id })
  await until('the mint is under way', () => byId.toolJet.calls.length === 1)
  const { body: younger } = await bySlug.ask(ANA, { appSlug: 'sales' })
  const { body: older } = await slow
  t.equal(older.source, 'minted', 'each mint has one answer that says so')
  t.not(older.urlId, younger.urlId)
  t.equal((await bySlug.ask(ANA, { appId: SALES.id })).body.urlId, younger.urlId)
})

test('apps that were only made up leave nothing but what is remembered for a while', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: false } })
  for (let i = 0; i < 5; i++) await portal.ask(ANA, { appSlug: `made-up-${i}` })
  t.same([await portal.cached('name'), await portal.cached('lock'), await portal.cached('url')], [[], [], []])
  t.equal((await portal.keys()).filter((key) => key.endsWith(':urls')).length, 1, 'one key, whatever the number of apps')
  const outcomes = await portal.cached('outcome')
  t.equal(outcomes.length, 5)
  for (const { key, field, value } of outcomes) await portal.redis.hset(key, field, String(value).replace(/ \d{13} /, ` ${Date.now() - 1} `)) // as if their time had passed
  await portal.ask(ANA)
  t.same(await portal.cached('outcome'), [], 'and that is over with its time')
})

test('a counter that lost its end does not refuse its user for ever', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: { max: 1 } } })
  await portal.ask(ANA)
  const counter = (await portal.keys()).find((key) => key.endsWith(':limit:requests'))!
  await portal.redis.persist(counter)
  t.match(await portal.ask(ANA), { status: 429, headers: { 'retry-after': '60' } })
  t.ok(await portal.redis.pttl(counter) > 0)
  await portal.redis.set(counter, `1 ${Date.now() + 3600 * SECOND}`, 'PX', 60 * SECOND)
  t.equal((await portal.ask(ANA)).status, 200, 'an end past the window is of a clock that went back')
})

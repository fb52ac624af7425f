import { setTimeout as sleep } from 'node:timers/promises'
import { t as tap, test } from 'tap'
import { startServer } from '../example/redis.js'
import { Apps } from '../plugin/access/apps.js'
import { embedError, type EmbedErrorCode } from '../plugin/errors.js'
import type { TooljetEmbedWarmPair, TooljetEmbedWarmProgress } from '../plugin/index.js'
import { Warming } from '../plugin/warm.js'
import { ANA, BEN, CLEO, INVENTORY, Portal, releaseRedisAfter, SALES } from './support/portal.js'
import { longestStall, stopwatch } from './support/stopwatch.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

const users = (count: number) => Array.from({ length: count }, (_, i) => `user${i}@acme.test`)
const pairsOf = (emails: string[]) => emails.map((email) => ({ email, appId: SALES.id }))
const seedOf = (emails: string[]) => ({ apps: [SALES, INVENTORY], users: emails.map((email) => ({ email, apps: [SALES.slug, INVENTORY.slug] })) })

test('what is minted, was cached and failed is told, with an event each', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: { max: 60, mints: 1 } } })
  await portal.ask(ANA)
  const progress: TooljetEmbedWarmProgress[] = []
  const list = [
    ...pairsOf([ANA, ` ${BEN.toUpperCase()}`, CLEO, 'nobody@acme.test']),
    { email: ANA, appSlug: INVENTORY.slug },
    { email: 'nobody', appId: SALES.id },
    { email: ANA, app: 'sales' } as unknown as TooljetEmbedWarmPair,
    undefined as unknown as TooljetEmbedWarmPair,
  ]
  const report = await portal.app.tooljetEmbed.warm(list, { onProgress: (now) => progress.push(now) })
  t.match(report, { minted: 2, alreadyCached: 1, failed: { length: 5 } })
  const codes = Object.fromEntries(report.failed.map(({ email, app, code }) => [`${email} ${app}`, code.replace('TOOLJET_EMBED_', '')]))
  t.same(codes, {
    [`${CLEO} ${SALES.id}`]: 'ACCESS_DENIED',
    [`nobody@acme.test ${SALES.id}`]: 'USER_NOT_FOUND',
    [`nobody ${SALES.id}`]: 'BAD_REQUEST',
    [`${ANA} sales`]: 'BAD_REQUEST',
    ' undefined': 'BAD_REQUEST',
  })
  t.same(progress.map(({ done, total }) => [done, total]), list.map((_, i) => [i + 1, 8]))
  t.same(progress.at(-1), { done: 8, total: 8, minted: 2, alreadyCached: 1, failed: 5 })

  t.equal((await portal.ask(BEN)).body.source, 'reused', 'a user finds it')
  t.equal((await portal.ask(ANA, { appId: INVENTORY.id })).body.source, 'reused', 'by the other name of the app, and beyond `mints`')
  const events = await portal.audit()
  t.same(events.map(({ event }) => event), ['url.minted', ...Array.from({ length: 8 }, () => 'url.warmed'), 'url.reused', 'url.reused'])
  const warmed = events.filter(({ event }) => event === 'url.warmed')
  const of = (email: string, app: string) => warmed.find((event) => event['email'] === email && event['app'] === app)
  t.match(of(BEN, SALES.id), { outcome: 'success', url_id: /^[\w-]{16,}$/, expires_at: /^\d{4}-/, duration_ms: /^\d+$/ })
  t.match(of(ANA, SALES.id), { outcome: 'success', url_id: events[0]!['url_id'] })
  t.match(of(CLEO, SALES.id), { outcome: 'failure', code: 'TOOLJET_EMBED_ACCESS_DENIED' })
})

test('an app by its id and by its slug is minted for once, in one run and in two', { timeout: 60_000 }, async (t) => {
  const emails = users(4)
  const names = [{ appId: SALES.id }, { appSlug: SALES.slug }]
  const [one, two] = await Portal.openSeveral(t, 2, { mintLimit: false, toolJet: { seed: seedOf([ANA, ...emails]) } }) as [Portal, Portal]
  one.toolJet.faults = () => ({ delayMs: 300 })
  t.match(await one.app.tooljetEmbed.warm(names.map((name) => ({ email: ANA, ...name }))), { minted: 1, alreadyCached: 1, failed: [] })
  const reports = await Promise.all([one, two].map(({ app }, i) => app.tooljetEmbed.warm(emails.map((email) => ({ email, ...names[i]! })))))
  t.equal(reports.reduce((sum, { minted }) => sum + minted, 0), emails.length)
  t.equal(one.toolJet.calls.length, 1 + emails.length)
})

test('what is no list, and a validFor that is none, are refused', async (t) => {
  const portal = await Portal.open(t)
  const { warm } = portal.app.tooljetEmbed
  const refused = { code: 'TOOLJET_EMBED_BAD_REQUEST' }
  await t.rejects(async () => warm({} as never), refused)
  for (const validFor of [-1, NaN, '10h' as never]) await t.rejects(async () => warm([], { validFor }), refused)
  t.match(await warm(pairsOf([ANA]), { validFor: 3600 }), { minted: 0, failed: [{ code: 'TOOLJET_EMBED_BAD_REQUEST' }] }, 'no URL lives that long')
  t.equal(portal.toolJet.calls.length, 0)
})

test('validFor: what is cached for that long costs no call, anything else is minted anew', async (t) => {
  const portal = await Portal.open(t, { options: { patExpiry: 10, minRemaining: 1 } })
  const { body: { urlId } } = await portal.ask(ANA)
  await sleep(1100)
  const { warm } = portal.app.tooljetEmbed
  t.match(await warm(pairsOf([ANA])), { minted: 0, alreadyCached: 1 })
  t.match(await warm(pairsOf([ANA]), { validFor: 5 }), { minted: 0, alreadyCached: 1 })
  t.equal(portal.toolJet.calls.length, 1)
  t.match(await warm(pairsOf([ANA]), { validFor: 9 }), { minted: 1, alreadyCached: 0 })
  t.match(await warm(pairsOf([ANA]), { validFor: 9 }), { minted: 0, alreadyCached: 1 }, 'called again')
  t.equal(portal.toolJet.calls.length, 2)
  const { body } = await portal.ask(ANA)
  t.match(body, { source: 'reused' })
  t.not(body.urlId, urlId)
})

test('a given limit: no window sees more than four fifths of it, over all instances', { timeout: 60_000 }, async (t) => {
  const emails = users(14)
  const [max, timeWindow] = [5, 2000]
  const portals = await Portal.openSeveral(t, 2, { mintLimit: { max, timeWindow }, toolJet: { seed: seedOf(emails) } })
  const stalled = longestStall()
  const waited = stopwatch()
  const reports = await Promise.all(portals.map(({ app }, i) => app.tooljetEmbed.warm(pairsOf(emails.filter((_, j) => j % 2 === i)))))
  const tookMs = waited()
  t.match(reports, [{ minted: 7, failed: [] }, { minted: 7, failed: [] }])
  const times = portals[0]!.toolJet.calls.map(({ at }) => at).sort((one, other) => one - other)
  t.equal(times.length, 14)
  const soonMs = timeWindow - 300 - 2 * stalled() // a call takes its time to ToolJet
  t.same(times.filter((at, i) => times[i + 4] !== undefined && times[i + 4]! - at < soonMs), [])
  t.ok(tookMs < 2 * 3 * timeWindow, 'and it uses them')
})

test('while no limit is known: ten in any minute', async (t) => {
  const emails = users(14)
  const portal = await Portal.open(t, { toolJet: { seed: seedOf(emails) } })
  const stop = new AbortController()
  const warming = portal.app.tooljetEmbed.warm(pairsOf(emails), { signal: stop.signal })
  await until('ten are minted', () => portal.toolJet.mints.length === 10)
  await sleep(1500)
  t.equal(portal.toolJet.calls.length, 10)
  t.equal((await portal.ask(emails[13]!)).body.source, 'minted', 'which does not hold for users')
  stop.abort()
  t.match(await warming, { minted: 10, failed: [] })
})

test('a user who waits for a turn comes first', { timeout: 60_000 }, async (t) => {
  const portal = await Portal.open(t, { mintLimit: { max: 1, timeWindow: 2500 }, options: { rateLimit: { max: 1000 } } })
  await portal.ask(ANA)
  t.equal((await portal.ask(BEN)).body.code, 'TOOLJET_EMBED_BUSY')
  const warming = portal.app.tooljetEmbed.warm([{ email: 'omar@acme.test', appId: SALES.id }])
  await until('it is his turn', async () => {
    await sleep(400)
    return (await portal.ask(BEN)).status === 200
  })
  t.match(await warming, { minted: 1 })
  t.same(portal.toolJet.calls.map(({ body }) => body['email']), [ANA, BEN, 'omar@acme.test'])
})

test('a user who asks for a pair that warm waits with is not held up by it', { timeout: 60_000 }, async (t) => {
  const emails = users(4)
  const portal = await Portal.open(t, { mintLimit: { max: 5, timeWindow: 6000 }, toolJet: { seed: seedOf([...emails, ANA]) } })
  const { warm } = portal.app.tooljetEmbed
  await warm(pairsOf(emails)) // all that it may
  const warming = warm(pairsOf([ANA]))
  const waited = stopwatch()
  const replies = await Promise.all(Array.from({ length: 20 }, async (_, i) => {
    await sleep(i)
    return portal.ask(ANA)
  }))
  t.same([...new Set(replies.map(({ status }) => status))], [200])
  t.equal(replies.filter(({ body }) => body.source === 'minted').length, 1)
  t.ok(waited() < 3000, 'warm waits for six seconds')
  t.match(await warming, { minted: 0, alreadyCached: 1, failed: [] }, 'which warm finds when it looks again')
  t.equal(portal.toolJet.calls.length, 5)
})

test('a denial fails at once, a passing failure is tried again', { timeout: 60_000 }, async (t) => {
  const portal = await Portal.open(t)
  const { warm } = portal.app.tooljetEmbed
  t.match(await warm(pairsOf([CLEO])), { failed: [{ code: 'TOOLJET_EMBED_ACCESS_DENIED' }] })
  t.equal(portal.toolJet.calls.length, 1)
  const faults = [{ reply: { status: 429, headers: { 'retry-after': '1' } } }, { reply: { status: 500 } }]
  portal.toolJet.faults = () => faults.shift()
  t.match(await warm(pairsOf([BEN])), { minted: 1, failed: [] })
  t.equal(faults.length, 0)
})

test('a pair that fails for ten minutes is given up', async (t) => {
  let now = 0
  const timers = { now: () => now, sleep: async (ms: number) => { now += ms } }
  const lifetimes = { patExpiry: 3600, sessionExpiry: 60, minRemaining: 60 }
  let fails: EmbedErrorCode = 'TOOLJET_EMBED_UNAVAILABLE'
  let tries = 0
  const warm = () => new Warming({
    apps: new Apps(undefined, lifetimes),
    tooljets: { displayNameOf: () => undefined, fromTarget: () => ({ lockTtlMs: 1, timeoutMs: 1, userHash: (email: string) => email }) },
    cache: { get: async () => { tries++; throw embedError(fails) } },
    audit: { record () {} },
    timers,
    closing: new AbortController().signal,
  } as unknown as ConstructorParameters<typeof Warming>[0]).run(pairsOf([ANA]))
  t.match(await warm(), { failed: [{ code: fails }] })
  t.ok(now > 600_000 && now < 610_000, `${now} ms`)
  t.ok(tries > 100)
  now = tries = 0
  fails = 'TOOLJET_EMBED_USER_NOT_FOUND'
  t.match(await warm(), { failed: [{ code: fails }] })
  t.same({ now, tries }, { now: 0, tries: 1 })
})

test('signal: calls under way are ended and count, no other begins, and the next time it goes on', { timeout: 60_000 }, async (t) => {
  const emails = users(10)
  const portal = await Portal.open(t, { mintLimit: false, toolJet: { seed: seedOf(emails) } })
  const { warm } = portal.app.tooljetEmbed
  portal.toolJet.faults = () => ({ delayMs: 300 })
  const stop = new AbortController()
  const warming = warm(pairsOf(emails), { signal: stop.signal })
  await until('some calls are under way', () => portal.toolJet.calls.length === 4)
  stop.abort()
  t.match(await warming, { minted: 4, alreadyCached: 0, failed: [] })
  t.equal(portal.toolJet.calls.length, 4)
  t.match(await warm(pairsOf(emails)), { minted: 6, alreadyCached: 4, failed: [] })

  t.match(await warm(pairsOf(emails), { signal: AbortSignal.abort() }), { minted: 0, alreadyCached: 0, failed: [] })
})

test('without Redis it waits: nothing is minted that other instances would not find', { timeout: 60_000 }, async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const portal = await Portal.open(t, { redisUrl: server.url, options: { redisTimeoutMs: 200 } })
  const { warm, health } = portal.app.tooljetEmbed
  server.process.kill('SIGSTOP')
  const warming = warm(pairsOf([ANA]))
  await until('it is known that Redis is away', async () => (await health()).redis.state === 'down')
  await sleep(1500)
  t.equal(portal.toolJet.calls.length, 0)
  t.equal((await portal.ask(ANA)).status, 200, 'a user is served meanwhile')
  t.equal(portal.toolJet.calls.length, 1)
  server.process.kill('SIGCONT')
  t.match(await warming, { failed: [] })
  t.equal(portal.toolJet.calls.length, 1)
  t.equal((await portal.cached('url')).length, 1)
})

test('an app that closes does not wait for it, and it ends', async (t) => {
  const portal = await Portal.open(t, { mintLimit: { max: 1, timeWindow: 60_000 } })
  await portal.ask(ANA)
  const warming = portal.app.tooljetEmbed.warm([{ email: BEN, appId: SALES.id }])
  await portal.app.close()
  t.match(await warming, { minted: 0, failed: [] })
})

test('wrong options and a host\'s own error reject', async (t) => {
  const portal = await Portal.open(t)
  for (const validFor of [NaN, -1, '10h'] as number[]) await t.rejects(portal.app.tooljetEmbed.warm([], { validFor }), { code: 'TOOLJET_EMBED_BAD_REQUEST' })
  await t.rejects(portal.app.tooljetEmbed.warm([{ email: ANA, appId: SALES.id }], { onProgress: () => { throw new Error('of the host') } }), { message: 'of the host' })
})

import { setTimeout as sleep } from 'node:timers/promises'
import { t as tap, test, type Test } from 'tap'
import { startServer } from '../example/redis.js'
import { makeApp } from '../plugin/access/apps.js'
import { openCache } from '../plugin/cache/open.js'
import { Encryptor } from '../plugin/crypto/encryption.js'
import { systemTimers } from '../plugin/timers.js'
import { ANA, API_TOKEN, BEN, newPrefix, Portal, redisIsBack, releaseRedisAfter, SALES, type PortalSetup } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { cacheScript, digestOf, holdUp, sharedRedisUrl } from './support/redis.js'
import { refusal } from './support/refusal.js'
import { until } from './support/until.js'

/*
 * Promise 9: what is forgotten is given to nobody who asks afterwards, on no instance, whatever happens to Redis.
 */

tap.jobs = 4 // most of it is waiting
tap.setTimeout(240_000)
releaseRedisAfter(tap)

const REDIS_TIMEOUT_MS = 500
const READ = digestOf('cache/scripts/forgets-read.lua')
const CLAIM = cacheScript('claim')
const LOOK_UP = digestOf('redis/scripts/count-and-look-up.lua')

/** An instance whose reads of the log are counted. */
interface Instance {
  portal: Portal
  /** Until it has read all that the log holds now. */
  hears: () => Promise<void>
}

async function fleet (t: Test, options: PortalSetup['options'] = {}) {
  const server = await startServer()
  t.teardown(() => server.stop())
  let prefix: string | undefined
  let tooljet: { url: string, apiToken: string } | undefined
  const instance = async (wrap = (redis: ReturnType<typeof newClient>) => redis): Promise<Instance> => {
    let reads = 0
    const client = newClient(server.url)
    t.teardown(() => client.disconnect())
    const redis = wrap(holdUp(client, ([digest]) => { if (digest === READ) reads++; return false }, 0))
    const portal = await Portal.open(t, {
      redisUrl: server.url, options: { redis, redisTimeoutMs: REDIS_TIMEOUT_MS, rateLimit: false, ...options, ...(prefix !== undefined && { keyPrefix: prefix, tooljet }) },
    })
    prefix ??= portal.prefix
    tooljet ??= { url: portal.toolJet.url, apiToken: API_TOKEN }
    const hears = async (): Promise<void> => {
      const before = reads
      await until('the log is read', () => reads >= before + 2) // the first may have been under way
    }
    return { portal, hears }
  }
  return { instance, stall: () => server.process.kill('SIGSTOP'), goOn: () => server.process.kill('SIGCONT') }
}

/** Nothing else that Redis answers is as long. */
const holdsUrl = (answer: unknown): boolean => Array.isArray(answer) ? answer.some(holdsUrl) : answer instanceof Buffer && answer.length > 150
const hashOf = async ({ redis, prefix }: Portal): Promise<string> => (await redis.keys(`{${prefix}*}:urls`))[0]!

test('what one instance has forgotten no other serves from memory when Redis has stopped answering', { timeout: 60_000, buffered: true }, async (t) => {
  const { instance, stall } = await fleet(t)
  const [one, other] = [await instance(), await instance()]
  for (const email of [ANA, BEN]) await other.portal.ask(email)
  const { body: old } = await one.portal.ask(ANA)
  t.equal(await one.portal.app.tooljetEmbed.forget({ email: ANA, appSlug: SALES.slug }), 1)
  await other.hears()
  stall()
  const { body } = await other.portal.ask(ANA)
  t.equal(body.source, 'minted')
  t.not(body.urlId, old.urlId)
  t.equal((await other.portal.ask(BEN)).body.source, 'reused', 'of somebody else it still has')
})

test('who asks after a forget is not given what another request had found before it', { timeout: 60_000, buffered: true }, async (t) => {
  const { instance } = await fleet(t)
  const one = await instance()
  let found = 0
  const other = await instance((redis) => holdUp(redis, ([digest], answer) => (digest === CLAIM || digest === LOOK_UP) && holdsUrl(answer) && ++found > 0, 400))
  const { toolJet } = one.portal
  toolJet.faults = () => (toolJet.calls.length === 1 ? { delayMs: 250 } : undefined)
  const minted = one.portal.ask(ANA)
  await until('the mint is under way', () => toolJet.calls.length === 1)
  const waits = other.portal.ask(ANA)
  const { body: old } = await minted
  await until('the URL is found, and the reply on its way', () => found === 1)
  t.equal(await one.portal.app.tooljetEmbed.forget({ email: ANA }), 1)
  const late = await other.portal.ask(ANA)
  t.equal((await waits).body.urlId, old.urlId, 'who asked before it')
  t.match(late.body, { source: 'minted' })
})

test("'serve': who asks after a forget joins no mint from before it", { timeout: 60_000, buffered: true }, async (t) => {
  const { instance, stall } = await fleet(t)
  const { portal } = await instance()
  stall()
  portal.toolJet.faults = () => ({ delayMs: 700 })
  await portal.ask(BEN) // Redis is known to be unavailable
  const before = portal.ask(ANA)
  await until('the mint is under way', () => portal.toolJet.calls.length === 2)
  await t.rejects(portal.app.tooljetEmbed.forget({ email: ANA }), { code: 'TOOLJET_EMBED_REDIS_DOWN' })
  const after = await portal.ask(ANA)
  t.not(after.body.urlId, (await before).body.urlId)
  t.equal(portal.toolJet.calls.length, 3)
})

test('a first mint by slug is not cached when its app was forgotten by id meanwhile, and the other way round', async (t) => {
  const [one, other] = await Portal.openSeveral(t, 2) as [Portal, Portal]
  one.toolJet.faults = () => ({ delayMs: 300 })
  for (const [minted, forgotten, hasOneName] of [[{ appSlug: SALES.slug }, { appId: SALES.id }], [{ appId: SALES.id }, { appSlug: SALES.slug }], [{ appId: SALES.id }, { appSlug: SALES.slug }, true]] as const) {
    const redirectUrl = `${one.toolJet.url}/embed-apps/${SALES.id}?personal-access-token=pat_of_one_name`
    if (hasOneName) one.toolJet.faults = () => ({ delayMs: 300, reply: { status: 201, body: { redirectUrl } } })
    const called = one.toolJet.calls.length
    const asked = one.ask(ANA, minted)
    await until('the mint is under way', () => one.toolJet.calls.length === called + 1)
    await other.app.tooljetEmbed.forget({ email: ANA, ...forgotten })
    t.equal((await asked).body.source, 'minted')
    t.same(await one.cached('url'), [])
  }
})

test('a URL that Redis brings back after its forget is given to nobody', { timeout: 60_000, buffered: true }, async (t) => {
  const { instance } = await fleet(t)
  const [one, other] = [await instance(), await instance()]
  const { body: old } = await one.portal.ask(ANA)
  const { redis } = one.portal
  const hash = await hashOf(one.portal)
  const bytes = await redis.dumpBuffer(hash)
  await one.portal.app.tooljetEmbed.forget({ email: ANA })
  await other.hears()
  await redis.restore(hash, 0, bytes as unknown as string, 'REPLACE')
  const { body } = await other.portal.ask(ANA)
  t.match(body, { source: 'minted' })
  t.not(body.urlId, old.urlId)
  for (const { portal } of [one, other, await instance()]) t.match((await portal.ask(ANA)).body, { source: 'reused', urlId: body.urlId })
})

test('a URL that Redis brings back in its last seconds is not given in place of an error', { timeout: 60_000, buffered: true }, async (t) => {
  const { instance } = await fleet(t, { patExpiry: 30, minRemaining: 29 })
  const one = await instance()
  let isLookedUp = false
  let isSlow = false
  const other = await instance((redis) => holdUp(redis, ([digest]) => isSlow && digest === LOOK_UP && (isLookedUp = true), 300))
  await one.portal.ask(ANA)
  const { redis } = one.portal
  const hash = await hashOf(one.portal)
  const bytes = await redis.dumpBuffer(hash)
  await one.portal.app.tooljetEmbed.forget({ email: ANA })
  await other.hears()
  one.portal.toolJet.faults = () => ({ reply: { status: 500 } })
  isSlow = true
  const asked = other.portal.ask(ANA)
  await until('there was none', () => isLookedUp)
  await redis.restore(hash, 0, bytes as unknown as string, 'REPLACE')
  t.match(await asked, { status: 503, body: { code: 'TOOLJET_EMBED_UNAVAILABLE' } })
})

test('a forget is not pushed out by many others of the same user', { timeout: 60_000, buffered: true }, async (t) => {
  const { instance } = await fleet(t)
  const [one, other] = [await instance(), await instance()]
  const { portal } = one
  const forgetTwenty = async () => { for (let i = 0; i < 20; i++) await portal.app.tooljetEmbed.forget({ email: ANA, appSlug: `other-${i}`, appId: undefined }) }
  portal.toolJet.faults = () => ({ delayMs: 500 })
  const asked = portal.ask(ANA)
  await until('the mint is under way', () => portal.toolJet.calls.length === 1)
  await portal.app.tooljetEmbed.forget({ email: ANA, appId: SALES.id })
  await forgetTwenty()
  await asked
  t.same(await portal.cached('url'), [], 'in the hash')
  t.ok((await portal.cached('forgets'))[0]!.value.length < 1000, 'which does not grow')

  const { body: old } = await portal.ask(ANA)
  const hash = await hashOf(portal)
  const bytes = await portal.redis.dumpBuffer(hash)
  await portal.app.tooljetEmbed.forget({ email: ANA, appId: SALES.id })
  await forgetTwenty()
  await other.hears()
  await portal.redis.restore(hash, 0, bytes as unknown as string, 'REPLACE')
  t.not((await other.portal.ask(ANA)).body.urlId, old.urlId, 'in what an instance knows')
})

test('a forget that Redis has lost is told to it again', { timeout: 60_000, buffered: true }, async (t) => {
  const { instance } = await fleet(t)
  const one = await instance()
  await one.portal.ask(ANA)
  const { redis, prefix } = one.portal
  const hash = await hashOf(one.portal)
  const bytes = await redis.dumpBuffer(hash)
  await one.portal.app.tooljetEmbed.forget({ email: ANA })
  await one.hears()
  await redis.multi().del(`${prefix}forgets`).restore(hash, 0, bytes as unknown as string, 'REPLACE').exec() // as after a failover
  await until('it is in the log again', async () => await redis.xlen(`${prefix}forgets`) > 0)
  t.equal((await (await instance()).portal.ask(ANA)).body.source, 'minted')
})

test('a forget that the log does not take fails, and is told later', { timeout: 60_000, buffered: true }, async (t) => {
  const { instance } = await fleet(t)
  const { portal } = await instance()
  await portal.ask(ANA)
  const log = `${portal.prefix}forgets`
  await portal.redis.set(log, 'not ours')
  await t.rejects(portal.app.tooljetEmbed.forget({ email: ANA }), { code: 'TOOLJET_EMBED_REDIS_DOWN' })
  t.equal((await portal.app.tooljetEmbed.health()).redis.state, 'up')
  await portal.redis.del(log)
  await until('it is in the log', async () => await portal.redis.xlen(log) === 1)
})

test('what was minted without Redis and then forgotten is given to nobody', { timeout: 60_000, buffered: true }, async (t) => {
  const { instance, stall, goOn } = await fleet(t)
  const [one, other] = [await instance(), await instance()]
  for (const isAskedFirst of [false, true]) {
    stall()
    const { body: old } = await other.portal.ask(ANA)
    goOn()
    await redisIsBack([one.portal, other.portal], REDIS_TIMEOUT_MS)
    await one.portal.app.tooljetEmbed.forget({ email: ANA })
    if (!isAskedFirst) {
      await other.hears()
      stall()
    }
    const { body } = await other.portal.ask(ANA)
    t.equal(body.source, 'minted')
    t.not(body.urlId, old.urlId)
  }
})

for (const where of ['here', 'at another instance']) {
  test(`what was forgotten ${where} during its mint is not served without Redis either`, { timeout: 60_000, buffered: true }, async (t) => {
    const { instance, stall } = await fleet(t)
    const [{ portal }, other] = [await instance(), await instance()]
    portal.toolJet.faults = () => ({ delayMs: 200 })
    const asked = portal.ask(ANA)
    await until('the mint is under way', () => portal.toolJet.calls.length === 1)
    await (where === 'here' ? portal : other.portal).app.tooljetEmbed.forget({ email: ANA })
    const { body: old } = await asked
    stall()
    t.not((await portal.ask(ANA)).body.urlId, old.urlId)
  })
}

test('a denial by ToolJet is a forget, for every instance', { timeout: 60_000, buffered: true }, async (t) => {
  const { instance, stall } = await fleet(t)
  const [one, other] = [await instance(), await instance()]
  const { body: old } = await other.portal.ask(ANA)
  one.portal.toolJet.faults = () => refusal(403, 'no access')
  t.equal((await one.portal.ask(ANA, { appId: SALES.id, replaces: old.urlId })).status, 403)
  await other.hears()
  stall()
  one.portal.toolJet.faults = undefined
  t.not((await other.portal.ask(ANA)).body.urlId, old.urlId)
})

test('a denial by ToolJet without Redis is a forget once Redis is back', { timeout: 60_000, buffered: true }, async (t) => {
  const { instance, stall, goOn } = await fleet(t)
  const [one, other] = [await instance(), await instance()]
  await other.portal.ask(ANA)
  stall()
  one.portal.toolJet.faults = () => refusal(403, 'no access')
  t.equal((await one.portal.ask(ANA)).status, 403)
  goOn()
  await redisIsBack([one.portal, other.portal], REDIS_TIMEOUT_MS)
  await until('it is in the log', async () => await one.portal.redis.xlen(`${one.portal.prefix}forgets`) > 0)
  one.portal.toolJet.faults = undefined
  t.equal((await other.portal.ask(ANA)).body.source, 'minted')
})

test('a denial by ToolJet without Redis is not answered with a URL in its last seconds', { timeout: 60_000, buffered: true }, async (t) => {
  const { instance, stall } = await fleet(t, { patExpiry: 30, minRemaining: 29 })
  const { portal } = await instance()
  await portal.ask(ANA)
  await sleep(1050) // until less than minRemaining is left
  stall()
  portal.toolJet.faults = () => refusal(403, 'no access')
  t.equal((await portal.ask(ANA)).status, 403)
})

test('an instance that cannot read the log serves nothing from memory', { timeout: 60_000, buffered: true }, async (t) => {
  const { instance, stall } = await fleet(t)
  const { portal } = await instance()
  const { body: old } = await portal.ask(ANA)
  await portal.redis.set(`${portal.prefix}forgets`, 'not ours')
  await sleep(5500) // the bound
  t.match((await portal.ask(ANA)).body, { source: 'reused', urlId: old.urlId }, 'Redis has it')
  stall()
  t.not((await portal.ask(ANA)).body.urlId, old.urlId)
})

test('who stood still for longer than its lock mints nothing', async (t) => {
  const redis = newClient(await sharedRedisUrl())
  const log = { info () {}, warn () {}, error () {} } as never
  const { cache, start, close } = openCache(
    { redis, address: '' },
    { keyPrefix: newPrefix(), redisTimeoutMs: 1000, limitWindowMs: 1000, longestPatExpiry: 60, serveWithoutRedis: true },
    { encryptor: new Encryptor([Buffer.alloc(32)]), timers: systemTimers, log }
  )
  t.teardown(() => {
    close()
    redis.disconnect()
  })
  await start()
  const app = makeApp({ appId: SALES.id }, { patExpiry: 60, sessionExpiry: 60, minRemaining: 1 })
  const told: string[] = []
  const { source } = await cache.get({ user: 'ana', app, lockTtlMs: 600, mintTimeoutMs: 300 }, async ({ checkLock }) => {
    told.push('begins')
    if (told.length === 1) await sleep(400)
    checkLock()
    told.push('mints')
    return { redirectUrl: `https://tooljet.test/embed-apps/${SALES.id}`, names: [] }
  })
  t.equal(source, 'minted')
  t.same(told, ['begins', 'begins', 'mints'])
})

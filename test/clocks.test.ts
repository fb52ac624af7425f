import { setTimeout as sleep } from 'node:timers/promises'
import { t as tap, test } from 'tap'
import { freePort, startServer } from '../example/redis.js'
import { startFleet } from './support/fleet.js'
import { ANA, API_TOKEN, BEN, Portal, releaseRedisAfter, SALES } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { cacheFields } from './support/redis.js'
import { until } from './support/until.js'

/* Promise 2: no URL outlives patExpiry, whatever clocks, TTLs and Redis itself say. */

releaseRedisAfter(tap)

const MINUTE = 60_000

for (const shiftMs of [10 * MINUTE, -120 * MINUTE]) {
  test(`started and minted without Redis, with a date that is wrong by ${shiftMs / MINUTE} minutes: patExpiry holds when Redis appears`, { timeout: 60_000 }, async (t) => {
    const port = await freePort()
    const { instances, toolJet } = await startFleet(t, 2, {
      options: { redis: `redis://127.0.0.1:${port}`, redisTimeoutMs: 800, rateLimit: false },
      shiftsMs: [shiftMs, 0],
    })
    const [wrong, right] = instances as [typeof instances[0], typeof instances[0]]
    const { body: minted } = await wrong!.ask(ANA)
    t.equal(minted.source, 'minted')
    t.ok(minted.expiresIn <= 3600)
    const server = await startServer({ port })
    t.teardown(() => server.stop())
    const redis = newClient(server.url)
    t.teardown(() => redis.disconnect())

    await until('Redis has the URL', async () => {
      await wrong!.ask(ANA)
      return (await cacheFields(redis, '', 'url')).length === 1
    })
    const { key } = (await cacheFields(redis, '', 'url'))[0]!
    const ttl = await redis.pttl(key)
    t.ok(ttl > 3_500_000 && ttl <= 3_600_000, `TTL ${ttl}`)
    const { urlId } = await until('both agree', async () => { // on the youngest, should the other one have minted, too
      const [ofRight, ofWrong] = [(await right!.ask(ANA)).body, (await wrong!.ask(ANA)).body]
      return ofRight.urlId === ofWrong.urlId ? ofWrong : undefined
    })
    for (const instance of [wrong!, right!]) {
      const { body } = await instance.ask(ANA)
      t.match(body, { source: 'reused', urlId })
      t.ok(body.expiresIn > 3500 && body.expiresIn < 3600, `${body.expiresIn}`)
      t.ok(Math.abs(Date.parse(body.expiresAt) - Date.now() - 3_590_000) < MINUTE, body.expiresAt)
    }
    t.ok(toolJet.calls.length <= 2, `${toolJet.calls.length} calls ${JSON.stringify(toolJet.calls.map(({ at }) => at - toolJet.calls[0]!.at))}`)
  })
}

test('a TTL that is raised, or lost, from outside makes no URL live longer', async (t) => {
  const portal = await Portal.open(t, { options: { patExpiry: 2, minRemaining: 0 } })
  const other = await Portal.open(t, { options: { patExpiry: 2, minRemaining: 0, keyPrefix: portal.prefix, tooljet: { url: portal.toolJet.url, apiToken: API_TOKEN } } })
  const { body: first } = await portal.ask(ANA)
  const [url] = await portal.cached('url')
  await portal.redis.persist(url!.key)
  await until('the PAT has ended', () => portal.toolJet.tokenOf(first.redirectUrl)!.expiresAt < Date.now())
  for (const one of [other, portal]) t.not((await one.ask(ANA)).body.urlId, first.urlId)
  t.ok(await portal.redis.pttl(url!.key) > 0, 'and the key has its end again')
})

test('an older state of Redis brings back no URL that has ended', async (t) => {
  const portal = await Portal.open(t, { options: { patExpiry: 2, minRemaining: 0 } })
  const { body: first } = await portal.ask(ANA)
  const [url] = await portal.cached('url')
  const bytes = (await portal.redis.dumpBuffer(url!.key))!
  await until('the PAT has ended', () => portal.toolJet.tokenOf(first.redirectUrl)!.expiresAt < Date.now())
  await portal.redis.restore(url!.key, 600_000, bytes, 'REPLACE')
  t.not((await portal.ask(ANA)).body.urlId, first.urlId)
})

test('a URL of an app that is given a shorter life under another name is given for that life only', async (t) => {
  const apps = { byId: { appId: SALES.id, patExpiry: 3600 }, bySlug: { appSlug: SALES.slug, patExpiry: 3, minRemaining: 1 } }
  const portal = await Portal.open(t, { options: { apps } })
  const { body: long } = await portal.ask(ANA, { app: 'byId' })
  t.ok(long.expiresIn > 3590)
  const { body: short } = await portal.ask(ANA, { app: 'bySlug' })
  t.ok(short.expiresIn <= 3, `${short.expiresIn}`)
  t.ok(Date.parse(short.expiresAt) - Date.now() <= 3000, short.expiresAt)
  await sleep(2100) // until less than minRemaining of that is left
  const { body: next } = await portal.ask(ANA, { app: 'bySlug' })
  t.equal(next.source, 'minted')
  t.ok(next.expiresIn <= 3)
})

test('mints are counted in a sliding window: never more than its number in any stretch of that length', { timeout: 60_000 }, async (t) => {
  const timeWindow = 1500
  const portals = await Portal.openSeveral(t, 2, { options: { rateLimit: { max: 10_000, mints: 5, timeWindow } } })
  const { toolJet } = portals[0]!
  let { body: { urlId } } = await portals[0]!.ask(ANA)
  const began = performance.now()
  for (let i = 0; performance.now() - began < 3 * timeWindow; i++) {
    const { status, headers, body } = await portals[i % 2]!.ask(ANA, { appId: SALES.id, replaces: urlId })
    if (status === 200) urlId = body.urlId
    else {
      t.match({ code: body.code, after: headers['retry-after'] }, { code: 'TOOLJET_EMBED_RATE_LIMITED', after: /^[12]$/ })
      await sleep(25)
    }
  }
  const moments = toolJet.calls.map(({ at }) => at)
  const most = Math.max(...moments.map((at) => moments.filter((other) => other >= at && other < at + timeWindow - 20).length))
  t.equal(most, 5)
  t.ok(moments.length >= 14, `${moments.length} in all: what leaves the window makes room at once`)
  t.equal((await portals[0]!.ask(BEN)).status, 200, 'another user has a window of his own')
})

test("ToolJet's pause is longer than no TTL may be, and no longer than it was asked for when Redis's clock goes back", async (t) => {
  const portal = await Portal.open(t, { mintLimit: false, options: { patExpiry: 60, rateLimit: false } })
  portal.toolJet.faults = () => ({ reply: { status: 429, headers: { 'retry-after': '3000' } } })
  t.match(await portal.ask(ANA), { status: 429, headers: { 'retry-after': '3000' } })
  const key = (await portal.keys()).find((key) => key.endsWith(':pause'))!
  t.ok(await portal.redis.pttl(key) <= 180_000)
  await portal.redis.pexpire(key, 1000)
  t.match(await portal.ask(BEN), { status: 429, headers: { 'retry-after': /^(?:3000|29\d\d)$/ } })
  t.ok(await portal.redis.pttl(key) > 170_000, 'who looks renews it')

  const [call] = (await portal.redis.get(key))!.split(' ')
  const ahead = Date.now() + 3_600_000
  await portal.redis.set(key, `${call} ${ahead} ${ahead + 2000}`, 'PX', 60_000) // as after a clock that went back by an hour
  t.match(await portal.ask(BEN), { status: 429, headers: { 'retry-after': '2' } })
  portal.toolJet.faults = undefined
  await until('the pause is over', async () => (await portal.ask('dev@tooljet.io')).status === 200)
})

import { t as tap, test } from 'tap'
import { startServer } from '../example/redis.js'
import { ANA, BEN, Portal, releaseRedisAfter } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { holdUp, sharedRedisUrl } from './support/redis.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

const WINDOW_MS = 5000

test('mints are counted over any window, with Redis and without', { timeout: 60_000 }, async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const portal = await Portal.open(t, { redisUrl: server.url, options: { redisTimeoutMs: 600, rateLimit: { max: 10_000, mints: 3, timeWindow: WINDOW_MS } } })
  let apps = 0
  const isMinted = async () => (await portal.ask(ANA, { appSlug: `made-up-${apps++}` })).body.code === 'TOOLJET_EMBED_APP_NOT_FOUND'
  for (const isDown of [false, true]) {
    if (isDown) {
      server.process.kill('SIGSTOP')
      await until('Redis is seen to be unavailable', async () => (await portal.app.tooljetEmbed.health()).redis.state === 'down')
    }
    const began = performance.now()
    t.ok(await isMinted())
    await until('most of the window has passed', () => performance.now() - began > WINDOW_MS * 0.7)
    t.same([await isMinted(), await isMinted(), await isMinted()], [true, true, false])
    await until('the first one leaves the window', isMinted)
    t.notOk(await isMinted(), 'there was room for one')
    t.ok(performance.now() - began < WINDOW_MS * 1.6, 'while the others are in it')
  }
})

test('mints that a clock which went back has left in the future do not count', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: { mints: 1 } } })
  await portal.ask(ANA)
  const key = (await portal.keys()).find((key) => key.endsWith(':limit:mints'))!
  const [member] = await portal.redis.zrange(key, '0', '-1')
  await portal.redis.zadd(key, Date.now() + 3_600_000, member!)
  t.equal((await portal.ask(ANA, { appSlug: 'made-up' })).body.code, 'TOOLJET_EMBED_APP_NOT_FOUND')
  t.equal((await portal.ask(ANA, { appSlug: 'made-up-too' })).body.code, 'TOOLJET_EMBED_RATE_LIMITED')
})

test('a mint whose lock has to be taken again, for its process stood still, counts once', async (t) => {
  let turns = -Infinity // scripts are known to Redis from the first mint on
  const redis = holdUp(newClient(await sharedRedisUrl()), (args) => {
    if (String(args).includes(':calls') && turns++ === 0) {
      for (const until = performance.now() + 700; performance.now() < until;);
    }
    return false
  }, 0)
  const portal = await Portal.open(t, { options: { redis, redisTimeoutMs: 100, rateLimit: { mints: 1 } } })
  t.teardown(() => redis.disconnect())
  await portal.ask(BEN)
  turns = 0
  t.match(await portal.ask(ANA), { status: 200, body: { source: 'minted' } })
  t.ok(turns >= 2, 'another turn was asked for')
  t.equal((await portal.ask(ANA, { appSlug: 'made-up' })).body.code, 'TOOLJET_EMBED_RATE_LIMITED')
})

import { setTimeout as sleep } from 'node:timers/promises'
import { t as tap, test, type Test } from 'tap'
import type { Redis } from 'ioredis'
import { freePort, startServer } from '../example/redis.js'
import { ANA, API_TOKEN, BEN, Portal, redisIsBack, releaseRedisAfter, SALES, type PortalSetup } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { cacheScript, digestOf, holdUp } from './support/redis.js'
import { stopwatch } from './support/stopwatch.js'
import { until } from './support/until.js'
import { wayToRedis } from './support/way-to-redis.js'

releaseRedisAfter(tap)

/** One that is there answers sooner, on a busy machine, too. */
const DEADLINE_MS = 600

async function portalWithOwnRedis (t: Test, options: PortalSetup['options'] = {}) {
  const server = await startServer()
  t.teardown(() => server.stop())
  const portal = await Portal.open(t, { redisUrl: server.url, options: { redisTimeoutMs: DEADLINE_MS, ...options } })
  return { portal, stall: () => server.process.kill('SIGSTOP'), goOn: () => server.process.kill('SIGCONT') }
}

test("'serve': what this instance minted or saw goes on being served, limited and minted once", { timeout: 60_000 }, async (t) => {
  const { portal, stall, goOn } = await portalWithOwnRedis(t, { rateLimit: { max: 5, mints: 2 } })
  const { body: anas } = await portal.ask(ANA)
  stall()
  const waited = stopwatch()
  t.match((await portal.ask(ANA)).body, { source: 'reused', urlId: anas.urlId })
  t.ok(waited() < 3 * DEADLINE_MS, 'one deadline')
  const waitedThen = stopwatch()
  const bens = await Promise.all(Array.from({ length: 3 }, () => portal.ask(BEN)))
  t.ok(waitedThen() < DEADLINE_MS, 'then none')
  t.equal(bens.filter(({ body }) => body.source === 'minted').length, 1)
  t.equal(new Set(bens.map(({ body }) => body.urlId)).size, 1)
  t.equal(portal.toolJet.calls.length, 2)

  const replaced = await portal.ask(BEN, { appId: SALES.id, replaces: bens[0]!.body.urlId })
  t.match(replaced.body, { source: 'minted' })
  t.not(replaced.body.urlId, bens[0]!.body.urlId)
  t.equal((await portal.ask(BEN, { appId: SALES.id, replaces: replaced.body.urlId })).body.code, 'TOOLJET_EMBED_RATE_LIMITED', 'mints are limited here, too')
  t.equal((await portal.ask(BEN)).body.code, 'TOOLJET_EMBED_RATE_LIMITED', 'and asks')
  t.equal((await portal.app.tooljetEmbed.health()).redis.state, 'down')
  await t.rejects(portal.app.tooljetEmbed.forget({ email: ANA }), { code: 'TOOLJET_EMBED_REDIS_DOWN' })

  goOn()
  await redisIsBack([portal])
  t.equal((await portal.ask(ANA)).body.urlId, anas.urlId)
  const states = portal.logLines.map(({ msg }) => String(msg)).filter((msg) => /Redis connection/.test(msg))
  t.match(states, [/lost/, /restored/])
  t.equal(states.length, 2, 'one line per change of state')
})

test("'serve': ToolJet's pause is kept, too", { timeout: 60_000 }, async (t) => {
  const { portal, stall } = await portalWithOwnRedis(t)
  stall()
  portal.toolJet.faults = () => ({ reply: { status: 429, headers: { 'retry-after': '30' } } })
  t.match(await portal.ask(ANA), { status: 429, headers: { 'retry-after': '30' } })
  t.match(await portal.ask(BEN), { status: 429, headers: { 'retry-after': /^(29|30)$/ } })
  t.equal(portal.toolJet.calls.length, 1)
})

test("'serve': repeated failures of ToolJet are probed by one at a time, too", { timeout: 60_000 }, async (t) => {
  const { portal, stall } = await portalWithOwnRedis(t, { rateLimit: false })
  stall()
  portal.toolJet.faults = () => ({ reply: { status: 500 } })
  for (let i = 0; i < 5; i++) t.equal((await portal.ask(ANA)).body.code, 'TOOLJET_EMBED_UNAVAILABLE')
  await Promise.all(Array.from({ length: 20 }, (_, i) => portal.ask(ANA, { appSlug: `app-${i}` })))
  t.equal(portal.toolJet.calls.length, 5)
  await until('the next probe goes out', async () => { await portal.ask(ANA); return portal.toolJet.calls.length === 6 })
  portal.toolJet.faults = undefined
  await until('a probe gets through', async () => (await portal.ask(ANA)).status === 200)
  t.equal((await portal.ask(BEN)).status, 200)
})

test("'fail': 503 at once, and no mint", { timeout: 60_000 }, async (t) => {
  for (const rateLimit of [undefined, false] as const) {
    const { portal, stall, goOn } = await portalWithOwnRedis(t, { onRedisDown: 'fail', ...(rateLimit === false && { rateLimit }) })
    await portal.ask(ANA)
    stall()
    for (const email of [ANA, BEN, BEN]) {
      t.match(await portal.ask(email), { status: 503, headers: { 'retry-after': '1' }, body: { code: 'TOOLJET_EMBED_REDIS_DOWN' } })
    }
    t.equal(portal.toolJet.calls.length, 1)
    goOn()
    await until('Redis is seen to be back', async () => (await portal.ask(ANA)).status === 200)
    const events = (await portal.audit()).map(({ event, code }) => [event, code])
    t.same(events.slice(1, 4), Array(3).fill(['url.failed', 'TOOLJET_EMBED_REDIS_DOWN']))
  }
})

test("'fail': an outage is not blamed on the user", { timeout: 60_000 }, async (t) => {
  const { portal, stall } = await portalWithOwnRedis(t, { onRedisDown: 'fail', rateLimit: { max: 1 } })
  stall()
  for (let i = 0; i < 3; i++) t.equal((await portal.ask(ANA)).body.code, 'TOOLJET_EMBED_REDIS_DOWN')
})

test("'serve': what was forgotten is not served from memory", { timeout: 60_000 }, async (t) => {
  const { portal, stall } = await portalWithOwnRedis(t)
  await portal.ask(ANA)
  t.equal(await portal.app.tooljetEmbed.forget({ email: ANA, appSlug: SALES.slug }), 1)
  stall()
  t.equal((await portal.ask(ANA)).body.source, 'minted')
})

test("'serve': a URL reported dead is served to nobody again", { timeout: 60_000 }, async (t) => {
  const { portal, stall } = await portalWithOwnRedis(t)
  const { body: dead } = await portal.ask(ANA)
  stall()
  portal.toolJet.faults = () => ({ reply: { status: 500 } })
  t.match(await portal.ask(ANA, { appId: SALES.id, replaces: dead.urlId }), { status: 503, body: { code: 'TOOLJET_EMBED_UNAVAILABLE' } })
  t.equal((await portal.ask(ANA)).status, 503)
})

test('a host starts while Redis is stuck, however long its deadline is', { timeout: 60_000 }, async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  server.process.kill('SIGSTOP')
  const waited = stopwatch()
  await Portal.open(t, { redisUrl: server.url, options: { redisTimeoutMs: 8000 } })
  t.ok(waited() < 7000, 'Fastify gives a plugin 10 s')
  server.process.kill('SIGCONT')
})

const isCall = (digest: string) => (args: unknown[]) => args[0] === digest
const isClaim = isCall(cacheScript('claim'))
const isStore = isCall(cacheScript('store'))
const isGate = isCall(digestOf('tooljet/scripts/pause-state.lua', 'tooljet/scripts/queue.lua', 'tooljet/scripts/admit.lua'))

test('who gives up a claim does not let go of the lock of another', { timeout: 60_000 }, async (t) => {
  const [holder, third] = await Portal.openSeveral(t, 2) as [Portal, Portal]
  const { toolJet } = holder
  const redis = holdUp(holder.redis, isClaim, 2 * DEADLINE_MS)
  const slow = await Portal.open(t, {
    options: { redis, keyPrefix: holder.prefix, tooljet: { url: toolJet.url, apiToken: API_TOKEN }, onRedisDown: 'fail', redisTimeoutMs: DEADLINE_MS },
  })
  toolJet.faults = () => ({ delayMs: 5 * DEADLINE_MS })
  const asked = holder.ask(ANA)
  await until('the mint is under way', () => toolJet.calls.length === 1)
  t.equal((await slow.ask(ANA)).status, 503)
  t.equal((await third.ask(ANA)).body.urlId, (await asked).body.urlId)
  t.equal(toolJet.calls.length, 1)
})

test('a host starts and serves without a Redis, and does not wait for it past the bound', { timeout: 60_000 }, async (t) => {
  const url = `redis://127.0.0.1:${await freePort()}`
  const waited = stopwatch()
  const portal = await Portal.open(t, { redisUrl: url, options: { redisTimeoutMs: DEADLINE_MS } })
  t.ok(waited() < 5 * DEADLINE_MS)
  t.equal((await portal.ask(ANA)).body.source, 'minted')
  t.equal((await portal.ask(ANA)).body.source, 'reused')
})

test('Redis that forgets everything: the next ask mints, once', { timeout: 60_000 }, async (t) => {
  const { portal } = await portalWithOwnRedis(t)
  await portal.ask(ANA)
  await portal.redis.script('FLUSH')
  const keys = (await portal.keys()).filter((key) => !key.endsWith('audit'))
  await portal.redis.del(...keys)
  const replies = await Promise.all([1, 2, 3].map(() => portal.ask(ANA)))
  t.ok(replies.every(({ status }) => status === 200))
  t.equal(portal.toolJet.calls.length, 2)
})

test('a mint that Redis cannot take is still answered', { timeout: 60_000 }, async (t) => {
  const { portal, stall } = await portalWithOwnRedis(t)
  portal.toolJet.faults = () => { stall(); return { delayMs: 50 } }
  t.equal((await portal.ask(ANA)).body.source, 'minted')
  t.equal((await portal.ask(ANA)).body.source, 'reused', 'from memory')
})

test('a claim or store whose answer comes too late leaves no lock behind, and no error to others', { timeout: 60_000 }, async (t) => {
  for (const isLate of [isClaim, isStore, isGate]) {
    for (const onRedisDown of ['serve', 'fail'] as const) {
      const other = await Portal.open(t)
      let held = false
      const slow = holdUp(other.redis, (args) => !held && isLate(args) && (held = true), 2 * DEADLINE_MS)
      await other.ask(BEN) // Redis knows the scripts from now on
      const portal = await Portal.open(t, {
        options: { redis: slow, keyPrefix: other.prefix, tooljet: { url: other.toolJet.url, apiToken: API_TOKEN }, onRedisDown, redisTimeoutMs: DEADLINE_MS },
      })
      t.match(await portal.ask(ANA), onRedisDown === 'serve' ? { status: 200, body: { source: 'minted' } } : { status: 503, body: { code: 'TOOLJET_EMBED_REDIS_DOWN' } })
      t.ok(held)
      const waited = stopwatch()
      t.equal((await other.ask(ANA)).status, 200)
      t.ok(waited() < 1000, 'nobody waits for a lock that nobody holds')
      await redisIsBack([portal])
      t.equal((await portal.ask(ANA)).body.urlId, (await other.ask(ANA)).body.urlId, 'all agree again')
      t.same(await other.cached('lock'), [])
    }
  }
})

test('what Redis gets to do too late does nothing', { timeout: 60_000 }, async (t) => {
  const { portal, stall, goOn } = await portalWithOwnRedis(t, { rateLimit: { max: 10 } })
  t.equal((await portal.ask(ANA)).headers['x-ratelimit-remaining'], '9')
  for (const [waitMs, remaining] of [[0, '7'], [DEADLINE_MS + 2500, '6']] as const) { // the deadline of a call
    stall()
    await portal.ask(ANA)
    await sleep(waitMs)
    goOn()
    await redisIsBack([portal])
    t.equal((await portal.ask(ANA)).headers['x-ratelimit-remaining'], remaining)
  }
})

test("'serve': a URL minted while Redis was away becomes the fleet's when it is back", { timeout: 60_000 }, async (t) => {
  const { portal, stall, goOn } = await portalWithOwnRedis(t, { rateLimit: false })
  const other = await Portal.open(t, {
    redisUrl: `redis://127.0.0.1:${portal.redis.options.port}`,
    options: { keyPrefix: portal.prefix, tooljet: { url: portal.toolJet.url, apiToken: API_TOKEN }, rateLimit: false, redisTimeoutMs: DEADLINE_MS },
  })
  const { body: dead } = await portal.ask(ANA)
  stall()
  const { body: first } = await other.ask(ANA, { appId: SALES.id, replaces: dead.urlId })
  const { body: last } = await portal.ask(ANA, { appId: SALES.id, replaces: dead.urlId })
  t.not(first.urlId, last.urlId, 'each on its own for now')
  goOn()
  await redisIsBack([portal, other], DEADLINE_MS)
  t.equal((await portal.ask(ANA)).body.urlId, last.urlId)
  t.equal((await other.ask(ANA)).body.urlId, last.urlId, 'the one minted last')
  t.equal((await other.ask(ANA, { appSlug: SALES.slug })).body.urlId, last.urlId)
  t.equal(portal.toolJet.calls.length, 3)
})

test("'serve': a URL minted while Redis was away does not get in the way of its successor", { timeout: 60_000 }, async (t) => {
  const { portal, stall, goOn } = await portalWithOwnRedis(t)
  const other = await Portal.open(t, {
    redisUrl: `redis://127.0.0.1:${portal.redis.options.port}`,
    options: { keyPrefix: portal.prefix, tooljet: { url: portal.toolJet.url, apiToken: API_TOKEN }, redisTimeoutMs: DEADLINE_MS },
  })
  stall()
  const { body: dead } = await portal.ask(ANA)
  goOn()
  await redisIsBack([portal, other], DEADLINE_MS)
  portal.toolJet.faults = () => ({ delayMs: 300 })
  const healed = other.ask(ANA, { appId: SALES.id, replaces: dead.urlId })
  await until('the mint is under way', () => portal.toolJet.calls.length === 2)
  t.equal((await portal.ask(ANA)).body.urlId, (await healed).body.urlId)
  t.equal(portal.toolJet.calls.length, 2)
})

test('a key of another type is one key\'s trouble, not an outage', { timeout: 60_000 }, async (t) => {
  const portal = await Portal.open(t, { options: { onRedisDown: 'fail' } })
  await portal.ask(ANA)
  const { key } = (await portal.cached('url'))[0]!
  await portal.redis.del(key)
  await portal.redis.set(key, 'not ours')
  t.equal((await portal.ask(ANA)).status, 503)
  t.same((await Promise.all([ANA, BEN].map((email) => portal.ask(email)))).map(({ status }) => status), [503, 200], 'in one turn with another, too')
  t.ok(portal.logLines.some(({ level, msg }) => level === 50 && /refuses a command/.test(String(msg))))
  t.equal((await portal.app.tooljetEmbed.health()).redis.state, 'up')
})

const REFUSALS: [name: string, begin: (admin: Redis) => Promise<unknown>, end: (admin: Redis) => Promise<unknown>][] = [
  ['full (-OOM)', (admin) => admin.config('SET', 'maxmemory', '1'), (admin) => admin.config('SET', 'maxmemory', '0')],
  ['a replica after a failover (-READONLY)', (admin) => admin.replicaof('127.0.0.1', 1), (admin) => admin.replicaof('NO', 'ONE')],
  ['without enough replicas (-NOREPLICAS)', (admin) => admin.config('SET', 'min-replicas-to-write', '1'), (admin) => admin.config('SET', 'min-replicas-to-write', '0')],
]
for (const [name, begin, end] of REFUSALS) {
  test(`a Redis that is ${name} is a Redis that is away`, { timeout: 60_000 }, async (t) => {
    const { portal } = await portalWithOwnRedis(t, { onRedisDown: 'fail' })
    const admin = newClient(`redis://127.0.0.1:${portal.redis.options.port}`)
    t.teardown(() => admin.disconnect())
    await portal.ask(ANA)
    await portal.audit()
    await begin(admin)
    t.match(await portal.ask(ANA), { status: 503, body: { code: 'TOOLJET_EMBED_REDIS_DOWN' } })
    await sleep(1300) // for longer than a probe takes to come
    t.equal((await portal.app.tooljetEmbed.health()).redis.state, 'down')
    await end(admin)
    await until('it writes again', async () => (await portal.ask(ANA)).status === 200)
    t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true })
    t.equal(portal.logLines.filter(({ msg }) => /Redis connection (lost|restored)/.test(String(msg))).length, 2, 'one line per change of state')
  })
}

test("'serve': no memory entry outlives its PAT, and a failure with Redis away at the same time is ToolJet's", { timeout: 60_000 }, async (t) => {
  const { portal, stall } = await portalWithOwnRedis(t, { patExpiry: 1, minRemaining: 0 })
  const { body: first } = await portal.ask(ANA)
  stall()
  await until('the PAT has ended', () => portal.toolJet.tokenOf(first.redirectUrl)!.expiresAt < Date.now())
  t.match((await portal.ask(ANA)).body, { source: 'minted' })
  t.equal(portal.toolJet.calls.length, 2)

  const other = await portalWithOwnRedis(t)
  other.portal.toolJet.faults = () => { other.stall(); return { reply: { status: 500 } } }
  t.equal((await other.portal.ask(ANA)).body.code, 'TOOLJET_EMBED_UNAVAILABLE')
  t.equal(other.portal.toolJet.calls.length, 1, 'it is asked once')
})

for (const onRedisDown of ['serve', 'fail'] as const) {
  test(`'${onRedisDown}': what an ACL does not allow fails who needs it, and is no outage`, { timeout: 60_000 }, async (t) => {
    const { portal } = await portalWithOwnRedis(t, { onRedisDown, rateLimit: { max: 3 } })
    const admin = newClient(`redis://127.0.0.1:${portal.redis.options.port}`)
    t.teardown(() => admin.disconnect())
    await portal.ask(ANA)
    await portal.audit()
    const refused = { status: 503, headers: { 'retry-after': '1' }, body: { code: 'TOOLJET_EMBED_REDIS_DOWN' } }

    await admin.acl('SETUSER', 'default', '-set') // what a count needs
    t.match(await portal.ask(ANA), refused)
    t.match(await portal.ask(BEN), refused)
    t.equal((await portal.app.tooljetEmbed.health()).redis.state, 'up')
    await admin.acl('SETUSER', 'default', '+set', '-hgetall') // what a mint needs, and a hit does not
    t.match(await portal.ask(ANA), { status: 200, body: { source: 'reused' } })
    t.match(await portal.ask(BEN), refused)
    t.equal((await portal.app.tooljetEmbed.health()).redis.state, 'up')
    t.equal(portal.logLines.filter(({ msg }) => /Redis refuses a command/.test(String(msg))).length, 1, 'one line a minute')
    t.match(portal.logLines.find(({ msg }) => /Redis refuses a command/.test(String(msg))), { level: 50, redis: /:\d+$/, err: { message: /NOPERM|can't run this command/ } })
    t.equal(portal.logLines.filter(({ msg }) => /Redis connection/.test(String(msg))).length, 0)

    await admin.acl('SETUSER', 'default', '+hgetall')
    t.equal((await portal.ask(BEN)).body.source, 'minted', 'at once')
    t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true })
  })

  test(`'${onRedisDown}': a counter of one user that is not one fails this user alone, and lets nobody past a limit`, { timeout: 60_000 }, async (t) => {
    const { portal } = await portalWithOwnRedis(t, { onRedisDown, rateLimit: { max: 1 } })
    await portal.ask(ANA)
    t.equal((await portal.ask(ANA)).status, 429)
    const counter = (await portal.keys()).find((key) => key.endsWith(':limit:requests'))!
    let others = 0
    for (const spoil of [() => portal.redis.set(counter, 'abc'), () => portal.redis.hset(counter, 'not', 'ours')]) {
      await portal.redis.del(counter)
      await spoil()
      const [anas, bens] = await Promise.all([portal.ask(ANA), portal.ask(`ben${others++}@acme.test`)])
      t.match(anas, { status: 503, body: { code: 'TOOLJET_EMBED_REDIS_DOWN' } })
      t.equal(bens.body.code, 'TOOLJET_EMBED_USER_NOT_FOUND', 'in the same turn')
      t.equal((await portal.app.tooljetEmbed.health()).redis.state, 'up')
      if (await portal.redis.type(counter) === 'string') t.ok(await portal.redis.pttl(counter) > 0, 'not for ever')
    }
    t.equal((await portal.ask(BEN)).status, 200)
    t.equal((await portal.ask(BEN)).status, 429)
  })
}

test('an outcome that cannot be read, or is of another version, is a coded answer with a number to wait', async (t) => {
  const portal = await Portal.open(t)
  await portal.ask(ANA)
  const { key } = (await portal.cached('url'))[0]!
  const far = Date.now() + 3_600_000
  const failures = ['not json', '', 'null', '7', '{"code":"toString"}', '{"code":"TOOLJET_EMBED_OPTIONS"}', '{"code":"TOOLJET_EMBED_BUSY","retryAfter":"soon"}', '{"code":"TOOLJET_EMBED_BUSY","retryAfter":-1}', '{"code":"TOOLJET_EMBED_BUSY","retryAfter":1e300}']
  for (const failure of failures) {
    await portal.redis.hset(key, 'oslug:sales', `somebody ${far} 1 ${failure}`)
    await portal.redis.hdel(key, 'nslug:sales')
    const { status, headers, body } = await portal.ask(ANA, { appSlug: 'sales' })
    t.match(body.code, /^TOOLJET_EMBED_(?:BUSY|UNAVAILABLE)$/, failure)
    t.ok(status === 429 || status === 503)
    t.match(headers['retry-after'], /^[1-9]\d{0,3}$/)
  }
  for (const garbage of ['x', 'x y 1 {}', `x ${far}`, `x ${far} 2`]) {
    await portal.redis.hset(key, 'oslug:sales', garbage, 'lslug:sales', garbage, 'f', garbage)
    t.equal((await portal.ask(ANA, { appSlug: 'sales' })).status, 200, garbage)
    await portal.redis.hdel(key, 'nslug:sales')
    await portal.redis.del(...(await portal.keys()).filter((key) => key.includes(':limit:')))
  }
})

test('a Redis that refuses what a start needs is there: requests are refused, and health is up', { timeout: 60_000 }, async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const admin = newClient(server.url)
  t.teardown(() => admin.disconnect())
  for (const command of ['evalsha', 'set', 'time', 'ping']) {
    await admin.acl('SETUSER', 'plugin', 'reset', 'on', '>secret', '~*', '+@all', `-${command}`, ...(command === 'evalsha' ? ['-eval'] : []))
    const portals = await Portal.openSeveral(t, 2, { options: { redis: `redis://plugin:secret@127.0.0.1:${server.port}`, rateLimit: { max: 2 }, redisTimeoutMs: 1000 } })
    const replies = await Promise.all([0, 1, 0, 1, 0, 1].map((i) => portals[i]!.ask(ANA)))
    if (command === 'ping') t.same(replies.map(({ status }) => status).sort(), [200, 200, 429, 429, 429, 429])
    else t.ok(replies.every(({ body }) => body.code === 'TOOLJET_EMBED_REDIS_DOWN'), command)
    for (const { app, logLines } of portals) {
      t.equal((await app.tooljetEmbed.health()).redis.state, 'up', command)
      t.same(logLines.filter(({ msg }) => /connection lost/.test(String(msg))), [])
    }
  }
})

test('rubbish of any length in a hash takes Redis no time', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: false } })
  await portal.ask(ANA)
  const { key, field } = (await portal.cached('url'))[0]!
  for (const rubbish of ['a', ' ', '1', ';', '1 ', 'a 1 ', '\n'].map((text) => text.repeat(50_000 / text.length))) {
    await portal.redis.hset(key, 'f', rubbish, `lid:${SALES.id}`, rubbish, `oid:${SALES.id}`, rubbish, field, rubbish, `nid:${SALES.id}`, rubbish)
    const waited = stopwatch()
    t.equal((await portal.ask(ANA)).status, 200)
    await portal.app.tooljetEmbed.forget({ email: ANA })
    t.ok(waited() < 1500, JSON.stringify(rubbish.slice(0, 8)))
  }
})

test('what our own code throws is no outage of Redis', async (t) => {
  const portal = await Portal.open(t)
  const { breaker } = await wayToRedis(portal.redis, 1000, portal.app.log)
  for (const mistake of [new TypeError('x is undefined'), new RangeError('too deep')]) {
    await t.rejects(breaker.run(() => { throw mistake }), mistake)
    t.notOk(breaker.isOpen)
  }
  await t.rejects(breaker.run(async () => { throw Object.assign(new Error('gone'), { code: 'ECONNRESET' }) }), { code: 'TOOLJET_EMBED_REDIS_DOWN' })
  t.ok(breaker.isOpen)
  breaker.close()
})

/** A steady load for a while. @returns how long each answer was waited for, by when it was asked for, in ms, and its status */
async function load (portal: Portal, forMs: number, perSecond: number): Promise<{ at: number, took: number, status: number }[]> {
  const began = performance.now()
  const answers: Promise<{ at: number, took: number, status: number }>[] = []
  while (performance.now() - began < forMs) {
    const at = performance.now() - began
    const waited = stopwatch()
    answers.push(portal.ask(answers.length % 2 === 0 ? ANA : BEN).then(({ status }) => ({ at, took: waited(), status })))
    await sleep(1000 / perSecond)
  }
  return Promise.all(answers)
}

function percentile (answers: { took: number }[], share: number): number {
  return Math.round(answers.map(({ took }) => took).toSorted((a, b) => a - b)[Math.floor(answers.length * share)]!)
}

test('a Redis that stops answering under load costs one deadline, and then nothing', { timeout: 60_000 }, async (t) => {
  for (const onRedisDown of ['serve', 'fail'] as const) {
    const deadlineMs = DEADLINE_MS
    const { portal, stall, goOn } = await portalWithOwnRedis(t, { onRedisDown, rateLimit: false, redisTimeoutMs: deadlineMs })
    await portal.ask(ANA)
    await portal.ask(BEN)
    stall()
    const answers = await load(portal, 3000, 50)
    const [first, later] = [answers.filter(({ at }) => at < 1000), answers.filter(({ at }) => at >= 1000)]
    t.ok(first.length > 10 && later.length > 20, `${first.length} and ${later.length} answers`)
    t.ok(percentile(first, 0.95) < 2 * deadlineMs, `p95 in the first second: ${percentile(first, 0.95)} ms`)
    t.ok(percentile(later, 0.95) < deadlineMs / 2, `p95 after it: ${percentile(later, 0.95)} ms`)
    const expected = onRedisDown === 'serve' ? 200 : 503
    t.ok(answers.every(({ status }) => status === expected))
    goOn()
    t.equal((await portal.audit()).length, answers.length + 2)
    t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true, instances: [{ lastSeq: answers.length + 3 }] })
  }
})

test('Redis restarted empty in the middle of 200 users: one mint each, no wrong answer, and the log goes on', { timeout: 60_000 }, async (t) => {
  const users = Array.from({ length: 200 }, (_, i) => `user${i}@acme.test`)
  let server = await startServer()
  t.teardown(() => server.stop())
  const [one, other] = await Portal.openSeveral(t, 2, {
    redisUrl: server.url,
    toolJet: { seed: { apps: [SALES], users: users.map((email) => ({ email, apps: [SALES.slug] })) } },
    options: { redisTimeoutMs: 1000, rateLimit: false },
  }) as [Portal, Portal]
  const askAll = async () => {
    const answers = await Promise.all(users.flatMap((email) => [one, other].map(async (portal) => ({ email, ...await portal.ask(email) }))))
    return answers.every(({ email, status, body }) => status === 200 && one.toolJet.tokenOf(body.redirectUrl)?.email === email)
  }
  t.ok(await askAll())
  t.equal(one.toolJet.calls.length, 200)
  await server.stop()
  t.ok(await askAll(), 'meanwhile from memory')
  server = await startServer({ port: server.port })
  await redisIsBack([one, other], DEADLINE_MS)
  t.ok(await askAll())
  t.equal(one.toolJet.calls.length, 400, 'one more mint each')
  await one.audit()
  await other.audit()
  const { problems } = await one.app.tooljetEmbed.audit.verify()
  t.same(problems.map(({ kind }) => kind), ['erased', 'erased'], 'what Redis forgot is told, and there is no gap in what was written after')
})

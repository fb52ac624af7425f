import { t as tap, test, type Test } from 'tap'
import { startServer } from '../example/redis.js'
import type { TooljetEmbedOptions } from '../plugin/index.js'
import { ANA, API_TOKEN, BEN, INVENTORY, Portal, redisIsBack, releaseRedisAfter, SALES } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { cacheFields, cacheScript, digestOf, holdUp } from './support/redis.js'
import { refusal } from './support/refusal.js'
import { ReplyProxy } from './support/reply-proxy.js'
import { until } from './support/until.js'

/* Promise 9: after forget has resolved, nobody who asks later is given a URL whose mint began before it. */

releaseRedisAfter(tap)

const TIMEOUT_MS = 800
const READ_FORGETS = digestOf('cache/scripts/forgets-read.lua')

/** Two instances that share a Redis of their own, each by a way that can be cut. */
async function twoWays (t: Test, options: Partial<TooljetEmbedOptions> = {}) {
  const server = await startServer()
  t.teardown(() => server.stop())
  const ways = await Promise.all([ReplyProxy.to(server.port), ReplyProxy.to(server.port)])
  t.teardown(() => Promise.all(ways.map((way) => way.close())))
  const first = await Portal.open(t, { redisUrl: server.url, options: { rateLimit: false } })
  const portals = await Promise.all(ways.map(({ port }) => Portal.open(t, {
    redisUrl: `redis://127.0.0.1:${port}`,
    options: { keyPrefix: first.prefix, tooljet: { url: first.toolJet.url, apiToken: API_TOKEN }, redisTimeoutMs: TIMEOUT_MS, rateLimit: false, ...options },
  })))
  const admin = newClient(server.url)
  t.teardown(() => admin.disconnect())
  return { server, admin, toolJet: first.toolJet, a: portals[0]!, b: portals[1]!, ways, wayOfB: ways[1]!, wayOfA: ways[0]!, prefix: first.prefix }
}

/** Until something is forgotten and both instances have asked for it twice since: by then they have the first answer. */
async function allKnow ({ admin, prefix, ways }: Awaited<ReturnType<typeof twoWays>>): Promise<void> {
  await until('it is in the log', async () => await admin.xlen(`${prefix}forgets`) > 0)
  for (const way of ways) {
    let reads = 0
    way.fate = ({ script }) => { if (script === READ_FORGETS) reads++; return undefined }
    await until('it has asked twice', () => reads >= 2)
    way.fate = undefined
  }
}

for (const [minted, forgotten] of [['appSlug', 'appId'], ['appId', 'appSlug']] as const) {
  test(`a first mint by ${minted} that is under way when its app is forgotten by ${forgotten} is cached for nobody`, async (t) => {
    for (const withSlug of [true, false]) {
      const [one, other] = await Portal.openSeveral(t, 2) as [Portal, Portal]
      const names = { appId: SALES.id, appSlug: SALES.slug }
      const tokens = ['pat_first000', 'pat_second00']
      one.toolJet.faults = () => ({ // versions of ToolJet differ in whether the URL tells the slug
        delayMs: 300,
        reply: { status: 201, body: { redirectUrl: `${one.toolJet.url}/embed-apps/${SALES.id}?personal-access-token=${tokens.shift()}${withSlug ? '&appSlug=sales' : ''}` } },
      })
      const asked = one.ask(ANA, { [minted]: names[minted] })
      await until('the mint is under way', () => one.toolJet.calls.length === 1)
      await other.app.tooljetEmbed.forget({ email: ANA, [forgotten]: names[forgotten] } as never)
      const later = [other.ask(ANA, { [minted]: names[minted] }), one.ask(ANA, { [minted]: names[minted] })]
      const { body: first } = await asked
      t.equal(first.source, 'minted', 'who asked before is answered')
      for (const { body } of await Promise.all(later)) t.not(body.urlId, first.urlId, `${withSlug}`)
      t.equal(one.toolJet.calls.length, 2)
      t.not((await other.ask(ANA, { [forgotten]: names[forgotten] })).body.urlId, first.urlId)
    }
  })
}

test('in one process, too, a request that comes after forget joins no mint that began before it', async (t) => {
  const portal = await Portal.open(t)
  portal.toolJet.faults = () => ({ delayMs: 300 })
  const before = portal.ask(ANA)
  await until('the mint is under way', () => portal.toolJet.calls.length === 1)
  const joined = portal.ask(ANA)
  await portal.app.tooljetEmbed.forget({ email: ANA })
  const after = portal.ask(ANA)
  const { body: first } = await before
  t.not((await after).body.urlId, first.urlId)
  t.equal((await joined).status, 200)
  t.equal(portal.toolJet.calls.length, 2, 'one more mint for all who did not get the first')
})

test('who joins a mint after its URL was stored is not given it, should it be forgotten in between', async (t) => {
  const other = await Portal.open(t)
  let held = false
  const isStore = ([digest]: unknown[]) => digest === cacheScript('store')
  const redis = holdUp(other.redis, (args) => isStore(args) && !held && (held = true), 600)
  const slow = await Portal.open(t, { options: { redis, keyPrefix: other.prefix, tooljet: { url: other.toolJet.url, apiToken: API_TOKEN } } })
  await other.ask(BEN) // Redis knows the scripts from now on
  const before = slow.ask(ANA)
  await until('the URL is stored, and the answer is not there', () => held)
  t.equal(await other.app.tooljetEmbed.forget({ email: ANA }), 1)
  const after = await slow.ask(ANA)
  const { body: first } = await before
  t.equal(first.source, 'minted')
  t.not(after.body.urlId, first.urlId)
})

test('forgotten at one instance, and Redis gone some seconds later: no other serves it from memory', { timeout: 60_000 }, async (t) => {
  const two = await twoWays(t)
  const { a, b, server, toolJet } = two
  const { body: old } = await b.ask(ANA)
  t.equal(await a.app.tooljetEmbed.forget({ email: ANA, appId: SALES.id }), 1)
  await allKnow(two)
  server.process.kill('SIGSTOP')
  const { body } = await b.ask(ANA)
  t.equal(body.source, 'minted')
  t.not(body.urlId, old.urlId)
  t.equal(toolJet.calls.length, 2)
  server.process.kill('SIGCONT')
})

for (const by of ['forget', "ToolJet's denial"]) {
  test(`minted while Redis was unavailable, and ended by ${by} before it could be stored: stored for nobody`, { timeout: 60_000 }, async (t) => {
    const { a, b, wayOfB, toolJet } = await twoWays(t)
    wayOfB.set({ refuse: true })
    const { body: old } = await b.ask(ANA)
    t.equal(old.source, 'minted')
    if (by === 'forget') t.equal(await a.app.tooljetEmbed.forget({ email: ANA }), 0)
    else {
      toolJet.faults = () => refusal(403, 'no access')
      t.equal((await a.ask(ANA)).body.code, 'TOOLJET_EMBED_ACCESS_DENIED')
      toolJet.faults = undefined
    }
    wayOfB.set({})
    await redisIsBack([b])
    const { body } = await b.ask(ANA)
    if (by === 'forget') t.not(body.urlId, old.urlId)
    else t.equal(body.code, 'TOOLJET_EMBED_ACCESS_DENIED', 'the denial is remembered still')
    t.not((await a.ask(ANA)).body.urlId, old.urlId)
  })
}

test('a denial at one instance ends what another has in its memory, as a forget does', { timeout: 60_000 }, async (t) => {
  const two = await twoWays(t)
  const { a, b, server, toolJet } = two
  const { body: old } = await b.ask(ANA)
  toolJet.faults = () => refusal(403, 'no access')
  t.equal((await a.ask(ANA, { appId: SALES.id, replaces: old.urlId })).body.code, 'TOOLJET_EMBED_ACCESS_DENIED')
  await allKnow(two)
  server.process.kill('SIGSTOP')
  t.equal((await b.ask(ANA)).body.code, 'TOOLJET_EMBED_ACCESS_DENIED')
  server.process.kill('SIGCONT')
})

test('a denial while Redis was unavailable ends what Redis has', { timeout: 60_000 }, async (t) => {
  const { a, b, wayOfB, toolJet } = await twoWays(t)
  const { body: old } = await a.ask(ANA)
  wayOfB.set({ refuse: true })
  toolJet.faults = () => refusal(403, 'no access')
  t.equal((await b.ask(ANA)).body.code, 'TOOLJET_EMBED_ACCESS_DENIED')
  toolJet.faults = undefined
  wayOfB.set({})
  await until('Redis is told', async () => (await a.ask(ANA)).body.urlId !== old.urlId)
})

test('what Redis brings back after a forget is given to nobody, and is forgotten again', { timeout: 60_000 }, async (t) => {
  const two = await twoWays(t)
  const { a, b, admin, prefix } = two
  const { body: old } = await a.ask(ANA)
  await a.ask(ANA, { appId: INVENTORY.id })
  const { key } = (await cacheFields(admin, prefix, 'url'))[0]!
  const bytes = (await admin.dumpBuffer(key))!
  t.equal(await a.app.tooljetEmbed.forget({ email: ANA, appId: SALES.id }), 1)
  await allKnow(two)
  for (const restored of ['the hash', 'the hash, and the log is gone']) {
    await admin.restore(key, 3_600_000, bytes, 'REPLACE')
    if (restored !== 'the hash') await admin.del(`${prefix}forgets`)
    for (const portal of [b, a]) t.not((await portal.ask(ANA)).body.urlId, old.urlId, restored)
    t.equal((await b.ask(ANA, { appId: INVENTORY.id })).body.source, 'reused', 'what was not forgotten is there')
  }
  await until('the log is written again', async () => await admin.xlen(`${prefix}forgets`) > 0)

  await admin.restore(key, 3_600_000, bytes, 'REPLACE')
  const fresh = await Portal.open(t, { redisUrl: `redis://127.0.0.1:${admin.options.port}`, options: { keyPrefix: prefix, tooljet: { url: old.redirectUrl.split('/embed')[0]!, apiToken: API_TOKEN }, rateLimit: false } })
  t.not((await fresh.ask(ANA)).body.urlId, old.urlId, 'an instance that has just started knows, too')
})

test('a URL that was replaced does not come back with older data, as long as an instance knows a younger one', async (t) => {
  const [one, other] = await Portal.openSeveral(t, 2) as [Portal, Portal]
  const { body: dead } = await one.ask(ANA)
  const { key } = (await one.cached('url'))[0]!
  const bytes = (await one.redis.dumpBuffer(key))!
  const { body: younger } = await other.ask(ANA, { appId: SALES.id, replaces: dead.urlId })
  await one.redis.restore(key, 3_600_000, bytes, 'REPLACE')
  t.equal((await other.ask(ANA)).body.urlId, younger.urlId)
  t.equal((await one.ask(ANA)).body.urlId, younger.urlId, 'and the fleet has it again')
  t.equal(one.toolJet.calls.length, 2)
})

test("'fail': nothing comes out of a memory, whatever is forgotten", { timeout: 60_000 }, async (t) => {
  const { b, server } = await twoWays(t, { onRedisDown: 'fail' })
  await b.ask(ANA)
  server.process.kill('SIGSTOP')
  t.equal((await b.ask(ANA)).status, 503)
  server.process.kill('SIGCONT')
})

test('forget without Redis rejects, and drops what this instance has', { timeout: 60_000 }, async (t) => {
  const { a, wayOfA } = await twoWays(t)
  const { body: old } = await a.ask(ANA)
  wayOfA.set({ refuse: true })
  await t.rejects(a.app.tooljetEmbed.forget({ email: ANA }), { code: 'TOOLJET_EMBED_REDIS_DOWN' })
  const { body } = await a.ask(ANA)
  t.equal(body.source, 'minted')
  t.not(body.urlId, old.urlId)
})

import { t as tap, test } from 'tap'
import { DEFAULT_SEED } from '../example/tooljet/seed.js'
import { ANA, BEN, INVENTORY, Portal, releaseRedisAfter, SALES, type PortalSetup } from './support/portal.js'
import { until } from './support/until.js'
import { newClient } from './support/redis-client.js'

/* A ToolJet that compares e-mails with regard to case, and knows some users in another spelling than small letters. */

releaseRedisAfter(tap)

const SPELLED = 'Ana@Acme.test'
const SPELLED_OTHERWISE = 'ANA@acme.test'

const setup = ({ toolJet, ...rest }: PortalSetup = {}): PortalSetup => ({
  toolJet: { seed: { ...DEFAULT_SEED, users: [SPELLED, BEN].map((email) => ({ email, apps: [SALES.slug, INVENTORY.slug] })) }, ...toolJet }, ...rest,
})

const asked = ({ toolJet }: Portal, from = 0): unknown[] => toolJet.calls.slice(from).map(({ body }) => body['email'])

test('a user whom ToolJet knows with capitals alone is asked for once more, and then in that spelling first', async (t) => {
  const [one, other] = await Portal.openSeveral(t, 2, setup()) as [Portal, Portal]
  const { status, body: url } = await one.ask(`  ${SPELLED}\t`)
  t.equal(status, 200)
  t.same(asked(one), [ANA, SPELLED], 'in small letters, then as the identity has it but for white space')
  t.match(await other.ask(ANA), { status: 200, body: { source: 'reused', urlId: url.urlId } }, 'one person')

  t.match(await other.ask(ANA, { appId: INVENTORY.id }), { status: 200, body: { source: 'minted' } })
  t.match(await other.ask(ANA, { appId: SALES.id, replaces: url.urlId }), { status: 200, body: { source: 'minted' } })
  t.equal(await one.app.tooljetEmbed.forget({ email: ANA }), 2)
  t.match(await one.ask(SPELLED_OTHERWISE), { status: 200, body: { source: 'minted' } })
  t.same(asked(one, 2), [SPELLED, SPELLED, SPELLED], 'of any app, after a forget, and however the identity spells it')
  const events = await one.audit()
  t.same(events.map(({ event }) => event).sort(), ['url.forgotten', 'url.minted', 'url.minted', 'url.minted', 'url.minted', 'url.reused'])
  t.same([...new Set(events.map(({ email }) => email))], [ANA], 'the audit log has one form')
  t.notMatch(await one.dumpRedis().then((dump) => dump.replaceAll(ANA, '')), /ana@acme\.test/i, 'what is kept is encrypted')
})

test('an unknown user is asked for in two spellings, and one without capitals in one', async (t) => {
  const portal = await Portal.open(t, setup())
  for (const [email, calls] of [['dan@acme.test', ['dan@acme.test']], ['Eve@acme.test', ['eve@acme.test', 'Eve@acme.test']]] as const) {
    const from = portal.toolJet.calls.length
    t.match(await portal.ask(email), { status: 404, body: { code: 'TOOLJET_EMBED_USER_NOT_FOUND' } })
    t.match(await portal.ask(email), { status: 404, body: { code: 'TOOLJET_EMBED_USER_NOT_FOUND' } })
    t.same(asked(portal, from), calls, 'and remembered')
  }
  t.match(await portal.audit(), [{ event: 'url.denied', email: 'dan@acme.test' }, {}, { event: 'url.denied', email: 'eve@acme.test' }, {}])
})

test('only a user who is not known is asked for once more', async (t) => {
  for (const reply of [{ status: 403, body: { statusCode: 403, timestamp: '', path: '', message: 'no access' } }, { status: 500 }, { status: 400 }, { status: 429 }]) {
    const portal = await Portal.open(t, setup())
    portal.toolJet.faults = () => ({ reply })
    t.not((await portal.ask(SPELLED)).status, 200)
    t.same(asked(portal), [ANA], `${reply.status}`)
  }
})

test('a user whom ToolJet has spelled anew is found, in small letters or as the identity has it', async (t) => {
  for (const anew of [ANA, SPELLED_OTHERWISE]) {
    const users = [{ email: SPELLED, apps: [SALES.slug] }]
    const portal = await Portal.open(t, setup({ toolJet: { seed: { ...DEFAULT_SEED, users } } }))
    const { body: { urlId } } = await portal.ask(SPELLED)
    users[0]!.email = anew
    const first = await portal.ask(SPELLED_OTHERWISE, { appId: SALES.id, replaces: urlId })
    t.equal(first.status, 200)
    t.same(asked(portal, 2), anew === ANA ? [SPELLED, ANA] : [SPELLED, ANA, SPELLED_OTHERWISE])
    await portal.app.tooljetEmbed.forget({ email: ANA })
    t.equal((await portal.ask(SPELLED)).status, 200)
    t.equal(asked(portal).at(-1), anew)
    t.equal(asked(portal).length, anew === ANA ? 5 : 6)
  }
})

test('both calls count for the mint limit, and once for mints', async (t) => {
  const portal = await Portal.open(t, setup({ mintLimit: { max: 3, timeWindow: 60_000 }, options: { rateLimit: { max: 60, mints: 2, timeWindow: '1 minute' } } }))
  t.equal((await portal.ask(SPELLED)).status, 200)
  t.equal((await portal.ask(SPELLED, { appId: INVENTORY.id })).status, 200, 'the second mint of two, the third call of three')
  t.same(asked(portal), [ANA, SPELLED, SPELLED])
  t.match(await portal.ask('eve@acme.test'), { status: 429, body: { code: 'TOOLJET_EMBED_BUSY' } })
  t.match(await portal.ask(SPELLED, { appId: 'a8ba8bf0-6b8f-4e07-abb9-6fd2d816fabc' }), { status: 429, body: { code: 'TOOLJET_EMBED_RATE_LIMITED' } })
})

test('one whose second spelling has to wait keeps the place, and is asked for in that one alone', async (t) => {
  const mintLimit = { max: 1, timeWindow: 2500 }
  const [portal, other] = await Portal.openSeveral(t, 2, setup({ mintLimit, options: { rateLimit: { max: 60, mints: 1, timeWindow: '1 minute' } } })) as [Portal, Portal]
  const first = await portal.ask(SPELLED)
  t.match(first, { status: 429, body: { code: 'TOOLJET_EMBED_BUSY', queue: { position: 1 } } })
  t.match(await portal.ask('fay@acme.test'), { body: { code: 'TOOLJET_EMBED_BUSY', queue: { position: 2 } } }, 'who came later')
  let reply = first
  for (let times = 0; reply.body.code === 'TOOLJET_EMBED_BUSY' && times < 20; times++) {
    await new Promise((resolve) => { setTimeout(resolve, 1000 * Math.max(0.1, reply.body.retryAfter)) })
    reply = await other.ask(SPELLED, { appId: SALES.id, ticket: first.body.queue.ticket } as object)
  }
  t.match(reply, { status: 200, body: { source: 'minted' } })
  t.same(asked(portal), [ANA, SPELLED])
  t.match(await portal.ask(SPELLED, { appId: INVENTORY.id }), { body: { code: 'TOOLJET_EMBED_RATE_LIMITED' } }, 'both are one of one mint')
})

test('calls that ToolJet fails to answer, or refuses, count for mints', async (t) => {
  for (const reply of [{ status: 500 }, { status: 429, headers: { 'retry-after': '1' } }] as const) {
    const portal = await Portal.open(t, setup({ mintLimit: { max: 1, timeWindow: 1500 }, options: { rateLimit: { max: 10_000, mints: 2, timeWindow: '1 minute' } } }))
    portal.toolJet.faults = ({ body }) => body['email'] === SPELLED ? { reply } : undefined
    const codes = new Set<string>()
    await until('no further mint is allowed', async () => {
      const { body } = await portal.ask(SPELLED)
      codes.add(body.code)
      return body.code === 'TOOLJET_EMBED_RATE_LIMITED'
    })
    t.same([...codes], ['TOOLJET_EMBED_BUSY', ...(reply.status === 500 ? ['TOOLJET_EMBED_UNAVAILABLE'] : []), 'TOOLJET_EMBED_RATE_LIMITED'])
    t.same(asked(portal), [ANA, SPELLED, SPELLED])
  }
})

test('who waits before others keeps the place between two spellings', async (t) => {
  const portal = await Portal.open(t, setup({ mintLimit: { max: 1, timeWindow: 3000 }, options: { rateLimit: false } }))
  t.equal((await portal.ask(BEN)).status, 200)
  t.match(await portal.ask(SPELLED), { body: { code: 'TOOLJET_EMBED_BUSY', queue: { position: 1 } } })
  t.match(await portal.ask('fay@acme.test'), { body: { code: 'TOOLJET_EMBED_BUSY', queue: { position: 2 } } })
  const between = await until('she is asked for in small letters', async () => {
    const reply = await portal.ask(SPELLED)
    return portal.toolJet.calls.length > 1 && reply
  })
  t.match(between, { status: 429, body: { code: 'TOOLJET_EMBED_BUSY', queue: { position: 1 } } })
  t.match(await portal.ask('fay@acme.test'), { body: { queue: { position: 2 } } })
  const served = await until('she has her URL', async () => {
    const reply = await portal.ask(SPELLED)
    return reply.status === 200 && reply
  })
  t.match(served, { body: { source: 'minted' } })
  t.same(asked(portal), [BEN, ANA, SPELLED])
})

test('warming finds the spelling, too, though the second one has to wait', async (t) => {
  const portal = await Portal.open(t, setup({ mintLimit: { max: 1, timeWindow: 1000 } }))
  t.match(await portal.app.tooljetEmbed.warm([{ email: SPELLED, appId: SALES.id }]), { minted: 1, failed: [] })
  t.same(asked(portal), [ANA, SPELLED])
})

test('what is held is gone on with by another instance', async (t) => {
  const [one, other] = await Portal.openSeveral(t, 2, setup({ mintLimit: { max: 1, timeWindow: 2000 } })) as [Portal, Portal]
  const stop = new AbortController()
  const pairs = [{ email: SPELLED, appId: SALES.id }]
  const stopped = one.app.tooljetEmbed.warm(pairs, { signal: stop.signal })
  await until('she is asked for in small letters', () => one.toolJet.calls[0]?.endedAt)
  stop.abort()
  t.match(await stopped, { minted: 0, failed: [] })
  t.match(await other.app.tooljetEmbed.warm(pairs), { minted: 1, failed: [] })
  t.same(asked(one), [ANA, SPELLED])
})

test('each app counts as a mint of its own, also where two wait for their second call', async (t) => {
  const portal = await Portal.open(t, setup({ mintLimit: { max: 1, timeWindow: 700 }, options: { rateLimit: { max: 10_000, mints: 2, timeWindow: '1 minute' } } }))
  const urls = await Promise.all([SALES.id, INVENTORY.id].map((appId) => until('there is a slot', async () => {
    const reply = await portal.ask(SPELLED, { appId })
    return reply.body.code === 'TOOLJET_EMBED_BUSY' ? undefined : reply
  })))
  t.same(urls.map(({ status }) => status), [200, 200])
  t.equal((await portal.ask(BEN)).status, 200)
  t.equal((await portal.ask(SPELLED, { appId: SALES.id, replaces: urls[0]!.body.urlId })).body.code, 'TOOLJET_EMBED_RATE_LIMITED')
})

test('what is kept cannot be changed in Redis, nor copied to another user', async (t) => {
  const [portal, other] = await Portal.openSeveral(t, 2, setup()) as [Portal, Portal]
  t.equal((await portal.ask(SPELLED)).status, 200)
  const [key] = (await portal.keys()).filter((key) => key.endsWith(':urls')) as [string]
  const kept = await portal.redis.hgetBuffer(key, 's')
  t.ok(kept)
  await portal.redis.hset(key, 's', `${Date.now() + 60_000} last ${SPELLED_OTHERWISE}`)
  t.equal(await portal.app.tooljetEmbed.forget({ email: ANA }), 1)
  t.equal((await other.ask(ANA)).body.code, 'TOOLJET_EMBED_USER_NOT_FOUND')
  t.same(asked(portal, 2), [ANA])

  await portal.ask(BEN)
  const [another] = (await portal.keys()).filter((name) => name.endsWith(':urls') && name !== key) as [string]
  await portal.redis.hset(another, 's', kept!)
  await portal.app.tooljetEmbed.forget({ email: BEN })
  await portal.ask(BEN)
  t.same(asked(portal, 3), [BEN, BEN])
})

test('a spelling that has never worked does not come first', async (t) => {
  for (const status of [400, 500]) {
    const users = [{ email: 'nobody@acme.test', apps: [SALES.slug] }]
    const portal = await Portal.open(t, setup({ toolJet: { seed: { ...DEFAULT_SEED, users } } }))
    portal.toolJet.faults = ({ body }) => body['email'] === SPELLED ? { reply: { status } } : undefined
    t.not((await portal.ask(SPELLED)).status, 200)
    t.same(asked(portal), [ANA, SPELLED])
    users[0]!.email = ANA
    t.equal((await portal.ask(SPELLED, { appId: SALES.id })).status, 200)
    t.same(asked(portal, 2), [ANA], `${status}`)
  }
})

test('without Redis each instance remembers what it has found out, also while a turn is waited for', async (t) => {
  const redis = newClient('redis://127.0.0.1:1')
  redis.on('error', () => {})
  t.teardown(() => redis.disconnect())
  const portal = await Portal.open(t, setup({ redis, mintLimit: { max: 1, timeWindow: 1000 }, options: { rateLimit: { max: 10_000 } } }))
  const urlOf = (email: string, appId: string) => until('there is a slot', async () => {
    const reply = await portal.ask(email, { appId })
    return reply.body.code === 'TOOLJET_EMBED_BUSY' ? undefined : reply
  })
  t.equal((await urlOf(SPELLED, SALES.id)).status, 200)
  t.equal((await urlOf(ANA, INVENTORY.id)).status, 200)
  t.same(asked(portal), [ANA, SPELLED, SPELLED])
  t.equal((await urlOf('Eve@acme.test', SALES.id)).body.code, 'TOOLJET_EMBED_USER_NOT_FOUND')
  t.same(asked(portal, 3), ['eve@acme.test', 'Eve@acme.test'])
})

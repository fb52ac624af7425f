import { randomUUID } from 'node:crypto'
import { t as tap, test } from 'tap'
import { ANA, API_TOKEN, BEN, CLEO, INVENTORY, Portal, releaseRedisAfter, SALES, type Reply } from './support/portal.js'
import { longestStall, stopwatch } from './support/stopwatch.js'
import type { TooljetEmbedOptions } from '../plugin/index.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

const users = (count: number) => Array.from({ length: count }, (_, i) => `user${i}@acme.test`)
const seedOf = (emails: string[]) => ({ apps: [SALES, INVENTORY], users: emails.map((email) => ({ email, apps: [SALES.slug, INVENTORY.slug] })) })

/** A portal whose users ToolJet all knows. */
function openQueue (t: Parameters<typeof Portal.openSeveral>[0], emails: string[], { instances = 1, max = 2, timeWindow = 3000, options = {} as Partial<TooljetEmbedOptions> } = {}) {
  return Portal.openSeveral(t, instances, { mintLimit: { max, timeWindow }, toolJet: { seed: seedOf(emails) }, options: { rateLimit: { max: 10_000 }, ...options } })
}

test('who has to wait is told the place, when to come, and gets the turn', async (t) => {
  const [portal] = await openQueue(t, [ANA, BEN, CLEO, 'dan@acme.test'], { timeWindow: 8000 })
  for (const email of [ANA, BEN]) t.equal((await portal!.ask(email)).status, 200)
  const cleo = await portal!.ask(CLEO)
  t.match(cleo, { status: 429, body: { code: 'TOOLJET_EMBED_BUSY', retryAfter: /^[1-8]$/, queue: { position: 1, etaSeconds: /^[1-9]$/, ticket: /^[\w-]{40,}$/ } } })
  t.equal(cleo.headers['retry-after'], String(cleo.body.retryAfter))
  t.match(await portal!.ask('dan@acme.test'), { status: 429, body: { queue: { position: 2 } } })
  t.match(await portal!.ask(CLEO), { status: 429, body: { queue: { position: 1 } } }, 'asking again makes no difference')
  t.match((await portal!.app.tooljetEmbed.health()).tooljet, { queue: { waiting: 2, perMinute: 15, etaSeconds: /^[1-8]$/ } })
  const served = await until('it is her turn', async () => {
    const reply = await portal!.ask(CLEO)
    return reply.status === 200 && reply
  })
  t.match(served, { body: { source: 'minted' } })
  t.match(await portal!.audit(), [{ code: undefined }, {}, { event: 'url.limited', code: 'TOOLJET_EMBED_BUSY', email: CLEO }])
  t.equal((await portal!.app.tooljetEmbed.health()).tooljet.queue!.waiting, 1)
})

test('a turn that comes within a second is waited for, and not answered with', async (t) => {
  const [portal] = await openQueue(t, [ANA, BEN], { max: 1, timeWindow: 700 })
  t.equal((await portal!.ask(ANA)).status, 200)
  t.equal((await portal!.ask(BEN)).status, 200)
  const [first, second] = portal!.toolJet.calls
  t.ok(second!.at - first!.at >= 700)
})

test('with mintLimit false nobody waits, and there is no queue', async (t) => {
  const portal = await Portal.open(t, { mintLimit: false })
  portal.toolJet.faults = () => ({ reply: { status: 429, headers: { 'retry-after': '5' } } })
  const { body } = await portal.ask(ANA)
  t.match(body, { code: 'TOOLJET_EMBED_BUSY', retryAfter: 5 })
  t.equal(body.queue, undefined)
  t.equal((await portal.app.tooljetEmbed.health()).tooljet.queue, undefined)
  t.same((await portal.keys()).filter((key) => /tooljet:.*:(?!pause)/.test(key)), [])
})

test('a rush of 40 users over 3 instances: first come, first served, no window above the limit, nobody refused by ToolJet', { timeout: 120_000 }, async (t) => {
  const emails = users(40)
  const [max, timeWindow] = [5, 3000]
  const portals = await openQueue(t, emails, { instances: 3, max, timeWindow })
  const served: string[] = []
  const requests = new Map<string, number>()
  const rush = async (email: string, i: number): Promise<void> => {
    await new Promise((resolve) => { setTimeout(resolve, i * 25) })
    let ticket: string | undefined
    for (;;) {
      requests.set(email, (requests.get(email) ?? 0) + 1)
      const reply: Reply = await portals[Math.floor(Math.random() * 3)]!.ask(email, { appId: SALES.id, ...(ticket !== undefined && { ticket }) })
      if (reply.status === 200) break
      t.equal(reply.body.code, 'TOOLJET_EMBED_BUSY')
      ticket = reply.body.queue.ticket
      await new Promise((resolve) => { setTimeout(resolve, reply.body.retryAfter * 1000) })
    }
    served.push(email)
  }
  const stalled = longestStall()
  const waited = stopwatch()
  await Promise.all(emails.map(rush))
  const tookMs = waited()
  const { calls } = portals[0]!.toolJet
  t.equal(calls.length, 40, 'a mint for each')
  const times = calls.map(({ at }) => at).sort((one, other) => one - other)
  const lagMs = 150 + 2 * stalled()
  t.equal(times.filter((at, i) => times[i + max] !== undefined && times[i + max]! - at < timeWindow - lagMs).length, 0, `no window sees more, as far as ToolJet sees it: ${lagMs} ms too late`)
  const order = calls.map(({ body }) => emails.indexOf(String(body['email'])))
  const inversions = order.flatMap((one, i) => order.slice(i + 1).filter((other) => other < one)).length
  t.ok(inversions <= 0.05 * 40 * 39 / 2, `${inversions} pairs in the wrong order`)
  t.ok(Math.max(...requests.values()) <= 12)
  t.ok(tookMs < 1.25 * (40 / max - 1) * timeWindow, `slots do not stay empty: ${tookMs} ms`)
})

test("'auto': no limit until ToolJet answers 429, then as many as it grants", { timeout: 60_000 }, async (t) => {
  const emails = users(12)
  const portal = await Portal.open(t, { toolJet: { seed: seedOf(emails) } })
  let granted = 0
  portal.toolJet.faults = () => (++granted > 4 ? { reply: { status: 429, headers: { 'retry-after': '30' } } } : undefined)
  const replies = await Promise.all(emails.map((email) => portal.ask(email)))
  t.equal(replies.filter(({ status }) => status === 200).length, 4)
  t.ok(portal.toolJet.calls.length <= 4 + 3, `${portal.toolJet.calls.length} calls`)
  const { queue } = (await portal.app.tooljetEmbed.health()).tooljet
  t.equal(queue!.waiting, 8)
  t.ok(queue!.perMinute! >= 4 && queue!.perMinute! <= 8, `${queue!.perMinute} a minute: four in about half a minute`)
  const waiting = emails.filter((_, i) => replies[i]!.status === 429)
  const places = await Promise.all(waiting.map(async (email) => (await portal.ask(email)).body.queue.position))
  t.same(places.sort((one, other) => one - other), [1, 2, 3, 4, 5, 6, 7, 8])
})

for (const limitCounts of ['mints', 'calls'] as const) {
  test(`'auto': what ToolJet denies teaches no higher limit, where that counts ${limitCounts}`, { timeout: 60_000 }, async (t) => {
    const [max, minuteMs] = [5, 10_000]
    const emails = users(max + 1)
    const [portal, other] = await Portal.openSeveral(t, 2, { toolJet: { seed: seedOf([CLEO, ...emails]), mintsPerMinute: max, minuteMs, limitCounts } }) as [Portal, Portal]
    for (let i = 0; i < 6; i++) await other.ask(CLEO, { appId: randomUUID() })
    const replies = []
    for (const email of emails) replies.push(await portal.ask(email))
    t.match(replies.at(-1), { status: 429, body: { code: 'TOOLJET_EMBED_BUSY' } })
    t.equal(portal.toolJet.calls.filter(({ isLetThrough }) => isLetThrough !== true).length, 1, 'one call taught it')
    const { perMinute } = (await portal.app.tooljetEmbed.health()).tooljet.queue!
    t.ok(perMinute! <= 30 && perMinute! > 20, `${perMinute} a minute: five in about ten seconds`)
  })
}

test("'auto' without any limit mints for all at once, soon", { timeout: 60_000 }, async (t) => {
  const emails = users(60)
  const portal = await Portal.open(t, { toolJet: { seed: seedOf(emails) } })
  portal.toolJet.faults = () => ({ delayMs: 50 })
  const replies = await Promise.all(emails.map((email) => portal.ask(email)))
  t.same([...new Set(replies.map(({ status }) => status))], [200])
  t.match((await portal.app.tooljetEmbed.health()).tooljet, { queue: { waiting: 0, perMinute: null } })
})

test('further apps and replaces stand behind those who have nothing', async (t) => {
  const [portal] = await openQueue(t, [ANA, BEN, CLEO], { max: 1, timeWindow: 60_000 })
  const { body: { urlId } } = await portal!.ask(ANA)
  const place = async (email: string, ask: object) => (await portal!.ask(email, ask)).body.queue.position
  t.equal(await place(ANA, { appId: INVENTORY.id }), 1)
  t.equal(await place(ANA, { appId: SALES.id, replaces: urlId }), 2)
  t.equal(await place(BEN, { appId: SALES.id }), 1, 'who has nothing comes first')
  t.equal(await place(BEN, { appId: INVENTORY.id }), 4, 'with one app')
  t.equal(await place(CLEO, { appId: INVENTORY.id }), 2)
  t.equal(await place(ANA, { appId: SALES.id, replaces: urlId }), 4)
  t.equal(await place(ANA, { appId: SALES.id }), 4, 'the URL is gone by now, and that does not help')
})

test('a user has at most `mints` places', async (t) => {
  const slugs = Array.from({ length: 4 }, (_, i) => `app-${i}`)
  const [portal] = await openQueue(t, [ANA], { max: 1, timeWindow: 60_000, options: { rateLimit: { mints: 3 } } })
  t.equal((await portal!.ask(ANA)).status, 200)
  const codes = []
  for (const appSlug of slugs) codes.push((await portal!.ask(ANA, { appSlug })).body.code)
  t.same(codes, ['TOOLJET_EMBED_BUSY', 'TOOLJET_EMBED_BUSY', 'TOOLJET_EMBED_BUSY', 'TOOLJET_EMBED_RATE_LIMITED'])
  const due = (await portal!.keys()).find((key) => key.endsWith(':due'))!
  const [member] = await portal!.redis.zrange(due, '0', '0')
  await portal!.redis.zadd(due, 1, member!)
  t.match((await portal!.ask(ANA, { appSlug: slugs[3] })).body, { code: 'TOOLJET_EMBED_BUSY', queue: { position: 3 } }, 'one that nobody came for in time makes room')
})

test('while ToolJet pauses, whoever asks is told so at once', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: { mints: 2 } } })
  portal.toolJet.faults = () => ({ reply: { status: 503, headers: { 'retry-after': '60' } } })
  for (const appSlug of ['one', 'two', 'three', 'four']) {
    const waited = stopwatch()
    t.match(await portal.ask(ANA, { appSlug }), { status: 429, body: { code: 'TOOLJET_EMBED_BUSY', retryAfter: /^(?:60|5\d)$/ } })
    t.ok(waited() < 1500)
  }
})

test('Redis that comes back empty: tickets bring the order back, and no slot is given twice', async (t) => {
  const emails = users(4)
  const [portal, other] = await openQueue(t, [...emails, ANA, BEN, 'new@acme.test'], { instances: 2, max: 2, timeWindow: 4000 })
  await portal!.ask(ANA)
  await other!.ask(BEN)
  const tickets = new Map<string, string>()
  for (const email of emails) tickets.set(email, (await portal!.ask(email)).body.queue.ticket)
  await Promise.all((await portal!.keys()).filter((key) => /tooljet:/.test(key)).map((key) => portal!.redis.del(key)))
  const newcomer = await other!.ask('new@acme.test')
  t.match(newcomer, { status: 429, body: { queue: { position: 1 } } }, 'slots of the window before may have been used')
  const place = async (email: string) => (await portal!.ask(email, { appId: SALES.id, ticket: tickets.get(email)! })).body.queue.position
  t.equal(await place(emails[3]!), 1)
  t.equal(await place(emails[0]!), 1)
  t.equal(await place(emails[2]!), 2)
  const { status, body } = await other!.ask('new@acme.test')
  t.match([status, body], [429, { queue: { position: 4 } }])
  t.ok(body.queue.etaSeconds! <= 30, `the newcomer waits for those before, and no longer: ${body.queue.etaSeconds} s`)
  t.match((await portal!.ask(emails[1]!, { appId: SALES.id, ticket: tickets.get(emails[0]!)! })).body.queue, { position: 5 }, "another's ticket is none")
})

test('a ticket that is old, foreign, broken or of no kind is ignored', async (t) => {
  const [portal] = await openQueue(t, [ANA, BEN], { max: 1, timeWindow: 60_000 })
  await portal!.ask(ANA)
  for (const ticket of ['', 'x', 'A'.repeat(10_000), Buffer.alloc(60).toString('base64url')]) {
    t.match(await portal!.ask(BEN, { appId: SALES.id, ticket }), { status: 429, body: { queue: { position: 1 } } })
  }
  t.equal((await portal!.ask(BEN, { appId: SALES.id, ticket: 7 })).status, 400)
})

test('ToolJet down: the queue stands still, says so, and goes on', { timeout: 60_000 }, async (t) => {
  const emails = users(6)
  const [portal] = await openQueue(t, emails, { max: 6, timeWindow: 2500 })
  portal!.toolJet.faults = () => ({ reply: { status: 500 } })
  for (const email of emails.slice(0, 5)) t.equal((await portal!.ask(email)).body.code, 'TOOLJET_EMBED_UNAVAILABLE')
  await portal!.ask(emails[0]!) // a probe
  const waiting = await portal!.ask(emails[1]!)
  t.match(waiting.body, { code: 'TOOLJET_EMBED_BUSY', queue: { etaSeconds: null } })
  portal!.toolJet.faults = undefined
  for (const email of emails) await until(`${email} is served`, async () => (await portal!.ask(email)).status === 200)
})

test('while ToolJet is down nobody is promised a turn, not even when it is time to probe', async (t) => {
  const emails = users(7)
  const [portal] = await openQueue(t, emails, { max: 5, timeWindow: 60_000 })
  portal!.toolJet.faults = () => ({ reply: { status: 500 } })
  for (const email of emails.slice(0, 5)) t.equal((await portal!.ask(email)).body.code, 'TOOLJET_EMBED_UNAVAILABLE')
  const probe = (await portal!.keys()).find((key) => key.endsWith(':failures'))!.replace(/failures$/, 'probe')
  for (const email of emails.slice(5)) {
    await portal!.redis.del(probe) // it is time for one
    t.match((await portal!.ask(email)).body, { code: 'TOOLJET_EMBED_BUSY', queue: { etaSeconds: null } })
  }
})

test('one mint that hangs holds up nobody else, also while no limit is known', { timeout: 60_000 }, async (t) => {
  const emails = users(5)
  const portal = await Portal.open(t, { toolJet: { seed: seedOf(emails) } })
  portal.toolJet.faults = ({ body }) => (body['email'] === emails[0] ? { delayMs: 6000 } : undefined)
  const hanging = portal.ask(emails[0]!)
  await until('it hangs', () => portal.toolJet.calls.length === 1)
  const waited = stopwatch()
  for (const email of emails.slice(1)) t.equal((await portal.ask(email)).status, 200)
  t.ok(waited() < 4000)
  t.equal((await hanging).status, 200)
})

test('an instance that has not minted yet knows what Redis has lost', async (t) => {
  const emails = users(4)
  const [minting] = await openQueue(t, emails, { max: 1, timeWindow: 60_000 })
  await minting!.ask(emails[0]!)
  const { toolJet, prefix } = minting!
  const idle = await Portal.open(t, { options: { tooljet: { url: toolJet.url, apiToken: API_TOKEN, mintLimit: { max: 1, timeWindow: 60_000 } }, keyPrefix: prefix } })
  await until('it is counted', async () => (await minting!.redis.zcard((await minting!.keys()).find((key) => key.endsWith(':instances'))!)) === 2)
  await Promise.all((await minting!.keys()).filter((key) => /tooljet:/.test(key)).map((key) => minting!.redis.del(key)))
  t.match(await idle.ask(emails[1]!), { status: 429, body: { queue: { position: 1 } } }, 'the slot of this window may have been used')
})

test('what somebody has put into the keys of the queue stops nobody', { timeout: 60_000 }, async (t) => {
  const names = ['pause', 'failures', 'probe', 'calls', 'unminted', 'flight', 'queue', 'due', 'tickets', 'instances', 'budget']
  for (const mintLimit of [{ max: 50, timeWindow: 300 }, 'auto'] as const) {
    const emails = users(2 * names.length + 2)
    const portal = await Portal.open(t, { mintLimit, toolJet: { seed: seedOf(emails) }, options: { rateLimit: { max: 10_000 } } })
    await portal.ask(emails[0]!)
    const key = (await portal.keys()).find((key) => key.endsWith(':budget'))!
    let next = 1
    for (const name of names) {
      const spoilt = key.replace(/budget$/, name)
      for (const plant of [() => portal.redis.set(spoilt, 'junk'), () => portal.redis.rpush(spoilt, 'junk')]) {
        await portal.redis.del(spoilt)
        await plant()
        const email = emails[next++]!
        await until(`${email} is served in spite of ${JSON.stringify(mintLimit)} ${name}`, async () => (await portal.ask(email)).status === 200)
      }
    }
    await portal.redis.hset(key, 'epoch', 'x', 'began', 'junk', 'limit', 'junk', 'window', '-5', 'probes', '1e999', 'recovers', '99999999999999', 'blackout', '99999999999999', 'hour', '{')
    await portal.redis.zadd(key.replace('budget', 'due'), 1, 'junk', 1, 'a b c', 1, '')
    await portal.redis.zadd(key.replace('budget', 'queue'), 0, 'junk', 0, '')
    await portal.redis.hset(key.replace('budget', 'tickets'), 'junk', 'a b c d;;;')
    await until('all is well again', async () => (await portal.ask(emails.at(-1)!)).status === 200)
  }
})

test('a slot that nobody with a better right comes for goes to the next who asks', async (t) => {
  const [other, portal] = await openQueue(t, [ANA, BEN, CLEO], { instances: 2, max: 1, timeWindow: 60_000 })
  await other!.ask(ANA)
  t.match(await portal!.ask(BEN), { status: 429, body: { queue: { position: 1 } } })
  await portal!.redis.del((await portal!.keys()).find((key) => key.endsWith(':calls'))!) // free sooner than BEN was told
  t.match(await portal!.ask(CLEO), { status: 429, body: { queue: { position: 2 } } }, 'it is his')
  await until('the time for it is over', async () => (await portal!.ask(CLEO)).status === 200)
  t.match(await portal!.ask(BEN), { status: 429, body: { queue: { position: 1 } } })
})

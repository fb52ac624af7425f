import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { t as tap, test } from 'tap'
import { startFleet } from './support/fleet.js'
import { ANA, BEN, readStream, releaseRedisAfter, SALES, type Reply } from './support/portal.js'
import { cacheFields } from './support/redis.js'
import { longestStall } from './support/stopwatch.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

const bodiesOf = (replies: Reply[]) => replies.map(({ body }) => body)

test('1,000 asks of one user for one app over 4 processes: one mint, equal URLs, an event each', { timeout: 60_000 }, async (t) => {
  const { instances, toolJet, audit } = await startFleet(t, 4, { options: { rateLimit: false } })
  toolJet.faults = () => ({ delayMs: 150 })
  const replies = await Promise.all(Array.from({ length: 1000 }, (_, i) => instances[i % 4]!.ask(ANA)))
  t.ok(replies.every(({ status }) => status === 200))
  t.equal(toolJet.calls.length, 1)
  t.equal(new Set(bodiesOf(replies).map(({ redirectUrl }) => redirectUrl)).size, 1)
  t.equal(bodiesOf(replies).filter(({ source }) => source === 'minted').length, 1)
  const events = await audit(1000)
  t.equal(events.length, 1000)
  t.equal(events.filter(({ event }) => event === 'url.minted').length, 1)
})

test('200 users at once over 4 processes: 200 mints, each for its own user', { timeout: 60_000 }, async (t) => {
  const users = Array.from({ length: 200 }, (_, i) => ({ email: `user${i}@acme.test`, apps: [SALES.slug] }))
  const { instances, toolJet, audit } = await startFleet(t, 4, { toolJet: { seed: { users, apps: [SALES] } } })
  const asks = users.flatMap((user) => instances.map(async (instance) => ({ email: user.email, reply: await instance.ask(user.email) })))
  const answers = await Promise.all(asks)
  t.ok(answers.every(({ reply }) => reply.status === 200))
  t.equal(toolJet.calls.length, 200)
  t.equal(new Set(toolJet.calls.map(({ body }) => body['email'])).size, 200)
  t.ok(answers.every(({ email, reply }) => toolJet.tokenOf(reply.body.redirectUrl)?.email === email), 'nobody has another one\'s URL')
  t.equal((await audit(800)).length, 800)
})

test('instances whose dates are 10 minutes off give the same answers', { timeout: 60_000 }, async (t) => {
  const [off, lifeMs] = [10 * 60_000, 8000]
  const { instances, toolJet, redis, prefix, audit } = await startFleet(t, 3, { options: { patExpiry: lifeMs / 1000, minRemaining: 1 }, shiftsMs: [0, off, -off] })
  const [right, ahead, behind] = instances.map(({ date }) => date) as [number, number, number]
  t.ok(ahead - right > off - 60_000 && right - behind > off - 60_000, 'the dates really are off')
  for (const first of [0, 1, 2]) {
    const email = [ANA, BEN, 'dev@tooljet.io'][first]!
    const { body: minted } = await instances[first]!.ask(email)
    t.equal(minted.source, 'minted')
    t.ok(Math.abs(Date.parse(minted.expiresAt) - toolJet.calls[first]!.at - lifeMs) < 60_000, minted.expiresAt)
    for (const instance of instances) {
      const { body } = await instance.ask(email)
      t.match(body, { source: 'reused', urlId: minted.urlId, expiresAt: minted.expiresAt, redirectUrl: minted.redirectUrl })
      t.ok(body.expiresIn >= 1 && body.expiresIn < lifeMs / 1000, `${body.expiresIn}`)
    }
  }
  t.equal(toolJet.calls.length, 3)
  await until('less than minRemaining is left', () => Date.now() > toolJet.calls[2]!.at + lifeMs - 900)
  for (const instance of instances) await instance.ask('dev@tooljet.io')
  t.equal(toolJet.calls.length, 4, 'all take the URL for old at the same time')
  await audit(15)
  for (const { time } of await readStream(redis, `${prefix}audit`)) t.ok(Math.abs(Date.parse(time!) - Date.now()) < 60_000, `the log tells Redis's time: ${time}`)
})

test('rateLimit max 5 over 4 processes, by route and decorator: 5 answers a window for one user', { timeout: 60_000 }, async (t) => {
  const { instances, audit, redis, prefix } = await startFleet(t, 4, { options: { rateLimit: { max: 5 } } })
  const replies = await Promise.all(Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? instances[i % 4]!.ask(ANA) : instances[i % 4]!.askByDecorator(ANA))))
  t.equal(replies.filter(({ status }) => status === 200).length, 5)
  const limited = replies.filter(({ status }) => status === 429)
  t.equal(limited.length, 35)
  t.ok(limited.every(({ body, headers }) => body.code === 'TOOLJET_EMBED_RATE_LIMITED' && Number(headers['retry-after']) > 50))
  const byRoute = limited.find(({ headers }) => headers['x-ratelimit-limit'] !== undefined)!
  t.match(byRoute.headers, { 'x-ratelimit-limit': '5', 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': /^\d+$/ })
  t.equal((await instances[0]!.ask(BEN)).status, 200, 'another user is not affected')
  const events = await audit(10)
  t.equal(events.filter(({ event, code }) => event === 'url.limited' && code === 'TOOLJET_EMBED_RATE_LIMITED').length, 4, 'one of each instance, the others later in sum')

  const counters = await redis.keys(`{${prefix}*}:limit:requests`)
  for (const counter of counters) await redis.persist(counter)
  t.equal((await instances[0]!.ask(ANA)).status, 429)
  await instances[0]!.ask(BEN)
  for (const counter of counters) t.ok(await redis.pttl(counter) > 0, 'a counter that lost its end gets one again')
})

test('one user cannot use up ToolJet for all: by made-up apps, or by replaces', { timeout: 60_000 }, async (t) => {
  const { instances, toolJet } = await startFleet(t, 2)
  const madeUp = await Promise.all(Array.from({ length: 60 }, (_, i) => instances[i % 2]!.ask(ANA, { appId: randomUUID() })))
  t.ok(toolJet.calls.length <= 6, `${toolJet.calls.length} calls`)
  t.equal(madeUp.filter(({ body }) => body.code === 'TOOLJET_EMBED_APP_NOT_FOUND').length, toolJet.calls.length)
  t.equal(madeUp.filter(({ body }) => body.code === 'TOOLJET_EMBED_RATE_LIMITED').length, 60 - toolJet.calls.length)

  const before = toolJet.calls.length
  let { body } = await instances[0]!.ask(BEN)
  for (let i = 0; i < 58; i++) {
    const reply = await instances[i % 2]!.ask(BEN, { appId: SALES.id, replaces: body.urlId })
    if (reply.status === 200) body = reply.body
    else t.equal(reply.body.code, 'TOOLJET_EMBED_RATE_LIMITED')
  }
  t.equal(toolJet.calls.length - before, 6)
  t.equal((await instances[1]!.ask('dev@tooljet.io')).status, 200, 'others still mint')
})

test('mints are counted only when an ask really goes to ToolJet', async (t) => {
  const { instances, toolJet } = await startFleet(t, 1, { options: { rateLimit: { max: 10_000, mints: 2 } } })
  toolJet.faults = () => ({ reply: { status: 429, headers: { 'retry-after': '1' } } })
  for (let i = 0; i < 5; i++) t.equal((await instances[0]!.ask(ANA)).body.code, 'TOOLJET_EMBED_BUSY')
  toolJet.faults = undefined
  await until('the pause is over', async () => (await instances[0]!.ask(ANA)).status === 200)
  for (let i = 0; i < 5; i++) t.equal((await instances[0]!.ask(ANA)).body.source, 'reused')
  t.equal(toolJet.calls.length, 2)
  const limited = await instances[0]!.ask(ANA, { appSlug: 'made-up' })
  t.match(limited, { status: 429, body: { code: 'TOOLJET_EMBED_RATE_LIMITED' } })
  t.equal(toolJet.calls.length, 2)
})

// 1000 ms for the mint and five waits for Redis of 500 ms
const QUICK = { tooljet: { url: '', apiToken: '', timeoutMs: 1000 }, redisTimeoutMs: 500 }
const LOCK_BOUND_MS = 3500

test('kill -9 of the one who mints delays the others by no more than the lock\'s bound, and they mint once', { timeout: 60_000 }, async (t) => {
  const { tooljet: { timeoutMs }, redisTimeoutMs } = QUICK
  const { instances, toolJet, redis, prefix, audit } = await startFleet(t, 4, { options: { tooljet: { timeoutMs } as never, redisTimeoutMs } })
  toolJet.faults = () => (toolJet.calls.length === 1 ? { hang: true } : undefined)
  const lost = instances[0]!.ask(ANA).catch(() => 'lost')
  await until('the mint is under way', () => toolJet.calls.length === 1)
  const [, begins, ends] = (await cacheFields(redis, prefix, 'lock'))[0]!.value.toString().split(' ').map(Number)
  t.equal(ends! - begins!, LOCK_BOUND_MS)
  const waiting = [1, 2, 3].flatMap((i) => [instances[i]!.ask(ANA), instances[i]!.ask(ANA)])
  await sleep(100) // let them wait
  const stalled = longestStall()
  const killedAt = performance.now()
  await instances[0]!.kill()
  const replies = await Promise.all(waiting)
  const delay = performance.now() - killedAt
  t.ok(replies.every(({ status }) => status === 200))
  t.equal(await lost, 'lost')
  t.equal(toolJet.mints.length, 1)
  t.equal(toolJet.calls.length, 2)
  t.equal(new Set(bodiesOf(replies).map(({ urlId }) => urlId)).size, 1)
  const boundMs = LOCK_BOUND_MS + 3000 + 2 * stalled()
  t.ok(delay < boundMs, `${Math.round(delay)} ms, of ${Math.round(boundMs)}`)
  t.equal((await audit(6)).length, 6)
})

test('a holder that comes too late does not overwrite a newer URL', { timeout: 60_000 }, async (t) => {
  const { tooljet: { timeoutMs }, redisTimeoutMs } = QUICK
  const { instances: [late, quick], toolJet } = await startFleet(t, 2, { options: { tooljet: { timeoutMs } as never, redisTimeoutMs }, toolJet: { tokens: 'replace' } })
  toolJet.faults = () => (toolJet.calls.length === 1 ? { delayMs: 200 } : undefined)
  const lateReply = late!.ask(ANA)
  await until('the mint is under way', () => toolJet.calls.length === 1)
  late!.process.kill('SIGSTOP')
  const quickReply = await quick!.ask(ANA)
  t.equal(quickReply.body.source, 'minted')
  late!.process.kill('SIGCONT')
  const { status, body } = await lateReply
  const { body: cached } = await quick!.ask(ANA)
  t.equal(cached.urlId, quickReply.body.urlId)
  t.ok(toolJet.tokens.isAlive(toolJet.tokenOf(cached.redirectUrl)!.token))
  if (status === 200) t.match(body, { source: 'reused', urlId: cached.urlId })
  else t.equal(body.code, 'TOOLJET_EMBED_TIMEOUT', 'its own deadline passed while it was stopped')
})

test('an instance that is stopped ends its chain, and leaves nothing behind', { timeout: 60_000 }, async (t) => {
  const { instances, redis, prefix } = await startFleet(t, 1)
  await instances[0]!.ask(ANA)
  t.equal(await instances[0]!.stop(), 0)
  const last = await redis.xrevrange(`${prefix}audit`, '+', '-', 'COUNT', 1)
  t.ok(last[0]![1].includes('audit.closed'))
  t.same(await redis.keys(`*${prefix}*lock*`), [])
})

test('a rush of 150 users over 4 processes, one of which is killed: turns in order, no window above the limit, slots in use', { timeout: 120_000 }, async (t) => {
  const [max, timeWindow] = [10, 3000]
  const stalled = longestStall()
  const emails = Array.from({ length: 150 }, (_, i) => `user${i}@acme.test`)
  const { instances, toolJet } = await startFleet(t, 4, {
    options: { tooljet: { mintLimit: { max, timeWindow } } as never },
    toolJet: { seed: { users: emails.map((email) => ({ email, apps: [SALES.slug] })), apps: [SALES] } },
  })
  toolJet.faults = () => ({ delayMs: 50 })
  const requests: number[] = []
  let slowestMs = 0
  const killed = sleep(12_000).then(() => instances[0]!.kill())
  await Promise.all(emails.map(async (email, i) => {
    await sleep(i * 20)
    let ticket: string | undefined
    for (requests[i] = 1; ; requests[i]!++) {
      const asked = performance.now()
      const reply = await instances[Math.floor(Math.random() * 4)]!.ask(email, { appId: SALES.id, ...(ticket !== undefined && { ticket }) }).catch(() => undefined)
      slowestMs = Math.max(slowestMs, performance.now() - asked)
      if (reply?.status === 200) return
      ticket = reply?.body.queue?.ticket ?? ticket
      await sleep(1000 * (reply?.body.retryAfter ?? 0.1))
      if (reply === undefined) requests[i]!-- // of a process that is gone
    }
  }))
  await killed
  const calls = toolJet.calls.map(({ at, body }) => ({ at, user: emails.indexOf(String(body['email'])) })).sort((one, other) => one.at - other.at)
  t.ok(calls.length <= 152, `${calls.length} calls: one for each, and those that died`)
  const lagMs = 150 + 2 * stalled()
  t.same(calls.filter(({ at }, i) => calls[i + max] !== undefined && calls[i + max]!.at - at < timeWindow - lagMs), [], `no window sees more, as far as ToolJet sees it: ${lagMs} ms too late`)
  // of slots that come free together, each goes to whoever of their owners asks first; and on a busy machine somebody asks late
  const pairs = calls.flatMap(({ user, at }, i) => calls.slice(i + 1).map((later) => later.user < user && later.at - at > timeWindow + lagMs + slowestMs))
  const inversions = pairs.filter((isWrong) => isWrong).length / pairs.length
  t.ok(inversions < 0.02, `${inversions} of the pairs in the wrong order`)
  const slotsUsed = calls.length / ((calls.at(-1)!.at - calls[0]!.at) / timeWindow * max)
  t.ok(slotsUsed >= 0.9, `${slotsUsed} of the slots used`)
  t.ok(Math.max(...requests) <= 12, `${Math.max(...requests)} requests`)
})

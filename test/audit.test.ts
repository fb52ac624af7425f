import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { pino } from 'pino'
import { t as tap, test, type Test } from 'tap'
import { startServer } from '../example/redis.js'
import { toQueued, type QueuedEvent } from '../plugin/audit/append.js'
import { bound, toFields, type AuditEvent } from '../plugin/audit/event.js'
import { AuditKeys } from '../plugin/audit/audit-keys.js'
import { EventSigner } from '../plugin/audit/signer.js'
import { AuditStream } from '../plugin/audit/stream.js'
import { AuditWriter } from '../plugin/audit/writer.js'
import { ANA, API_TOKEN, BEN, CLEO, INVENTORY, Portal, readStream, redisIsBack, releaseRedisAfter, SALES } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { holdUp } from './support/redis.js'
import { stopwatch } from './support/stopwatch.js'
import { until } from './support/until.js'
import type { Timers } from '../plugin/timers.js'
import { verifyAudit } from '../plugin/audit/verify.js'
import { deriveKeys } from '../plugin/crypto/secret-keys.js'
import { wayToRedis } from './support/way-to-redis.js'

releaseRedisAfter(tap)

/** For a Redis that is made to keep silent; one that is there answers sooner on a busy machine, too. */
const OUTAGE_MS = 800

test('an entry has flat, readable fields, and the log has the same', async (t) => {
  const portal = await Portal.open(t)
  const { body } = await portal.ask(ANA, { appId: SALES.id }, { 'user-agent': 'Firefox/1', 'x-request-id': 'x' })
  await portal.ask(CLEO)
  await portal.app.tooljetEmbed.forget({ email: ANA, appId: SALES.id })
  const [opened, minted, denied, forgotten] = await portal.audit({ all: true }) as [Record<string, string>, Record<string, string>, Record<string, string>, Record<string, string>]
  t.match(opened, { event: 'audit.opened', outcome: 'success', retention: '90d/1000000', seq: '1', schema: '2' })
  t.notOk('prev' in opened)
  t.same(Object.keys(minted), ['time', 'event', 'outcome', 'email', 'app', 'url_id', 'expires_at', 'request_id', 'ip', 'user_agent', 'duration_ms', 'instance', 'seq', 'prev', 'schema', 'mac'])
  t.match(minted, {
    time: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/,
    event: 'url.minted',
    outcome: 'success',
    email: ANA,
    app: SALES.id,
    url_id: body.urlId,
    expires_at: body.expiresAt,
    request_id: /^req-/,
    ip: '127.0.0.1',
    user_agent: 'Firefox/1',
    duration_ms: /^\d+$/,
    seq: '2',
    prev: opened['mac']!,
    schema: '2',
    mac: /^[\da-z]+\.[\w-]{43}$/,
    instance: opened['instance']!,
  })
  t.match(denied, { event: 'url.denied', outcome: 'failure', code: 'TOOLJET_EMBED_ACCESS_DENIED', email: CLEO })
  t.notOk('url_id' in denied)
  t.match(forgotten, { event: 'url.forgotten', outcome: 'success', email: ANA, app: SALES.id })
  const logged = portal.logLines.filter((line) => 'tooljetEmbedAudit' in line)
  t.same(logged.map((line) => line['tooljetEmbedAudit']), [opened, minted, denied, forgotten])
  t.ok(logged.every(({ level }) => level === 30))
})

test('every kind of answer leaves one event', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: { max: 7 }, apps: { sales: { appId: SALES.id }, stock: { appId: INVENTORY.id } } } })
  await portal.ask(ANA, { app: 'sales' })
  await portal.askByDecorator(ANA, { app: 'sales' })
  await portal.ask(ANA, { app: 'other' })
  await portal.ask(ANA, { app: 'sales', email: CLEO })
  await portal.ask(ANA, '{')
  portal.toolJet.faults = () => ({ reply: { status: 500 } })
  await portal.ask(ANA, { app: 'stock' })
  portal.toolJet.faults = () => ({ reply: { status: 429 } })
  await portal.ask(ANA, { app: 'stock' })
  await portal.ask(ANA, { app: 'sales' })
  const events = (await portal.audit()).map(({ event, code, app }) => [event, code?.replace('TOOLJET_EMBED_', ''), app])
  t.same(events, [
    ['url.minted', undefined, 'sales'],
    ['url.reused', undefined, 'sales'],
    ['url.denied', 'APP_NOT_ALLOWED', 'other'],
    ['url.denied', 'EMAIL_MISMATCH', 'sales'],
    ['url.denied', 'FST_ERR_CTP_INVALID_JSON_BODY', undefined],
    ['url.failed', 'UNAVAILABLE', 'stock'],
    ['url.limited', 'BUSY', 'stock'],
    ['url.limited', 'RATE_LIMITED', 'sales'],
  ])
})

test('audit.logger takes the lines, audit.stream names the stream', async (t) => {
  const lines: string[] = []
  const logger = pino({}, new Writable({ write (chunk, _encoding, done) { lines.push(String(chunk)); done() } }))
  const portal = await Portal.open(t)
  const stream = `${portal.prefix}elsewhere`
  const other = await Portal.open(t, { options: { redis: portal.redis, keyPrefix: portal.prefix, audit: { logger, stream } } })
  await other.ask(ANA)
  t.match(lines.map((line) => (JSON.parse(line) as { tooljetEmbedAudit: object }).tooljetEmbedAudit), [{ event: 'audit.opened' }, { event: 'url.minted' }])
  t.notOk(other.logLines.some((line) => 'tooljetEmbedAudit' in line))
  await other.app.close()
  t.match(await readStream(portal.redis, stream), [{ event: 'audit.opened' }, { event: 'url.minted' }, { event: 'audit.closed' }])
})

test('what a client chose is bounded, and a token in it is not kept', async (t) => {
  const portal = await Portal.open(t)
  await portal.ask(ANA, { appId: SALES.id }, { 'user-agent': `x pat_0123456789abcdef ${portal.bearer(ANA).authorization} ${'y'.repeat(1000)}` })
  const [{ user_agent: agent }] = await portal.audit() as [{ user_agent: string }]
  t.match(agent, /^x \[redacted\] Bearer \[redacted\]/)
  t.ok(agent.length <= 256)
})

test('the stream is trimmed by size and by age', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: false, audit: { maxEntries: 100, retentionDays: 1 } } })
  const stream = `${portal.prefix}audit`
  const old = Date.now() - 2 * 86_400_000
  // stream nodes hold 100 entries, and only whole ones are trimmed
  const other = `${portal.prefix}old`
  for (let i = 0; i < 250; i++) await portal.redis.xadd(other, `${old + i}-0`, 'event', 'old')
  await portal.redis.del(stream)
  await portal.redis.rename(other, stream)
  await portal.ask(ANA)
  t.ok(await until('what is old is trimmed', async () => (await readStream(portal.redis, stream)).filter(({ event }) => event === 'old').length <= 100), 'by age')
  for (let i = 0; i < 400; i++) await portal.ask(ANA)
  await portal.audit()
  t.ok(await until('what is too much is trimmed', async () => await portal.redis.xlen(stream) < 250), 'by size')
})

test('retentionDays 0 and maxEntries 0 keep all', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: false, audit: { maxEntries: 0, retentionDays: 0 } } })
  const stream = `${portal.prefix}audit`
  await portal.audit()
  await portal.redis.del(stream)
  for (let i = 0; i < 250; i++) await portal.redis.xadd(stream, `${i + 1}-0`, 'event', 'old')
  for (let i = 0; i < 50; i++) await portal.ask(ANA)
  await portal.audit()
  t.equal(await portal.redis.xlen(stream), 300)
})

test("delivery 'required': no URL leaves before its event is in Redis", { timeout: 60_000 }, async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const portal = await Portal.open(t, { redisUrl: server.url, options: { audit: { delivery: 'required' }, redisTimeoutMs: OUTAGE_MS } })
  const { status, body } = await portal.ask(ANA)
  t.equal(status, 200)
  t.match((await readStream(portal.redis, `${portal.prefix}audit`)).at(-1), { event: 'url.minted', url_id: body.urlId }, 'it is there when the answer is')

  server.process.kill('SIGSTOP')
  const refused = await portal.ask(ANA)
  t.match(refused, { status: 503, headers: { 'retry-after': '1' }, body: { code: 'TOOLJET_EMBED_REDIS_DOWN' } })
  t.equal((await portal.ask(BEN)).status, 503)
  t.equal(portal.toolJet.calls.length, 1, 'no mint for a URL that could not leave')
  server.process.kill('SIGCONT')
  await until('Redis is seen to be back', async () => (await portal.ask(ANA)).status === 200)
  const events = await portal.audit()
  t.match(events.find(({ code }) => code === 'TOOLJET_EMBED_REDIS_DOWN'), { event: 'url.failed', email: ANA })
  t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true })
})

test("delivery 'required': a URL that could not leave has no event that says it did", { timeout: 60_000 }, async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const portal = await Portal.open(t, { redisUrl: server.url, options: { audit: { delivery: 'required' }, redisTimeoutMs: OUTAGE_MS } })
  await portal.audit({ all: true })
  portal.toolJet.faults = () => { server.process.kill('SIGSTOP'); return { delayMs: 50 } }
  t.match(await portal.ask(ANA), { status: 503, body: { code: 'TOOLJET_EMBED_REDIS_DOWN' } })
  t.equal(portal.toolJet.mints.length, 1)
  server.process.kill('SIGCONT')
  t.match(await portal.audit(), [{ event: 'url.failed', code: 'TOOLJET_EMBED_REDIS_DOWN', url_id: undefined }])
})

test("delivery 'required': an event whose writing is in doubt is followed by what became of the answer", async (t) => {
  const lateOnce = { held: false }
  const behind = await Portal.open(t)
  const redis = holdUp(behind.redis, (args) => {
    const isAppend = args[2] === `${behind.prefix}audit` && String(args).includes('url.minted')
    return isAppend && !lateOnce.held && (lateOnce.held = true)
  }, 2 * OUTAGE_MS)
  const portal = await Portal.open(t, { options: { redis, keyPrefix: behind.prefix, audit: { delivery: 'required' }, redisTimeoutMs: OUTAGE_MS, onRedisDown: 'fail' } })
  await until('the scripts are known', async () => (await portal.ask(CLEO)).status === 403)
  t.match(await portal.ask(ANA), { status: 503, body: { code: 'TOOLJET_EMBED_REDIS_DOWN' } })
  t.ok(lateOnce.held)
  await until('Redis is seen to be back', async () => (await portal.ask(ANA)).status === 200)
  const ofAna = (await behind.audit()).filter(({ email, outcome, code }) => email === ANA && (outcome === 'success' || code === 'TOOLJET_EMBED_REDIS_DOWN'))
  t.match(ofAna.slice(0, 2), [{ event: 'url.minted' }, { event: 'url.failed', code: 'TOOLJET_EMBED_REDIS_DOWN', url_id: ofAna[0]!['url_id'] }])
})

test('events wait while Redis is away, and are written once each when it is back', { timeout: 60_000 }, async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const portal = await Portal.open(t, { redisUrl: server.url, options: { redisTimeoutMs: OUTAGE_MS } })
  await portal.ask(ANA)
  server.process.kill('SIGSTOP')
  for (let i = 0; i < 20; i++) t.equal((await portal.ask(ANA)).status, 200)
  t.ok((await portal.app.tooljetEmbed.health()).audit.backlog >= 20)
  server.process.kill('SIGCONT')
  t.equal((await portal.audit()).length, 21)
  t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true, instances: [{ firstSeq: 1, lastSeq: 22 }] })
})

test('what cannot be written at exit is in the log at level error, with all fields', { timeout: 60_000 }, async (t) => {
  const server = await startServer()
  const portal = await Portal.open(t, { redisUrl: server.url, options: { redisTimeoutMs: OUTAGE_MS } })
  await portal.audit({ all: true })
  await server.stop()
  await portal.ask(ANA)
  const waited = stopwatch()
  await portal.app.close()
  t.ok(waited() < 5 * OUTAGE_MS, 'within a bound')
  const lost = portal.logLines.filter(({ level, msg }) => level === 50 && /could not be written/.test(String(msg))).map((line) => line['tooljetEmbedAudit'])
  t.match(lost, [{ event: 'url.minted', email: ANA, seq: '2', mac: /./ }, { event: 'audit.closed', seq: '3' }])
})

test('a client that resends after a reconnect adds no event twice', { timeout: 60_000 }, async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const killer = newClient(server.url)
  t.teardown(() => killer.disconnect())
  const portal = await Portal.open(t, { redisUrl: server.url, options: { rateLimit: false } })
  await portal.ask(ANA)
  const asks = Array.from({ length: 300 }, () => portal.ask(ANA))
  const cuts = (async () => { for (let i = 0; i < 30; i++) await killer.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes') })()
  await Promise.all([...asks, cuts])
  t.equal((await portal.audit()).length, 301)
  t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true, instances: [{ lastSeq: 302 }] })
})

test('a batch that lands after its deadline is not written again', { timeout: 60_000 }, async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const admin = newClient(server.url)
  t.teardown(() => admin.disconnect())
  const portal = await Portal.open(t, { redisUrl: server.url, options: { redisTimeoutMs: OUTAGE_MS, rateLimit: false } })
  await portal.ask(ANA)
  await portal.audit()
  await admin.call('CLIENT', 'PAUSE', String(3 * OUTAGE_MS), 'WRITE') // reads are answered, scripts wait and are carried out then
  for (let i = 0; i < 5; i++) await portal.ask(ANA, {})
  await until('the write has failed', () => portal.logLines.some(({ msg }) => /Redis connection lost/.test(String(msg))))
  t.equal((await portal.audit()).length, 6)
  t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true, instances: [{ lastSeq: 7 }] })
})

type WriterStream = ConstructorParameters<typeof AuditWriter>[0]['stream']

/** A writer whose stream is this one, but for what a test does otherwise. */
function writerOn (timers: Timers, stream: AuditStream, otherwise: Partial<WriterStream>): AuditWriter {
  const own: WriterStream = {
    isUnavailable: false,
    startOfWrite: () => stream.startOfWrite(),
    append: (...args) => stream.append(...args),
    find: (...args) => stream.find(...args),
    trimIndex () {},
  }
  return new AuditWriter({ stream: { ...own, ...otherwise }, timers, onLost () {}, onProblem () {} }, 'me', { maxBacklog: 100, gatherMs: 0 })
}

/** Events of one instance, and what writes them to a stream of their own. */
async function ownStream (t: Test) {
  const portal = await Portal.open(t)
  const way = await wayToRedis(portal.redis, 5000, portal.app.log)
  const settings = { stream: `${portal.prefix}own`, retentionMs: 0, maxEntries: 0 }
  const stream = new AuditStream(way, settings)
  const signer = new EventSigner([Buffer.alloc(32)], settings.stream)
  let prev = ''
  let seq = 0
  const next = (instance = 'me'): QueuedEvent => {
    const fields = { time: new Date().toISOString(), event: 'url.reused', email: ANA, app: 'sales', instance, seq: String(++seq), ...(prev !== '' && { prev }), schema: '2' }
    const signed = signer.sign(fields, Date.parse(fields.time))
    prev = signed.mac
    return toQueued(signed, fields, stream.keys)
  }
  const entries = async () => (await readStream(portal.redis, settings.stream)).filter(({ instance }) => instance === 'me')
  return { portal, redis: portal.redis, way, stream, keys: stream.keys, next, entries, signer }
}

test('an event that comes just when the last batch is written does not wait for the next one', async (t) => {
  const { way: { timers }, stream, next } = await ownStream(t)
  const writer = new AuditWriter({ stream, timers, onLost () {}, onProblem () {} }, 'me', { maxBacklog: 100, gatherMs: 0 })
  const write = () => writer.addAndWait(next())
  for (let steps = 0; steps < 12; steps++) {
    await write()
    for (let i = 0; i < steps; i++) await undefined
    t.equal(await Promise.race([write().then(() => 'written'), sleep(3000, 'still waiting', { ref: false })]), 'written', `${steps} steps later`)
  }
})

test('a batch is written once, however often it is sent, and whatever else says that it is', async (t) => {
  const { redis, stream, keys, next, entries } = await ownStream(t)
  const [one, two, three] = [next(), next(), next()] as [QueuedEvent, QueuedEvent, QueuedEvent]
  const { last } = (await stream.append('me', [one, two], undefined, ''))!
  t.equal(last?.mac, two.mac)
  t.match(await stream.append('me', [one, two], undefined, ''), { written: 2, last: { mac: two.mac } }, 'sent again')
  t.match(await stream.append('me', [one, two, three], undefined, ''), { written: 3, last: { mac: three.mac } }, 'with one more')
  t.match(await stream.append('me', [one, two], undefined, ''), { written: 0, otherMark: String }, 'an attempt that comes after what was written since')
  t.match(await stream.append('me', [one, two], undefined, last!.id), { written: 0, otherMark: String }, 'likewise')
  t.same((await entries()).map(({ mac }) => mac), [one.mac, two.mac, three.mac])
  t.same((await entries()).map(({ seq }) => seq), ['1', '2', '3'], 'each with its own values')
  t.same(await redis.hget(keys.index, 'entries'), '3')
  t.match(Object.values(await redis.hgetall(keys.counts)), [/^3 \d\d:3$/, /^-\turl.reused\t-\n$/])

  const written = keys.written('me')
  const other = await redis.xadd(keys.stream, '*', 'instance', 'me', 'seq', '9007199254740991', 'mac', 'x')
  for (const mark of ['9007199254740991', '18446744073709551615-18446744073709551615', other!, 'x', '1-', '']) {
    await redis.set(written, mark)
    const event = next()
    t.match(await stream.append('me', [event], undefined, ''), mark === '' ? { written: 1 } : { written: 0, otherMark: mark.slice(0, 10) }, `the mark is "${mark}"`)
    t.match(await stream.append('me', [event], undefined, mark), { written: 1, last: { mac: event.mac } }, `the mark "${mark}" is known`)
    t.equal((await entries()).at(-1)!['mac'], event.mac)
  }
  await redis.del(written)
  await redis.lpush(written, 'of another type')
  t.match(await stream.append('me', [next()], undefined, ''), { written: 1 })
})

test('marks that change all the time keep no event from the stream', async (t) => {
  const { redis, way, stream, keys, next, entries } = await ownStream(t)
  let changes = 0
  const writer = writerOn(way.timers, stream, {
    async append (...args) {
      await redis.set(keys.written('me'), `${++changes}-1`)
      return stream.append(...args)
    },
  })
  const events = [next(), next(), next()]
  for (const event of events) await writer.addAndWait(event)
  t.same((await entries()).map(({ mac }) => mac), events.map(({ mac }) => mac))
})

test('forged entries and marks keep no event from the stream, be its writing in doubt or not', { timeout: 60_000 }, async (t) => {
  const behind = await Portal.open(t)
  const lost = { answer: false }
  const redis = holdUp(behind.redis, (args) => String(args).includes('url.minted') && !lost.answer && (lost.answer = true), 2 * OUTAGE_MS)
  const portal = await Portal.open(t, { options: { redis, keyPrefix: behind.prefix, redisTimeoutMs: OUTAGE_MS, audit: { delivery: 'required' } } })
  const { instance } = (await portal.app.tooljetEmbed.health()).audit
  const stream = `${behind.prefix}audit`
  const forge = async () => {
    const id = await behind.redis.xadd(stream, '*', 'event', 'url.minted', 'instance', instance, 'seq', '9007199254740991', 'schema', '2', 'mac', 'x')
    await behind.redis.set(new AuditKeys(stream).written(instance), id!)
  }
  await forge()
  t.equal((await portal.ask(ANA)).status, 503)
  await forge()
  await until('Redis is seen to be back', async () => (await portal.ask(ANA)).status === 200)
  await portal.audit()
  const events = (await readStream(behind.redis, stream)).filter((fields) => fields['instance'] === instance && fields['mac'] !== 'x')
  t.same(events.map(({ seq }) => Number(seq)), events.map((_, i) => i + 1))
  t.match(events.slice(1, 3), [{ event: 'url.minted' }, { event: 'url.failed' }])
  t.match((await portal.app.tooljetEmbed.audit.verify()).problems.filter(({ kind }) => kind !== 'index'), [{ kind: 'forged' }, { kind: 'forged' }])
})

test('an instance in doubt looks at what came since, and at each entry once', async (t) => {
  const { redis, way, stream, keys, next, entries } = await ownStream(t)
  const junk = redis.pipeline()
  for (let i = 0; i < 5000; i++) junk.xadd(keys.stream, `${i + 1}-0`, 'a', 'b')
  await junk.exec()
  await stream.append('other', [next('other')], undefined, '') // after which Redis's time is known
  let fails = 0
  let parts = 0
  const looked: string[] = []
  const reached: string[] = []
  const writer = writerOn(way.timers, stream, {
    async append (...args) {
      const isFirst = fails++ === 0
      if (isFirst) {
        const more = redis.pipeline()
        for (let i = 0; i < 1800; i++) more.xadd(keys.stream, '*', 'a', 'b')
        await more.exec()
      }
      const appended = await stream.append(...args)
      await redis.del(keys.written('me'))
      if (isFirst) throw new Error('the answer is lost')
      return appended
    },
    async find (macs, after) {
      if (++parts === 2) throw new Error('a part is lost')
      looked.push(after)
      const found = await stream.find(macs, after)
      reached.push(found.after)
      return found
    },
  })
  const events = [next(), next(), next()]
  await Promise.all(events.slice(0, 2).map((event) => writer.addAndWait(event).catch(() => {})))
  writer.add(events[2]!)
  await until('all is written', () => writer.backlog === 0)
  t.same((await entries()).map(({ mac }) => mac), events.map(({ mac }) => mac))
  t.ok(parseInt(looked[0]!, 10) > Date.now() - 60_000, 'from about when the batch was sent, and not from the start')
  t.same(looked.slice(1), reached.slice(0, -1), 'each part goes on where the one before has ended')
  t.ok(looked.length >= 2)
})

test('events in doubt are looked for in the stream, should Redis know no longer what it has', { timeout: 60_000 }, async (t) => {
  const behind = await Portal.open(t)
  const lost = { answer: false }
  const redis = holdUp(behind.redis, (args) => String(args).includes('url.minted') && !lost.answer && (lost.answer = true), 2 * OUTAGE_MS)
  const portal = await Portal.open(t, { options: { redis, keyPrefix: behind.prefix, redisTimeoutMs: OUTAGE_MS } })
  await portal.audit()
  await portal.ask(ANA)
  await until('the answer is lost', () => portal.logLines.some(({ msg }) => /Redis connection lost/.test(String(msg))))
  const { instance } = (await portal.app.tooljetEmbed.health()).audit
  t.equal(await behind.redis.del(new AuditKeys(`${behind.prefix}audit`).written(instance)), 1)
  for (let i = 0; i < 3; i++) await portal.ask(ANA)
  await redisIsBack([portal])
  await portal.audit()
  t.equal((await behind.audit()).length, 4)
  t.match(await behind.app.tooljetEmbed.audit.verify(), { ok: true })
})

for (const wasWritten of [false, true]) {
  test(`a batch whose reply is that it came late is written once: ${wasWritten ? 'it was, and sent again long after' : 'it was not'}`, async (t) => {
    const behind = await Portal.open(t)
    const late = { done: false }
    const redis = new Proxy(behind.redis, {
      get (target, name) {
        const method: unknown = Reflect.get(target, name)
        if (name !== 'evalshaBuffer') return typeof method === 'function' ? method.bind(target) : method
        return async (...args: [string, number, ...string[]]) => {
          const send = () => (method as (...args: unknown[]) => unknown).apply(target, args)
          if (!String(args).includes('url.minted') || late.done) return send()
          late.done = true
          if (wasWritten) {
            await send()
            const [, written] = args.slice(2)
            t.equal(await behind.redis.del(String(written)), 1, 'Redis knows it no more')
          }
          args[2 + args[1]] = '1' // the deadline
          return send()
        }
      },
    })
    const portal = await Portal.open(t, { options: { redis, keyPrefix: behind.prefix } })
    await portal.ask(ANA)
    await portal.audit()
    t.match(await behind.audit(), [{ event: 'url.minted' }])
    t.equal((await behind.audit()).length, 1)
    t.ok(late.done)
  })
}

test('who may not trim the log is told so once, and loses nothing', async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const admin = newClient(server.url)
  t.teardown(() => admin.disconnect())
  await admin.call('ACL', 'SETUSER', 'keeper', 'on', 'nopass', '~*', '+@all', '-xtrim')
  const redis = newClient(server.url.replace('redis://', 'redis://keeper:any@'))
  const portal = await Portal.open(t, { redis, options: { rateLimit: false, audit: { maxEntries: 10 } } })
  for (let i = 0; i < 150; i++) await portal.ask(ANA)
  t.equal((await portal.audit()).length, 150)
  const told = portal.logLines.filter(({ msg }) => /does not let this user trim/.test(String(msg)))
  t.match(told, [{ level: 50, reason: /can't run this command/ }])
  t.equal(told.length, 1)
})

test('past the bound of waiting events, an event is in the log at level error', { timeout: 60_000 }, async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const portal = await Portal.open(t, { redisUrl: server.url, options: { redisTimeoutMs: 1000, rateLimit: false, audit: { maxEntries: 0 } } })
  await portal.audit({ all: true })
  server.process.kill('SIGSTOP')
  for (let i = 0; i < 100; i++) await Promise.all(Array.from({ length: 101 }, () => portal.ask(ANA, {})))
  t.equal((await portal.app.tooljetEmbed.health()).audit.backlog, 10_000)
  const lost = portal.logLines.filter(({ level, tooljetEmbedAudit }) => level === 50 && tooljetEmbedAudit !== undefined)
  t.equal(lost.length, 100)
  server.process.kill('SIGCONT')
  t.equal((await portal.audit()).length, 10_000)
  t.match(await portal.app.tooljetEmbed.audit.verify(), { events: 10_001, problems: [{ kind: 'missing', detail: /the newest events of this instance/ }] })
  await portal.ask(ANA)
  await portal.audit()
  t.match((await portal.app.tooljetEmbed.audit.verify()).problems, [{ kind: 'gap' }], 'which an event after them shows')
})

test('a user who is refused again and again leaves two events for each window', { timeout: 60_000 }, async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: { max: 3, mints: 3, timeWindow: 1500 } } })
  // the mint queue has a fixed number of keys of its own
  const keys = async () => (await portal.redis.keys(`*${portal.prefix}*`)).filter((key) => !key.includes(':tooljet:')).length
  const before = await keys()
  let refused = 0
  const began = performance.now()
  while (performance.now() - began < 4000) {
    const replies = await Promise.all(Array.from({ length: 20 }, (_, i) => portal.ask(ANA, { appSlug: `made-up-${refused + i}` }, { 'user-agent': `agent ${refused + i}` })))
    refused += replies.filter(({ body }) => body.code === 'TOOLJET_EMBED_RATE_LIMITED').length
  }
  t.equal((await portal.ask(BEN, { appId: SALES.id })).status, 200)
  await portal.app.close()
  const events = await readStream(portal.redis, `${portal.prefix}audit`)
  const limited = events.filter(({ code }) => code === 'TOOLJET_EMBED_RATE_LIMITED')
  t.ok(limited.length >= 4 && limited.length <= 8, `${limited.length} events for ${refused} answers`)
  t.equal(limited.reduce((sum, { count = '1' }) => sum + Number(count), 0), refused)
  t.same(limited.map(({ count }) => count === undefined).slice(0, 2), [true, false])
  t.match(limited[1], { email: ANA, user_agent: /^agent \d+$/, request_id: /./, app: /^made-up-/ })
  t.match(events.at(-1), { event: 'audit.closed' })
  t.ok(events.some(({ event, email }) => event === 'url.minted' && email === BEN))
  t.ok(await keys() - before <= 20)
  t.match(await (await Portal.open(t, { options: { redis: portal.redis, keyPrefix: portal.prefix } })).app.tooljetEmbed.audit.verify(), { ok: true })
})

test("what the host's authorize throws leaves an event, a 401 and what cannot be read as well", async (t) => {
  const unreadable = (name: string) => Object.defineProperty(new Error('odd'), name, { get () { throw new Error('not for you') } })
  const cases: [thrown: unknown, status: number, event: object][] = [
    [Object.assign(new Error('log in again'), { statusCode: 401 }), 401, { event: 'url.denied', code: 'HTTP_401', email: ANA }],
    [{ status: 401, code: 'MINE' }, 401, { event: 'url.denied', code: 'MINE', email: ANA }],
    [unreadable('code'), 500, { event: 'url.failed', code: 'ERROR', email: ANA }],
    [unreadable('statusCode'), 500, { event: 'url.failed', code: 'ERROR', email: ANA }],
    [Object.assign(new Error('odd'), { code: { toString () { throw new Error('not for you') } } }), 500, { event: 'url.failed', code: 'ERROR', email: ANA }],
    [new Proxy({}, { get () { throw new Error('not for you') }, getPrototypeOf () { throw new Error('not for you') } }), 500, { event: 'url.failed', code: 'ERROR', email: ANA }],
  ]
  let thrown: unknown
  const portal = await Portal.open(t, { options: { authorize: () => { throw thrown } } })
  for (const [what, status] of cases) {
    thrown = what
    t.match(await portal.ask(ANA), { status, headers: { 'x-ratelimit-limit': '60' } })
  }
  t.match(await portal.audit(), cases.map(([, , event]) => event))
})

test("an error of a host's hook that cannot be read leaves an event, too", async (t) => {
  const portal = await Portal.open(t, {
    before: (app) => {
      app.addHook('preParsing', async ({ headers }) => {
        if (headers['x-odd'] !== undefined) throw new Proxy({}, { get () { throw new Error('not for you') }, getPrototypeOf () { throw new Error('not for you') } })
      })
    },
  })
  t.match(await portal.ask(ANA, undefined, { 'x-odd': '1' }), { status: 500, headers: { 'x-ratelimit-limit': '60' } })
  t.match(await portal.audit(), [{ event: 'url.failed', code: 'ERROR', email: ANA }])
})

test('an event says why it was refused, who is meant, and the trace', async (t) => {
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01'
  const portal = await Portal.open(t, { options: { rateLimit: false, apps: { sales: { appId: SALES.id }, stock: { appId: INVENTORY.id } }, authorize: (_request, { app }) => app !== 'stock' } })
  await portal.ask(ANA, { app: 'payroll' }, { traceparent })
  await portal.ask(ANA, { appSlug: 'payroll' }, { traceparent: traceparent.replaceAll(/[1-9a-f]/g, '0') })
  await portal.ask(ANA, { app: 'stock' })
  await portal.ask(ANA, { app: 'sales', email: ' Cleo@ACME.test' })
  await portal.app.tooljetEmbed.forget({ email: ANA, by: 'Omar', reason: 'left\u0001 €' })
  await t.rejects(portal.app.tooljetEmbed.forget({ email: ANA, by: 7 as never }), { code: 'TOOLJET_EMBED_BAD_REQUEST', message: /"by"/ })
  const events = await portal.audit()
  t.match(events, [
    { code: 'TOOLJET_EMBED_APP_NOT_ALLOWED', reason: 'unknown_alias', trace_id: '0af7651916cd43dd8448eb211c80319c' },
    { code: 'TOOLJET_EMBED_APP_NOT_ALLOWED', reason: 'not_listed', trace_id: undefined },
    { code: 'TOOLJET_EMBED_APP_NOT_ALLOWED', reason: 'not_authorized' },
    { code: 'TOOLJET_EMBED_EMAIL_MISMATCH', reason: 'other_user', email: ANA, target: CLEO },
    { event: 'url.forgotten', by: 'Omar', reason: 'left\ufffd €' },
  ])
  t.equal(events.length, 5)
  t.notOk(events[2]!['target'])
})

test("with identity 'hmac' nobody is named: not whose URL was asked for, nor who forgot", async (t) => {
  const portal = await Portal.open(t, { options: { audit: { identity: 'hmac' } } })
  await portal.ask(ANA, { appId: SALES.id, email: CLEO })
  await portal.ask(CLEO)
  await portal.app.tooljetEmbed.forget({ email: ANA, by: CLEO })
  const [mismatch, denied, forgotten] = await portal.audit() as [Record<string, string>, Record<string, string>, Record<string, string>]
  t.match(mismatch['target'], /^hmac:[\da-f]{32}$/)
  t.equal(denied['email'], mismatch['target'])
  t.equal(forgotten['by'], mismatch['target'])
})

test('a stream that was shortened, replaced or used up is told at once, and the rest is written', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: false } })
  const stream = `${portal.prefix}audit`
  const write = async () => { await portal.ask(ANA); await portal.audit() }
  const problem = async () => (await portal.app.tooljetEmbed.health()).audit.problem
  const told = () => portal.logLines.filter(({ level, msg }) => level === 50 && /audit stream/.test(String(msg)))
  await write()
  t.equal(await problem(), undefined)

  await portal.redis.xadd(stream, 'MAXLEN', '=', 0, '*', 'event', 'junk')
  await write()
  t.match(await problem(), { kind: 'shortened', since: /^\d{4}-/ })
  t.match(told(), [{ msg: /is gone from the audit stream/ }])
  t.match((await readStream(portal.redis, stream)).at(-1), { event: 'url.reused' })
  await write()
  t.equal(told().length, 1)

  const [id] = (await portal.redis.xrevrange(stream, '+', '-', 'COUNT', 1))[0]!
  await portal.redis.del(stream)
  await portal.redis.xadd(stream, id, 'event', 'junk')
  await write()
  t.match(await problem(), { kind: 'replaced' })
  t.equal(told().length, 2)

  await portal.redis.xadd(stream, '18446744073709551615-18446744073709551615', 'event', 'junk')
  const length = await portal.redis.xlen(stream)
  t.equal((await portal.ask(ANA)).status, 200)
  await until('it is told', async () => (await problem())?.kind === 'unwritable')
  t.equal((await portal.app.tooljetEmbed.health()).redis.state, 'up')
  t.match(portal.logLines.filter(({ level, tooljetEmbedAudit }) => level === 50 && tooljetEmbedAudit !== undefined).map((line) => line['tooljetEmbedAudit']), [{ event: 'url.reused' }])
  t.equal(await portal.redis.xlen(stream), length)
  t.equal((await portal.app.tooljetEmbed.health()).audit.backlog, 0)
  t.match((await portal.app.tooljetEmbed.audit.verify()).problems.map(({ kind, detail }) => `${kind} ${detail}`).join(), /missing the newest events of this instance/)

  await portal.redis.del(stream)
  await write()
  t.equal(await problem(), undefined)
  t.match(await readStream(portal.redis, stream), [{ event: 'url.reused' }])
})

test("delivery 'required': a stream that takes no entry refuses, and Redis is there", async (t) => {
  const portal = await Portal.open(t, { options: { audit: { delivery: 'required' } } })
  const stream = `${portal.prefix}audit`
  await portal.audit({ all: true })
  for (const spoil of [() => portal.redis.xadd(stream, '18446744073709551615-18446744073709551615', 'a', 'b'), () => portal.redis.set(stream, 'x')]) {
    await spoil()
    t.match(await portal.ask(ANA), { status: 503, body: { code: 'TOOLJET_EMBED_REDIS_DOWN' } })
    const { redis, audit } = await portal.app.tooljetEmbed.health()
    t.match({ redis, audit }, { redis: { state: 'up' }, audit: { problem: { kind: 'unwritable' } } })
    const mints = portal.toolJet.mints.length
    t.equal((await portal.ask(ANA)).status, 503)
    t.equal(portal.toolJet.mints.length, mints, 'no mint for a URL that could not leave')
    await portal.redis.del(stream)
    await until('it is written to again', async () => (await portal.ask(ANA)).status === 200)
  }
})

test('a waiting event keeps nothing of its request but its text', { timeout: 60_000 }, async (t) => {
  const { way, stream } = await ownStream(t)
  const away = { isUnavailable: true, startOfWrite: () => '0-0', append: () => Promise.reject(new Error('away')), find: () => Promise.reject(new Error('away')), trimIndex () {} }
  const writer = new AuditWriter({ stream: away, timers: way.timers, onLost () {}, onProblem () {} }, 'me', { maxBacklog: 10_000, gatherMs: 0 })
  const signer = new EventSigner([Buffer.alloc(32)], 'audit')
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const WAITING = 400
  const settled = async (): Promise<number> => {
    for (let i = 0; i < 3; i++) {
      await sleep(10)
      gc()
    }
    const { heapUsed, external } = process.memoryUsage()
    return heapUsed + external
  }
  const before = await settled()
  for (let i = 0; i < WAITING; i++) {
    const text = (name: string): string => `${name}"é`.repeat(20_000).slice(i % 7)
    const event: AuditEvent = { event: 'url.denied', code: 'TOOLJET_EMBED_APP_NOT_ALLOWED', email: `${'é'.repeat(200)}${i}@acme.test`, app: `€${text('app')}`, userAgent: text('agent'), requestId: text('id'), ip: text('ip'), target: text('target') }
    bound(event)
    const fields = toFields(event, Date.now(), { instance: 'me', seq: i + 1, prev: 'x'.repeat(52) })
    const signed = signer.sign(fields, Date.now())
    writer.add(toQueued(signed, fields, stream.keys))
  }
  const after = await settled()
  t.equal(writer.backlog, WAITING)
  const each = (after - before) / WAITING
  t.ok(each > 500 && each < 4096, `${Math.round(each)} bytes each`)
  await writer.close(1)
})

test('entries that are larger than any event hold up neither the writer nor verify', { timeout: 60_000 }, async (t) => {
  const behind = await Portal.open(t)
  const lost = { answer: false }
  const redis = holdUp(behind.redis, (args) => String(args).includes('url.minted') && !lost.answer && (lost.answer = true), 1200)
  const portal = await Portal.open(t, { options: { redis, keyPrefix: behind.prefix, redisTimeoutMs: 600 } })
  const stream = `${behind.prefix}audit`
  await portal.audit()
  await portal.ask(ANA)
  await behind.redis.eval("for i = 1, 150 do redis.call('XADD', KEYS[1], '*', 'event', string.rep('x', 1048576)) end", 1, stream)
  await until('the answer is lost', () => portal.logLines.some(({ msg }) => /Redis connection lost/.test(String(msg))))
  await redisIsBack([portal])
  t.equal((await portal.ask(ANA)).status, 200)
  await until('all is written', async () => (await portal.app.tooljetEmbed.health()).audit.backlog === 0)
  const report = await portal.app.tooljetEmbed.audit.verify()
  t.equal(report.problems.filter(({ kind }) => kind === 'forged').length, 150)
  t.same(report.problems.filter(({ kind }) => !['forged', 'index'].includes(kind)), [])
  await behind.redis.del(stream)
})

test('bytes that are no UTF-8 are not the text that they would come as', async (t) => {
  const { redis, stream, signer, keys } = await ownStream(t)
  const fields = { time: new Date().toISOString(), event: 'url.reused', app: 'a\ufffdb', instance: 'me', seq: '1', schema: '2' }
  signer.sign(fields, Date.parse(fields.time))
  const flat = Object.entries(fields).flat()
  const verify = async (written: (string | Buffer)[]) => {
    await redis.del(keys.stream)
    await redis.xadd(keys.stream, '*', ...written)
    return (await verifyAudit(stream, signer)).problems.map(({ kind }) => kind)
  }
  t.same(await verify(flat), [])
  t.same(await verify(flat.map((text) => (text === fields.app ? Buffer.from([0x61, 0xff, 0x62]) : text))), ['key'])
})

test('an instance says again what it keeps, before that is trimmed', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: false, audit: { maxEntries: 100 } } })
  for (let i = 0; i < 320; i++) await portal.ask(ANA)
  await portal.audit()
  const events = await readStream(portal.redis, `${portal.prefix}audit`)
  t.ok(events.length <= 200, 'trimmed')
  t.match(events.find(({ event }) => event === 'audit.opened'), { retention: '90d/100' })
  t.match(await verifyAudit(await streamOf(portal), await signerOf(portal)), { ok: true, retention: { maxEntries: 100 } }, 'by the log alone')
})

test('an instance whose stream was emptied says so in verify, too', async (t) => {
  const portal = await Portal.open(t)
  await portal.ask(ANA)
  await portal.audit()
  await portal.redis.xtrim(`${portal.prefix}audit`, 'MAXLEN', 0)
  t.match((await portal.app.tooljetEmbed.audit.verify()).problems.filter(({ kind }) => kind !== 'index'), [{ kind: 'erased', detail: /the last event that this instance has written/ }])
})

test('an answer that verify waits for in vain is no outage: nobody else is refused', { timeout: 60_000 }, async (t) => {
  const behind = await Portal.open(t)
  const held = { isHeld: false }
  const redis = holdUp(behind.redis, (args) => held.isHeld && args[1] === 1 && args[2] === `${behind.prefix}audit`, 2 * OUTAGE_MS)
  const portal = await Portal.open(t, { options: { redis, keyPrefix: behind.prefix, redisTimeoutMs: OUTAGE_MS } })
  await portal.ask(ANA)
  held.isHeld = true
  await t.rejects(portal.app.tooljetEmbed.audit.verify(), { code: 'TOOLJET_EMBED_REDIS_DOWN' })
  t.match(await portal.ask(ANA), { status: 200, body: { source: 'reused' } })
  t.notMatch(portal.logText, /Redis connection lost/)
  held.isHeld = false
  t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true })
})

async function streamOf (portal: Portal): Promise<AuditStream> {
  return new AuditStream(await wayToRedis(portal.redis, 5000, portal.app.log), { stream: `${portal.prefix}audit`, retentionMs: 0, maxEntries: 0 })
}

async function signerOf (portal: Portal): Promise<EventSigner> {
  return new EventSigner(await deriveKeys([API_TOKEN], 'audit'), `${portal.prefix}audit`)
}

test('counters of days that are over go from the next day on, some with each batch', async (t) => {
  const portal = await Portal.open(t)
  const { index, counts } = new AuditKeys(`${portal.prefix}audit`)
  await portal.ask(ANA)
  await portal.audit()
  const old = Array.from({ length: 1000 }, (_, i) => `2020-01-01\tapp-${i}\turl.reused\t-`)
  const left = async (): Promise<number> => (await portal.redis.hkeys(counts)).filter((field) => field.startsWith('2020-')).length
  await portal.redis.hset(counts, Object.fromEntries(old.map((field) => [field, '1 08:1'])))
  await portal.redis.hset(index, 'day', 1)
  await portal.ask(ANA)
  await portal.audit()
  const afterOne = await left()
  t.ok(afterOne < 1000 && afterOne > 500, `${afterOne} are left after one batch`)
  await until('all are gone', async () => (await portal.ask(ANA)).status === 200 && await left() === 0)
  t.ok(await portal.redis.hlen(counts) > 0, 'those of today are there')
  t.equal(await portal.redis.object('ENCODING', index), 'hashtable')
})

import { Writable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { t as tap, test } from 'tap'
import { startServer } from '../example/redis.js'
import { append, trim } from '../plugin/audit/append.js'
import { AuditKeys } from '../plugin/audit/indexes.js'
import { AuditStream } from '../plugin/audit/stream.js'
import { AuditWriter } from '../plugin/audit/writer.js'
import { ANA, BEN, CLEO, INVENTORY, Portal, readStream, releaseRedisAfter, SALES } from './support/portal.js'
import { holdUp, newClient } from './support/redis.js'
import { until } from './support/until.js'
import { wayToRedis } from './support/way-to-redis.js'

releaseRedisAfter(tap)

test('an entry has flat, readable fields, and the log has the same', async (t) => {
  const portal = await Portal.open(t)
  const { body } = await portal.ask(ANA, { appId: SALES.id }, { 'user-agent': 'Firefox/1', 'x-request-id': 'x' })
  await portal.ask(CLEO)
  await portal.app.tooljetEmbed.forget({ email: ANA, appId: SALES.id })
  const [opened, minted, denied, forgotten] = await portal.audit({ all: true }) as [Record<string, string>, Record<string, string>, Record<string, string>, Record<string, string>]
  t.match(opened, { event: 'audit.opened', outcome: 'success', seq: '1', schema: '1' })
  t.same(Object.keys(minted), ['time', 'event', 'outcome', 'email', 'app', 'url_id', 'expires_at', 'request_id', 'ip', 'user_agent', 'duration_ms', 'instance', 'seq', 'schema', 'mac'])
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
    schema: '1',
    mac: /^[\w-]{43}$/,
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
  const portal = await Portal.open(t, { redisUrl: server.url, options: { audit: { delivery: 'required' }, redisTimeoutMs: 300 } })
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
  const portal = await Portal.open(t, { redisUrl: server.url, options: { audit: { delivery: 'required' }, redisTimeoutMs: 200 } })
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
  }, 400)
  const portal = await Portal.open(t, { options: { redis, keyPrefix: behind.prefix, audit: { delivery: 'required' }, redisTimeoutMs: 200, onRedisDown: 'fail' } })
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
  const portal = await Portal.open(t, { redisUrl: server.url, options: { redisTimeoutMs: 200 } })
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
  const portal = await Portal.open(t, { redisUrl: server.url, options: { redisTimeoutMs: 200 } })
  await portal.audit({ all: true })
  await server.stop()
  await portal.ask(ANA)
  const began = performance.now()
  await portal.app.close()
  t.ok(performance.now() - began < 2000, 'within a bound')
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
  const portal = await Portal.open(t, { redisUrl: server.url, options: { redisTimeoutMs: 200, rateLimit: false } })
  await portal.ask(ANA)
  await portal.audit()
  await admin.call('CLIENT', 'PAUSE', '700', 'WRITE') // reads are answered, scripts wait and are carried out then
  for (let i = 0; i < 5; i++) await portal.ask(ANA, {})
  await until('the write has failed', () => portal.logLines.some(({ msg }) => /Redis connection lost/.test(String(msg))))
  t.equal((await portal.audit()).length, 6)
  t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true, instances: [{ lastSeq: 7 }] })
})

test('an event that comes just when the last batch is written does not wait for the next one', async (t) => {
  const portal = await Portal.open(t)
  const way = await wayToRedis(portal.redis, 5000, portal.app.log)
  const stream = new AuditStream(way, { stream: `${portal.prefix}own`, retentionMs: 0, maxEntries: 0 })
  const writer = new AuditWriter(stream, 'me', 100, () => {})
  let seq = 0
  const write = () => writer.addAndWait({ event: 'url.reused', instance: 'me', seq: String(++seq) })
  for (let steps = 0; steps < 12; steps++) {
    await write()
    for (let i = 0; i < steps; i++) await undefined
    t.equal(await Promise.race([write().then(() => 'written'), sleep(3000, 'still waiting', { ref: false })]), 'written', `${steps} steps later`)
  }
})

test('a batch is written once, however often and however late it is sent', async (t) => {
  const portal = await Portal.open(t)
  const stream = `${portal.prefix}crowded`
  const foreign = portal.redis.pipeline()
  for (let i = 0; i < 1200; i++) foreign.xadd(stream, '*', 'instance', 'other', 'seq', String(i))
  await foreign.exec()
  const keys = new AuditKeys(stream)
  const events = [1, 2, 3].map((seq) => ({ event: 'url.reused', email: ANA, instance: 'me', seq: String(seq) }))
  const send = (some: typeof events, sentAt = Date.now()) => append(portal.redis, keys, { retentionMs: 0, maxEntries: 0 }, sentAt, 'me', some)

  t.match(await send(events.slice(0, 2)), { last: /^\d+-\d+$/ })
  t.match(await send(events), { last: /^\d+-\d+$/ }, 'sent again, with one more')
  t.match(await send(events), { last: '' }, 'all there')
  const late = await send([{ ...events[0]!, seq: '4' }], Date.now() - 10_500)
  t.equal(late.last, undefined, 'Redis may no longer know what it had by then')
  t.ok(Math.abs(late.now - Date.now()) < 5000)
  t.equal(await portal.redis.xlen(stream), 1203)
  t.equal(await portal.redis.xlen(keys.email(ANA)), 2)

  const way = await wayToRedis(portal.redis, 1000, portal.app.log)
  const found = await new AuditStream(way, { stream, retentionMs: 0, maxEntries: 0 }).lookFor('me', '0-0')
  t.same(found, { seq: 3, after: (await portal.redis.xrevrange(stream, '+', '-', 'COUNT', 1))[0]![0] }, 'found without that knowledge, page by page')
})

test('events in doubt are looked for in the stream, should Redis know no longer what it has', { timeout: 60_000 }, async (t) => {
  const behind = await Portal.open(t)
  const lost = { answer: false }
  const redis = holdUp(behind.redis, (args) => String(args).includes('url.minted') && !lost.answer && (lost.answer = true), 400)
  const portal = await Portal.open(t, { options: { redis, keyPrefix: behind.prefix, redisTimeoutMs: 200 } })
  await portal.audit()
  await portal.ask(ANA)
  await until('the answer is lost', () => portal.logLines.some(({ msg }) => /Redis connection lost/.test(String(msg))))
  const { instance } = (await portal.app.tooljetEmbed.health()).audit
  t.equal(await behind.redis.del(new AuditKeys(`${behind.prefix}audit`).written(instance)), 1)
  for (let i = 0; i < 3; i++) await portal.ask(ANA)
  await until('Redis is seen to be back', async () => (await portal.app.tooljetEmbed.health()).redis.state === 'up')
  await portal.audit()
  t.equal((await behind.audit()).length, 4)
  t.match(await behind.app.tooljetEmbed.audit.verify(), { ok: true })
})

test('a batch that Redis refuses because it came late is written all the same', async (t) => {
  const behind = await Portal.open(t)
  const late = { done: false }
  const redis = new Proxy(behind.redis, {
    get (target, name) {
      const method: unknown = Reflect.get(target, name)
      if (name !== 'evalsha') return typeof method === 'function' ? method.bind(target) : method
      return (...args: [string, number, ...string[]]) => {
        if (String(args).includes('url.minted') && !late.done) {
          late.done = true
          args[2 + args[1]] = String(Date.now() - 60_000) // when it was sent
        }
        return target.evalsha(...args)
      }
    },
  })
  const portal = await Portal.open(t, { options: { redis, keyPrefix: behind.prefix } })
  await portal.ask(ANA)
  await portal.audit()
  t.match(await behind.audit(), [{ event: 'url.minted' }])
  t.ok(late.done)
})

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
  const told = portal.logLines.filter(({ msg }) => /does not let this user trim it/.test(String(msg)))
  t.match(told, [{ level: 50, reason: /can't run this command/ }])
  t.equal(told.length, 1)
})

test("a trimming without an answer fails no event, with delivery 'required' neither", async (t) => {
  const behind = await Portal.open(t)
  const lost = { answers: 0 }
  const isTrim = (args: unknown[]): boolean => args[2] === `${behind.prefix}audit` && /^\d+-\d+$/.test(String(args.at(-1)))
  const redis = holdUp(behind.redis, (args) => isTrim(args) && lost.answers++ === 0, 1500)
  const portal = await Portal.open(t, { options: { redis, keyPrefix: behind.prefix, rateLimit: false, redisTimeoutMs: 1000, audit: { delivery: 'required', maxEntries: 10 } } })
  await trim(behind.redis, new AuditKeys(`${behind.prefix}audit`), { keep: '0-1', emails: [], apps: [] }) // so that Redis knows the script
  for (let events = 2; events < 110; events++) t.equal((await portal.ask(ANA)).status, 200) // the last one makes 100 too many
  const isDown = (): boolean => portal.logLines.some(({ msg }) => /Redis connection lost/.test(String(msg)))
  t.notOk(isDown(), 'nobody has waited for the trimming')
  await until('its answer is lost', isDown)
  await until('Redis is seen to be back', async () => (await portal.ask(ANA)).status === 200)
  for (let i = 0; i < 130; i++) await portal.ask(ANA)
  await until('the rest is trimmed', async () => await behind.redis.xlen(`${behind.prefix}audit`) < 110)
  t.ok(lost.answers >= 2)
  t.match(await behind.app.tooljetEmbed.audit.verify(), { ok: true })
})

test('past the bound of waiting events, an event is in the log at level error', { timeout: 60_000 }, async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const portal = await Portal.open(t, { redisUrl: server.url, options: { redisTimeoutMs: 1000, rateLimit: false } })
  await portal.audit({ all: true })
  server.process.kill('SIGSTOP')
  for (let i = 0; i < 100; i++) await Promise.all(Array.from({ length: 101 }, () => portal.ask(ANA, {})))
  t.equal((await portal.app.tooljetEmbed.health()).audit.backlog, 10_000)
  const lost = portal.logLines.filter(({ level, tooljetEmbedAudit }) => level === 50 && tooljetEmbedAudit !== undefined)
  t.equal(lost.length, 100)
  server.process.kill('SIGCONT')
  t.equal((await portal.audit()).length, 10_000)
  t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true, events: 10_001 })
})

import { execFile } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import { Registry } from 'prom-client'
import { t as tap, test } from 'tap'
import { startServer } from '../example/redis.js'
import { ToolJetStandIn, type Fault } from '../example/tooljet/server.js'
import tooljetEmbed, { errorCodes } from '../plugin/index.js'
import { openMetrics } from '../plugin/observability/metrics.js'
import { urlChannel } from '../plugin/observability/tracing.js'
import { Child, freePorts } from './support/child.js'
import { familiesOf, samplesOf, valueOf } from './support/metrics.js'
import { plainEnv } from './support/plain-env.js'
import { ANA, API_TOKEN, BEN, CLEO, INVENTORY, JWT_SECRET, newPrefix, Portal, releaseRedisAfter, SALES } from './support/portal.js'
import { refusal } from './support/refusal.js'
import { readQuery, UNGUARDED } from './support/promql.js'
import { stopwatch } from './support/stopwatch.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

const ANSWERS = 'tooljet_embed_answers_total'
const MINTS = 'tooljet_embed_mint_duration_seconds'
const SLOTS = 'tooljet_embed_mint_slots_total'
const WAIT = 'tooljet_embed_mint_wait_seconds'
const QUEUE = 'tooljet_embed_mint_queue_length'
const FAMILIES = [ANSWERS, MINTS, SLOTS, WAIT, 'tooljet_embed_tooljet_pause_seconds', QUEUE, 'tooljet_embed_redis_up', 'tooljet_embed_audit_backlog']
const OTHER_CODES = Object.keys(errorCodes).length // 'other' in the place of OPTIONS, which is no answer

test('what has happened is in the metrics', async (t) => {
  const registry = new Registry()
  const portal = await Portal.open(t, { options: { metrics: { registry }, rateLimit: { max: 8 } } })
  await portal.audit() // its first event is written
  const fresh = await registry.metrics()
  t.same(familiesOf(fresh), FAMILIES)
  t.equal(samplesOf(fresh).filter(({ name }) => name === ANSWERS).length, 2 + OTHER_CODES, 'each code is there from the start, so that its first increase is seen')
  t.equal(valueOf(fresh, `${MINTS}_count`, { code: 'ok' }), 0)
  t.ok(samplesOf(fresh).every(({ name, value }) => Object.is(value, name === 'tooljet_embed_redis_up' ? 1 : 0)), 'no NaN, which would make every sum NaN')

  const asked = performance.now()
  await portal.ask(ANA)
  const allMs = performance.now() - asked
  for (let i = 0; i < 3; i++) await portal.askByDecorator(ANA)
  await portal.ask(CLEO)
  await portal.ask(BEN, '{')
  await portal.app.inject({ method: 'POST', url: '/api/get-tooljet-url' })
  portal.toolJet.faults = () => ({ reply: { status: 429, headers: { 'retry-after': '40' } } })
  await portal.ask(BEN)
  await portal.ask(BEN)
  const text = await registry.metrics()
  const answers = samplesOf(text).filter(({ name, value }) => name === ANSWERS && value > 0).map(({ labels: { source, code }, value }) => [source, code, value])
  t.same(answers, [
    ['minted', 'ok', 1], ['reused', 'ok', 3], ['none', 'TOOLJET_EMBED_UNAUTHENTICATED', 1], ['none', 'TOOLJET_EMBED_ACCESS_DENIED', 1], ['none', 'TOOLJET_EMBED_BUSY', 2], ['none', 'other', 1],
  ])
  t.same(samplesOf(text).filter(({ name }) => name === `${MINTS}_count`).map(({ labels, value }) => [labels['code'], value]), [
    ['ok', 1], ['TOOLJET_EMBED_ACCESS_DENIED', 1], ['TOOLJET_EMBED_BUSY', 1],
  ], 'a pause is no mint')
  const seconds = valueOf(text, `${MINTS}_sum`, { code: 'ok' })!
  t.ok(seconds > 0 && seconds <= allMs / 1000, `in seconds: ${seconds} of ${allMs} ms`)
  t.equal(valueOf(text, `${MINTS}_bucket`, { code: 'ok', le: '+Inf' }), 1)
  const pause = valueOf(text, 'tooljet_embed_tooljet_pause_seconds')!
  t.ok(pause > 10 && pause <= 40, String(pause))
  t.equal(valueOf(text, SLOTS, { outcome: 'used' }), 2)
  t.equal(valueOf(text, SLOTS, { outcome: 'refused' }), 1)
  t.equal(valueOf(text, `${WAIT}_bucket`, { le: '1' }), 3, 'nobody had to wait for a turn')
  t.equal(valueOf(text, QUEUE), 1, 'who was refused keeps the place')
})

test('a scrape waits for no Redis, and tells that it is away', async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const registry = new Registry()
  const portal = await Portal.open(t, { redisUrl: server.url, options: { metrics: { registry }, redisTimeoutMs: 800 } })
  await portal.audit()
  t.equal(valueOf(await registry.metrics(), 'tooljet_embed_redis_up'), 1)
  server.process.kill('SIGSTOP')
  const waited = stopwatch()
  const text = await registry.metrics()
  t.ok(waited() < 5000)
  t.equal(valueOf(text, 'tooljet_embed_redis_up'), 0, 'though nobody has asked meanwhile')
  t.match(await portal.ask(ANA), { status: 200 })
  t.match(valueOf(await registry.metrics(), 'tooljet_embed_audit_backlog'), 1)
  server.process.kill('SIGCONT')
  await portal.audit()
  t.match(samplesOf(await registry.metrics()).slice(-2), [{ name: 'tooljet_embed_redis_up', value: 1 }, { name: 'tooljet_embed_audit_backlog', value: 0 }])
})

test('no label holds what an asker can choose, and there are only so many', async (t) => {
  const registry = new Registry()
  const toolJetFaults: (Fault | undefined)[] = [undefined, undefined, refusal(404, `User ${ANA} not found`), { reply: { status: 500 } }, { reply: { status: 418, body: { message: 'pat_deadbeef' } } }, { cut: 'middle' }, refusal(403, 'no permission')]
  let asked = 0
  const portal = await Portal.open(t, {
    options: {
      metrics: { registry },
      rateLimit: { max: 100 },
      authorize: () => { if (asked % 10 === 0) throw Object.assign(new Error('directory'), { code: `E_${asked}`, statusCode: 400 + asked % 100 }); return true },
    },
    before: (app) => { app.addHook('preParsing', async (request) => { if (request.headers['x-broken'] !== undefined) throw Object.assign(new Error('own'), { code: request.headers['x-broken'] }) }) },
  })
  portal.toolJet.faults = () => toolJetFaults[asked % toolJetFaults.length]
  const secrets = [ANA, API_TOKEN, JWT_SECRET, 'pat_', 'personal-access-token', 'deadbeef', 'made-up', 'random']
  for (; asked < 250; asked++) {
    const email = asked % 2 === 0 ? ANA : `random-${asked}@acme.test`
    const { authorization } = portal.bearer(email)
    secrets.push(authorization.slice(7))
    const asks: (object | string)[] = [{ appId: SALES.id }, { appSlug: `made-up-${asked}` }, { appId: crypto.randomUUID() }, { app: `made-up-${asked}` }, '{', { appId: SALES.id, email: BEN }, { appId: INVENTORY.id, replaces: `made-up-${asked}` }, { appId: `pat_deadbeef${asked}` }, [asked]]
    await portal.ask(email, asks[asked % asks.length], { authorization, 'user-agent': `random ${asked}`, 'x-forwarded-for': `10.0.0.${asked}`, ...(asked % 7 === 0 && { 'x-broken': `E_RANDOM_${asked}` }) })
  }
  const text = await registry.metrics()
  const samples = samplesOf(text)
  t.same(new Set(samples.flatMap(({ labels }) => Object.keys(labels))), new Set(['source', 'code', 'le', 'outcome']))
  const codes = [...Object.keys(errorCodes), 'ok', 'other']
  for (const { labels: { source, code } } of samples) {
    t.ok(source === undefined || ['minted', 'reused', 'none'].includes(source))
    t.ok(code === undefined || codes.includes(code))
  }
  const answers = samples.filter(({ name }) => name === ANSWERS)
  t.equal(answers.length, 2 + OTHER_CODES, 'not one more than at the start')
  t.equal(answers.reduce((sum, { value }) => sum + value, 0), 250, 'each ask is counted once')
  t.ok(answers.filter(({ value }) => value > 0).length > 8, 'the run was a full one')
  t.ok(samples.filter(({ name }) => name === `${MINTS}_count`).length <= codes.length && samples.length < 250, `${samples.length} series`)
  for (const secret of secrets) t.notOk(text.includes(secret), secret.slice(0, 20))
})

test('registrations with one registry share its metrics, until the last is closed', async (t) => {
  const registry = new Registry()
  registry.setDefaultLabels({ app: 'portal' })
  const metrics = { registry }
  const [one, two] = await Portal.openSeveral(t, 2, { options: { metrics } }) as [Portal, Portal]
  const apart = await Portal.open(t, { options: { metrics: { registry: new Registry() } } })
  await one.ask(ANA)
  await two.ask(ANA)
  await apart.ask(ANA)
  await one.ask(BEN, { appId: 'x' })
  const text = await registry.metrics()
  t.same(familiesOf(text), FAMILIES)
  t.match([valueOf(text, ANSWERS, { source: 'minted' }), valueOf(text, ANSWERS, { source: 'reused' }), valueOf(text, ANSWERS, { code: 'TOOLJET_EMBED_BAD_REQUEST' })], [1, 1, 1])
  t.equal(valueOf(text, `${MINTS}_count`, { code: 'ok' }), 1, 'those of another registry are not in here')
  t.equal(samplesOf(text)[0]!.labels['app'], 'portal')

  await one.app.close()
  t.equal(valueOf(await registry.metrics(), ANSWERS, { source: 'minted' }), 1, 'the other goes on')
  await two.ask(BEN)
  t.equal(valueOf(await registry.metrics(), ANSWERS, { source: 'minted' }), 2)
  await two.app.close()
  t.equal((await registry.metrics()).trim(), '', 'the registry is as it was')
  await apart.app.close()
  t.notOk(urlChannel.hasSubscribers, 'and so are the channels')

  const later = await Portal.open(t, { options: { metrics } })
  await later.ask(ANA)
  t.equal(valueOf(await registry.metrics(), ANSWERS, { source: 'minted' }), 1)
})

test('gauges tell the worst of all registrations', async (t) => {
  const registry = new Registry()
  let looks = 0
  const health = (state: 'up' | 'down', backlog: number, pausedFor?: number) => async () => {
    looks++
    return { redis: { state }, tooljet: { ...(pausedFor && { pausedFor }) }, audit: { backlog } }
  }
  const closes = [
    await openMetrics(registry, { instance: '1', health: health('up', 3, 5) }),
    await openMetrics(registry, { instance: '2', health: health('down', 4, 7) }),
    await openMetrics(registry, { instance: '3', health: health('up', 0) }),
  ]
  const text = await registry.metrics()
  t.same(['redis_up', 'audit_backlog', 'tooljet_pause_seconds'].map((name) => valueOf(text, `tooljet_embed_${name}`)), [0, 7, 7])
  t.equal(looks, 3, 'one look at each for all gauges')
  await registry.metrics()
  t.equal(looks, 6, 'and another for the next scrape')
  for (const close of closes) close()
})

test('processes of a cluster add up', async (t) => {
  const registries = [new Registry(), new Registry(), new Registry()]
  const portals = await Promise.all(registries.map((registry) => Portal.open(t, { options: { metrics: { registry } } })))
  await portals[0]!.ask(ANA)
  await portals[0]!.ask(ANA)
  await portals[1]!.ask(ANA)
  for (const portal of portals) await portal.audit() // nothing waits to be written
  const { AggregatorRegistry } = await import('prom-client')
  const text = await AggregatorRegistry.aggregate(await Promise.all(registries.map((registry) => registry.getMetricsAsJSON()))).metrics()
  t.same([valueOf(text, ANSWERS, { source: 'minted' }), valueOf(text, ANSWERS, { source: 'reused' }), valueOf(text, 'tooljet_embed_redis_up')], [2, 1, 1])
  t.same(samplesOf(text).filter(({ value }) => !Number.isFinite(value)), [], 'one that has given nothing spoils nothing')
})

test("a registry of another copy of prom-client, and one of OpenMetrics's form", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tooljet-embed-metrics-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const modules = fileURLToPath(new URL('../node_modules', import.meta.url))
  const copy = join(folder, 'node_modules', 'prom-client')
  cpSync(join(modules, 'prom-client'), copy, { recursive: true })
  for (const name of ['tdigest', 'bintrees', '@opentelemetry']) symlinkSync(join(modules, name), join(folder, 'node_modules', name))
  const other = createRequire(import.meta.url)(copy) as typeof import('prom-client')
  t.not(other.Registry, Registry)

  const ofOpenMetrics = new (Registry as new (contentType: string) => Registry)(Registry.OPENMETRICS_CONTENT_TYPE)
  for (const registry of [new other.Registry(), ofOpenMetrics, other.register]) {
    const portal = await Portal.open(t, { options: { metrics: { registry } } })
    await portal.ask(ANA)
    const text = await registry.metrics()
    t.same(familiesOf(text).map((name) => name.replace(/_total$/, '')), FAMILIES.map((name) => name.replace(/_total$/, '')))
    t.equal(valueOf(text, ANSWERS, { source: 'minted', code: 'ok' }), 1)
    await portal.app.close()
    t.equal(registry.getMetricsAsArray().length, 0)
  }
})

test('a name that is taken, and a prom-client that is not there, stop the start', async (t) => {
  const registry = new Registry()
  const { Gauge } = await import('prom-client')
  const own = new Gauge({ name: 'tooljet_embed_redis_up', help: 'own', registers: [registry] })
  const app = Fastify()
  await app.register(fastifyJwt, { secret: JWT_SECRET })
  const portal = await Portal.open(t)
  app.register(tooljetEmbed, { tooljet: { url: portal.toolJet.url, apiToken: API_TOKEN }, redis: portal.redis, keyPrefix: newPrefix(), metrics: { registry } })
  await t.rejects(async () => { await app.ready() }, { code: 'TOOLJET_EMBED_OPTIONS', message: /"metrics\.registry" already has a metric tooljet_embed_redis_up/ })
  await app.close().catch(() => {})
  t.same(registry.getMetricsAsArray(), [own], 'nothing of ours is left there')

  // a project with all that the plugin needs, but for the optional peer
  const folder = mkdtempSync(join(tmpdir(), 'tooljet-embed-no-prom-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const root = fileURLToPath(new URL('..', import.meta.url))
  const installed = join(folder, 'node_modules', 'fastify-tooljet-embed')
  mkdirSync(installed, { recursive: true })
  cpSync(join(root, 'dist'), join(installed, 'dist'), { recursive: true })
  cpSync(join(root, 'package.json'), join(installed, 'package.json'))
  for (const name of readdirSync(join(root, 'node_modules')).filter((name) => name !== 'prom-client' && name !== 'fastify-tooljet-embed')) symlinkSync(join(root, 'node_modules', name), join(folder, 'node_modules', name))
  const host = `
    import Fastify from 'fastify'
    import tooljetEmbed from 'fastify-tooljet-embed'
    const app = Fastify()
    const options = { tooljet: { url: 'http://127.0.0.1:9', apiToken: 'x' }, redis: 'redis://127.0.0.1:9', redisTimeoutMs: 50, route: false }
    const registry = { registerMetric () {}, getSingleMetric () {}, removeSingleMetric () {} }
    app.register(async (scope) => { scope.register(tooljetEmbed, options) })
    await app.ready()
    console.log('without metrics it starts')
    await Fastify().register(tooljetEmbed, { ...options, metrics: { registry } }).ready().catch((error) => console.log(error.code, error.message))
    process.exit()`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', host], { cwd: folder, env: plainEnv() })
  t.match(stdout, /^without metrics it starts\nTOOLJET_EMBED_OPTIONS .*"metrics" needs the package prom-client: npm install prom-client/)
})

test('docs/metrics.md: its code runs, its table and its alerts name what there is', async (t) => {
  const text = readFileSync(new URL('../docs/metrics.md', import.meta.url), 'utf8')
  const blocks = [...text.matchAll(/^```ts\n([^]*?)^```/gm)].map(([, block]) => block!).filter((block) => !block.includes('@opentelemetry')) // see hosts/observability.test.ts
  t.equal(blocks.length, 2)
  const folder = t.testdir({ 'host.ts': blocks.join('\n') })
  const server = await startServer()
  t.teardown(() => server.stop())
  const toolJet = await new ToolJetStandIn({ apiToken: API_TOKEN }).listen()
  t.teardown(() => toolJet.close())
  const port = await freePorts(2)
  const child = Child.start(t, ['--import', 'tsx', `${folder}/host.ts`], {
    PORT: String(port), METRICS_PORT: String(port + 1), TOOLJET_URL: toolJet.url, TOOLJET_API_TOKEN: API_TOKEN, REDIS_URL: server.url, JWT_SECRET,
  })
  const scrape = () => fetch(`http://localhost:${port + 1}/metrics`).then((reply) => reply.text(), () => undefined)
  await until('it listens', async () => child.hasEnded || await scrape())
  const signer = Fastify()
  t.teardown(() => signer.close())
  await signer.register(fastifyJwt, { secret: JWT_SECRET })
  const asked = await fetch(`http://localhost:${port}/api/get-tooljet-url`, {
    method: 'POST', headers: { authorization: `Bearer ${signer.jwt.sign({ email: ANA })}`, 'content-type': 'application/json' }, body: JSON.stringify({ appId: SALES.id }),
  })
  t.equal(asked.status, 200)
  t.match(await child.prints(`${SALES.id}: `), /: minted in \d+ ms\n$/)
  t.equal((await fetch(`http://localhost:${port}/metrics`)).status, 404, 'those outside do not see them')
  const scraped = await scrape() ?? ''
  t.equal(valueOf(scraped, ANSWERS, { source: 'minted' }), 1)

  t.same([...text.matchAll(/^\| `(tooljet_embed_\w+)` \|/gm)].map(([, name]) => name), familiesOf(scraped))
  const alerts = [...text.matchAll(/^ +expr: (.+)$/gm)].map(([, expr]) => expr!)
  t.ok(alerts.length > 5)
  for (const expr of alerts) {
    t.same(readQuery(expr, samplesOf(scraped)).unknown, [], expr)
    t.notMatch(expr, UNGUARDED)
    for (const [code] of expr.matchAll(/TOOLJET_EMBED_\w+/g)) t.ok(code in errorCodes, code)
  }
})

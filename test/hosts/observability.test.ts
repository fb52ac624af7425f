import { createRequire } from 'node:module'
import fastifyJwt from '@fastify/jwt'
import { FastifyOtelInstrumentation } from '@fastify/otel'
import fastifyUnderPressure from '@fastify/under-pressure'
import { context } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { IORedisInstrumentation } from '@opentelemetry/instrumentation-ioredis'
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor, type ReadableSpan } from '@opentelemetry/sdk-trace-base'
import Fastify from 'fastify'
import { t as tap, test, type Test } from 'tap'
import { startServer } from '../../example/redis.js'
import { ToolJetStandIn } from '../../example/tooljet/server.js'
import { traceEmbeds } from '../../example/tracing.js'
import tooljetEmbed from '../../plugin/index.js'
import { blocksOf } from '../support/markdown.js'
import { ANA, API_TOKEN, BEN, CLEO, JWT_SECRET, Portal, releaseRedisAfter, SALES } from '../support/portal.js'
import { until } from '../support/until.js'

/* Hosts that are watched by others' plugins, as docs/metrics.md and docs/operations.md have it. */

releaseRedisAfter(tap)

/** OpenTelemetry in this process until the test is over, with spans in memory. */
function trace (t: Test): { provider: BasicTracerProvider, spans: () => ReadableSpan[] } {
  const exporter = new InMemorySpanExporter()
  const provider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] })
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  t.teardown(async () => {
    context.disable()
    await provider.shutdown()
  })
  return { provider, spans: () => exporter.getFinishedSpans() }
}

test('spans of asks and mints are in those of @fastify/otel, and no span holds an e-mail', async (t) => {
  const { provider, spans } = trace(t)
  const redis = new IORedisInstrumentation({ dbStatementSerializer: (command) => command })
  const http = new FastifyOtelInstrumentation()
  for (const instrumentation of [redis, http]) {
    instrumentation.setTracerProvider(provider)
    t.teardown(() => instrumentation.disable())
  }
  createRequire(import.meta.url)('ioredis') // as whoever is loaded after OpenTelemetry gets it
  t.teardown(traceEmbeds(provider.getTracer('fastify-tooljet-embed')))

  const portal = await Portal.open(t, { before: async (app) => { await app.register(http.plugin()) } })
  t.match(await portal.ask(ANA), { status: 200, body: { source: 'minted' } })
  t.match(await portal.ask(ANA), { status: 200, body: { source: 'reused' } })
  t.match(await portal.askByDecorator(BEN), { status: 200 })
  t.match(await portal.ask(CLEO), { status: 403 })
  await portal.app.tooljetEmbed.forget({ email: ANA, appId: SALES.id })
  await portal.audit()

  const all = spans()
  const byId = new Map(all.map((span) => [span.spanContext().spanId, span]))
  const parentOf = (span: ReadableSpan): ReadableSpan | undefined => byId.get(span.parentSpanContext?.spanId ?? '')
  const asks = all.filter(({ name }) => name === 'tooljet-embed url')
  const mints = all.filter(({ name }) => name === 'tooljet-embed mint')
  t.equal(asks.length, 4)
  t.equal(mints.length, 3)
  for (const ask of asks) t.equal(parentOf(ask)?.instrumentationScope.name, '@fastify/otel', 'an ask is in the span of its route')
  for (const mint of mints) t.ok(asks.includes(parentOf(mint)!), 'and a mint in that of its ask')
  const commands = all.filter(({ instrumentationScope }) => instrumentationScope.name.endsWith('ioredis'))
  t.ok(commands.some(({ name }) => name.includes('evalsha')), 'Redis is watched, too')
  const told = JSON.stringify(all.map(({ name, attributes, events, status }) => ({ name, attributes, events, status })))
  for (const secret of [ANA, BEN, CLEO, API_TOKEN, 'pat_', 'personal-access-token']) t.notOk(told.includes(secret), secret)
})

test('@fastify/under-pressure: a health check tells how things are, and closes nothing when Redis stops', async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const toolJet = await new ToolJetStandIn({ apiToken: API_TOKEN }).listen()
  t.teardown(() => toolJet.close())
  const app = Fastify()
  t.teardown(() => app.close())
  app.register(fastifyJwt, { secret: JWT_SECRET })
  app.register(tooljetEmbed, { tooljet: { url: toolJet.url, apiToken: API_TOKEN }, redis: server.url, redisTimeoutMs: 800 })
  const { code } = blocksOf('docs/operations.md').find(({ code }) => code.includes('exposeStatusRoute'))!
  const register = new Function('app', 'fastifyUnderPressure', code.replace(/^import .*/gm, '').replace('5000', '100')) as (...args: unknown[]) => void // eslint-disable-line no-new-func
  register(app, fastifyUnderPressure)
  await app.ready()
  const authorization = `Bearer ${app.jwt.sign({ email: ANA })}`
  const ask = async () => (await app.inject({ method: 'POST', url: '/api/get-tooljet-url', headers: { authorization }, payload: { appId: SALES.id } })).statusCode
  const health = async () => (await app.inject('/health')).json() as unknown
  t.equal(await ask(), 200)
  t.same(await health(), { status: 'ok', redis: 'up', tooljet: 'ok' })
  server.process.kill('SIGSTOP')
  t.teardown(() => server.process.kill('SIGCONT'))
  await until('health is down', async () => ((await health()) as { redis: string }).redis === 'down')
  t.same(await health(), { status: 'ok', redis: 'down', tooljet: 'ok' })
  t.equal(await ask(), 200, 'this instance serves from its memory')
})

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { AddressInfo } from 'node:net'
import fastifyJwt from '@fastify/jwt'
import Fastify, { type FastifyInstance } from 'fastify'
import { Gauge, Registry } from 'prom-client'
import { t as tap, test, type Test } from 'tap'
import { request } from 'undici'
import { freePort } from '../example/redis.js'
import tooljetEmbed, { type TooljetEmbedOptions } from '../plugin/index.js'
import { Closers } from '../plugin/closers.js'
import { ANA, API_TOKEN, BEN, JWT_SECRET, newPrefix, Portal, readStream, releaseRedisAfter, SALES } from './support/portal.js'
import { plainEnv } from './support/plain-env.js'
import { keysOf, newClient, sharedRedisUrl } from './support/redis.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

test('what asks on after the close mints no more', async (t) => {
  let letGo!: () => void
  const held = new Promise<void>((resolve) => { letGo = resolve })
  let isHeld = false
  const portal = await Portal.open(t, { options: { authorize: async () => { isHeld = true; await held; return true } } })
  const late = portal.ask(ANA)
  await until('it is held', () => isHeld)
  await portal.app.close()
  letGo()
  t.match(await late, { status: 503, body: { code: 'TOOLJET_EMBED_UNAVAILABLE' } })
  t.equal(portal.toolJet.calls.length, 0)
})

/** A portal that listens, and asks it over HTTP. */
async function listening (t: Test, options: object = {}) {
  const portal = await Portal.open(t, { options, fastify: { forceCloseConnections: 'idle' } })
  await portal.app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = portal.app.server.address() as AddressInfo
  const ask = async (email: string) => {
    const reply = await request(`http://127.0.0.1:${port}/api/get-tooljet-url`, {
      method: 'POST',
      headers: { ...portal.bearer(email), 'content-type': 'application/json' },
      body: JSON.stringify({ appId: SALES.id }),
      reset: true, // Fastify itself waits for a kept-alive connection that was busy when it closed
    })
    return { status: reply.statusCode, body: await reply.body.json() as { source: string, code: string } }
  }
  return { portal, ask }
}

test('close in the middle of a mint answers it, and leaves no lock and no gap', async (t) => {
  const { portal, ask } = await listening(t)
  portal.toolJet.faults = () => ({ delayMs: 400 })
  const asks = [ask(ANA), ask(ANA), ask(BEN)]
  await until('the mints are under way', () => portal.toolJet.calls.length === 2)
  await portal.app.close()
  const replies = await Promise.all(asks)
  t.same(replies.map(({ status }) => status), [200, 200, 200])
  t.same(await portal.cached('lock'), [])
  const events = (await readStream(portal.redis, `${portal.prefix}audit`)).map(({ event }) => event)
  t.same(events.toSorted(), ['audit.closed', 'audit.opened', 'url.minted', 'url.minted', 'url.reused'])
  t.equal(events.at(-1), 'audit.closed')
})

test('close does not wait for ToolJet past its deadline, nor for a Redis that is away', async (t) => {
  const { portal, ask } = await listening(t, { tooljet: { url: `http://127.0.0.1:${await freePort()}`, apiToken: API_TOKEN, timeoutMs: 600 } })
  portal.toolJet.faults = () => ({ hang: true })
  const hanging = await listening(t, { tooljet: { url: portal.toolJet.url, apiToken: API_TOKEN, timeoutMs: 600 } })
  const asked = hanging.ask(ANA)
  await until('the mint is under way', () => portal.toolJet.calls.length === 1)
  const began = performance.now()
  await hanging.portal.app.close()
  t.ok(performance.now() - began < 2000)
  t.match(await asked, { status: 504, body: { code: 'TOOLJET_EMBED_TIMEOUT' } })
  t.equal((await ask(BEN)).status, 503)

  const lonely = await Portal.open(t, { redisUrl: `redis://127.0.0.1:${await freePort()}`, options: { redisTimeoutMs: 200 } })
  await lonely.ask(ANA)
  const alone = performance.now()
  await lonely.app.close()
  t.ok(performance.now() - alone < 1500)
})

test('a host that has closed leaves no handle behind: its process ends by itself', { timeout: 60_000 }, async (t) => {
  const { toolJet } = await Portal.open(t)
  for (const redis of [await sharedRedisUrl(), `redis://127.0.0.1:${await freePort()}`]) {
    const options = { tooljet: { url: toolJet.url, apiToken: API_TOKEN }, redis, keyPrefix: newPrefix(), redisTimeoutMs: 300 }
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', fileURLToPath(new URL('support/leaver.ts', import.meta.url)), JSON.stringify(options)], { env: plainEnv(), timeout: 15_000 })
    t.equal(stdout.trim(), '200', redis)
  }
})

/** A host that does not start, and for which nobody calls `close()`. */
interface FailingHost {
  before?: (app: FastifyInstance) => void
  options?: Partial<TooljetEmbedOptions>
  code: string
}

/** The host's own hook fails when the plugin opens its nth scope: the limiter's, the route's, the browser module's. */
function failingAtScope (nth: number): FailingHost {
  return {
    before (app) {
      let scopes = 0
      app.addHook('onRegister', () => { if (++scopes === nth) throw Object.assign(new Error('no scope'), { code: 'NO_SCOPE' }) })
    },
    code: 'NO_SCOPE',
  }
}

function registryWithTakenName (): Registry {
  const registry = new Registry()
  registry.registerMetric(new Gauge({ name: 'tooljet_embed_redis_up', help: 'of somebody else', registers: [] }))
  return registry
}

const FAILING: Record<string, FailingHost> = {
  'rate limit': failingAtScope(1),
  'second rate limit': failingAtScope(3),
  'metrics name taken': { options: { metrics: { registry: registryWithTakenName() } }, code: 'TOOLJET_EMBED_OPTIONS' },
  'decorator taken': { before: (app) => { app.decorateRequest('tooljetEmbedUrl') }, code: 'FST_ERR_DEC_ALREADY_PRESENT' },
  'route path taken': { before: (app) => { app.post('/api/get-tooljet-url', async () => ({})) }, code: 'FST_ERR_DUPLICATED_ROUTE' },
  'route scope': failingAtScope(5),
  'client path taken': { before: (app) => { app.get('/tooljet-embed.js', async () => '') }, code: 'TOOLJET_EMBED_OPTIONS' },
  'client path taken, with metrics': { before: (app) => { app.get('/tooljet-embed.js', async () => '') }, options: { metrics: { registry: new Registry() } }, code: 'TOOLJET_EMBED_OPTIONS' },
  'wrong tooljet': { options: { tooljet: { url: 'ftp://127.0.0.1', apiToken: API_TOKEN } }, code: 'TOOLJET_EMBED_OPTIONS' },
}

for (const [what, { before, options, code }] of Object.entries(FAILING)) {
  test(`a start that fails leaves no connection to Redis: ${what}`, async (t) => {
    const observer = newClient(await sharedRedisUrl())
    const prefix = newPrefix()
    t.teardown(async () => {
      await Promise.all((await keysOf(observer, prefix)).map((key) => observer.del(key)))
      observer.disconnect()
    })
    const name = prefix.slice(0, -1)
    const connections = async () => String(await observer.client('LIST')).split('\n').filter((line) => line.includes(` name=${name} `))
    const redis = `${await sharedRedisUrl()}?connectionName=${name}`
    const start = async (given: Partial<TooljetEmbedOptions>, prepare?: (app: FastifyInstance) => void) => {
      const app = Fastify()
      app.register(fastifyJwt, { secret: JWT_SECRET })
      prepare?.(app)
      app.register(tooljetEmbed, { tooljet: { url: 'http://127.0.0.1:1', apiToken: API_TOKEN }, redis, keyPrefix: prefix, ...given })
      await app.ready()
      return app
    }
    const sound = await start({})
    t.equal((await connections()).length, 1, 'the name is that of the connection')
    await sound.close()
    await until('it is closed', async () => (await connections()).length === 0)

    await t.rejects(start(options ?? {}, before), { code })
    await until('no connection is left', async () => (await connections()).length === 0, 2000)
    const registry = options?.metrics?.registry as Registry | undefined
    t.ok((registry?.getMetricsAsArray().length ?? 0) <= (what === 'metrics name taken' ? 1 : 0), 'nor a metric')
  })
}

test('what was opened is closed in the opposite order, once, whatever one of them throws', async (t) => {
  const closers = new Closers()
  const order: string[] = []
  closers.add((boundMs) => { order.push(`first within ${boundMs}`) })
  closers.add(async () => { order.push('second'); throw new Error('second') })
  closers.add(() => { order.push('third') })
  const closing = closers.close(70)
  await t.rejects(Promise.all([closing, closers.close(80)]), { message: 'second' })
  t.same(order, ['third', 'second', 'first within 70'])
  await t.rejects(closers.closeOnError(async () => { throw new Error('the step') }), { message: 'the step' })
  t.equal(order.length, 3)
})

test('a process whose app does not start ends by itself', { timeout: 60_000 }, async (t) => {
  for (const redis of [await sharedRedisUrl(), `redis://127.0.0.1:${await freePort()}`]) {
    const options = { tooljet: { url: 'http://127.0.0.1:1', apiToken: API_TOKEN }, redis, keyPrefix: newPrefix(), redisTimeoutMs: 300, client: { path: '/taken' } }
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', fileURLToPath(new URL('support/non-starter.ts', import.meta.url)), JSON.stringify(options)], { env: plainEnv(), timeout: 15_000 })
    t.equal(stdout.trim(), 'TOOLJET_EMBED_OPTIONS', redis)
  }
})

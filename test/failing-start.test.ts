import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import fastifyJwt from '@fastify/jwt'
import Fastify, { type FastifyInstance } from 'fastify'
import { Gauge, Registry } from 'prom-client'
import { t as tap, test } from 'tap'
import { freePort } from '../example/redis.js'
import { Closers } from '../plugin/closers.js'
import tooljetEmbed, { type TooljetEmbedOptions } from '../plugin/index.js'
import { plainEnv } from './support/plain-env.js'
import { API_TOKEN, JWT_SECRET, newPrefix, releaseRedisAfter } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { keysOf, sharedRedisUrl } from './support/redis.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

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
  'route path taken': { before: (app) => { app.post('/api/get-tooljet-url', async () => ({})) }, code: 'TOOLJET_EMBED_OPTIONS' },
  'route path taken, no browser module': { before: (app) => { app.post('/api/get-tooljet-url', async () => ({})) }, options: { client: false }, code: 'TOOLJET_EMBED_OPTIONS' },
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
    await until('no connection is left', async () => (await connections()).length === 0)
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

test('a process whose app does not start ends by itself', { timeout: 200_000 }, async (t) => {
  await Promise.all([await sharedRedisUrl(), `redis://127.0.0.1:${await freePort()}`].map(async (redis) => {
    const options = { tooljet: { url: 'http://127.0.0.1:1', apiToken: API_TOKEN }, redis, keyPrefix: newPrefix(), redisTimeoutMs: 300, client: { path: '/taken' } }
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', fileURLToPath(new URL('support/non-starter.ts', import.meta.url)), JSON.stringify(options)], { env: plainEnv(), timeout: 60_000 })
    t.equal(stdout.trim(), 'TOOLJET_EMBED_OPTIONS', redis)
  }))
})

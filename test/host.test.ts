import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import fastifyJwt from '@fastify/jwt'
import fastifyRateLimit from '@fastify/rate-limit'
import Fastify, { type FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import { t as tap, test } from 'tap'
import tooljetEmbed, { tooljetEmbed as byName } from '../plugin/index.js'
import { ANA, API_TOKEN, BEN, JWT_SECRET, newPrefix, Portal, releaseRedisAfter, SALES } from './support/portal.js'
import { plainEnv } from './support/plain-env.js'
import { newClient } from './support/redis-client.js'
import { pluginRedisUrl, sharedRedisUrl } from './support/redis.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

/** Options that need no portal around them; ToolJet is not there. */
async function loneOptions () {
  return { tooljet: { url: 'http://127.0.0.1:9', apiToken: API_TOKEN }, redis: await sharedRedisUrl(), keyPrefix: newPrefix() }
}

async function startError (app: FastifyInstance): Promise<string> {
  try {
    await app.ready()
    return 'it started'
  } catch (error) {
    return `${(error as { code: string }).code} ${(error as Error).message}`
  } finally {
    await app.close().catch(() => {})
  }
}

test('default and named export are one plugin, for Fastify 5, with a name', async (t) => {
  t.equal(tooljetEmbed, byName)
  const meta = (tooljetEmbed as unknown as Record<symbol, object>)[Symbol.for('plugin-meta')]
  t.match(meta, { name: 'fastify-tooljet-embed', fastify: '5.x' })
})

test('works when register is not awaited, and when it is', async (t) => {
  for (const awaited of [false, true]) {
    const portal = await Portal.open(t, { before: async (app) => { if (awaited) await app.after() } })
    t.equal((await portal.ask(ANA)).status, 200)
    t.equal((await portal.askByDecorator(ANA)).status, 200)
    t.same(portal.app.tooljetEmbed.origins, [portal.toolJet.url])
  }
})

test('fastify.tooljetEmbed is complete when it is added', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(fastifyJwt, { secret: JWT_SECRET })
  const added: object[] = []
  const { decorate } = app
  app.decorate = function (this: FastifyInstance, ...args: [name: string, value: object]) {
    if (args[0] === 'tooljetEmbed') added.push({ ...args[1] })
    return Reflect.apply(decorate, this, args)
  } as typeof decorate
  await app.register(tooljetEmbed, await loneOptions())
  await app.ready()
  t.same(Object.keys(added[0]!).sort(), ['audit', 'client', 'forget', 'health', 'origins', 'warm'])
  t.strictSame({ ...app.tooljetEmbed }, added[0])
})

test('prefix and route.path move the route, route: false leaves it out', async (t) => {
  const { toolJet } = await Portal.open(t)
  const open = async (options: object) => {
    const app = Fastify()
    t.teardown(() => app.close())
    await app.register(fastifyJwt, { secret: JWT_SECRET })
    await app.register(tooljetEmbed, { ...await loneOptions(), tooljet: { url: toolJet.url, apiToken: API_TOKEN }, ...options })
    return async (url: string) => (await app.inject({ method: 'POST', url, payload: { appId: SALES.id }, headers: { authorization: `Bearer ${app.jwt.sign({ email: ANA })}` } })).statusCode
  }
  const prefixed = await open({ prefix: '/portal' })
  t.equal(await prefixed('/portal/api/get-tooljet-url'), 200)
  t.equal(await prefixed('/api/get-tooljet-url'), 404)
  const both = await open({ prefix: '/portal', route: { path: '/embed' } })
  t.equal(await both('/portal/embed'), 200)
  const none = await open({ route: false })
  t.equal(await none('/api/get-tooljet-url'), 404)
})

test('there is never a route without authentication', async (t) => {
  const options = await loneOptions()
  const bare = Fastify()
  bare.register(tooljetEmbed, options)
  t.match(await startError(bare), /TOOLJET_EMBED_OPTIONS .*"authenticate" is missing.*@fastify\/jwt/)

  const onlyDecorator = Fastify()
  onlyDecorator.register(tooljetEmbed, { ...options, route: false })
  t.equal(await startError(onlyDecorator), 'it started', 'without a route there is nothing to guard')

  const { toolJet } = await Portal.open(t)
  const own = Fastify()
  t.teardown(() => own.close())
  own.decorateRequest('user', null as unknown as { email: string })
  own.register(tooljetEmbed, {
    ...options,
    tooljet: { url: toolJet.url, apiToken: API_TOKEN },
    authenticate: async (request, reply) => {
      const { who } = request.headers
      if (who === 'nobody') throw Object.assign(new Error('no session'), { statusCode: 401 })
      if (who === 'redirected') return reply.redirect('/sign-in')
      if (who === 'broken') throw new Error('the session store is down')
      if (who === 'odd') throw null // eslint-disable-line no-throw-literal
      request.user = { email: String(who) }
      return undefined
    },
  })
  const ask = async (who: string) => own.inject({ method: 'POST', url: '/api/get-tooljet-url', payload: { appId: SALES.id }, headers: { who } })
  t.equal((await ask(ANA)).statusCode, 200)
  t.match((await ask('nobody')).json(), { statusCode: 401, code: 'TOOLJET_EMBED_UNAUTHENTICATED' })
  t.match(await ask('redirected'), { statusCode: 302, headers: { location: '/sign-in' } })
  t.equal((await ask('broken')).statusCode, 500)
  t.not((await ask('odd')).statusCode, 200)

  const hasty = Fastify()
  t.teardown(() => hasty.close())
  hasty.register(tooljetEmbed, { ...options, identity: () => ANA, authenticate: (() => {}) as unknown as () => Promise<void> })
  t.match((await hasty.inject({ method: 'POST', url: '/api/get-tooljet-url', payload: { appId: SALES.id } })).json(), { statusCode: 401, message: /has to return a promise/ })
})

test('registering twice in one scope is an error that names the fix; scopes apart are fine', async (t) => {
  const options = await loneOptions()
  const twice = Fastify()
  twice.register(fastifyJwt, { secret: JWT_SECRET })
  twice.register(tooljetEmbed, options)
  twice.register(tooljetEmbed, { ...options, route: { path: '/other' } })
  t.match(await startError(twice), /TOOLJET_EMBED_OPTIONS .*already registered in this scope/)

  const { toolJet } = await Portal.open(t)
  const apart = Fastify()
  t.teardown(() => apart.close())
  apart.register(fastifyJwt, { secret: JWT_SECRET })
  for (const name of ['one', 'two']) {
    apart.register(async (scope) => {
      scope.register(tooljetEmbed, { ...options, tooljet: { url: toolJet.url, apiToken: API_TOKEN }, keyPrefix: newPrefix() })
    }, { prefix: `/${name}` })
  }
  await apart.ready()
  for (const name of ['one', 'two']) {
    const reply = await apart.inject({ method: 'POST', url: `/${name}/api/get-tooljet-url`, payload: { appId: SALES.id }, headers: { authorization: `Bearer ${apart.jwt.sign({ email: ANA })}` } })
    t.equal(reply.json().source, 'minted')
  }
  t.notOk(apart.hasDecorator('tooljetEmbed'), 'what is outside of the scopes stays as it is')
})

test("the host's own rate limit, error handler and routes are untouched", async (t) => {
  const portal = await Portal.open(t, {
    options: { rateLimit: { max: 3 } },
    before: async (app) => {
      await app.register(fastifyRateLimit, { max: 2, keyGenerator: () => 'everyone', global: false })
      app.setErrorHandler((error: Error, _request, reply) => reply.code(599).send({ own: error.message }))
      app.get('/own', { config: { rateLimit: { max: 2 } } }, async () => 'own')
      app.get('/fails', async () => { throw new Error('own failure') })
      app.get('/grouped', { config: { rateLimit: { max: 100, groupId: 'grouped' } }, onRequest: (request) => request.jwtVerify() }, (request) => request.tooljetEmbedUrl({ appId: SALES.id }))
    },
  })
  const own = async () => (await portal.app.inject('/own')).statusCode
  t.same([await own(), await own(), await own()], [200, 200, 599])
  t.same((await portal.app.inject('/fails')).json(), { own: 'own failure' })

  t.equal((await portal.ask(ANA)).headers['x-ratelimit-limit'], '3', 'our limit, not the host\'s')
  t.equal((await portal.askByDecorator(ANA)).status, 200)
  t.equal((await portal.app.inject({ url: '/grouped', headers: portal.bearer(ANA) })).statusCode, 200)
  t.match(await portal.ask(ANA), { status: 429, body: { code: 'TOOLJET_EMBED_RATE_LIMITED' } }, 'each ask counted once, on whatever route')
  t.match(await portal.ask(BEN, '{"appId":'), { status: 599 }, 'what is not ours goes to the host\'s error handler')
  t.equal((await portal.ask(BEN)).status, 200)
  t.notOk('rateLimit' in portal.redis, 'and its Redis client got no new method')
})

test('a host with compilers for schemas of another kind', async (t) => {
  const portal = await Portal.open(t, {
    before: (app) => {
      app.setValidatorCompiler(() => { throw new Error('not a schema of mine') })
      app.setSerializerCompiler(() => { throw new Error('not a schema of mine') })
    },
  })
  t.equal((await portal.ask(ANA)).body.source, 'minted')
  t.equal((await portal.ask(ANA, [])).status, 400)
})

test("a Redis client of the host's is never closed, one of a URL is ours", async (t) => {
  const redis = newClient(await sharedRedisUrl())
  t.teardown(() => redis.disconnect())
  const portal = await Portal.open(t, { options: { redis } })
  await portal.ask(ANA)
  await portal.app.close()
  t.equal(await redis.ping(), 'PONG')

  const app = Fastify()
  const options = await loneOptions()
  app.register(tooljetEmbed, { ...options, route: false })
  await app.ready()
  const clients = async () => (await portal.redis.client('LIST') as string).split('\n').length
  const before = await clients()
  await app.close()
  await until('the connection is closed', async () => await clients() < before)
})

test('a Redis client that gives maps as RESP3 has them', async (t) => {
  const client = new Redis(await pluginRedisUrl(), { protocol: 3, replyMapping: 'resp3' })
  t.teardown(() => client.disconnect())
  const portal = await Portal.open(t, { options: { redis: client } })
  t.equal((await portal.ask(ANA)).body.source, 'minted')
  t.equal((await portal.ask(ANA)).body.source, 'reused')
  await portal.audit()
  t.match(await portal.app.tooljetEmbed.audit.verify(), { ok: true, events: 3, trimmed: 0 })
})

test('fastify.redis is used when there is no option redis', async (t) => {
  const { toolJet, redis } = await Portal.open(t)
  const app = Fastify()
  t.teardown(() => app.close())
  app.decorate('redis', redis)
  await app.register(fastifyJwt, { secret: JWT_SECRET })
  const { redis: _, ...options } = await loneOptions()
  await app.register(tooljetEmbed, { ...options, tooljet: { url: toolJet.url, apiToken: API_TOKEN } })
  t.equal((await app.tooljetEmbed.health()).redis.state, 'up')
})

test('forget, origins and health without any ask', async (t) => {
  const portal = await Portal.open(t)
  t.equal(await portal.app.tooljetEmbed.forget({ email: ANA }), 0)
  t.match(await portal.app.tooljetEmbed.health(), { redis: { state: 'up' }, tooljet: { state: 'unknown' }, audit: { seq: 2 } })
})

test('a CommonJS host loads the built package with require', async (t) => {
  const { toolJet } = await Portal.open(t)
  const options = { ...await loneOptions(), tooljet: { url: toolJet.url, apiToken: API_TOKEN } }
  const host = fileURLToPath(new URL('support/commonjs-host.cjs', import.meta.url))
  const { stdout } = await promisify(execFile)(process.execPath, ['--no-warnings', host, JSON.stringify(options)], { env: plainEnv() })
  t.same(JSON.parse(stdout), { anonymous: 401, signedIn: 'minted', same: true, codes: 16 })
})

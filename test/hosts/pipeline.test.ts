import { once } from 'node:events'
import { connect } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import fastifyCors from '@fastify/cors'
import fastifyHelmet from '@fastify/helmet'
import fastifyRateLimit from '@fastify/rate-limit'
import fastifySwagger from '@fastify/swagger'
import type { FastifyContextConfig, FastifyInstance, FastifyServerOptions } from 'fastify'
import { t as tap, test, type Test } from 'tap'
import type { TooljetEmbedOptions } from '../../plugin/index.js'
import { ANA, BEN, Portal, releaseRedisAfter, SALES } from '../support/portal.js'
import { until } from '../support/until.js'

releaseRedisAfter(tap)

/* What a host has set for its own routes: parsers, compilers, hooks, handlers, ids. */

const ONE_APP: Partial<TooljetEmbedOptions> = { apps: { sales: { appId: SALES.id } }, rateLimit: false }

function open (t: Test, before?: (app: FastifyInstance) => void | Promise<void>, { fastify = {}, options = {} }: { fastify?: FastifyServerOptions, options?: Partial<TooljetEmbedOptions> } = {}): Promise<Portal> {
  return Portal.open(t, { options: { ...ONE_APP, ...options }, fastify, ...(before && { before }) })
}

/** Sends a body as it is. */
async function send (portal: Portal, payload: string | Buffer | undefined, headers: Record<string, string> = {}) {
  return portal.app.inject({ method: 'POST', url: '/api/get-tooljet-url', ...(payload !== undefined && { payload }), headers: { ...portal.bearer(ANA), ...headers } })
}

/** Status and code of an answer in Fastify's form, which is checked. */
async function verdict (t: Test, answering: ReturnType<typeof send>): Promise<string> {
  const { statusCode, payload } = await answering
  const { code, ...body } = JSON.parse(payload) as Record<string, unknown>
  if (statusCode === 200) t.match(body, { redirectUrl: /^http/, expiresIn: Number })
  else t.match(body, { statusCode, error: /\w/, message: /\w/ })
  return `${statusCode} ${String(code ?? '')}`.trim()
}

const JSON_TYPE = { 'content-type': 'application/json' }
const BODY = '{"appId":"8ba8bf0e-6b8f-4e07-abb9-6fd2d816fabc"}'
const MEDIA_TYPE = '415 FST_ERR_CTP_INVALID_MEDIA_TYPE'
const INVALID = '400 FST_ERR_CTP_INVALID_JSON_BODY'
const BAD_REQUEST = '400 TOOLJET_EMBED_BAD_REQUEST'

const BODIES: [what: string, payload: string | Buffer | undefined, headers: Record<string, string>, verdict: string][] = [
  ['an object', BODY, JSON_TYPE, '200'],
  ['nothing at all', undefined, {}, '200'],
  ['nothing, called JSON', '', JSON_TYPE, '400 FST_ERR_CTP_EMPTY_JSON_BODY'],
  ['null', 'null', JSON_TYPE, BAD_REQUEST],
  ['a list', '[]', JSON_TYPE, BAD_REQUEST],
  ['a string', '"sales"', JSON_TYPE, BAD_REQUEST],
  ['a number', '5', JSON_TYPE, BAD_REQUEST],
  ['a field of another type', '{"appId":5}', JSON_TYPE, BAD_REQUEST],
  ['broken JSON', '{"appId":', JSON_TYPE, INVALID],
  ['a poisoned prototype', '{"__proto__":{"appId":"x"}}', JSON_TYPE, INVALID],
  ['a poisoned constructor', '{"constructor":{"prototype":{}}}', JSON_TYPE, INVALID],
  ['UTF-16', Buffer.from(BODY, 'utf16le'), { 'content-type': 'application/json; charset=utf-16' }, INVALID],
  ['a byte order mark', `\ufeff${BODY}`, JSON_TYPE, '200'],
  ['compressed JSON', gzipSync(BODY), { ...JSON_TYPE, 'content-encoding': 'gzip' }, INVALID],
  ['16 KiB', BODY.replace('}', `,"x":"${'y'.repeat(16_384 - BODY.length - 7)}"}`), JSON_TYPE, '200'],
  ['a byte more', BODY.replace('}', `,"x":"${'y'.repeat(16_384 - BODY.length - 6)}"}`), JSON_TYPE, '413 FST_ERR_CTP_BODY_TOO_LARGE'],
  ['no type', Buffer.from(BODY), {}, MEDIA_TYPE],
  ...['application/json;charset=UTF-8', 'APPLICATION/JSON', 'application/json; charset="utf-8"', 'application/json;'].map((type): typeof BODIES[number] => [type, BODY, { 'content-type': type }, '200']),
  ...['text/plain', 'application/problem+json', 'application/jsonx', 'application/json, text/plain', 'json', 'multipart/form-data; boundary=x', 'application/x-www-form-urlencoded'].map((type): typeof BODIES[number] => [type, BODY, { 'content-type': type }, MEDIA_TYPE]),
]

const HOSTS_BY_PARSER: Record<string, (app: FastifyInstance) => void> = {
  'without parsers of its own': () => {},
  'that keeps JSON raw': (app) => { app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => { done(null, body) }) },
  'without any parser': (app) => { app.removeAllContentTypeParsers() },
  'that takes anything as it is': (app) => {
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', (_request, payload, done) => { done(null, payload) })
    app.addContentTypeParser(/^.+\/json/, { parseAs: 'string' }, async () => 'mine')
  },
  'that reads bodies before they are parsed': (app) => {
    app.addHook('preParsing', async (request, _reply, payload) => {
      const chunks: Buffer[] = []
      for await (const chunk of payload) chunks.push(chunk as Buffer)
      Object.assign(request, { rawBody: Buffer.concat(chunks) })
      return Readable.from(chunks)
    })
  },
}

test('the route reads JSON by a parser of its own, and each body has one answer and one event in every host', async (t) => {
  for (const [name, before] of Object.entries(HOSTS_BY_PARSER)) {
    const portal = await open(t, before)
    for (const [what, payload, headers, expected] of BODIES) t.equal(await verdict(t, send(portal, payload, headers)), expected, `a host ${name}: ${what}`)
    t.equal(await verdict(t, send(portal, `{"email":"${BEN}"}`, JSON_TYPE)), '403 TOOLJET_EMBED_EMAIL_MISMATCH')
    const told = (await portal.audit()).map(({ code }) => code)
    t.same(told, [...BODIES.map(([, , , expected]) => expected.split(' ')[1]), 'TOOLJET_EMBED_EMAIL_MISMATCH'], name)
  }
})

test("a host's limits, router, poisoning and ids are its own affair", async (t) => {
  const portal = await open(t, (app) => { app.register(fastifyHelmet).register(fastifyCors, { origin: 'https://app.test', credentials: true }) }, {
    fastify: { bodyLimit: 10, routerOptions: { caseSensitive: false }, onProtoPoisoning: 'ignore', onConstructorPoisoning: 'remove', trustProxy: true, exposeHeadRoutes: false, requestIdHeader: 'x-id', return503OnClosing: false },
  })
  for (const body of [BODY, '{"__proto__":{"email":"ben@acme.test"}}', '{"constructor":{"prototype":{}}}']) t.equal(await verdict(t, send(portal, body, { ...JSON_TYPE, 'x-id': 'i'.repeat(3000) })), '200', body)
  const [{ request_id: id } = {}] = await portal.audit()
  t.match(id, /^i{100,256}$/)
  t.equal((await portal.app.inject({ method: 'POST', url: '/API/get-TOOLJET-url', headers: portal.bearer(ANA) })).statusCode, 200)
  const preflight = await portal.app.inject({ method: 'OPTIONS', url: '/api/get-tooljet-url', headers: { origin: 'https://app.test', 'access-control-request-method': 'POST' } })
  t.match(preflight, { statusCode: 204, headers: { 'access-control-allow-origin': 'https://app.test' } })
})

test("a refusal by a limiter of the host's has the headers of that limiter", async (t) => {
  const portal = await open(t, async (app) => { await app.register(fastifyRateLimit, { max: 1 }) }, { options: { rateLimit: { max: 60 } } })
  t.match(await send(portal, BODY, JSON_TYPE), { statusCode: 200, headers: { 'x-ratelimit-limit': '60', 'x-ratelimit-remaining': '59' } })
  t.match(await send(portal, BODY, JSON_TYPE), { statusCode: 429, headers: { 'x-ratelimit-limit': '1', 'x-ratelimit-remaining': '0', 'retry-after': /^(?:60|5\d)$/ } })
  t.match(await portal.audit(), [{ event: 'url.minted' }, { event: 'url.denied', code: 'HTTP_429' }])

  const exempt = await open(t, async (app) => { await app.register(fastifyRateLimit, { max: 1 }) }, { options: { route: { config: { rateLimit: false } } } })
  for (const source of ['minted', 'reused']) t.match((await send(exempt, BODY, JSON_TYPE)).json(), { source })
})

test('a host that speaks HTTP/2', async (t) => {
  const portal = await open(t, undefined, { fastify: { http2: true } as object })
  await portal.app.listen({ port: 0, host: '127.0.0.1' })
  const session = connect(`http://127.0.0.1:${(portal.app.server.address() as AddressInfo).port}`)
  t.teardown(() => session.destroy())
  const ask = async (body: string): Promise<unknown> => {
    const stream = session.request({ ':method': 'POST', ':path': '/api/get-tooljet-url', ...JSON_TYPE, ...portal.bearer(ANA) })
    stream.end(body)
    const [headers] = await once(stream, 'response') as [Record<string, unknown>]
    stream.resume()
    return headers[':status']
  }
  t.same([await ask(BODY), await ask('{'), await ask(JSON.stringify('x'.repeat(20_000)))], [200, 400, 413])
})

const alien = (): never => { throw new Error('not a schema of mine') }
const wrap = (payload: unknown): string => JSON.stringify({ wrapped: payload })

/** What a host makes of answers: of a URL, of a refusal by the plugin, of one by Fastify. */
const HOSTS_BY_ANSWER: Record<string, { before?: (app: FastifyInstance) => void, fastify?: FastifyServerOptions, answers?: [RegExp, RegExp, RegExp], statuses?: number[] }> = {
  'an envelope': { before: (app) => { app.addHook('preSerialization', async (_request, _reply, payload) => ({ data: payload })) }, answers: [/^{"data":{"redirectUrl"/, /^{"data":{"statusCode":403/, /^{"statusCode":400/] },
  'an envelope without an answer in it': { before: (app) => { app.addHook('preSerialization', async () => ({ ok: true })) }, answers: [/^{"ok":true}$/, /^{"ok":true}$/, /^{"statusCode":400/] },
  'a wrapped text': { before: (app) => { app.addHook('onSend', async (_request, _reply, payload) => wrap(JSON.parse(payload as string))) }, answers: [/^{"wrapped":{"redirectUrl"/, /^{"wrapped":{"statusCode":403/, /^{"wrapped":{"statusCode":400/] },
  'a serializer for all answers': { before: (app) => { app.setReplySerializer(wrap) }, answers: [/^{"wrapped":{"redirectUrl"/, /^{"wrapped":{"statusCode":403/, /^{"statusCode":400/] },
  'compilers for other schemas': { before: (app) => { app.setValidatorCompiler(alien).setSerializerCompiler(alien).setSchemaErrorFormatter(alien).setNotFoundHandler(alien) } },
  'a schema controller': { fastify: { schemaController: { compilersFactory: { buildValidator: () => alien, buildSerializer: () => alien } } } },
  'settings for every route': {
    before: (app) => {
      app.addHook('onRoute', function (route) {
        const { url, method, schema } = route
        Object.assign(route, { attachValidation: true, bodyLimit: 3, validatorCompiler: alien, serializerCompiler: () => alien })
        Object.assign(schema ?? {}, { body: { type: 'string' }, querystring: {} })
        if (method === 'POST') this.options(url, async () => 'added')
      })
    },
  },
  'an error handler of another form': { before: (app) => { app.setErrorHandler(({ code }: { code: string }, _request, reply) => reply.code(418).type('application/problem+json').send({ title: code })) }, answers: [/^{"redirectUrl"/, /^{"statusCode":403/, /^{"title":"FST_ERR_CTP_INVALID_JSON_BODY"}$/], statuses: [200, 403, 418] },
  'an error handler with text': { before: (app) => { app.setErrorHandler((_error, _request, reply) => reply.code(422).send('no')) }, answers: [/^{"redirectUrl"/, /^{"statusCode":403/, /^no$/], statuses: [200, 403, 422] },
  'an error handler that throws': { before: (app) => { app.setErrorHandler(() => { throw Object.assign(new Error('mine'), { statusCode: 409 }) }) }, answers: [/^{"redirectUrl"/, /^{"statusCode":403/, /^{"statusCode":409,"error":"Conflict","message":"mine"}$/], statuses: [200, 403, 409] },
}

test('answers pass with what the host makes of them, and leave one event that is true', async (t) => {
  for (const [name, { before, fastify = {}, answers = [/^{"redirectUrl"/, /^{"statusCode":403/, /^{"statusCode":400/], statuses = [200, 403, 400] }] of Object.entries(HOSTS_BY_ANSWER)) {
    const portal = await open(t, before, { fastify, options: { client: false } })
    const bodies = [BODY, `{"email":"${BEN}"}`, '{']
    for (const [i, body] of bodies.entries()) t.match(await send(portal, body, JSON_TYPE), { statusCode: statuses[i], payload: answers[i] }, `${name}: ${body}`)
    t.match(await portal.audit(), [{ event: 'url.minted' }, { code: 'TOOLJET_EMBED_EMAIL_MISMATCH' }, { code: 'FST_ERR_CTP_INVALID_JSON_BODY' }])
    t.equal((await portal.audit()).length, 3)
  }
})

test("settings of the plugin's routes: config for hooks of the host, security for OpenAPI", async (t) => {
  const isPublic = (config: FastifyContextConfig): boolean => (config as { public?: boolean }).public === true
  const before = async (app: FastifyInstance): Promise<void> => {
    app.addHook('onRequest', async ({ routeOptions: { config } }) => { if (!isPublic(config)) throw Object.assign(new Error('private'), { statusCode: 401 }) })
    await app.register(fastifySwagger, {
      openapi: { components: { securitySchemes: { session: { type: 'apiKey', in: 'cookie', name: 'token' } } } },
      transform: ({ schema, url }) => (schema === undefined ? { schema: { tags: ['mine'] }, url } : alien()), // as a library for other schemas has it
    })
  }
  const config = { public: true } as FastifyContextConfig
  const portal = await open(t, before, { options: { route: { config, security: [{ session: [] }] }, client: { config } } })
  t.equal(await verdict(t, send(portal, BODY, JSON_TYPE)), '200')
  t.equal((await portal.app.inject('/tooljet-embed.js')).statusCode, 200)
  const closed = await open(t, before)
  t.equal((await closed.app.inject('/tooljet-embed.js')).statusCode, 401)
  t.match((await send(closed, BODY, JSON_TYPE)).json(), { statusCode: 401, message: 'private' })

  t.match(portal.app.swagger(), { paths: { '/by-decorator': { get: { tags: ['mine'] } }, '/api/get-tooljet-url': { post: { tags: ['tooljet'], security: [{ session: [] }] } } } })

  const own = await Portal.open(t, { options: { ...ONE_APP, route: { config: { swaggerTransform: ({ url }: { url: string }) => ({ schema: { tags: ['mine'] }, url }) } as object } }, before: (app) => { app.register(fastifySwagger) } })
  t.match(own.app.swagger(), { paths: { '/api/get-tooljet-url': { post: { tags: ['mine'] } } } })

  for (const [options, message] of [
    [{ route: { config: 'public' } }, /"route\.config" is "public", expected an object/],
    [{ client: { constraints: 5 } }, /"client\.constraints" is 5, expected an object/],
    [{ route: { security: {} } }, /"route\.security" is an object, expected a list/],
    [{ client: { security: [] } }, /unknown option "client\.security", expected one of path, config, constraints/],
  ] as [object, RegExp][]) await t.rejects(open(t, undefined, { options }), { code: 'TOOLJET_EMBED_OPTIONS', message })
})

test("schemas are plain JSON Schema for a host's own validators, and each registration has its own", async (t) => {
  const KEYWORDS = ['type', 'description', 'examples', 'properties', 'required', 'enum', 'const']
  const keywordsOf = (schema: object): string[] => Object.entries(schema).flatMap(([key, value]) => [key, ...(key === 'properties' ? Object.values(value as object).flatMap(keywordsOf) : [])])
  const seen: string[] = []
  while (seen.length < 100) {
    const portal = await open(t, async (app) => {
      app.addHook('onRoute', ({ schema, method }) => {
        if (method !== 'POST') return
        const { body, response } = schema as { body: object, response: Record<string, object> }
        seen.push(...[body, ...Object.values(response)].flatMap(keywordsOf))
        Object.assign(body, { required: ['appId'], seen: true })
        Object.assign(response['200']!, { required: [], seen: true })
      })
      await app.register(fastifySwagger, { openapi: {} })
    })
    t.equal(await verdict(t, send(portal, '{}', JSON_TYPE)), '200')
    t.match(portal.app.swagger(), { paths: { '/api/get-tooljet-url': { post: { responses: { 429: { headers: { 'retry-after': {} } } } } } } })
  }
  t.same([...new Set(seen)].sort(), KEYWORDS.sort())
})

test('a request may have any id, and the log a short one or none', async (t) => {
  const ids: [id: unknown, told: RegExp | undefined][] = [
    [5, /^5$/], [0, /^0$/], [5n, /^5$/], [undefined, undefined], [null, undefined], ['', undefined], [{ a: 1 }, undefined], [Object.create(null), undefined],
    [{ toString () { throw new Error('no text') } }, undefined], [{ toString: () => 'mine' }, /^mine$/], [Symbol('one'), /^Symbol\(one\)$/],
    ['x'.repeat(100_000), /^x{100,256}$/], ['a\r\nb\0', /^a\ufffd\ufffdb\ufffd$/], ['\u{1f600}\ud800', /^\u{1f600}\ufffd$/u], ['pat_0123456789abcdef', /^\[redacted]$/],
  ]
  let next = 0
  const portal = await Portal.open(t, { options: ONE_APP, fastify: { genReqId: () => ids[next]![0] as string } })
  for (; next < ids.length; next++) t.equal((await portal.askByDecorator(ANA, {})).status, 200)
  next = 0
  for (; next < ids.length; next++) t.equal(await verdict(t, send(portal, BODY, JSON_TYPE)), '200')
  const told = (await portal.audit()).map(({ request_id: id }) => id)
  for (const [i, [id, expected]] of [...ids, ...ids].entries()) t.match(told[i] ?? 'none', expected ?? /^none$/, typeof id)
})

test('a request that Fastify gives up has one event, which says what became of its URL', async (t) => {
  const portal = await open(t, undefined, { fastify: { handlerTimeout: 500 } })
  portal.toolJet.faults = () => ({ delayMs: 1000 })
  t.equal(await verdict(t, send(portal, BODY, JSON_TYPE)), '503 FST_ERR_HANDLER_TIMEOUT')
  await until('it is minted after all', async () => (await portal.audit()).length > 0)
  t.equal(await verdict(t, send(portal, BODY, JSON_TYPE)), '200')
  t.same((await portal.audit()).map(({ event }) => event), ['url.minted', 'url.reused'])
})

test('whatever authenticate, identity and authorize throw is answered in the usual form, without what is in it', async (t) => {
  const error = (fields: object): Error => Object.assign(new Error('mine'), fields)
  const secret = { token: 'hunter2' }
  const thrown: [unknown, string][] = [
    ['hunter2', '500'], [undefined, '500'], [null, '500'], [42, '500'], [Symbol('hunter2'), '500'], [() => secret, '500'], [[secret.token], '500'], [Object.create(null), '500'],
    [{ message: secret }, '500'], [{ statusCode: 200, ...secret }, '500'], [{ statusCode: 403, code: 'MINE', message: 'mine', ...secret }, '403 MINE'],
    [error({ statusCode: 'abc' }), '500'], [error({ statusCode: 99_999 }), '500'], [error({ statusCode: 204 }), '500'], [error({ statusCode: NaN, status: 503 }), '503'],
    [error({ code: secret }), '500'], [error({ code: 'MINE', statusCode: 409, ...secret }), '409 MINE'], [Object.freeze(error({})), '500'], [error({ limit: 16_384 }), '500'],
  ]
  let next: unknown
  for (const where of ['authenticate', 'identity', 'authorize'] as const) {
    const portal = await open(t, undefined, { options: { authenticate: async () => {}, identity: () => ANA, [where]: async () => { throw next } } })
    for (const [what, expected] of thrown) {
      next = what
      const answer = send(portal, BODY, JSON_TYPE)
      t.match(await verdict(t, answer), new RegExp(`^${expected}(?: FST_ERR_SEND_UNDEFINED_ERR)?$`), `${where}: ${typeof what}`)
      t.notMatch((await answer).payload, 'hunter2')
      t.notOk('x-ratelimit-limit' in (await answer).headers, 'nothing was counted')
    }
    for (const what of [error({ statusCode: 401 }), error({ status: 401 }), error({ code: 'FST_JWT_NO_AUTHORIZATION_IN_HEADER' })]) {
      next = what
      if (where === 'authenticate') t.equal(await verdict(t, send(portal, BODY, JSON_TYPE)), '401 TOOLJET_EMBED_UNAUTHENTICATED')
    }
    const events = await portal.audit()
    t.equal(events.length, thrown.length, where)
    t.same(events.filter((_event, i) => !thrown[i]![1].startsWith('5')).map(({ event, code }) => `${event} ${code}`), ['url.denied MINE', 'url.denied MINE'])
  }
})

test('an identity without an e-mail is told once, with the option that mends it', async (t) => {
  const portal = await open(t)
  for (const claims of [{ sub: 'ana' }, { email: 5 }, { email: 'ana' }]) {
    const headers = { authorization: `Bearer ${portal.app.jwt.sign(claims)}` }
    t.equal(await verdict(t, send(portal, BODY, { ...JSON_TYPE, ...headers })), '401 TOOLJET_EMBED_UNAUTHENTICATED')
    t.equal((await portal.app.inject({ url: '/by-decorator', headers })).statusCode, 401)
  }
  t.equal(await verdict(t, send(portal, BODY, { ...JSON_TYPE, authorization: '' })), '401 TOOLJET_EMBED_UNAUTHENTICATED')
  const warnings = portal.logLines.filter(({ level, msg }) => level === 40 && /"identity"/.test(String(msg))).map(({ msg }) => msg)
  t.same(warnings, ['tooljet-embed: option "identity" gave no e-mail address, so the answer is 401; its default is request.user.email'])
  t.equal(await verdict(t, send(portal, BODY, JSON_TYPE)), '200')
})

import { t as tap, test } from 'tap'
import fastifySwagger from '@fastify/swagger'
import { errorCodes } from '../plugin/index.js'
import { errorBody, type Fault } from '../example/tooljet/server.js'
import { ANA, API_TOKEN, BEN, CLEO, INVENTORY, Portal, releaseRedisAfter, SALES } from './support/portal.js'
import { refusal } from './support/refusal.js'

releaseRedisAfter(tap)

test('a signed-in user gets a URL of the app, by route and by decorator', async (t) => {
  const portal = await Portal.open(t)
  const first = await portal.ask(ANA)
  t.equal(first.status, 200)
  t.same(Object.keys(first.body), ['redirectUrl', 'urlId', 'source', 'expiresAt', 'expiresIn'])
  t.match(first.body, { source: 'minted', expiresIn: 3599, urlId: /^[\w-]{16}$/, expiresAt: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/ })
  t.match(portal.toolJet.tokenOf(first.body.redirectUrl), { email: ANA, appId: SALES.id })
  t.notOk(first.body.redirectUrl.includes(first.body.urlId), 'the id is no part of the URL')
  t.ok(Math.abs(Date.parse(first.body.expiresAt) - Date.now() - 3_600_000) < 60_000)
  t.match(first.headers, {
    'cache-control': 'no-store', 'referrer-policy': 'no-referrer', 'x-ratelimit-limit': '60', 'x-ratelimit-remaining': '59', 'x-ratelimit-reset': '60',
  })

  const second = await portal.askByDecorator(ANA)
  t.same({ ...second.body, expiresIn: 0 }, { ...first.body, source: 'reused', expiresIn: 0 })
  t.equal(second.headers['x-ratelimit-limit'], undefined, 'the host answers as it likes')
  t.match(portal.toolJet.calls, [{ authorization: `Basic ${API_TOKEN}`, body: { email: ANA, appId: SALES.id, patExpiry: 3600, sessionExpiry: 60 } }])
  t.equal(portal.toolJet.calls.length, 1)
  t.match(await portal.audit(), [{ event: 'url.minted', url_id: first.body.urlId }, { event: 'url.reused', url_id: first.body.urlId }])
})

test("ToolJet's documented page snippet works unchanged, and its hole is closed", async (t) => {
  const portal = await Portal.open(t)
  t.equal((await portal.ask(ANA, { email: ANA, appId: SALES.id })).status, 200)
  t.equal((await portal.ask(ANA, { email: ' ANA@Acme.Test ', appId: SALES.id })).body.source, 'reused', 'compared without case')
  for (const email of [BEN, '', 'ana@acme.test.evil.example', 'ana@acme.tes']) {
    const reply = await portal.ask(ANA, { email, appId: SALES.id })
    t.match(reply, { status: 403, body: { statusCode: 403, code: 'TOOLJET_EMBED_EMAIL_MISMATCH', error: 'Forbidden' } }, `"${email}"`)
  }
  t.equal(portal.toolJet.calls.length, 1)
  t.ok((await portal.audit()).every(({ email }) => email === ANA), "nobody else's name is in the log")
})

test('e-mails are one person in any case and with spaces around, but never two people one', async (t) => {
  const portal = await Portal.open(t)
  await portal.ask('  Ana@ACME.test ')
  t.equal((await portal.ask(ANA)).body.source, 'reused')
  t.match(portal.toolJet.calls, [{ body: { email: ANA } }])
  // the Kelvin sign is lowered to an ASCII k
  const kelvin = await portal.ask('\u212Aim@acme.test', { appId: SALES.id, email: 'kim@acme.test' })
  t.equal(kelvin.body.code, 'TOOLJET_EMBED_EMAIL_MISMATCH')
  // a letter that lowers to, or is composed as, another one: two accounts, two mints, and each under its own name in the log
  portal.toolJet.faults = ({ body }) => ({ reply: { status: 404, body: `no ${String(body['email'])}` } })
  const angstroms = ['\u00C5sa@acme.test', '\u212Bsa@acme.test', '\u00E5sa@acme.test']
  for (const email of angstroms) await portal.ask(email.replace('acme', 'ACME'))
  t.same(portal.toolJet.calls.slice(-3).map(({ body }) => body['email']), angstroms)
  t.same((await portal.audit()).slice(-3).map(({ email }) => email), angstroms)
  for (const email of ['\u00A0ana@acme.test', 'ana@acme.test\uFEFF', '\u0085ana@acme.test']) {
    t.equal((await portal.ask(email)).status, 401, 'no address, and nobody else\'s')
    t.equal((await portal.ask(ANA, { appId: SALES.id, email })).body.code, 'TOOLJET_EMBED_EMAIL_MISMATCH')
  }
})

test('nobody is let in without an identity', async (t) => {
  const portal = await Portal.open(t)
  const bare = await portal.app.inject({ method: 'POST', url: '/api/get-tooljet-url', payload: { appId: SALES.id } })
  t.equal(bare.statusCode, 401)
  t.match(bare.json(), { statusCode: 401, code: 'TOOLJET_EMBED_UNAUTHENTICATED', error: 'Unauthorized' })
  for (const authorization of ['Bearer nonsense', 'nonsense', 'Bearer a.b.c']) {
    const reply = await portal.ask(ANA, {}, { authorization })
    t.match(reply, { status: 401, body: { code: 'TOOLJET_EMBED_UNAUTHENTICATED' } }, authorization)
  }
  for (const email of ['', '   ', 'no-address', 'a b@acme.test', `${'x'.repeat(250)}@acme.test`, '\ud800@acme.test']) {
    t.match(await portal.ask(email), { status: 401, body: { code: 'TOOLJET_EMBED_UNAUTHENTICATED' } }, `"${email}"`)
  }
  t.match(await portal.ask(42 as unknown as string), { status: 401 })
  t.equal((await portal.ask('', '{')).status, 400, 'malformed, of nobody')
  t.same(await portal.audit(), [], 'a 401 is the host\'s to log')
  t.equal(portal.toolJet.calls.length, 0)
})

test('an app has to be named once, and well', async (t) => {
  const portal = await Portal.open(t)
  const bad: [body: object, says: RegExp][] = [
    [{}, /name it by appId or appSlug/],
    [{ appId: SALES.id, appSlug: 'sales' }, /name it once, by one of appId and appSlug/],
    [{ appId: 'sales' }, /"appId" must be a UUID/],
    [{ appId: '' }, /"appId" must be a UUID/],
    [{ appId: `${SALES.id}\n` }, /"appId" must be a UUID/],
    [{ appSlug: 'a/b' }, /"appSlug" must be/],
    [{ appSlug: 'x'.repeat(129) }, /"appSlug" must be/],
    [{ app: 'sales' }, /no aliases here/],
    [{ appId: SALES.id, replaces: 'not an id' }, /"replaces" must be the urlId/],
    [{ appId: SALES.id, replaces: '' }, /"replaces" must be the urlId/],
  ]
  for (const [body, says] of bad) {
    t.match(await portal.ask(ANA, body), { status: 400, body: { statusCode: 400, code: 'TOOLJET_EMBED_BAD_REQUEST', error: 'Bad Request', message: says } }, JSON.stringify(body))
  }
  for (const body of [[], { appId: 5 }, { email: null, appId: SALES.id }, '{"appId":', 'null', '"text"']) {
    const { status, body: { code } } = await portal.ask(ANA, body)
    t.equal(status, 400, JSON.stringify(body))
    t.ok(code.startsWith('FST_ERR') || code === 'TOOLJET_EMBED_BAD_REQUEST', "the schema's own refusal")
  }
  t.equal(portal.toolJet.calls.length, 0)
  const events = await portal.audit()
  t.equal(events.length, bad.length + 6, 'each refusal left one event')
  t.ok(events.every(({ event, email }) => event === 'url.denied' && email === ANA))
})

test('apps is the allow-list, and names apps', async (t) => {
  const portal = await Portal.open(t, { options: { apps: { sales: { appId: SALES.id, patExpiry: 100, sessionExpiry: 7 }, stock: { appSlug: INVENTORY.slug } } } })
  const byAlias = await portal.ask(ANA, { app: 'sales' })
  t.match(byAlias.body, { source: 'minted', expiresIn: 99 })
  t.equal((await portal.ask(ANA, { appId: SALES.id.toUpperCase() })).body.urlId, byAlias.body.urlId, 'the id names the same app')
  t.match(portal.toolJet.calls, [{ body: { appId: SALES.id, patExpiry: 100, sessionExpiry: 7 } }])
  t.equal((await portal.ask(ANA, { appSlug: INVENTORY.slug })).status, 200)
  for (const body of [{ app: 'payroll' }, { app: 'constructor' }, { app: '__proto__' }, { appId: '00000000-0000-4000-8000-000000000000' }, { appSlug: 'payroll' }]) {
    t.match(await portal.ask(ANA, body), { status: 403, body: { code: 'TOOLJET_EMBED_APP_NOT_ALLOWED' } }, JSON.stringify(body))
  }
  t.match(await portal.ask(ANA, {}), { status: 400, body: { message: /name it by app, appId or appSlug/ } })
  t.match((await portal.audit()).map(({ app }) => app).slice(0, 3), ['sales', 'sales', 'stock'])
})

test('where apps has one entry nothing needs to be named', async (t) => {
  const portal = await Portal.open(t, { options: { apps: { sales: { appSlug: 'sales' } } } })
  const bare = await portal.app.inject({ method: 'POST', url: '/api/get-tooljet-url', headers: portal.bearer(ANA) })
  t.equal(bare.statusCode, 200)
  t.equal((await portal.askByDecorator(ANA, {})).body.source, 'reused')
  t.match(portal.toolJet.calls, [{ body: { appSlug: 'sales' } }])
})

test('authorize decides, and only true lets through', async (t) => {
  const seen: object[] = []
  let verdict: unknown = true
  const portal = await Portal.open(t, {
    options: {
      apps: { sales: { appId: SALES.id } },
      authorize: async (request, ask) => {
        seen.push({ ...ask, url: request.url })
        if (verdict instanceof Error) throw verdict
        return verdict as boolean
      },
    },
  })
  t.equal((await portal.ask('ANA@acme.test')).status, 200)
  t.same(seen, [{ email: ANA, app: 'sales', url: '/api/get-tooljet-url' }])
  for (verdict of [false, undefined, 1, 'yes']) {
    t.match(await portal.ask(ANA), { status: 403, body: { code: 'TOOLJET_EMBED_APP_NOT_ALLOWED' } })
  }
  verdict = Object.assign(new Error('directory is down'), { code: 'E_DIRECTORY' })
  t.match(await portal.ask(ANA), { status: 500, body: { code: 'E_DIRECTORY' } }, "the host's own error goes the host's way")
  t.match((await portal.audit()).slice(-1), [{ event: 'url.failed', code: 'E_DIRECTORY', email: ANA }])
  verdict = Object.assign(new Error('signed out'), { statusCode: 401 })
  t.equal((await portal.ask(ANA)).status, 401)
  t.match((await portal.audit()).slice(-1), [{ event: 'url.denied', code: 'HTTP_401', email: ANA }], 'the user is known')
  t.equal((await portal.audit()).length, 7, 'one for each')
  t.equal(portal.toolJet.calls.length, 1)
})

test('one who is not signed in is no asker, whatever identity says', async (t) => {
  const portal = await Portal.open(t, { options: { identity: () => ANA } })
  for (const headers of [{}, { authorization: 'Bearer x' }]) {
    const reply = await portal.app.inject({ method: 'POST', url: '/api/get-tooljet-url', payload: { appId: SALES.id }, headers })
    t.match(reply, { statusCode: 401, headers: { 'x-ratelimit-limit': undefined } })
  }
  t.same(await portal.audit(), [])
})

test('each ask is counted, whatever is answered', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: { max: 4 } } })
  await portal.ask(ANA, { appId: SALES.id, email: BEN })
  await portal.ask(ANA, {})
  t.match(await portal.ask(ANA, '{'), { status: 400 })
  t.match(await portal.ask(ANA), { status: 200, headers: { 'x-ratelimit-remaining': '0' } })
  for (const body of [{}, '{', { appId: SALES.id, email: BEN }]) t.match(await portal.ask(ANA, body), { status: 429, body: { code: 'TOOLJET_EMBED_RATE_LIMITED' } })
  t.equal((await portal.audit()).length, 5, 'the last two are summed up when the window ends')
})

test('identity says who asks', async (t) => {
  const portal = await Portal.open(t, { options: { identity: async (request) => (request.user as { email: string }).email.replace('@', '+tj@') } })
  portal.toolJet.faults = ({ body }) => { t.equal(body['email'], 'ana+tj@acme.test'); return undefined }
  t.match(await portal.ask(ANA), { status: 404, body: { code: 'TOOLJET_EMBED_USER_NOT_FOUND' } })
})

interface Row {
  fault: Fault
  status: number
  code: string
  event: string
  retryAfter?: boolean
}

const REPLIES: Record<string, Row> = {
  'user unknown': { fault: refusal(404, 'User with email x not found'), status: 404, code: 'USER_NOT_FOUND', event: 'url.denied' },
  'no access': { fault: refusal(403, 'User has no permission'), status: 403, code: 'ACCESS_DENIED', event: 'url.denied' },
  'no such app': { fault: refusal(400, 'Invalid appId or appSlug'), status: 404, code: 'APP_NOT_FOUND', event: 'url.denied' },
  'another form of id': { fault: refusal(400, ['appId must be a UUID']), status: 400, code: 'BAD_REQUEST', event: 'url.denied' },
  'an e-mail that is none': { fault: refusal(400, ['email must be an email', 'sessionExpiry must not be less than 1']), status: 400, code: 'BAD_REQUEST', event: 'url.denied' },
  'no e-mail': { fault: refusal(400, 'Either userId or email must be provided'), status: 400, code: 'BAD_REQUEST', event: 'url.denied' },
  'no such app, of an older version': { fault: { reply: { status: 400, body: { statusCode: 400, message: 'Invalid appId or appSlug', error: 'Bad Request' } } }, status: 404, code: 'APP_NOT_FOUND', event: 'url.denied' },
  'no such slug': { fault: refusal(404, 'appSlug not found'), status: 404, code: 'APP_NOT_FOUND', event: 'url.denied' },
  'user unknown, of an older version': { fault: { reply: { status: 404, body: { statusCode: 404, message: 'User not found', error: 'Not Found' } } }, status: 404, code: 'USER_NOT_FOUND', event: 'url.denied' },
  'no access, of an older version': { fault: { reply: { status: 403, body: { statusCode: 403, message: 'constructor', error: 'Forbidden' } } }, status: 403, code: 'ACCESS_DENIED', event: 'url.denied' },
  'no access, with a code': { fault: { reply: { status: 403, body: { ...errorBody(403, 'Forbidden'), code: '403' } } }, status: 403, code: 'ACCESS_DENIED', event: 'url.denied' },
  'bad API token, of an older version': { fault: { reply: { status: 403, body: { statusCode: 403, message: 'Unauthorized', error: 'Forbidden' } } }, status: 502, code: 'MISCONFIGURED', event: 'url.failed' },
  'a 400 of a gateway': { fault: { reply: { status: 400, body: { message: 'Invalid appId or appSlug' } } }, status: 502, code: 'BAD_REPLY', event: 'url.failed' },
  'another 400': { fault: refusal(400, 'no'), status: 502, code: 'BAD_REPLY', event: 'url.failed' },
  'limit reached': { fault: refusal(429, 'Too Many'), status: 429, code: 'BUSY', event: 'url.limited', retryAfter: true },
  'bad API token': { fault: refusal(403, 'Unauthorized'), status: 502, code: 'MISCONFIGURED', event: 'url.failed' },
  'external API off': { fault: refusal(403, 'External API is disabled'), status: 502, code: 'MISCONFIGURED', event: 'url.failed' },
  'licence without it': { fault: refusal(403, 'You do not have access to this resource'), status: 502, code: 'MISCONFIGURED', event: 'url.failed' },
  'community guard': { fault: refusal(403, 'Forbidden resource'), status: 502, code: 'MISCONFIGURED', event: 'url.failed' },
  'community edition': { fault: refusal(404, 'Cannot POST /api/ext/users/personal-access-token'), status: 502, code: 'MISCONFIGURED', event: 'url.failed' },
  'a proxy that refuses': { fault: { reply: { status: 403, body: '<html>no</html>' } }, status: 502, code: 'MISCONFIGURED', event: 'url.failed' },
  'a proxy that wants a password': { fault: { reply: { status: 401 } }, status: 502, code: 'MISCONFIGURED', event: 'url.failed' },
  'starter plan': { fault: { reply: { status: 451 } }, status: 502, code: 'MISCONFIGURED', event: 'url.failed' },
  'no redirectUrl': { fault: { reply: { status: 201, body: { personalAccessToken: 'pat_1' } } }, status: 502, code: 'BAD_REPLY', event: 'url.failed' },
  'relative redirectUrl': { fault: { reply: { status: 201, body: { redirectUrl: '/embed-apps/1' } } }, status: 502, code: 'BAD_REPLY', event: 'url.failed' },
  'foreign redirectUrl': { fault: { reply: { status: 201, body: { redirectUrl: 'https://evil.example/embed-apps/1?personal-access-token=pat_feedfacecafe' } } }, status: 502, code: 'BAD_REPLY', event: 'url.failed' },
  'script as redirectUrl': { fault: { reply: { status: 201, body: { redirectUrl: 'javascript:alert(1)' } } }, status: 502, code: 'BAD_REPLY', event: 'url.failed' },
  'not JSON': { fault: { reply: { status: 201, body: '<html>hello</html>' } }, status: 502, code: 'BAD_REPLY', event: 'url.failed' },
  'endless reply': { fault: { reply: { status: 201, body: 'x'.repeat(100_000) } }, status: 502, code: 'BAD_REPLY', event: 'url.failed' },
  redirect: { fault: { reply: { status: 302, headers: { location: 'https://evil.example/' } } }, status: 502, code: 'BAD_REPLY', event: 'url.failed' },
  teapot: { fault: { reply: { status: 418 } }, status: 502, code: 'BAD_REPLY', event: 'url.failed' },
  'server error': { fault: refusal(500, 'Internal server error'), status: 503, code: 'UNAVAILABLE', event: 'url.failed', retryAfter: true },
  'gateway without server': { fault: { reply: { status: 502 } }, status: 503, code: 'UNAVAILABLE', event: 'url.failed', retryAfter: true },
  'cut connection': { fault: { cut: 'before' }, status: 503, code: 'UNAVAILABLE', event: 'url.failed', retryAfter: true },
  'cut in the reply': { fault: { cut: 'middle' }, status: 503, code: 'UNAVAILABLE', event: 'url.failed', retryAfter: true },
  silence: { fault: { hang: true }, status: 504, code: 'TIMEOUT', event: 'url.failed' },
}

for (const [name, { fault, status, code, event, retryAfter }] of Object.entries(REPLIES)) {
  test(`ToolJet: ${name} is ${code}`, async (t) => {
    const portal = await Portal.open(t, { options: {} })
    const slow = code === 'TIMEOUT'
    const quick = slow ? await Portal.open(t, { options: { tooljet: { url: portal.toolJet.url, apiToken: API_TOKEN, timeoutMs: 150 } } }) : portal
    portal.toolJet.faults = () => fault
    const reply = await quick.ask(ANA)
    t.match(reply, { status, body: { statusCode: status, code: `TOOLJET_EMBED_${code}`, error: /\w/, message: /\w/ } })
    const besides = [...(retryAfter === true ? ['retryAfter'] : []), ...(code === 'BUSY' ? ['queue'] : [])]
    t.same(Object.keys(reply.body), ['statusCode', 'code', 'error', 'message', ...besides])
    t.equal(reply.headers['retry-after'], retryAfter === true ? String(reply.body.retryAfter) : undefined, 'Retry-After')
    t.equal(reply.headers['cache-control'], 'no-store')
    const events = await quick.audit()
    t.match(events, [{ event, outcome: 'failure', code: `TOOLJET_EMBED_${code}`, email: ANA, app: SALES.id }])
    t.equal(events.length, 1)
    t.notMatch(quick.logText, /feedfacecafe/)
  })
}

test('the operator is told what to mend, once per change of state', async (t) => {
  const portal = await Portal.open(t)
  const lines = () => portal.logLines.filter(({ level, msg }) => level === 50 || /recovered/.test(String(msg))).map(({ msg }) => msg)
  portal.toolJet.faults = () => refusal(403, 'External API is disabled')
  await portal.ask(ANA)
  await portal.ask(BEN)
  t.match(lines(), [/mint failed: set ENABLE_EXTERNAL_API=true/])
  t.equal((await portal.app.tooljetEmbed.health()).tooljet.state, 'failing')
  portal.toolJet.faults = undefined
  t.equal((await portal.ask(ANA)).status, 200, 'an operator error is not remembered')
  await portal.ask(BEN)
  t.match(lines(), [/mint failed/, /recovered/])
  t.equal(lines().length, 2)
  t.equal((await portal.app.tooljetEmbed.health()).tooljet.state, 'ok')
  await portal.ask(CLEO)
  t.equal((await portal.app.tooljetEmbed.health()).tooljet.state, 'ok', 'that a user is refused is no trouble of the server')
  t.equal(lines().length, 2)
})

test('every code is exported as a class of @fastify/error', async (t) => {
  const seen = Object.values(REPLIES).map(({ code }) => `TOOLJET_EMBED_${code}`)
  for (const code of seen) t.ok(code in errorCodes, code)
  t.equal(Object.keys(errorCodes).length, 16)
  const error = new errorCodes.TOOLJET_EMBED_BUSY('.')
  t.match(error, { name: 'FastifyError', statusCode: 429, code: 'TOOLJET_EMBED_BUSY' })
})

test('the decorator throws coded errors, and Retry-After reaches the client of a host that does nothing', async (t) => {
  const portal = await Portal.open(t)
  portal.toolJet.faults = () => ({ reply: { status: 429, headers: { 'retry-after': '17' } } })
  const reply = await portal.askByDecorator(ANA)
  t.match(reply, { status: 429, headers: { 'retry-after': '17' }, body: { code: 'TOOLJET_EMBED_BUSY' } })
})

test('the route shows up in @fastify/swagger', async (t) => {
  const portal = await Portal.open(t, { before: (app) => { app.register(fastifySwagger, { openapi: {} }) } })
  const { paths } = portal.app.swagger() as { paths: Record<string, { post: { requestBody: object, responses: object } }> }
  const route = paths['/api/get-tooljet-url']!.post
  t.match(route.requestBody, { content: { 'application/json': { schema: { properties: { appId: {}, appSlug: {}, app: {}, email: {}, replaces: {} } } } } })
  t.match(route.responses, { 200: { content: { 'application/json': { schema: { properties: { redirectUrl: {} } } } } }, '4XX': {}, '5XX': {} })
})

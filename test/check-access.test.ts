import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { t as tap, test } from 'tap'
import type { Fault } from '../example/tooljet/server.js'
import { ANA, API_TOKEN, BEN, CLEO, Portal, releaseRedisAfter, SALES, type PortalSetup } from './support/portal.js'

/* tooljet.checkAccess: what is proved after a mint, and what is made of it. */

releaseRedisAfter(tap)

const REFUSED = /refuses the URL that it has just minted: the user may not open the app, or a new token is not valid while an older one lives/
const BLIND = /access to apps cannot be checked/

const setup = ({ target, toolJet, ...rest }: PortalSetup = {}): PortalSetup => ({ target: { checkAccess: true, ...target }, toolJet: { access: 'session', ...toolJet }, ...rest })

/** What goes wrong with session calls only. */
const atSession = (fault: Fault | undefined) => ({ path }: { path: 'mint' | 'session' }): Fault | undefined => path === 'session' ? fault : undefined

const linesLike = ({ logLines }: Portal, like: RegExp) => logLines.filter(({ msg }) => like.test(String(msg)))

test('who may not open the app gets no URL: denied, audited, remembered, and nothing is cached', async (t) => {
  for (const app of [{ appId: SALES.id }, { appSlug: SALES.slug }]) {
    const portal = await Portal.open(t, setup())
    t.match(await portal.ask(CLEO, app), { status: 403, body: { code: 'TOOLJET_EMBED_ACCESS_DENIED', redirectUrl: undefined } })
    const { sessionCalls, mints } = portal.toolJet
    t.same(sessionCalls.map(({ body }) => body), [{ appId: SALES.id, accessToken: mints[0]!.token }], 'as the page of the URL sends it')
    t.equal(sessionCalls[0]!.headers.authorization, undefined, 'without the API token')
    t.equal((await portal.cached('url')).length, 0)
    t.match(await portal.audit(), [{ event: 'url.denied', code: 'TOOLJET_EMBED_ACCESS_DENIED', email: CLEO, outcome: 'failure' }])
    t.match(linesLike(portal, REFUSED), [{ level: 40, app: Object.values(app)[0], status: 403 }])
    t.equal((await portal.ask(CLEO, app)).status, 403)
    t.equal(portal.toolJet.calls.length, 1, 'remembered')
    t.match((await portal.app.tooljetEmbed.health()).tooljet, { state: 'ok' })

    t.match(await portal.ask(ANA, app), { status: 200, body: { source: 'minted' } })
    t.match(await portal.ask(ANA, app), { status: 200, body: { source: 'reused' } })
    t.equal(sessionCalls.length, 2, 'one for each mint')
    t.equal(linesLike(portal, BLIND).length, 0)
  }
})

test('a 401 is a denial, too', async (t) => {
  const portal = await Portal.open(t, setup())
  portal.toolJet.faults = atSession({ reply: { status: 401 } })
  t.match(await portal.ask(ANA), { status: 403, body: { code: 'TOOLJET_EMBED_ACCESS_DENIED' } })
})

test('without the option, no session is opened', async (t) => {
  const portal = await Portal.open(t, setup({ target: { checkAccess: false } }))
  t.equal((await portal.ask(CLEO)).status, 200)
  t.equal(portal.toolJet.sessionCalls.length, 0)
})

test('a denial drops what is cached, for the fleet', async (t) => {
  const [one, other] = await Portal.openSeveral(t, 2, setup()) as [Portal, Portal]
  const { body: old } = await other.ask(ANA)
  one.toolJet.faults = atSession({ reply: { status: 403 } })
  t.equal((await one.ask(ANA, { appId: SALES.id, replaces: old.urlId })).status, 403)
  t.equal((await other.ask(ANA)).status, 403)
  t.equal((await one.cached('url')).length, 0)
})

test('anything else proves nothing: the URL is used, the call is made once, and the log says so once', async (t) => {
  const html = { body: '<html>', headers: { 'content-type': 'text/html' } }
  const replies = [302, 400, 404, 422, 429, 451, 500, 502, 503].map((status) => ({ reply: { status, ...html } }))
  const portal = await Portal.open(t, setup({ target: { timeoutMs: 500 }, options: { rateLimit: false } }))
  for (const fault of [...replies, { cut: 'before' }, { cut: 'middle' }, { hang: true }] as const) {
    portal.toolJet.faults = atSession(fault)
    const calls = portal.toolJet.sessionCalls.length
    const { status, body } = await portal.ask(CLEO)
    t.equal(status, 200, JSON.stringify(fault))
    t.equal(body.source, 'minted')
    t.equal(portal.toolJet.sessionCalls.length, calls + 1)
    await portal.app.tooljetEmbed.forget({ email: CLEO })
  }
  t.match(linesLike(portal, BLIND), [{ level: 40, outcome: 302 }])
  t.match(await portal.app.tooljetEmbed.health(), { tooljet: { state: 'ok' } }, 'it mints')
  portal.toolJet.faults = undefined
  t.equal((await portal.ask(ANA)).status, 200)
  portal.toolJet.faults = atSession({ hang: true })
  t.equal((await portal.ask(BEN)).status, 200)
  t.match(linesLike(portal, BLIND), [{}, { outcome: 'TOOLJET_EMBED_TIMEOUT' }], 'it had worked in between')
})

test('the call goes to tooljet.url, its sub-path kept, also where the front end is elsewhere; a URL without a token or an app is used as it is', async (t) => {
  const requests: Pick<IncomingMessage, 'url' | 'headers'>[] = []
  let redirectUrl = ''
  const server = createServer((request, reply) => {
    requests.push(request)
    const isMint = request.url!.endsWith('personal-access-token')
    reply.writeHead(isMint ? 201 : 403, { 'content-type': 'application/json' }).end(JSON.stringify({ redirectUrl }))
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  t.teardown(() => { server.close(); server.closeAllConnections() })
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/base`
  const portal = await Portal.open(t, { options: { tooljet: { url, apiToken: API_TOKEN, embedOrigins: ['https://apps.acme.test'], checkAccess: true } } })
  redirectUrl = `https://apps.acme.test/sub/embed-apps/${SALES.id}?personal-access-token=pat_1&appSlug=sales`
  t.equal((await portal.ask(ANA)).status, 403)
  t.same(requests.map(({ url }) => url), ['/base/api/ext/users/personal-access-token', '/base/api/ext/users/session'])
  t.same(requests.map(({ headers }) => headers.authorization), [`Basic ${API_TOKEN}`, undefined])
  for (redirectUrl of ['https://apps.acme.test/other?personal-access-token=pat_1', `https://apps.acme.test/embed-apps/${SALES.id}`]) {
    t.equal((await portal.ask(BEN)).status, 200)
    await portal.app.tooljetEmbed.forget({ email: BEN })
  }
  t.equal(requests.length, 4, 'two mints')
})

test('the call has a timeoutMs of its own, and the lock covers both: one mint for all', { timeout: 60_000 }, async (t) => {
  const timeoutMs = 3000
  const [one, other] = await Portal.openSeveral(t, 2, setup({ target: { timeoutMs }, options: { redisTimeoutMs: 300 } })) as [Portal, Portal]
  const { toolJet } = one
  toolJet.faults = () => ({ delayMs: 2400 }) // each within its time; together past the lock of a mint alone
  const replies = await Promise.all([one, other].map((portal) => portal.ask(ANA)))
  t.same(replies.map(({ status, body }) => [status, body.source]).sort(), [[200, 'minted'], [200, 'reused']])
  t.equal(toolJet.calls.length, 1)
  t.same((await Promise.all([one, other].map((portal) => portal.ask(CLEO)))).map(({ status }) => status), [403, 403], 'a late refusal is one')
  t.equal(toolJet.calls.length, 2)
})

test('a ToolJet on which a new token is not valid while an older one lives: a renewal is denied until that has ended', { timeout: 60_000 }, async (t) => {
  const portal = await Portal.open(t, setup({ toolJet: { tokens: 'keep' }, options: { patExpiry: 600 } }))
  const { body } = await portal.ask(ANA)
  t.match(await portal.ask(ANA, { appId: SALES.id, replaces: body.urlId }), { status: 403, body: { code: 'TOOLJET_EMBED_ACCESS_DENIED' } })
  t.match(linesLike(portal, REFUSED), [{ status: 403 }], 'the log names that reading, too')
  t.equal((await portal.cached('url')).length, 0)
})

test('it counts for no limit: neither the mint limit nor rateLimit.mints, where a denied mint counts as one', async (t) => {
  const portal = await Portal.open(t, setup({ mintLimit: { max: 3, timeWindow: 60_000 }, options: { rateLimit: { mints: 1 } } }))
  t.equal((await portal.ask(ANA)).status, 200)
  t.equal((await portal.ask(CLEO)).status, 403)
  t.equal((await portal.ask(BEN)).status, 200)
  t.equal((await portal.ask(CLEO, { appId: SALES.id.replace(/^./, '9') })).body.code, 'TOOLJET_EMBED_RATE_LIMITED')
  t.equal((await portal.ask('omar@acme.test')).body.code, 'TOOLJET_EMBED_BUSY')
})

test('warm: who may not open the app fails by a denial', async (t) => {
  const portal = await Portal.open(t, setup())
  const pairs = [ANA, CLEO].map((email) => ({ email, appId: SALES.id }))
  t.match(await portal.app.tooljetEmbed.warm(pairs), { minted: 1, failed: [{ email: CLEO, code: 'TOOLJET_EMBED_ACCESS_DENIED' }] })
  t.equal((await portal.cached('url')).length, 1)
  t.same((await portal.audit()).map(({ event, email, code }) => [event, email, code]).sort(), [['url.warmed', ANA, undefined], ['url.warmed', CLEO, 'TOOLJET_EMBED_ACCESS_DENIED']])
})

test('without Redis it is checked, too', { timeout: 60_000 }, async (t) => {
  const portal = await Portal.open(t, setup({ options: { redis: 'redis://127.0.0.1:9', redisTimeoutMs: 100, rateLimit: false } }))
  t.match(await portal.ask(CLEO), { status: 403, body: { code: 'TOOLJET_EMBED_ACCESS_DENIED' } })
  t.equal((await portal.ask(ANA)).status, 200)
})

test('no PAT is in a log line, an audit field, an error or readable in Redis, whatever the session call answers', async (t) => {
  const portal = await Portal.open(t, setup({ target: { timeoutMs: 400 }, options: { rateLimit: false } }))
  const errors: string[] = []
  const echo = (status: number) => (token: string): Fault => ({ reply: { status, body: { message: token }, headers: { location: token } } })
  const faults = [...[{ cut: 'before' }, { cut: 'middle' }, { hang: true }].map((fault) => () => fault as Fault), echo(500), echo(302), echo(403)]
  for (const fault of faults) {
    portal.toolJet.faults = ({ path, body }) => path === 'mint' ? undefined : fault(String(body['accessToken']))
    const reply = await portal.ask(ANA)
    if (reply.status !== 200) errors.push(JSON.stringify(reply))
    await portal.app.tooljetEmbed.forget({ email: ANA })
  }
  portal.toolJet.faults = undefined
  errors.push(JSON.stringify(await portal.ask(CLEO)))
  await portal.audit()
  const fromRedis = await portal.dumpRedis()
  await portal.app.close()
  const tokens = portal.toolJet.tokens.all.map(({ token }) => token)
  t.ok(tokens.length === 7 && errors.length === 2, 'the run was a full one')
  for (const [where, text] of Object.entries({ log: portal.logText, redis: fromRedis, errors: errors.join('\n') })) {
    for (const secret of [...tokens, 'pat_', API_TOKEN]) t.notOk(text.includes(secret), `${where}: ${secret.slice(0, 12)}…`)
  }
})

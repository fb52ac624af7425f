import Fastify from 'fastify'
import type { Frame, Page } from 'playwright-core'
import { t as tap, test, type Test } from 'tap'
import { INVENTORY, SALES, type Seed } from '../example/tooljet/seed.js'
import { ToolJetStandIn, errorBody, type ToolJetOptions } from '../example/tooljet/server.js'
import { chromiumPath, closeBrowserAfter, visit } from './support/browser.js'
import { ANA, API_TOKEN, CLEO, Portal, releaseRedisAfter } from './support/portal.js'
import { until } from './support/until.js'

/* The stand-in behaves as a real ToolJet does, as far as that is known. */

releaseRedisAfter(tap)
closeBrowserAfter(tap)

const IN_A_BROWSER = chromiumPath() === undefined ? { skip: 'there is no chromium on this machine' } : {}

async function start (t: Test, options: Partial<ToolJetOptions> = {}) {
  const standIn = await new ToolJetStandIn({ apiToken: API_TOKEN, ...options }).listen()
  t.teardown(() => standIn.close())
  const post = async (path: string, body: object) => {
    const reply = await fetch(standIn.url + path, { method: 'POST', headers: { 'content-type': 'application/json', authorization: `Basic ${API_TOKEN}` }, body: JSON.stringify(body) })
    return { status: reply.status, body: await reply.json() as Record<string, string> }
  }
  return {
    standIn,
    mint: (body: object) => post('/api/ext/users/personal-access-token', body),
    open: (appId: string, accessToken: string | undefined) => post('/api/ext/users/session', { appId, accessToken }),
  }
}

test('the stand-in: minting, sessions and pages as documented', async (t) => {
  const standIn = await new ToolJetStandIn({ apiToken: API_TOKEN, mintsPerMinute: 12 }).listen()
  t.teardown(() => standIn.close())
  const post = async (path: string, body: object, headers: Record<string, string> = { authorization: `Basic ${API_TOKEN}` }) => {
    const reply = await fetch(standIn.url + path, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) })
    return { status: reply.status, body: await reply.json() as Record<string, string> }
  }
  const mint = (body: object, headers?: Record<string, string>) => post('/api/ext/users/personal-access-token', body, headers)
  t.match(await mint({}, {}), { status: 403, body: { statusCode: 403, message: 'Unauthorized' } }, 'never 401 here')
  t.match(await mint({ email: 'nobody@x.test', appId: SALES.id }), { status: 404, body: { message: /nobody@x\.test/ } })
  t.match(await mint({ email: ANA, appId: 'x' }), { status: 400, body: { message: ['appId must be a UUID'] } })
  t.match(await mint({ email: ANA, appSlug: 'x' }), { status: 400, body: { message: 'Invalid appId or appSlug' } })
  t.match(await mint({ appId: SALES.id }), { status: 400, body: { message: 'Either userId or email must be provided' } })
  t.match(await mint({ email: ANA, appId: SALES.id, patExpiry: 0 }), { status: 400, body: { message: [/patExpiry/] } })
  t.equal((await mint({ email: ANA })).status, 500)
  t.equal((await mint({ email: CLEO, appId: SALES.id })).status, 403)
  t.match(await post('/api/ext/users/other', {}), { status: 404, body: { message: 'Cannot POST /api/ext/users/other' } })

  const { status, body } = await mint({ email: ANA, appSlug: SALES.slug, patExpiry: 60, sessionExpiry: 1 })
  t.equal(status, 201)
  t.equal(body['redirectUrl'], `${standIn.url}/embed-apps/${SALES.id}?personal-access-token=${body['personalAccessToken']}&appSlug=sales`)
  t.match(body['personalAccessToken'], /^pat_[0-9a-f]+$/)

  const session = (body: object) => post('/api/ext/users/session', body)
  t.equal((await session({ appId: SALES.id })).status, 400)
  t.equal((await session({ appId: SALES.id, accessToken: 'pat_0' })).status, 403)
  t.equal((await session({ appId: INVENTORY.id, accessToken: body['personalAccessToken'] })).status, 403)
  const opened = await session({ appId: SALES.id, accessToken: body['personalAccessToken'] })
  t.match(opened, { status: 201, body: { appId: SALES.id } })
  const { exp } = JSON.parse(Buffer.from(opened.body['signedPat']!.split('.')[1]!, 'base64url').toString()) as { exp: number }
  t.equal(exp, Math.floor(standIn.tokens.find(body['personalAccessToken']!)!.expiresAt / 1000), 'a JWT that ends with the PAT')
  t.equal((await session({ appId: SALES.id, accessToken: body['personalAccessToken'] })).status, 201, 'not single-use')
  const use = async (token: string) => (await fetch(`${standIn.url}/api/session`, { headers: { tj_auth_token: token } })).status
  t.equal(await use(opened.body['signedPat']!), 200)
  t.equal(await use('other'), 401)
  standIn.tokens.find(body['personalAccessToken']!)!.expiresAt = Date.now()
  t.equal(await use(opened.body['signedPat']!), 401, 'a session dies with its PAT')
  t.match(await session({ appId: SALES.id, accessToken: body['personalAccessToken'] }), { status: 401, body: { message: 'PAT token expired' } })

  const apps = await fetch(`${standIn.url}/api/ext/workspace/1/apps`, { headers: { authorization: `Basic ${API_TOKEN}` } })
  t.match(await apps.json(), { apps: [{ id: SALES.id, slug: 'sales' }, { id: INVENTORY.id, slug: INVENTORY.id }] })
  t.equal((await fetch(`${standIn.url}/api/ext/workspace/1/apps`)).status, 403)
  const paths = [`/embed-apps/${SALES.id}?personal-access-token=x`, `/applications/${SALES.id}`, '/login/acme', '/error/restricted']
  for (const path of paths) {
    const page = await fetch(standIn.url + path, { headers: { referer: 'http://portal.test/' } })
    t.match(page.headers.get('content-type'), /text\/html/)
    t.equal(page.headers.get('content-security-policy'), 'frame-ancestors *')
    t.equal(page.headers.get('referrer-policy'), 'no-referrer')
    t.equal(page.headers.get('permissions-policy'), 'geolocation=(self), camera=(self), microphone=(self)')
  }
  t.same(standIn.pageCalls.map(({ url, headers }) => [url, headers.referer]), paths.map((path) => [path, 'http://portal.test/']))
  const limited = await Promise.all(Array.from({ length: 15 }, () => mint({ email: ANA, appId: SALES.id })))
  t.equal(limited.filter(({ status }) => status === 429).length, 4)
})

test('the stand-in: its limit holds in any minute, and its 429 says when the oldest mint leaves it, or does not', async (t) => {
  const minuteMs = 2500
  for (const retryAfter of [true, false]) {
    const standIn = await new ToolJetStandIn({ apiToken: API_TOKEN, mintsPerMinute: 2, minuteMs, retryAfter }).listen()
    t.teardown(() => standIn.close())
    const mint = async () => {
      const headers = { 'content-type': 'application/json', authorization: `Basic ${API_TOKEN}` }
      const reply = await fetch(`${standIn.url}/api/ext/users/personal-access-token`, { method: 'POST', headers, body: JSON.stringify({ email: ANA, appId: SALES.id }) })
      return { status: reply.status, retryAfter: reply.headers.get('retry-after') }
    }
    const passes = (ms: number) => until(`${ms} ms have passed`, () => Date.now() >= standIn.mints[0]!.at + ms)
    await mint()
    await passes(1800)
    t.equal((await mint()).status, 201)
    t.same(await mint(), { status: 429, retryAfter: retryAfter ? '1' : null }, 'rounded up')
    await passes(minuteMs)
    t.equal((await mint()).status, 201, 'the first is a minute old')
    t.same(await mint(), { status: 429, retryAfter: retryAfter ? '2' : null }, 'the second is not')
  }
})

test('the stand-in: minutes as the unit of patExpiry', async (t) => {
  const standIn = await new ToolJetStandIn({ apiToken: API_TOKEN, patUnit: 'minutes' }).listen()
  t.teardown(() => standIn.close())
  const portal = await Portal.open(t, { options: { tooljet: { url: standIn.url, apiToken: API_TOKEN }, patExpiry: 60 } })
  const { body } = await portal.ask(ANA)
  t.ok(standIn.tokenOf(body.redirectUrl)!.expiresAt > Date.now() + 3_500_000)
  t.ok(body.expiresIn <= 60, 'the plugin is safe under either reading')
})

test('the stand-in: who may open an app is said by the mint, or only by the session call', async (t) => {
  const early = await start(t)
  t.equal((await early.mint({ email: CLEO, appId: SALES.id })).status, 403)
  const late = await start(t, { access: 'session' })
  const { status, body } = await late.mint({ email: CLEO, appId: SALES.id })
  t.equal(status, 201)
  t.match(await late.open(SALES.id, body['personalAccessToken']), { status: 403, body: { statusCode: 403, timestamp: /T/, path: '/api/ext/users/session', message: /access/ } })
  t.equal((await late.mint({ email: 'nobody@acme.test', appId: SALES.id })).status, 404)
  t.match(late.standIn.sessionCalls, [{ body: { appId: SALES.id, accessToken: body['personalAccessToken'] } }])
})

test('the stand-in: users are found as they are spelled, or in any case', async (t) => {
  const seed: Seed = { apps: [SALES], users: [{ email: 'Eva@Acme.test', apps: [SALES.slug] }] }
  for (const [emailCase, lower] of [['exact', 404], ['lower', 201]] as const) {
    const { mint } = await start(t, { seed, emailCase })
    t.equal((await mint({ email: 'Eva@Acme.test', appId: SALES.id })).status, 201)
    t.equal((await mint({ email: 'eva@acme.test', appId: SALES.id })).status, lower, emailCase)
  }
})

const HOST = `<!doctype html><title>Host</title><script>
  loads = 0
  told = []
  addEventListener('message', ({ data }) => told.push(data))
</script><iframe onload="loads++"></iframe>`

/** A page of another origin with a frame for the stand-in. */
async function hostPage (t: Test): Promise<Page> {
  const app = Fastify({ forceCloseConnections: true })
  app.get('/', (_request, reply) => reply.type('text/html').send(HOST))
  t.teardown(() => app.close())
  const { page } = await visit(t, await app.listen({ port: 0, host: 'localhost' }))
  await page.goto('/')
  return page
}

/** What a mount of a new token comes to. */
async function mounted (t: Test, options: Partial<ToolJetOptions> = {}, appId: string = SALES.id) {
  const { standIn, mint } = await start(t, options)
  const { body } = await mint({ email: ANA, appId })
  const page = await hostPage(t)
  const open = (url: string): Promise<void> => page.evaluate(`loads = 0; told = []; document.querySelector('iframe').src = ${JSON.stringify(url)}`)
  const frame = (): Frame => page.frames()[1]!
  return {
    standIn,
    token: body['personalAccessToken']!,
    url: body['redirectUrl']!,
    page,
    frame,
    open,
    loads: () => page.evaluate<number>('loads'),
    told: () => page.evaluate<unknown[]>('told'),
    isAt: (path: string) => until(`the frame is at ${path}`, () => frame().url() === standIn.url + path),
    sees: (text: string) => frame().getByText(text).waitFor(),
  }
}

test('the stand-in in a frame: two loads and one more entry in the history; its app is as its seed says', { ...IN_A_BROWSER }, async (t) => {
  const { standIn, url, page, open, isAt, sees, loads, told, frame } = await mounted(t)
  const entries = await page.evaluate<number>('history.length')
  await open(url)
  await isAt(`/applications/${SALES.id}`)
  await sees(ANA)
  t.equal(await loads(), 2)
  t.equal(await page.evaluate('history.length'), entries + 1)
  await sees('Northwind')
  t.match(await frame().evaluate('window.name'), /^[\w-]+\.[\w-]+\.[\w-]+$/)
  t.same(standIn.pageCalls.map(({ url }) => url.split('?')[0]), [`/embed-apps/${SALES.id}`, `/applications/${SALES.id}`])
  t.equal(standIn.pageCalls[1]!.headers.referer, undefined)
  t.same(await told(), [])

  const other = await mounted(t, {}, INVENTORY.id)
  await other.open(other.url)
  await other.sees('Carton 40 × 30')
  t.ok(await other.frame().getByRole('img', { name: /^Low stock/ }).isVisible())
})

test('the stand-in in a frame: behind a sub-path', { ...IN_A_BROWSER }, async (t) => {
  const { standIn, url, page, open, sees, frame } = await mounted(t, { publicUrl: 'http://tooljet.test/base' })
  await page.route('http://tooljet.test/**', async (route) => { // stands for a proxy that takes the sub-path away
    const { pathname, search } = new URL(route.request().url())
    if (!pathname.startsWith('/base/')) return route.abort()
    return route.fulfill({ response: await route.fetch({ url: standIn.url + pathname.slice('/base'.length) + search }) })
  })
  await open(url)
  await sees(ANA)
  t.equal(frame().url(), `http://tooljet.test/base/applications/${SALES.id}`)
})

test('the stand-in in a frame: a late image of the opening page leaves one load; a late one of the app holds up its own', { ...IN_A_BROWSER }, async (t) => {
  const late = await mounted(t, { lateLoadMs: 3000 })
  await late.open(late.url)
  await late.sees(ANA)
  await until('the app has loaded', async () => await late.loads() > 0)
  await late.page.waitForTimeout(3200)
  t.equal(await late.loads(), 1)

  const slow = await mounted(t, { appLoadMs: 2500 })
  await slow.open(slow.url)
  await slow.sees(ANA)
  t.equal(await slow.loads(), 1, 'it shows before its load')
  await until('its own load comes', async () => await slow.loads() === 2)
})

test('the stand-in in a frame: 401 and 403 have one constant text, an outage is a 500, all else is silence', { ...IN_A_BROWSER }, async (t) => {
  const { standIn, url, page, open, told, frame } = await mounted(t)
  const text = /^Your pat is expired/
  const posts = async (expected: object): Promise<void> => {
    await open(url)
    await until('it is told', async () => (await told()).length > 0)
    t.match(await told(), [{ type: 'TJ_EMBED_APP_LOGOUT', ...expected }])
  }
  for (const status of [401, 403]) {
    standIn.faults = () => ({ reply: { status, body: errorBody(status, 'something else', '/api/ext/users/session') } })
    await posts({ error: status, message: text })
  }
  for (const fault of [{ cut: 'before' }, { cut: 'middle' }, { reply: { status: 200, body: '<html>', headers: { 'content-type': 'text/html' } } }] as const) {
    standIn.faults = () => fault
    await posts({ error: 500, message: 'Network error' })
  }
  for (const status of [400, 404, 422, 429, 451, 500, 502]) {
    standIn.faults = () => ({ reply: { status, body: '<html>' } })
    const before = standIn.sessionCalls.length
    await open(url)
    await until('the session call was made', () => standIn.sessionCalls.length > before)
    await page.waitForTimeout(200)
    t.same(await told(), [], String(status))
    t.equal(await frame().locator('#state').textContent(), 'Loading embedded app...')
  }
  await open(`${standIn.url}/embed-apps/${SALES.id}`)
  await until('it is told', async () => (await told()).length > 0)
  t.match(await told(), [{ error: 400 }])
})

test('the stand-in in a frame: older messages have no type', { ...IN_A_BROWSER }, async (t) => {
  const { standIn, url, open, told } = await mounted(t, { messages: 'untyped' })
  standIn.faults = () => ({ reply: { status: 401 } })
  await open(url)
  await until('it is told', async () => (await told()).length > 0)
  t.match(await told(), [{ type: undefined, error: 401, message: /expired/ }])
})

test('the stand-in in a frame: a log-out posts, and leaves for the login page; window.name stays', { ...IN_A_BROWSER }, async (t) => {
  const { url, open, isAt, frame, told } = await mounted(t)
  await open(url)
  await frame().getByRole('button', { name: 'Close my ToolJet session' }).click()
  await isAt('/login/acme')
  t.same(await told(), [{ type: 'TJ_EMBED_APP_LOGOUT' }])
  t.match(await frame().evaluate('window.name'), /\./)
})

test("the stand-in in a frame: a revoked token shows at the app's next query, by a reload and then a message", { ...IN_A_BROWSER }, async (t) => {
  const { standIn, token, url, open, sees, loads, told } = await mounted(t)
  await open(url)
  await sees(ANA)
  standIn.tokens.revoke(token)
  await until('it is told', async () => (await told()).length > 0)
  t.match(await told(), [{ type: 'TJ_EMBED_APP_LOGOUT', error: 401, message: /expired/ }])
  await until('the reload is seen', async () => await loads() === 3)
})

test('the stand-in in a frame: apps that are not released or restricted show, then go to an error page', { ...IN_A_BROWSER }, async (t) => {
  for (const [status, path] of [['unreleased', '/error/url-unavailable'], ['restricted', '/error/restricted']] as const) {
    const seed: Seed = { apps: [{ ...SALES, status }], users: [{ email: ANA, apps: [SALES.slug] }] }
    const { standIn, url, open, isAt, loads, told } = await mounted(t, { seed })
    await open(url)
    await isAt(path)
    await until('the error page has loaded', async () => await loads() === 3)
    t.equal(standIn.pageCalls.length, 3)
    t.same(await told(), [])
  }
})

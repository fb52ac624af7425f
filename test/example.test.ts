import { once } from 'node:events'
import { createServer } from 'node:net'
import fastifyJwt from '@fastify/jwt'
import axe from 'axe-core'
import Fastify from 'fastify'
import type { Page } from 'playwright-core'
import { t as tap, test, type Test } from 'tap'
import { buildClient } from '../.ci/build-client.js'
import { DEMO_USERS } from '../example/portal/users.js'
import { startServer } from '../example/redis.js'
import { ToolJetStandIn } from '../example/tooljet/server.js'
import { chromiumPath, closeBrowserAfter, visit, type Visit } from './support/browser.js'
import { Child, freePorts, isPortFree, npmStart } from './support/child.js'
import { openPortal } from './support/example-portal.js'
import { ANA, API_TOKEN, BEN, CLEO, INVENTORY, JWT_SECRET, readStream, releaseRedisAfter, SALES } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { until } from './support/until.js'

const DORA = 'dora@acme.test'
const ROUTE = '/api/get-tooljet-url'
const IN_A_BROWSER = chromiumPath() === undefined ? { skip: 'there is no chromium on this machine' } : {}

releaseRedisAfter(tap)
closeBrowserAfter(tap)
buildClient() // the portal serves it

/** A Redis of one's own: what runs as a user starts it has the default keys. */
async function ownRedis (t: Test) {
  const server = await startServer()
  const redis = newClient(server.url)
  t.teardown(async () => {
    redis.disconnect()
    await server.stop()
  })
  return { server, redis }
}

/** @returns a client with the session of one who has signed in */
async function signIn (portal: string, email: string) {
  const reply = await fetch(`${portal}/sign-in`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ email }) })
  const cookie = reply.headers.get('set-cookie') ?? ''
  const ask = async (portal: string, body: object) => {
    const reply = await fetch(portal + ROUTE, { method: 'POST', headers: { 'content-type': 'application/json', cookie: cookie.split(';')[0]! }, body: JSON.stringify(body) })
    return { status: reply.status, body: await reply.json() as Record<string, string> }
  }
  return { status: reply.status, cookie, ask }
}

/** `npm start -- --instances 2`, with what it prints when it is ready. */
async function startTwoPortals (t: Test) {
  const { server, redis } = await ownRedis(t)
  const port = await freePorts(2)
  const [one, two] = [`http://localhost:${port}`, `http://localhost:${port + 1}`]
  const child = npmStart(t, ['--instances', '2'], { PORT: String(port), REDIS_URL: server.url })
  const summary = await child.prints('Ctrl-C stops all of it.')
  const toolJet = /ToolJet {3}(http:\/\/localhost:\d+) \(a stand-in/.exec(summary)?.[1] ?? ''
  const [, cliPort, command = ''] = /redis-cli -p (\d+) (XREVRANGE .+)/.exec(summary) ?? []
  return { server, redis, port, one, two, child, summary, toolJet, cliPort, command }
}

/** The requests of three demo users: Ana's in both portals. */
async function askAsDemoUsers ({ one, two }: Pick<Awaited<ReturnType<typeof startTwoPortals>>, 'one' | 'two'>) {
  const ana = await signIn(one, ANA)
  const minted = await ana.ask(one, { app: 'sales' })
  const reused = await ana.ask(two, { appId: SALES.id, email: ANA })
  const mismatch = await ana.ask(two, { app: 'sales', email: BEN })
  const denied = await (await signIn(two, CLEO)).ask(one, { app: 'sales' })
  const unknown = await (await signIn(two, DORA)).ask(two, { app: 'sales' })
  return { ana, minted, reused, mismatch, denied, unknown }
}

test('npm start tells where the portals, ToolJet and Redis are, and who may sign in', async (t) => {
  const { server, one, two, child, summary, toolJet, cliPort, command } = await startTwoPortals(t)
  t.match(summary, `Portal    ${one}\n`)
  t.match(summary, `Portal    ${two}\n`)
  t.ok(toolJet, 'it says that ToolJet is a stand-in, and where')
  t.match(summary, 'Redis     REDIS_URL\n')
  for (const { email, note } of DEMO_USERS) t.match(summary, new RegExp(`${email} +${note}`))
  t.equal(cliPort, String(server.port))
  t.equal(command, 'XREVRANGE tooljet-embed:audit + - COUNT 5')
  t.notMatch(child.output, 'no encryptionKey', 'it brings a key along with the stand-in')
})

test('npm start: two portals share sessions and URLs, and answer each demo user', async (t) => {
  const portals = await startTwoPortals(t)
  const { one, toolJet } = portals
  const anonymous = await fetch(one, { redirect: 'manual' })
  t.same([anonymous.status, anonymous.headers.get('location')], [302, '/sign-in'])
  t.equal((await signIn(one, 'nobody@acme.test')).status, 401)

  const { ana, minted, reused, mismatch, denied, unknown } = await askAsDemoUsers(portals)
  t.equal(ana.status, 200)
  t.match(ana.cookie, /; HttpOnly; SameSite=Strict$/)
  t.match(minted, { status: 200, body: { source: 'minted', redirectUrl: new RegExp(`^${toolJet}/embed-apps/${SALES.id}\\?`) } })
  t.match(reused, { status: 200, body: { source: 'reused', urlId: minted.body['urlId'], redirectUrl: minted.body['redirectUrl'] } }, 'the session is good on the other portal, and so is the URL')
  t.match(mismatch, { status: 403, body: { code: 'TOOLJET_EMBED_EMAIL_MISMATCH' } })
  t.match(denied, { status: 403, body: { code: 'TOOLJET_EMBED_ACCESS_DENIED' } })
  t.match(unknown, { status: 404, body: { code: 'TOOLJET_EMBED_USER_NOT_FOUND' } })
})

test('npm start: the audit events of both portals are readable, by the printed redis-cli line too', async (t) => {
  const portals = await startTwoPortals(t)
  const { redis, command } = portals
  const { minted } = await askAsDemoUsers(portals)
  const events = await until('five audit events', async () => {
    const events = (await readStream(redis, 'tooljet-embed:audit')).filter(({ event }) => event!.startsWith('url.'))
    return events.length >= 5 ? events : undefined
  })
  // of two instances, so in no certain order
  t.same(events.map(({ event, email, code }) => [event, email, code ?? ''].join(' ')).sort(), [
    'url.denied ana@acme.test TOOLJET_EMBED_EMAIL_MISMATCH',
    'url.denied cleo@acme.test TOOLJET_EMBED_ACCESS_DENIED',
    'url.denied dora@acme.test TOOLJET_EMBED_USER_NOT_FOUND',
    'url.minted ana@acme.test ',
    'url.reused ana@acme.test ',
  ])
  for (const event of events) {
    t.match(event, { time: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, outcome: /^(success|failure)$/, ip: /^(127\.0\.0\.1|::1)$/, request_id: /./, instance: /./, seq: /^\d+$/ })
  }
  t.match(events.find(({ event }) => event === 'url.minted'), { outcome: 'success', app: 'sales', url_id: minted.body['urlId'], expires_at: minted.body['expiresAt'] })
  t.equal(new Set(events.map(({ instance }) => instance)).size, 2)
  const printed = await redis.call(...command.split(' ') as [string]) as unknown[]
  t.equal(printed.length, 5, 'the printed redis-cli line shows the events')
  t.notMatch(JSON.stringify(printed), 'pat_')
})

test('npm start stops cleanly: each portal closes its audit log, all ports are free, and Redis goes on', async (t) => {
  const portals = await startTwoPortals(t)
  const { redis, port, child, summary, toolJet } = portals
  await askAsDemoUsers(portals)
  t.equal(await child.stop(), 0)
  t.equal(child.output, summary, 'nothing went wrong on the way')
  const closed = (await readStream(redis, 'tooljet-embed:audit')).filter(({ event }) => event === 'audit.closed')
  t.equal(closed.length, 2, 'each portal has closed its audit log')
  for (const taken of [port, port + 1, Number(new URL(toolJet).port)]) t.ok(await isPortFree(taken), `port ${taken} is free again`)
  t.equal(await redis.ping(), 'PONG', 'a Redis of the environment goes on')
})

test('npm start says at once what is wrong with its settings, and leaves nothing behind', async (t) => {
  const { server } = await ownRedis(t)
  const port = await freePorts(2)
  const squatter = createServer().listen(port + 1, '127.0.0.1')
  await once(squatter, 'listening')
  t.teardown(() => squatter.close())
  const cases: Array<[NodeJS.ProcessEnv, string]> = [
    [{ PORT: String(port) }, `port ${port + 1} is already in use; PORT=… chooses another`],
    [{ PORT: 'http' }, 'PORT is "http", expected a port number from 1 to 65535'],
    [{ PORT: '65535' }, 'PORT is 65535, and there are not 2 ports from there on'],
    [{ PORT: String(port), TOOLJET_URL: 'https://tooljet.example.com' }, 'TOOLJET_URL and TOOLJET_API_TOKEN go together, and only one of them is set'],
  ]
  await Promise.all(cases.map(async ([env, message]) => {
    const child = npmStart(t, ['--instances', '2'], { REDIS_URL: server.url, ...env })
    t.equal(await child.ends(), 1)
    t.equal(child.output.trim(), `The example cannot start: ${message}`)
  }))
  t.ok(await isPortFree(port), 'the portal whose port was free does not go on alone')
})

test('example/minimal.ts runs', async (t) => {
  const { server } = await ownRedis(t)
  const toolJet = await new ToolJetStandIn({ apiToken: API_TOKEN }).listen()
  t.teardown(() => toolJet.close())
  const port = await freePorts(1)
  const child = Child.start(t, ['--import', 'tsx', 'example/minimal.ts'], {
    PORT: String(port), TOOLJET_URL: toolJet.url, TOOLJET_API_TOKEN: API_TOKEN, REDIS_URL: server.url, JWT_SECRET,
  })
  await child.prints('Server listening')

  const signer = Fastify()
  t.teardown(() => signer.close())
  await signer.register(fastifyJwt, { secret: JWT_SECRET })
  const headers = { authorization: `Bearer ${signer.jwt.sign({ email: ANA })}` }
  const host = `http://localhost:${port}`
  t.equal((await fetch(`${host}/dashboard`)).status, 401)
  t.equal((await fetch(host + ROUTE, { method: 'POST' })).status, 401)
  t.equal(toolJet.calls.length, 0)

  const dashboard = await fetch(`${host}/dashboard`, { headers })
  t.equal(dashboard.status, 200)
  const { redirectUrl } = await dashboard.json() as { redirectUrl: string }
  t.match(toolJet.tokenOf(redirectUrl), { email: ANA, appId: SALES.id })
  const byRoute = await fetch(host + ROUTE, { method: 'POST', headers: { ...headers, 'content-type': 'application/json' }, body: JSON.stringify({ appId: SALES.id }) })
  t.match(await byRoute.json(), { source: 'reused', redirectUrl })
  t.notMatch(child.output, 'pat_', 'its log has no token')
})

/** Opens a page of the portal as someone who signs in first, by the sign-in page. */
async function visitAs (t: Test, portal: string, email: string, path = '/'): Promise<Visit> {
  const visitor = await visit(t, portal)
  await visitor.page.goto(path)
  await visitor.page.locator(`button[value="${email}"]`).click() // whoever is not signed in was sent to /sign-in
  await visitor.page.waitForURL(`${portal}/`)
  if (path !== '/') await visitor.page.goto(path)
  return visitor
}

/** Who is signed in to ToolJet, by what the app inside the frame shows. */
async function userInFrame (page: Page, frame: string): Promise<string | null> {
  const user = page.frameLocator(frame).locator('#user')
  await user.waitFor()
  return user.textContent()
}

const FRAME = 'tooljet-embed iframe'
const STATUS = 'tooljet-embed [role="status"]'

test('in a browser: the app shows, and a reload reuses its URL', { ...IN_A_BROWSER }, async (t) => {
  const { toolJet, url } = await openPortal(t)
  const { page, complaints, asks } = await visitAs(t, url, ANA)
  t.equal(await userInFrame(page, FRAME), ANA)
  t.equal(await page.frameLocator(FRAME).locator('h1').textContent(), SALES.name)
  t.equal(await page.frameLocator(FRAME).locator('tbody tr').count(), 4, 'the page inside is alive: it filled its table')
  t.equal(await page.locator('tooljet-embed').getAttribute('state'), 'ready')
  t.equal(await page.locator(STATUS).textContent(), 'Sales pipeline is open.')
  t.match(await page.locator('.note').textContent(), /^New link, good until \d/)

  const frame = page.locator(FRAME)
  await until('the answer is noted', () => asks.length === 1)
  t.equal(await frame.getAttribute('name'), null, 'ToolJet keeps its token in window.name')
  t.equal(await frame.getAttribute('referrerpolicy'), 'no-referrer')
  t.equal(await frame.getAttribute('sandbox'), 'allow-scripts allow-same-origin allow-forms allow-popups allow-popups-to-escape-sandbox allow-downloads allow-modals')
  t.match(toolJet.pageCalls[0]?.url, new URL(asks[0]!.reply.redirectUrl).search)
  t.equal(await page.evaluate('document.cookie'), '', 'the session is out of the reach of scripts')

  await page.reload()
  t.equal(await userInFrame(page, FRAME), ANA, 'a token may be opened again')
  t.match(await page.locator('.note').textContent(), /^Link reused, /)
  await until('the second answer is noted', () => asks.length === 2)
  t.same(asks.map(({ reply }) => reply.source), ['minted', 'reused'])
  t.equal(asks[1]?.reply.urlId, asks[0]?.reply.urlId)
  t.equal(toolJet.calls.length, 1)
  t.same(complaints, [], 'neither the console nor the content security policy has anything to say')
})

test('in a browser: a policy that forbids another frame is really there', { ...IN_A_BROWSER }, async (t) => {
  const { url } = await openPortal(t)
  const other = await openPortal(t)
  const { page, complaints } = await visitAs(t, url, ANA, '/snippet')
  await page.evaluate(`document.getElementById('iframe').src = '${other.toolJet.url}/login'`)
  await until('the browser complains', () => complaints.length === 2)
  t.match(complaints.sort(), [`csp: frame-src ${other.toolJet.url}`, /^error: .*frame-src/], 'so the tests that expect no complaint would see one')
})

test('in a browser: two apps at once, and back and forth', { ...IN_A_BROWSER }, async (t) => {
  const { toolJet, url } = await openPortal(t)
  const { page, complaints, asks } = await visitAs(t, url, ANA)
  t.equal(await userInFrame(page, FRAME), ANA)
  await page.getByRole('link', { name: 'Overview' }).click()
  await page.locator('tooljet-embed[state="ready"]').nth(1).waitFor()
  for (const [i, name] of [SALES.name, INVENTORY.name].entries()) {
    const frame = page.locator(FRAME).nth(i)
    t.equal(await frame.getAttribute('title'), `${name} in ToolJet`)
    await frame.contentFrame().locator('h1', { hasText: name }).waitFor()
  }
  t.equal(await page.locator('nav [aria-current]').getAttribute('href'), '/#overview')

  await page.getByRole('link', { name: `Open ${INVENTORY.name}` }).click()
  await page.locator('h1', { hasText: INVENTORY.name }).waitFor()
  await page.locator('tooljet-embed[state="ready"]').waitFor()
  t.equal(await page.locator(FRAME).count(), 1)
  await page.getByRole('button', { name: 'Reload' }).click()
  await until('it asks again', () => asks.length === 5)
  await page.locator('tooljet-embed[state="ready"]').waitFor()
  // ToolJet's opening page leaves an entry in the history with each mount: the way back leads past them
  await until('it is back at the overview', async () => {
    await page.evaluate('history.back()')
    await page.waitForTimeout(300)
    return await page.locator('h1').textContent() === 'Good to see you, Ana'
  })
  await page.locator('tooljet-embed').nth(1).waitFor()
  t.equal(toolJet.calls.length, 2)
  t.same(complaints, [])
})

test('in a browser: no page has a violation that axe-core knows, wide or narrow, light or dark', { ...IN_A_BROWSER }, async (t) => {
  const { url } = await openPortal(t)
  const { page } = await visitAs(t, url, ANA)
  const check = async (what: string): Promise<void> => {
    await page.evaluate(axe.source)
    const { violations, passes } = await page.evaluate('axe.run({ iframes: false })') as Record<'violations' | 'passes', Array<{ id: string, nodes: Array<{ html: string }> }>>
    t.same(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join()}`), [], what)
    t.ok(passes.length > 10)
  }
  const states: Array<[state: string, fulfil: { status: number, body: string } | undefined]> = [
    ['ready', undefined],
    ['error', { status: 503, body: '{}' }],
    ['fatal', { status: 403, body: '{}' }],
  ]
  for (const colorScheme of ['light', 'dark'] as const) {
    for (const width of [1280, 390]) {
      const look = `${colorScheme}, ${width} px`
      await page.emulateMedia({ colorScheme })
      await page.setViewportSize({ width, height: 800 })
      for (const [state, fulfil] of states) {
        await page.route(`**${ROUTE}`, (route) => fulfil === undefined ? route.continue() : route.fulfill(fulfil))
        await page.goto('/#overview')
        await page.reload()
        await page.locator(`tooljet-embed[state="${state}"]`).nth(1).waitFor()
        await check(`${state}, ${look}`)
        t.ok(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), 'nothing is cut off')
        await page.unroute(`**${ROUTE}`)
      }
      await page.route(`**${ROUTE}`, () => {})
      await page.reload()
      await page.locator('tooljet-embed[state="loading"]').nth(1).waitFor()
      await check(`loading, ${look}`)
      await page.getByRole('button', { name: 'Ana Torres' }).click()
      await check(`account menu, ${look}`)
      await page.unroute(`**${ROUTE}`)
      await page.goto('/snippet')
      await page.locator('#emails option').first().waitFor({ state: 'attached' })
      await check(`snippet, ${look}`)
    }
  }
  await page.getByRole('button', { name: 'Ana Torres' }).click()
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.locator(`button[value="${ANA}"]`).waitFor()
  await check('sign-in')
})

test('in a browser: whoever may not open an app is told so', { ...IN_A_BROWSER }, async (t) => {
  const { toolJet, url } = await openPortal(t)
  const cleo = await visitAs(t, url, CLEO)
  const status = cleo.page.locator(STATUS)
  const tryAgain = cleo.page.getByRole('button', { name: 'Try again', exact: true })
  await tryAgain.waitFor()
  t.equal(await status.textContent(), 'You have no access to Sales pipeline. Ask your ToolJet administrator to let you in.')
  t.equal(await cleo.page.locator('iframe').count(), 0)
  t.ok(await tryAgain.isEnabled())
  await tryAgain.click()
  await until('it asks again', () => cleo.asks.length === 2)
  t.same(cleo.asks.map(({ status, reply }) => [status, reply.code]), Array(2).fill([403, 'TOOLJET_EMBED_ACCESS_DENIED']))
  t.equal(toolJet.calls.length, 1, 'ToolJet is not asked again so soon')

  await cleo.page.getByRole('link', { name: INVENTORY.name }).click()
  t.equal(await userInFrame(cleo.page, FRAME), CLEO, 'the other app is hers')
  t.equal(await cleo.page.frameLocator(FRAME).locator('h1').textContent(), INVENTORY.name)
  t.notOk(await tryAgain.isVisible())

  const dora = await visitAs(t, url, DORA)
  await dora.page.getByRole('button', { name: 'Try again', exact: true }).waitFor()
  t.equal(await dora.page.locator(STATUS).textContent(), 'There is no ToolJet account for dora@acme.test. Ask your ToolJet administrator for an invitation.')
  t.equal(await dora.page.locator('iframe').count(), 0)
})

test('in a browser: after a log-out inside the frame the user is asked', { ...IN_A_BROWSER }, async (t) => {
  const { toolJet, url } = await openPortal(t)
  const { page, complaints, asks } = await visitAs(t, url, ANA)
  t.equal(await userInFrame(page, FRAME), ANA)
  await page.frameLocator(FRAME).getByRole('button', { name: 'Close my ToolJet session' }).click()
  await page.locator('tooljet-embed[state="signed-out"]').waitFor()
  t.equal(await page.locator(STATUS).textContent(), 'You have signed out of this app.')
  t.equal(await page.locator('iframe').count(), 0)
  t.equal(asks.length, 1)

  await page.locator('tooljet-embed').getByRole('button').click()
  t.equal(await userInFrame(page, FRAME), ANA)
  t.equal(await page.locator('iframe').count(), 1)
  await until('the second answer is noted', () => asks.length === 2)
  t.match(asks[1], { status: 200, reply: { source: 'reused' } })
  t.equal(toolJet.calls.length, 1)
  t.equal(asks.length, 2, 'once')
  t.same(complaints, [])
})

test("in a browser: the page with ToolJet's snippet gives one's own URL only", { ...IN_A_BROWSER }, async (t) => {
  const { toolJet, url } = await openPortal(t)
  const { page, asks } = await visitAs(t, url, BEN, '/snippet')
  const reply = page.locator('#reply')
  const send = page.getByRole('button', { name: 'Send the request' })

  await page.locator('#app-ids').selectOption(INVENTORY.id) // the page before has a URL of the other app
  t.equal(await page.locator('#emails').inputValue(), BEN, "one's own e-mail is chosen")
  await send.click()
  t.equal(await userInFrame(page, '#iframe'), BEN)
  t.equal(await reply.textContent(), `200 OK, a link for ${BEN} (minted)`)

  await page.locator('#emails').selectOption(ANA)
  await send.click()
  await page.locator('#reply[data-state="error"]').waitFor()
  t.match(await reply.textContent(), /^403 TOOLJET_EMBED_EMAIL_MISMATCH: ./)
  t.equal(await page.locator('#iframe').getAttribute('src'), null)
  const refused = await until('the refusal is noted', () => asks.find(({ sent }) => sent['email'] === ANA))
  t.match(refused, { sent: { appId: INVENTORY.id }, status: 403, reply: { code: 'TOOLJET_EMBED_EMAIL_MISMATCH' } })
  t.notOk(toolJet.calls.some(({ body }) => body['email'] === ANA), 'ToolJet is not asked')
})

/** As ToolJet's documentation has it, for a page that users already have. */
const SNIPPET = `async ({ email, appId }) => {
  const response = await fetch('/api/get-tooljet-url', {
    method: 'POST',
    headers: {'Content-Type': 'application/json'},
    body: JSON.stringify({ email, appId })
  })
  const data = await response.json()
  const iframe = document.createElement('iframe')
  iframe.id = 'documented'
  iframe.src = data.redirectUrl
  if (response.ok) document.body.append(iframe)
  return { status: response.status, code: data.code, source: data.source }
}`

test("in a browser: ToolJet's documented snippet works without change", { ...IN_A_BROWSER }, async (t) => {
  const { toolJet, url } = await openPortal(t)
  const { page, complaints } = await visitAs(t, url, BEN, '/snippet')
  await page.locator(`#emails option[value="${BEN}"]`).waitFor({ state: 'attached' })
  const run = (email: string, appId: string): Promise<unknown> => page.evaluate(`(${SNIPPET})(${JSON.stringify({ email, appId })})`)

  t.same(await run(BEN, INVENTORY.id), { status: 200, code: undefined, source: 'minted' })
  t.equal(await userInFrame(page, '#documented'), BEN)
  t.match(toolJet.tokenOf(await page.locator('#documented').getAttribute('src') ?? ''), { email: BEN, appId: INVENTORY.id })
  t.same(complaints, [])

  t.same(await run(ANA, INVENTORY.id), { status: 403, code: 'TOOLJET_EMBED_EMAIL_MISMATCH', source: undefined })
  t.notOk(toolJet.calls.some(({ body }) => body['email'] === ANA))
  t.equal(await page.locator('#documented').count(), 1)

  await page.getByRole('button', { name: 'Ben Okafor' }).click()
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.waitForURL(`${url}/sign-in`)
  t.match(await run(BEN, INVENTORY.id), { status: 401, code: 'TOOLJET_EMBED_UNAUTHENTICATED' })
})

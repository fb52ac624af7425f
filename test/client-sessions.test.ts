import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { chromium } from 'playwright-core'
import { t as tap, test, type Test } from 'tap'
import { buildClient } from '../.ci/build-client.js'
import { chromiumPath, closeBrowserAfter } from './support/browser.js'
import { EmbedHost } from './support/embed-host.js'
import { ANA, releaseRedisAfter } from './support/portal.js'
import { until } from './support/until.js'

const IN_A_BROWSER = chromiumPath() === undefined ? { skip: 'there is no chromium on this machine' } : {}
const SALES_APP = '<tooljet-embed app="sales"></tooljet-embed>'

releaseRedisAfter(tap)
closeBrowserAfter(tap)
buildClient()

test('a frame in which nothing loads', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, '')
  let isUp = false
  await visit.page.route('**/embed-apps/**', async (route) => { if (isUp) await route.continue() })
  await visit.put('<tooljet-embed app="sales" timeout="1.5"></tooljet-embed>')
  const error = await visit.sees('error')
  t.match(error.detail, { code: 'SILENT', status: 0 })
  t.match(await visit.look(), { state: 'error', said: /^The app does not answer\. Trying again in [12] s\.$/, retry: 'Try again', frames: [] })
  await visit.isIn('fatal')
  t.match(await visit.look(), { said: 'The app does not answer.', retry: 'Try again', frames: [] })
  t.equal(await visit.types(), 'loading error error error fatal')
  t.equal(host.toolJet.mints.length, 1, 'that costs no new URLs')

  isUp = true
  await visit.page.getByRole('button', { name: 'Try again' }).click()
  await visit.isIn('ready')

  isUp = false
  await visit.put('<tooljet-embed app="sales" timeout="1.5"></tooljet-embed>')
  await visit.sees('error', 4)
  isUp = true
  await visit.isIn('ready')
  t.equal(await visit.user(), ANA, 'heals by itself')
  t.same(visit.violations, [])
})

test('a log-out takes the frame away at once, and nothing is asked before the user wants it', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { options: { patExpiry: 8, minRemaining: 7 } })
  const visit = await host.visit(t)
  await visit.sees('ready')
  await visit.run('(window.onSeen = (event) => { if (event.type === \'expired\') window.framesThen = event.target.shadowRoot.querySelectorAll(\'iframe\').length })')
  // while a renewal is under way
  await visit.page.route('**/api/get-tooljet-url', async () => {})
  const asking = visit.page.waitForRequest('**/api/get-tooljet-url')
  await visit.sees('beforerenew')
  await asking
  await (await visit.frame()).locator('#logout').click()
  const { detail } = await visit.sees('expired')
  t.same(detail, { urlId: visit.asks[0]!.reply.urlId, reason: 'logout' })
  t.equal(await visit.run('framesThen'), 0)
  t.match(await visit.look(), { state: 'signed-out', busy: 'false', said: 'You have signed out of this app.', message: 'You have signed out of this app.', retry: 'Reload', frames: [] })
  await visit.page.unroute('**/api/get-tooljet-url')
  for (const event of ['online', 'pageshow']) await visit.run(`window.dispatchEvent(new Event('${event}'))`)
  await visit.setHidden(true)
  await visit.setHidden(false)
  const asks = visit.asks.length
  await visit.passes(1500)
  t.equal(visit.asks.length, asks)
  t.equal((await visit.look()).state, 'signed-out')

  await visit.page.getByRole('button', { name: 'Reload' }).click()
  await visit.sees('ready', 2)
  t.equal(await visit.types(), 'loading ready beforerenew expired loading ready')
  t.equal(await visit.user(), ANA)
  await (await visit.frame()).locator('#logout').click()
  await visit.isIn('signed-out')
  await visit.run('el.reload()')
  await visit.sees('ready', 3)
  t.same(visit.violations, [])
})

test('tabs of one user: one reports a dead URL, one URL is minted for all', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const [one, two] = [await host.visit(t), await host.visit(t)]
  await Promise.all([one.sees('ready'), two.sees('ready')])
  t.equal(host.toolJet.mints.length, 1)
  host.toolJet.tokens.revoke(host.toolJet.mints[0]!.token!)

  const three = await host.visit(t)
  await three.sees('ready')
  t.equal(host.toolJet.mints.length, 2)
  t.match((await three.seen('expired'))[0]?.detail, { reason: 'logout', status: 403 })
  // the others find out when their apps do: by a reload that ends at the login page
  for (const visit of [one, two]) {
    await visit.sees('ready', 2)
    t.match((await visit.seen('expired'))[0]?.detail, { reason: 'navigated' })
    t.equal(await visit.user(), ANA)
    t.notOk(visit.page.frames().some((frame) => frame.url().includes('/login/')))
  }
  t.equal(host.toolJet.mints.length, 2, 'one mint')
})

test('ToolJet goes to its login page, once and for ever', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t)
  await visit.sees('ready')
  await (await visit.frame()).evaluate("location.href = '/login'")
  t.match((await visit.sees('expired')).detail, { reason: 'navigated' })
  await visit.sees('ready', 2)
  t.equal(await visit.user(), ANA)

  await visit.page.route('**/applications/**', (route) => route.fulfill({ contentType: 'text/html', body: "<script>onload = () => setTimeout(() => { location.href = '/login/acme' }, 100)</script>" }))
  await visit.put(SALES_APP)
  t.match(await visit.isIn('fatal'), { said: 'This app is not available. Ask your administrator.', retry: 'Try again', frames: [] })
  t.match((await visit.seen('fatal'))[0]?.detail, { code: 'NOT_AVAILABLE' })
  t.equal(visit.page.frames().length, 1, 'no login page is left')
  t.equal(host.toolJet.mints.length, 1)
})

test('sessions that end at once are no endless loop', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, '')
  let isDead = true
  host.toolJet.faults = ({ path }) => path === 'session' && isDead ? { reply: { status: 401, body: {} } } : undefined
  await visit.page.route('**/api/get-tooljet-url', async (route) => {
    const response = await route.fetch()
    await route.fulfill({ response, json: { ...await response.json(), source: 'reused' } }) // by another tab, each time
  })
  await visit.put(SALES_APP)
  t.match(await visit.isIn('fatal'), { said: 'The app ends its session again and again.', retry: 'Try again' })
  t.equal(await visit.types(), 'loading expired loading expired loading expired error fatal')
  t.match((await visit.seen('fatal'))[0]?.detail, { code: 'LOOP' })
  await visit.run('window.dispatchEvent(new Event("online"))')
  await visit.passes(600)
  t.equal(visit.asks.length, 3, 'three mounts, then it stops')
  isDead = false
  await visit.page.getByRole('button', { name: 'Try again' }).click()
  await visit.isIn('ready')
  t.same(visit.violations, [])
})

test('a ToolJet that takes no new token while an older one lives', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { options: { patExpiry: 6, minRemaining: 5 }, toolJet: { tokens: 'keep' } })
  const visit = await host.visit(t)
  await visit.sees('ready')
  await visit.sees('ready', 2)
  t.equal(await visit.types(), 'loading ready beforerenew expired expired loading ready')
  t.match((await visit.seen('expired')).map(({ detail }) => detail), [{ reason: 'logout', status: 403 }, { reason: 'timeup' }])
  t.equal(await visit.user(), ANA)
  t.equal(host.toolJet.mints.length, 3)
})

test('a renewal that fails is seen by nobody until the end', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { options: { patExpiry: 8, minRemaining: 7 } })
  const visit = await host.visit(t)
  await visit.sees('ready')
  let isUp = false
  await visit.page.route('**/api/get-tooljet-url', (route) => isUp ? route.continue() : route.abort())
  await visit.sees('error')
  t.match(await visit.look(), { state: 'ready', frames: [{}], said: 'The app is open.' })
  const expired = await visit.sees('expired')
  t.match(expired.detail, { reason: 'timeup' })
  t.match(await visit.look(), { state: 'error', frames: [] })
  isUp = true
  await visit.sees('ready', 2)
  t.equal(await visit.user(), ANA)
  t.same(visit.violations, [])
})

/** A site of somebody else's whose page tells its parent that ToolJet has logged out. */
async function hostileSite (t: Test): Promise<string> {
  const server = createServer((_request, reply) => {
    reply.setHeader('content-type', 'text/html').end("<script>for (const w of [parent, top]) { w.postMessage({ type: 'TJ_EMBED_APP_LOGOUT', error: 401 }, '*'); w.postMessage({ told: true }, '*') }</script>")
  }).listen(0, 'localhost')
  await once(server, 'listening')
  t.teardown(() => { server.close(); server.closeAllConnections() })
  return `http://localhost:${(server.address() as AddressInfo).port}`
}

test('the log-out message is believed from its own frame and origin only', { ...IN_A_BROWSER }, async (t) => {
  const hostile = await hostileSite(t)
  const host = await EmbedHost.open(t, { frameOrigins: [hostile] })
  const visit = await host.visit(t)
  await visit.sees('ready')
  await visit.run("(window.told = 0, addEventListener('message', ({ data }) => { if (data?.told) told++ }))")
  const tellers = async (count: number): Promise<void> => { await until('it was told', async () => await visit.run<number>('told') >= count) }

  await visit.run(`(() => { const other = document.createElement('iframe'); other.src = '${hostile}'; main.append(other) })()`)
  await tellers(2)
  // of the right origin, but another frame
  await visit.run(`new Promise((resolve) => { const other = document.createElement('iframe'); other.onload = resolve; other.src = '${host.toolJet.url}/login'; main.append(other) })`)
  const twin = visit.page.frames().find((frame) => frame.url().endsWith('/login'))!
  await twin.evaluate("(parent.postMessage({ type: 'TJ_EMBED_APP_LOGOUT' }, '*'), parent.postMessage({ told: true }, '*'))")
  await tellers(3)
  // the page itself, and messages of other forms from the right frame
  await visit.run("(postMessage({ type: 'TJ_EMBED_APP_LOGOUT' }), postMessage({ told: true }))")
  await tellers(4)
  const frame = await visit.frame()
  await frame.evaluate("for (const data of [null, 'TJ_EMBED_APP_LOGOUT', 7, ['TJ_EMBED_APP_LOGOUT'], { type: 'OTHER' }, { type: { TJ_EMBED_APP_LOGOUT: 1 } }, { told: true }]) parent.postMessage(data, '*')")
  await tellers(5)
  t.equal(await visit.types(), 'loading ready')
  t.equal((await visit.look()).frames.length, 1)
  t.equal(visit.asks.length, 1)

  // its own frame, led astray: not believed as ToolJet, but not left there either
  await frame.evaluate(`location.href = '${hostile}'`)
  await visit.sees('ready', 2)
  t.match((await visit.seen('expired')).map(({ detail }) => detail), [{ reason: 'navigated' }])
  t.same(visit.asks.at(-1)!.sent, { app: 'sales' }, 'nothing is reported dead on its word')
  t.same(visit.violations, [])
})

test('third-party cookies are blocked', { ...IN_A_BROWSER }, async (t) => {
  const strict = await chromium.launch({ executablePath: chromiumPath()!, args: ['--no-sandbox', '--disable-gpu', '--test-third-party-cookie-phaseout'] })
  t.teardown(() => strict.close())
  const host = await EmbedHost.open(t, { options: { patExpiry: 10, minRemaining: 9 } })
  const visit = await host.visit(t, SALES_APP, { browser: strict })
  await visit.sees('ready')
  t.equal(await visit.user(), ANA)
  const probe = await (await visit.frame()).evaluate("(document.cookie = 'probe=1; SameSite=None; Secure', document.cookie)")
  t.equal(probe, '', 'the frame has no cookies')
  await visit.sees('renewed')
  t.equal(await visit.user(), ANA)
  t.same(visit.violations, [])
})

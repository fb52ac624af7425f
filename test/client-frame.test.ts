import { t as tap, test } from 'tap'
import { DEFAULT_SEED } from '../example/tooljet/seed.js'
import { buildClient } from '../.ci/build-client.js'
import { chromiumPath, closeBrowserAfter } from './support/browser.js'
import { EmbedHost } from './support/embed-host.js'
import { ANA, CLEO, releaseRedisAfter, SALES } from './support/portal.js'
import { until } from './support/until.js'

/* What ToolJet's real pages do in the frame, and what the element makes of it. */

const IN_A_BROWSER = chromiumPath() === undefined ? { skip: 'there is no chromium on this machine' } : {}
const SALES_APP = '<tooljet-embed app="sales"></tooljet-embed>'
const NO_ACCESS = 'You have no access to this app. Ask your administrator.'

releaseRedisAfter(tap)
closeBrowserAfter(tap)
buildClient()

test('late load: an app whose frame loads just once is shown, and stays; after 30 s there is a small "Reload"', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { toolJet: { lateLoadMs: 30_000 } })
  const visit = await host.visit(t, SALES_APP, { prepare: (page) => page.clock.install() })
  const { at } = await visit.sees('ready')
  t.ok(at - (await visit.seen('loading'))[0]!.at >= 5000, 'not before it could have loaded once more')
  t.equal(await visit.user(), ANA)
  t.match(await visit.look(), { state: 'ready', retry: '', frames: [{ inert: false }] })
  await visit.page.clock.fastForward('00:10')
  t.match(await visit.look(), { retry: '' })
  await visit.page.clock.fastForward('00:20')
  await until('there is a button', async () => (await visit.look()).retry === 'Reload')
  t.equal(await visit.types(), 'loading ready')
  const button = (await visit.page.getByRole('button', { name: 'Reload' }).boundingBox())!
  const frame = (await visit.page.locator('iframe').boundingBox())!
  t.ok(button.height < 40 && button.y > frame.y + frame.height - 60 && button.x > frame.x + frame.width / 2, 'in a corner')
  t.equal(await visit.user(), ANA, 'and the app is there')
  await visit.page.frameLocator('iframe').locator('#logout').hover()

  const { id } = (await visit.look()).frames[0]!
  await visit.page.getByRole('button', { name: 'Reload' }).click()
  await visit.sees('ready', 2)
  t.match(await visit.look(), { retry: '', frames: [{}] })
  t.not((await visit.look()).frames[0]!.id, id)
  t.equal(host.toolJet.mints.length, 1)
  t.same(visit.violations, [])
})

test("late load: an app's own load that comes when it has long been shown", { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { toolJet: { appLoadMs: 1 } })
  const visit = await host.visit(t, '')
  await visit.run("(window.loads = 0, document.addEventListener('load', (event) => { if (event.target.localName === 'tooljet-embed') loads++ }, true))")
  let goOn = (): void => {}
  const held = new Promise<void>((resolve) => { goOn = resolve })
  await visit.page.route('**/assets/app.svg', async (route) => {
    await held
    await route.continue()
  })
  const loaded = visit.page.waitForResponse('**/assets/app.svg')
  await visit.put('<tooljet-embed app="sales" timeout="600"></tooljet-embed>') // not because it is given up
  await visit.sees('ready')
  const { id } = (await visit.look()).frames[0]!
  goOn()
  await (await loaded).finished()
  await visit.passes(500)
  t.match(await visit.look(), { state: 'ready', frames: [{ id }] })
  t.equal(await visit.types(), 'loading ready', 'shown once')
  // the load after it is a navigation
  await (await visit.frame()).evaluate("location.href = '/login/acme'")
  t.match((await visit.sees('expired')).detail, { reason: 'navigated' })
})

test('a page that is stuck without a word is shown, too', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  host.toolJet.faults = ({ path }) => path === 'session' ? { reply: { status: 503 } } : undefined
  const visit = await host.visit(t, '<tooljet-embed app="sales" timeout="1"></tooljet-embed>')
  await visit.sees('ready')
  t.ok(await visit.page.frameLocator('iframe').getByText('Loading embedded app').isVisible())
  t.equal(await visit.types(), 'loading ready')
})

test('access that is denied at the session call: one mint, and the sentence for it', { ...IN_A_BROWSER }, async (t) => {
  for (const messages of ['typed', 'untyped'] as const) {
    const host = await EmbedHost.open(t, { toolJet: { access: 'session', messages } })
    const visit = await host.visit(t, SALES_APP, { email: CLEO })
    t.match(await visit.isIn('fatal'), { said: NO_ACCESS, retry: 'Try again', frames: [] })
    t.equal(await visit.types(), 'loading expired error fatal')
    t.match((await visit.seen('fatal'))[0]!.detail, { code: 'TOOLJET_EMBED_ACCESS_DENIED', status: 403 })
    await visit.passes(1500)
    t.equal(host.toolJet.mints.length, 1, messages)
    t.equal(visit.asks.length, 1)
    t.same(visit.violations, [])
  }
})

test('access that is denied after the frame was shown, because the session call took long', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { toolJet: { access: 'session' } })
  host.toolJet.faults = ({ path }) => path === 'session' ? { delayMs: 2500 } : undefined
  const visit = await host.visit(t, '<tooljet-embed app="sales" timeout="1"></tooljet-embed>', { email: CLEO })
  t.match(await visit.isIn('fatal'), { said: NO_ACCESS, frames: [] })
  t.equal(await visit.types(), 'loading ready expired error fatal')
  t.equal(host.toolJet.mints.length, 1)
})

test('a renewal that is denied: the old frame stays, and it asks again when that has ended', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { options: { patExpiry: 8, minRemaining: 7 } })
  const visit = await host.visit(t)
  await visit.sees('ready')
  const { id } = (await visit.look()).frames[0]!
  let denied = 0
  host.toolJet.faults = ({ path }) => path === 'session' && denied++ === 0 ? { reply: { status: 401, body: {} } } : undefined
  t.match((await visit.sees('expired')).detail, { urlId: visit.asks.at(-1)!.reply.urlId, reason: 'logout', status: 401 })
  t.match(await visit.look(), { state: 'ready', frames: [{ id, inert: false }] })
  const asks = visit.asks.length
  t.match((await visit.sees('expired', 2)).detail, { urlId: visit.asks[0]!.reply.urlId, reason: 'timeup' })
  t.equal(visit.asks.length, asks, 'not before')
  await visit.sees('ready', 2)
  t.same(visit.asks.at(-1)!.sent, { app: 'sales', replaces: visit.asks[asks - 1]!.reply.urlId })
  t.equal(await visit.types(), 'loading ready beforerenew expired expired loading ready')
  t.same(visit.violations, [])
})

test('an outage at the session call: it waits, and burns no mint', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  let isUp = false
  host.toolJet.faults = ({ path }) => path === 'session' && !isUp ? { cut: 'middle' } : undefined
  const visit = await host.visit(t)
  for (let count = 1; count <= 4; count++) {
    const { detail } = await visit.sees('error', count)
    t.match(detail, { code: 'OUTAGE', status: 500 })
    t.match(await visit.look(), { state: 'error', message: /^The app cannot be reached\. (Trying again in \d+ s\.|Opening the app…)$/, frames: [] })
  }
  const at = (await visit.seen('error')).map(({ at }) => at)
  for (const [i, seconds] of [1, 2, 4].entries()) t.ok(at[i + 1]! - at[i]! >= seconds * 1000, `pause ${i + 1}: ${Math.round(at[i + 1]! - at[i]!)} ms`)
  isUp = true
  await visit.sees('ready')
  t.equal(await visit.types(), 'loading error error error error ready')
  for (const { sent } of visit.asks) t.same(sent, { app: 'sales' }, 'nothing is reported dead')
  t.equal(host.toolJet.mints.length, 1)

  // the one that the page finds itself, and one while the app shows
  host.toolJet.faults = ({ path }) => path === 'session' && !isUp ? { hang: true } : undefined
  isUp = false
  await visit.put('<tooljet-embed app="inventory" timeout="1"></tooljet-embed>')
  await visit.sees('ready', 2)
  await visit.page.frames()[1]!.evaluate("[200, -1, NaN].forEach((error) => parent.postMessage({ error, message: 'of something else' }, '*'))")
  await visit.page.frames()[1]!.evaluate("parent.postMessage({ error: 400, message: 'no token' }, '*')")
  t.match((await visit.sees('expired')).detail, { reason: 'logout', status: 400 })
  t.match((await visit.sees('error', 5)).detail, { code: 'OUTAGE' })
  t.match(await visit.look(), { state: 'error', frames: [] })
  t.same(visit.asks.at(-1)!.sent, { app: 'inventory' })
})

test('an app that is not released, or is restricted: not available, after two looks', { ...IN_A_BROWSER }, async (t) => {
  for (const status of ['unreleased', 'restricted'] as const) {
    const host = await EmbedHost.open(t, { toolJet: { seed: { ...DEFAULT_SEED, apps: [{ ...SALES, status }] } } })
    const visit = await host.visit(t)
    t.match(await visit.isIn('fatal'), { said: 'This app is not available. Ask your administrator.', retry: 'Try again', frames: [] })
    t.equal(await visit.types(), 'loading ready expired loading ready expired error fatal')
    t.match((await visit.seen('fatal'))[0]!.detail, { code: 'NOT_AVAILABLE', status: 0 })
    t.match((await visit.seen('expired')).map(({ detail }) => detail), Array(2).fill({ reason: 'navigated' }))
    t.equal(host.toolJet.mints.length, 1)
    t.same(visit.violations, [])
  }
})

test('an app that leaves its page once, and later once more, is not taken for one', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, SALES_APP, { prepare: (page) => page.clock.install() })
  for (let count = 1; count <= 3; count++) {
    await visit.sees('ready', count)
    if (count !== 2) await visit.page.clock.fastForward('00:21')
    await visit.user()
    await (await visit.frame()).evaluate('location.reload()')
    t.match((await visit.sees('expired', count)).detail, { reason: 'navigated' })
  }
  await visit.sees('ready', 4)
  t.same(await visit.seen('error'), [])
})

test('the PAT is in no resource timing, no referrer is sent, and the history is left alone', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { before: (app) => { app.addHook('onSend', async (_request, reply) => { reply.header('referrer-policy', 'unsafe-url') }) } })
  const visit = await host.visit(t, '')
  const entries = await visit.run<number>('history.length')
  await visit.put(SALES_APP)
  await visit.sees('ready')
  const { token } = host.toolJet.mints[0] as { token: string }
  t.notMatch(await visit.run<string>('JSON.stringify(performance.getEntries())'), token)
  t.match(host.toolJet.pageCalls[0]!.url, token)
  t.same(host.toolJet.pageCalls.map(({ headers }) => headers.referer), [undefined, undefined])
  t.equal(await visit.run('history.length'), entries + 1, "the one that ToolJet's own page makes")

  await visit.page.route('**/embed-apps/**', (route) => route.fulfill({ contentType: 'text/html', body: 'stays' }))
  await visit.put('<tooljet-embed app="inventory" timeout="1"></tooljet-embed>')
  await visit.sees('ready', 2)
  t.equal(await visit.run('history.length'), entries + 1, 'a mount alone makes none')
  t.same(visit.violations, [])
})

test('apps may use the clipboard and full screen, ask, print, and open pages', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t)
  await visit.sees('ready')
  await visit.user()
  const frame = await visit.frame()
  const may = (feature: string) => frame.evaluate<boolean>(`document.featurePolicy.allowsFeature('${feature}')`)
  for (const feature of ['clipboard-read', 'clipboard-write', 'fullscreen']) t.equal(await may(feature), true, feature)
  t.equal(await may('geolocation'), false)
  visit.page.once('dialog', (dialog) => dialog.accept())
  t.equal(await frame.evaluate("confirm('Delete it?')"), true)
  const popup = visit.page.waitForEvent('popup')
  await frame.evaluate("void open('/login/acme')")
  t.equal(await (await popup).evaluate('origin'), host.toolJet.url, 'out of the sandbox')

  await visit.put('<tooljet-embed app="sales" allow="geolocation ; fullscreen \'none\';camera *" sandbox="allow-scripts allow-same-origin"></tooljet-embed>')
  await visit.sees('ready', 2)
  await visit.user()
  const other = await visit.frame()
  t.same(await other.evaluate("['geolocation', 'fullscreen', 'clipboard-read'].map((feature) => document.featurePolicy.allowsFeature(feature))"), [true, false, false])
  t.equal(await other.evaluate("confirm('Delete it?')"), false)
})

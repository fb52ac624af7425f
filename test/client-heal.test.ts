import { t as tap, test } from 'tap'
import { buildClient } from '../.ci/build-client.js'
import { chromiumPath, closeBrowserAfter } from './support/browser.js'
import { EmbedHost } from './support/embed-host.js'
import { ANA, CLEO, releaseRedisAfter } from './support/portal.js'
import { until } from './support/until.js'

const IN_A_BROWSER = chromiumPath() === undefined ? { skip: 'there is no chromium on this machine' } : {}
const SALES_APP = '<tooljet-embed app="sales"></tooljet-embed>'

releaseRedisAfter(tap)
closeBrowserAfter(tap)
buildClient()

test('each refusal has its sentence, and tells whether waiting helps', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const troubled = await EmbedHost.open(t)
  troubled.toolJet.faults = () => ({ reply: { status: 500 } })
  const cases: Array<[host: EmbedHost, email: string, said: string | RegExp, detail: object]> = [
    [host, '', 'Your session has ended. Sign in again.', { code: 'TOOLJET_EMBED_UNAUTHENTICATED', status: 401 }],
    [host, CLEO, 'You have no access to this app. Ask your administrator.', { code: 'TOOLJET_EMBED_ACCESS_DENIED', status: 403 }],
    [host, 'dora@acme.test', 'The app, or your account, cannot be found. Ask your administrator.', { code: 'TOOLJET_EMBED_USER_NOT_FOUND', status: 404 }],
    [troubled, ANA, /^The app cannot be reached\. Trying again in [1-7] s\.$/, { code: 'TOOLJET_EMBED_UNAVAILABLE', status: 503, retryAfter: 5 }],
  ]
  for (const [host, email, said, detail] of cases) {
    const isFinal = typeof said === 'string'
    const visit = await host.visit(t, SALES_APP, { email })
    const look = await visit.isIn(isFinal ? 'fatal' : 'error')
    t.match(look, { said, message: said, retry: 'Try again', busy: 'false', frames: [] })
    t.match((await visit.seen('error'))[0]?.detail, detail)
    t.match(await visit.seen('fatal'), isFinal ? [{ detail }] : [])
    t.equal(await visit.types(), isFinal ? 'loading error fatal' : 'loading error')
    t.same(visit.violations, [])
    await visit.page.context().close()
  }
})

test('a 429 is waited for as long as it says, and no event hurries it', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { options: { rateLimit: { max: 1, timeWindow: 3000 } } })
  const visit = await host.visit(t)
  await visit.isIn('ready')
  await visit.run('el.reload()')
  const look = await visit.isIn('error')
  t.match(look.said, /^Too many requests\. Trying again in [1-4] s\.$/)
  const error = (await visit.seen('error'))[0]!
  t.match(error.detail, { code: 'TOOLJET_EMBED_RATE_LIMITED', status: 429, retryAfter: /^[1-3]$/ })
  await visit.run('window.dispatchEvent(new Event("online"))')
  const asks = visit.asks.length
  await visit.passes(400)
  t.equal(visit.asks.length, asks)
  const ready = await visit.sees('ready', 2)
  t.ok(ready.at - error.at >= Number(error.detail['retryAfter']) * 1000)
  t.equal(visit.asks.length, asks + 1)
})

test('other answers, and none', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, '')
  let body: { status?: number, body?: string, headers?: Record<string, string> } | undefined
  await visit.page.route('**/api/get-tooljet-url', (route) => body === undefined ? route.abort() : route.fulfill(body))
  const cases: Array<[answer: typeof body, detail: object, state: string]> = [
    [undefined, { code: 'UNREACHABLE', status: 0 }, 'error'],
    [{ status: 200, body: '<html>' }, { code: 'BAD_REPLY', status: 502 }, 'error'],
    [{ status: 200, body: 'null' }, { code: 'BAD_REPLY', status: 502 }, 'error'],
    [{ status: 200, body: '{"redirectUrl":"javascript:alert(1)","urlId":"x","expiresIn":60}' }, { code: 'BAD_REPLY', status: 502 }, 'error'],
    [{ status: 500, body: 'oops' }, { code: 'HTTP_500', status: 500 }, 'error'],
    [{ status: 418, body: '{}' }, { code: 'HTTP_418', status: 418 }, 'fatal'],
    [{ status: 302, headers: { location: '/page' } }, { code: 'HTTP_401', status: 401 }, 'fatal'],
  ]
  for (const [answer, detail, state] of cases) {
    body = answer
    const count = (await visit.seen('error')).length
    await visit.put(SALES_APP)
    const { detail: told } = await visit.sees('error', count + 1)
    t.match(told, detail)
    t.match(await visit.look(), { state, frames: [] })
  }
  t.same(visit.violations, [])
})

test('an endpoint that does not answer in time; a removal takes the request along', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  host.toolJet.faults = () => ({ hang: true })
  const visit = await host.visit(t, '<tooljet-embed app="sales" timeout="0.5"></tooljet-embed>')
  t.match((await visit.sees('error')).detail, { code: 'UNREACHABLE', status: 0 })
  t.match(await visit.look(), { said: /^This site does not answer\. Trying again in [12] s\.$/ })

  const failed: string[] = []
  visit.page.on('requestfailed', (request) => { failed.push(request.failure()!.errorText) })
  await visit.put('<tooljet-embed app="inventory"></tooljet-embed>')
  await visit.page.waitForRequest((request) => request.postData() === '{"app":"inventory"}')
  await visit.run('el.remove()')
  const events = await visit.types()
  await until('the request is given up', () => failed.includes('net::ERR_ABORTED'))
  await visit.passes(400)
  t.equal(await visit.types(), events, 'and nobody is told')
})

test('tries again by itself, later and later, and at once by the button', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, '')
  let isUp = false
  await visit.page.route('**/api/get-tooljet-url', (route) => isUp ? route.continue() : route.fulfill({ status: 500, body: '{}' }))
  await visit.run("(window.said = [], window.onSeen = ({ type, target }) => { if (type === 'error') queueMicrotask(() => said.push(target.shadowRoot.querySelector('[part=message]').textContent)) })")
  await visit.put(SALES_APP)
  await visit.sees('error', 4)
  const at = (await visit.seen('error')).map(({ at }) => at)
  const said = await visit.run<string[]>('said')
  for (const [i, seconds] of [1, 2, 4].entries()) {
    t.ok(at[i + 1]! - at[i]! >= seconds * 1000, `pause ${i + 1}: ${Math.round(at[i + 1]! - at[i]!)} ms`)
    t.ok(Number(/in (\d+) s\.$/.exec(said[i]!)?.[1]) <= Math.ceil(seconds * 1.25), `no longer than it should be: ${said[i]}`)
  }
  t.equal((await visit.seen('loading')).length, 1, 'what there is to read stays meanwhile')

  isUp = true
  await visit.page.keyboard.press('Tab') // the first thing to reach on the page
  t.equal(await visit.run('el.shadowRoot.activeElement.textContent'), 'Try again')
  await visit.page.keyboard.press('Enter')
  t.equal(await visit.run('el.shadowRoot.activeElement.getAttribute("part")'), 'base', 'focus is not lost with the button')
  await visit.isIn('ready')
  t.equal(await visit.run('el.shadowRoot.activeElement.localName'), 'iframe')
})

test('offline for a minute', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { options: { patExpiry: 50 } })
  const visit = await host.visit(t, SALES_APP, { prepare: (page) => page.clock.install() })
  await visit.sees('ready')
  const context = visit.page.context()
  await context.setOffline(true)
  await visit.page.clock.fastForward('00:06') // the app looks for its session in vain
  await visit.page.clock.fastForward('00:54')
  t.match(await visit.isIn('error'), { said: /^You are offline\. Trying again in [12] s\.$/, frames: [] })
  t.match((await visit.seen('expired'))[0]?.detail, { reason: 'timeup' })
  t.match((await visit.seen('error'))[0]?.detail, { code: 'OFFLINE', status: 0 })
  for (const count of [2, 3, 4, 5, 6]) {
    await visit.page.clock.fastForward('00:20')
    await visit.sees('error', count)
  }
  const asks = visit.asks.length
  await visit.page.clock.pauseAt(await visit.run<number>('Date.now()') + 5000)
  await context.setOffline(false)
  await until('it asks at once when it is online again, and not after the pause of 32 seconds', () => visit.asks.length === asks + 1)
  await visit.page.clock.resume()
  await visit.sees('ready', 2)
  t.equal(await visit.user(), ANA)
  t.same(visit.violations, [])
})

test("the browser's clock is an hour wrong, or is set", { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { options: { patExpiry: 8, minRemaining: 4 } })
  await Promise.all([1, -1].map(async (hours) => {
    const visit = await host.visit(t, SALES_APP, {
      prepare: (page) => page.addInitScript(`{
        const { Date: { now }, fetch } = window
        window.shift = ${hours * 3_600_000}
        Date.now = () => now() + shift
        window.asked = 0
        window.fetch = (...args) => { asked++; return fetch(...args) }
        window.onSeen = ({ type }) => { if (type === 'renewed') window.askedThen ??= asked }
      }`),
    })
    await visit.sees('renewed')
    t.match(await visit.types(), /^loading ready beforerenew renewed/)
    t.equal(await visit.run('askedThen'), 2, 'once for each URL')
    const asks = visit.asks.length
    // now it is set right: rather ask too early than too late
    await visit.run('(window.shift = 0, document.dispatchEvent(new Event("visibilitychange", { bubbles: true })))')
    if (hours < 0) await until('it asks', () => visit.asks.length > asks)
    await visit.sees('renewed', 2)
    t.same((await visit.seen()).filter(({ type }) => ['error', 'expired', 'fatal'].includes(type)), [])
  }))
})

test('the PAT ends while the tab is hidden, or the machine asleep', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { options: { patExpiry: 4 } })
  const visit = await host.visit(t)
  await visit.sees('ready')
  await visit.setHidden(true)
  t.match((await visit.sees('expired')).detail, { reason: 'timeup' })
  t.match(await visit.look(), { state: 'loading', frames: [] }, 'no login page waits there')
  await visit.passes(600)
  t.equal(host.toolJet.mints.length, 1, 'nothing is minted for nobody')
  await visit.setHidden(false)
  await visit.sees('ready', 2)
  t.equal(await visit.user(), ANA)
  t.equal(host.toolJet.mints.length, 2)

  const cdp = await visit.page.context().newCDPSession(visit.page)
  await cdp.send('Page.setWebLifecycleState', { state: 'frozen' })
  const [, { token = '' }] = host.toolJet.mints as [object, { token?: string }]
  await until('the PAT has ended', () => !host.toolJet.tokens.isAlive(token))
  await cdp.send('Page.setWebLifecycleState', { state: 'active' })
  await until('there is a living session again', async () => {
    const { state, frames } = await visit.look()
    return state === 'ready' && frames.length === 1 && host.toolJet.tokens.isAlive(host.toolJet.mints.at(-1)!.token!)
  })
  t.same(await visit.seen('error'), [])
  t.same(visit.violations, [])
})

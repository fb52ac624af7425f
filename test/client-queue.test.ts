import { t as tap, test } from 'tap'
import { buildClient } from '../.ci/build-client.js'
import { chromiumPath, closeBrowserAfter } from './support/browser.js'
import { EmbedHost } from './support/embed-host.js'
import { blocksOf } from './support/markdown.js'
import { ANA, BEN, releaseRedisAfter, SALES } from './support/portal.js'
import { until } from './support/until.js'

const IN_A_BROWSER = chromiumPath() === undefined ? { skip: 'there is no chromium on this machine' } : {}
const SALES_APP = '<tooljet-embed app="sales"></tooljet-embed>'
const OMAR = 'omar@acme.test'
const SOON = 'Less than a minute.'

releaseRedisAfter(tap)
closeBrowserAfter(tap)
buildClient()

/** A ToolJet that grants one mint in so many milliseconds, or a little less: on a busy machine calls take long to reach it. */
const oneMintIn = (timeWindow: number) => ({ mintLimit: { max: 1, timeWindow }, toolJet: { mintsPerMinute: 1, minuteMs: timeWindow - 500 } })

/** Somebody else comes first, and takes the only mint of this window. */
async function takeMint ({ url }: EmbedHost): Promise<void> {
  await fetch(`${url}/api/get-tooljet-url`, { method: 'POST', headers: { 'content-type': 'application/json', cookie: `user=${BEN}` }, body: '{"app":"sales"}' })
}

/** What the route says of a place in line. */
const busy = (queue: { position?: number, etaSeconds?: number | null, ticket?: string }, retryAfter = 60) => ({
  status: 429,
  json: { statusCode: 429, code: 'TOOLJET_EMBED_BUSY', error: 'Too Many Requests', message: 'x', retryAfter, queue: { position: 1, etaSeconds: 60, ticket: 'ticket', ...queue } },
})

test('who waits is told so, asks when it is time, brings the ticket along, and is let in', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, oneMintIn(5000))
  const [visit, next] = [await host.visit(t, ''), await host.visit(t, '', { email: OMAR })]
  await takeMint(host)
  await visit.put(SALES_APP)
  t.match(await visit.isIn('queued'), { busy: 'false', said: `You are number 1 in line. ${SOON}`, message: `You are number 1 in line. ${SOON}`, retry: '', frames: [] })
  await next.put(SALES_APP)
  t.match(await next.isIn('queued'), { said: `You are number 2 in line. ${SOON}` })
  t.match((await next.seen('queued'))[0]!.detail, { position: 2, etaSeconds: /^[1-9]\d?$/ })
  t.same(Object.keys((await next.seen('queued'))[0]!.detail), ['position', 'etaSeconds'], 'the ticket is told to nobody')
  await visit.run('window.dispatchEvent(new Event("online"))')
  for (const [one, email] of [[visit, ANA], [next, OMAR]] as const) {
    const queued = (await one.seen('queued'))[0]!
    await one.sees('ready')
    t.equal(await one.user(), email)
    t.match(await one.types(), /^loading( queued)+ ready$/)
    t.ok(one.asks.length <= 5, `${one.asks.length} asks`)
    for (const [i, { sent }] of one.asks.entries()) t.same(sent, { app: 'sales', ...(i > 0 && { ticket: one.asks[i - 1]!.reply.queue.ticket }) })
    const again = [...await one.seen('queued'), (await one.seen('ready'))[0]!][1]!
    t.ok(again.at - queued.at >= one.asks[0]!.reply.retryAfter * 1000, 'not before it is told to')
    t.same(one.violations, [])
  }
  t.equal(host.toolJet.calls.length, host.toolJet.mints.length, 'ToolJet refuses none')
  t.equal(host.toolJet.mints.length, 3)
})

test('it counts down by itself, and is read out once a minute at most', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, oneMintIn(180_000))
  await takeMint(host)
  const visit = await host.visit(t, SALES_APP, { prepare: (page) => page.clock.install() })
  await visit.isIn('queued')
  await visit.run(`(() => {
    window.told = { seen: [], said: [] }
    for (const [name, selector] of [['seen', '[part=message]'], ['said', '[role=status][aria-live=polite]']]) {
      const place = el.shadowRoot.querySelector(selector)
      new MutationObserver(() => told[name].push({ text: place.textContent, at: performance.now() })).observe(place, { childList: true, characterData: true })
    }
  })()`)
  const asks = visit.asks.length
  t.match(await visit.look(), { said: 'You are number 1 in line. About 3 minutes.' })
  for (let second = 5; second < 175; second += 5) {
    await visit.page.clock.runFor(5000)
    const { message } = await visit.look()
    if (second === 60) t.equal(message, 'You are number 1 in line. About 2 minutes.')
    if (second === 110) t.equal(message, 'You are number 1 in line. About 1 minute.')
    if (second === 150) t.equal(message, `You are number 1 in line. ${SOON}`)
  }
  t.equal(visit.asks.length, asks, 'nothing is asked meanwhile')
  const told = await visit.run<Record<'seen' | 'said', { text: string, at: number }[]>>('told')
  t.equal(told.seen.length, 3, 'each sentence is written once')
  t.ok(told.said.length >= 2 && told.said.length <= 3, `read out ${told.said.length} times`)
  for (const [i, { at }] of told.said.entries()) if (i > 0) t.ok(at - told.said[i - 1]!.at >= 60_000, 'a minute lies between')
})

test('a hidden page that waits asks at its time, by one timer, and opens', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, oneMintIn(8000))
  const hidden = await host.visit(t, '')
  await hidden.setHidden(true)
  await hidden.put(SALES_APP)
  const visit = await host.visit(t, '')
  await takeMint(host)
  await visit.put(SALES_APP)
  const { detail } = await visit.sees('queued')
  t.ok(Number(detail['etaSeconds']) >= 2, 'there is time')
  await visit.setHidden(true)
  await visit.run(`(() => {
    window.timers = 0
    const { setTimeout, fetch } = window
    window.setTimeout = (run, ms) => { timers++; return setTimeout(run, ms) }
    window.fetch = (...args) => { window.timersThen ??= timers; return fetch(...args) }
  })()`)
  await until('it asks again', () => visit.asks.length >= 2)
  t.equal(await visit.run('timersThen'), 0, 'the one that was set when it was hidden')
  await visit.sees('ready')
  t.equal(await visit.user(), ANA)
  t.equal(await visit.run('document.hidden'), true)
  t.equal(hidden.asks.length, 0, 'one that has no place asks for none')
})

test('a renewal waits its turn and nobody sees; at the end of the session it says so', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { options: { patExpiry: 8, minRemaining: 7 } })
  const visit = await host.visit(t)
  await visit.sees('ready')
  let isBusy = true
  await visit.page.route('**/api/get-tooljet-url', (route) => isBusy ? route.fulfill(busy({ position: 7, etaSeconds: 300, ticket: 'mine' }, 2)) : route.continue())
  await until('a renewal waits', () => visit.asks.length >= 3)
  t.match(await visit.look(), { state: 'ready', said: 'The app is open.', frames: [{ inert: false }] })
  t.equal(await visit.types(), 'loading ready beforerenew')
  t.match(visit.asks[2]!.sent, { app: 'sales', ticket: 'mine' })
  await visit.sees('queued')
  t.match(await visit.look(), { state: 'queued', said: 'You are number 7 in line. About 5 minutes.', frames: [] })
  t.match(await visit.types(), /^loading ready beforerenew expired queued/)
  isBusy = false
  await visit.sees('ready', 2)
  t.same(await visit.seen('error'), [])
})

test('no number of answers without a turn is final; a new start has no ticket; the body tells the time', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, '', { prepare: (page) => page.clock.install() })
  let count = 0
  await visit.page.route('**/api/get-tooljet-url', (route) => route.fulfill({ ...busy({ position: 3, etaSeconds: null, ticket: `t${++count}` }, 30), headers: { 'retry-after': '1' } }))
  await visit.put(SALES_APP)
  for (let i = 1; i <= 15; i++) {
    t.match((await visit.sees('queued', i)).detail, { position: 3, etaSeconds: null })
    await visit.page.clock.runFor(29_000)
    t.equal(visit.asks.length, i, 'the body is believed, whose number another origin can read')
    await visit.page.clock.runFor(1500)
  }
  await visit.sees('queued', 16)
  await until('the last answer is noted', () => visit.asks.length === 16)
  t.match(await visit.isIn('queued'), { said: 'You are number 3 in line. ToolJet does not answer at the moment.', frames: [] })
  t.match(await visit.types(), /^loading( queued)+$/)
  t.match(visit.asks.slice(0, 3).map(({ sent }) => sent), [{ ticket: undefined }, { ticket: 't1' }, { ticket: 't2' }])
  for (const restart of ['el.reload()', 'el.setAttribute("app", "inventory")']) {
    const asks = visit.asks.length
    await visit.run(restart)
    await visit.page.clock.runFor(1000)
    await until('it asks', () => visit.asks.length > asks)
    t.notOk('ticket' in visit.asks[asks]!.sent, restart)
  }
  t.notMatch(await visit.run('document.documentElement.outerHTML + JSON.stringify({ ...el })'), /\bt\d+\b/)

  // the same number where no turns are given
  await visit.page.unroute('**/api/get-tooljet-url')
  await visit.page.route('**/api/get-tooljet-url', (route) => route.fulfill({ status: 503, json: { code: 'TOOLJET_EMBED_UNAVAILABLE', retryAfter: 17 } }))
  await visit.put(SALES_APP)
  await visit.page.clock.runFor(1000)
  t.match((await visit.sees('error')).detail, { status: 503, retryAfter: 17 })
  t.same(visit.violations, [])
})

test('mountTooljetApp: the event, and words of the host', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, '')
  await visit.page.route('**/api/get-tooljet-url', (route) => route.fulfill(busy({ position: 12, etaSeconds: 150 })))
  await visit.run(`import(document.querySelector('script').src).then(({ mountTooljetApp }) => {
    mountTooljetApp(main, { app: 'sales', strings: { queued: 'Platz {position}.', minutes: 'Noch {minutes} Minuten.' }, on: { queued: (event) => { window.told = event.detail } } })
  })`)
  t.match(await visit.isIn('queued'), { said: 'Platz 12. Noch 3 Minuten.' })
  t.same(await visit.run('told'), { position: 12, etaSeconds: 150 })
  await visit.put('<tooljet-embed app="sales"><b slot="error">failed</b><b slot="queued">my own line</b></tooljet-embed>')
  await visit.isIn('queued')
  t.ok(await visit.page.getByText('my own line').isVisible())
  t.notOk(await visit.page.getByText('failed').isVisible())
})

/** As ToolJet's documentation has it, with the one thing besides that a page should do: come back when it is told to. */
const SNIPPET = `async ({ email, appId }) => {
  const response = await fetch('/api/get-tooljet-url', {
    method: 'POST',
    headers: {'Content-Type': 'application/json'},
    body: JSON.stringify({ email, appId })
  })
  const data = await response.json()
  if (response.ok) {
    const iframe = document.createElement('iframe')
    iframe.src = data.redirectUrl
    document.body.append(iframe)
  }
  return { status: response.status, retryAfter: response.headers.get('Retry-After'), data }
}`

test("ToolJet's documented snippet: a 429 with its number, and then the app", { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, oneMintIn(4000))
  const visit = await host.visit(t, '')
  await takeMint(host)
  const run = () => visit.page.evaluate<{ status: number, retryAfter: string, data: { code?: string, retryAfter?: number, queue?: object } }>(`(${SNIPPET})(${JSON.stringify({ email: ANA, appId: SALES.id })})`)
  const first = await run()
  t.match(first, { status: 429, retryAfter: /^[1-9]$/, data: { code: 'TOOLJET_EMBED_BUSY', queue: { position: 1 } } })
  t.equal(first.data.retryAfter, Number(first.retryAfter))
  await visit.passes(Number(first.retryAfter) * 1000)
  t.match(await run(), { status: 200, retryAfter: null })
  t.equal(await visit.user(), ANA)
  t.same(visit.violations, [])
})

test('docs/client.md: a page of its own waits and opens the app', { ...IN_A_BROWSER }, async (t) => {
  const { code } = blocksOf('docs/client.md').find(({ code }) => code.includes('queue.ticket'))!
  const host = await EmbedHost.open(t, oneMintIn(4000))
  const visit = await host.visit(t, '')
  await takeMint(host)
  const lines: string[] = []
  visit.page.on('console', (line) => lines.push(line.text()))
  await visit.run(`(${code.replace('async function openApp', 'window.openApp = async function')})(main.appendChild(document.createElement('iframe')), { app: 'sales' })`)
  t.equal(await visit.user(), ANA)
  t.ok(lines.includes('Number 1 in line'))
  t.same(visit.asks.at(-1)!.sent, { app: 'sales', ticket: visit.asks.at(-2)!.reply.queue.ticket })
})

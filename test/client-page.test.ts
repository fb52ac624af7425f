import { once } from 'node:events'
import { createServer, request } from 'node:http'
import type { AddressInfo } from 'node:net'
import fastifyJwt from '@fastify/jwt'
import Fastify from 'fastify'
import { t as tap, test } from 'tap'
import { startServer } from '../example/redis.js'
import { ToolJetStandIn } from '../example/tooljet/server.js'
import { buildClient } from '../.ci/build-client.js'
import { chromiumPath, closeBrowserAfter, visit } from './support/browser.js'
import { Child, freePorts } from './support/child.js'
import { EmbedHost } from './support/embed-host.js'
import { blocksOf } from './support/markdown.js'
import { ANA, API_TOKEN, INVENTORY, JWT_SECRET, releaseRedisAfter } from './support/portal.js'
import { until } from './support/until.js'

/* Pages of every kind: how they sign their requests, what they forbid, and what else they do with the element. */

const IN_A_BROWSER = chromiumPath() === undefined ? { skip: 'there is no chromium on this machine' } : {}
const SALES_APP = '<tooljet-embed app="sales"></tooljet-embed>'

releaseRedisAfter(tap)
closeBrowserAfter(tap)
buildClient()

test('README.md: the smallest host and the tag work together as they stand', { ...IN_A_BROWSER }, async (t) => {
  const blocks = blocksOf('README.md')
  const { code } = blocks.find(({ code }) => code.includes('const app = Fastify({ logger: true })'))!
  const { code: page } = blocks.find(({ language }) => language === 'html')!
  const toolJet = await new ToolJetStandIn({ apiToken: API_TOKEN }).listen()
  t.teardown(() => toolJet.close())
  const server = await startServer()
  t.teardown(() => server.stop())
  const port = await freePorts(1)
  const child = Child.start(t, ['--import', 'tsx', `${t.testdir({ 'host.ts': code })}/host.ts`], {
    PORT: String(port), TOOLJET_URL: toolJet.url, TOOLJET_API_TOKEN: API_TOKEN, REDIS_URL: server.url, JWT_SECRET,
  })
  await child.prints('Server listening')
  const signer = Fastify()
  t.teardown(() => signer.close())
  await signer.register(fastifyJwt, { secret: JWT_SECRET })

  // the page beside the host, as behind one web server
  const web = createServer((incoming, reply) => {
    if (incoming.url === '/portal') return reply.setHeader('content-type', 'text/html').end(page)
    incoming.pipe(request({ port, path: incoming.url, method: incoming.method, headers: incoming.headers }, (answer) => {
      answer.pipe(reply.writeHead(answer.statusCode!, answer.headers))
    }))
  }).listen(0, 'localhost')
  await once(web, 'listening')
  t.teardown(() => { web.close(); web.closeAllConnections() })
  const origin = `http://localhost:${(web.address() as AddressInfo).port}`
  const visitor = await visit(t, origin)
  await visitor.page.context().addCookies([{ name: 'token', value: signer.jwt.sign({ email: ANA }), url: origin, httpOnly: true, sameSite: 'Lax' }])
  await visitor.page.goto('/portal')
  await visitor.page.locator('tooljet-embed[state="ready"]').waitFor()
  t.equal(await visitor.page.frameLocator('iframe').locator('#user').textContent(), ANA)
  const dashboard = await visitor.page.request.get('/dashboard')
  t.match(toolJet.tokenOf((await dashboard.json() as { redirectUrl: string }).redirectUrl), { email: ANA })

  await visitor.page.context().clearCookies()
  await visitor.page.reload()
  await visitor.page.getByText('Your session has ended. Sign in again.').first().waitFor()
})

/** A host that wants a bearer token, and lets in pages of other origins. */
async function openApi (...[t, options = {}]: Parameters<typeof EmbedHost.open>): Promise<EmbedHost> {
  return EmbedHost.open(t, {
    ...options,
    options: {
      authenticate: async ({ headers }) => {
        if (!headers.authorization?.startsWith('Bearer ')) throw Object.assign(new Error('no token'), { statusCode: 401 })
      },
      identity: ({ headers }) => headers.authorization!.slice('Bearer '.length),
      ...options.options,
    },
    before: (app) => {
      app.addHook('onRequest', async (request, reply) => {
        if (request.headers.origin !== undefined) reply.headers({ 'access-control-allow-origin': request.headers.origin, 'access-control-allow-headers': 'authorization, content-type, x-csrf-token' })
        if (request.method === 'OPTIONS') return reply.code(204).send()
      })
      app.options('*', async () => {})
    },
  })
}

test('a bearer token, from a page of another origin; the body tells how long to wait', { ...IN_A_BROWSER }, async (t) => {
  const api = await openApi(t, { options: { rateLimit: { max: 1, timeWindow: 3000 } } })
  const site = await EmbedHost.open(t, { csp: { 'connect-src': [api.url], 'frame-src': [api.toolJet.url] } })
  const visit = await site.visit(t, '')
  const sent: Array<Record<string, string>> = []
  visit.page.on('request', (request) => { if (request.url() === `${api.url}/api/get-tooljet-url` && request.method() === 'POST') sent.push(request.headers()) })
  await visit.page.context().addCookies([{ name: 'cookie', value: '1', url: api.url }])
  await visit.run(`(() => {
    const element = document.createElement('tooljet-embed')
    element.setAttribute('app', 'sales')
    element.setAttribute('endpoint', '${api.url}/api/get-tooljet-url')
    window.tokens = 0
    element.headers = async () => { tokens++; return { authorization: 'Bearer ${ANA}' } }
    main.append(element)
  })()`)
  await visit.sees('ready')
  t.equal(await visit.user(), ANA)
  t.match(sent, [{ authorization: `Bearer ${ANA}`, 'content-type': 'application/json' }])
  t.equal(sent[0]!['cookie'], undefined)
  await visit.run('el.reload()')
  const { detail, at } = await visit.sees('error')
  t.match(detail, { code: 'TOOLJET_EMBED_RATE_LIMITED', retryAfter: /^[1-3]$/ })
  const ready = await visit.sees('ready', 2)
  t.ok(ready.at - at >= Number(detail['retryAfter']) * 1000)
  t.equal(await visit.run('tokens'), 3, 'a token for each request')
  t.same(visit.violations, [])
})

test('headers and fetch of the page, also by mountTooljetApp; what they do wrong is no standstill', { ...IN_A_BROWSER }, async (t) => {
  const api = await openApi(t)
  const visit = await api.visit(t, '')
  await visit.run(`import(document.querySelector('script').src).then(({ mountTooljetApp }) => {
    window.calls = []
    mountTooljetApp(main, {
      app: 'sales', credentials: 'omit', headers: { authorization: 'Bearer ${ANA}' },
      fetch: (url, options) => { calls.push([url, options.credentials, Object.fromEntries(options.headers)]); return fetch(url, options) },
    })
  })`)
  await visit.sees('ready')
  t.same(await visit.run('calls'), [[`${new URL(visit.page.url()).origin}/api/get-tooljet-url`, 'omit', { 'content-type': 'application/json', authorization: `Bearer ${ANA}` }]])

  await visit.run("(main.firstElementChild.setAttribute('timeout', '0.5'), el.fetch = undefined, el.headers = () => { throw new Error('signed out') }, el.reload())")
  t.match((await visit.sees('error')).detail, { code: 'UNREACHABLE', status: 0 })
  await visit.run('(el.headers = () => new Promise(() => {}), el.reload())')
  t.match((await visit.sees('error', 2)).detail, { code: 'UNREACHABLE' })
  await visit.run('(el.headers = undefined, el.fetch = async () => ({ redirected: false, status: 200, json: async () => ({}), headers: new Headers() }), el.reload())')
  t.match((await visit.sees('error', 3)).detail, { code: 'BAD_REPLY' })
  await visit.run('(el.fetch = () => new Promise(() => {}), el.reload())')
  t.match((await visit.sees('error', 4)).detail, { code: 'UNREACHABLE' }, 'a fetch that heeds no signal')
  await visit.run(`(el.fetch = undefined, el.headers = { authorization: 'Bearer ${ANA}' }, el.reload())`)
  await visit.sees('ready', 2)
  t.same(visit.violations, [])
})

test('headers of any form and spelling, and one content type', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, '')
  await visit.run('(window.sent = [], window.fetch = ((fetch) => (url, options) => { sent.push(Object.fromEntries(new Headers(options.headers))); return fetch(url, options) })(fetch))')
  const forms = ["{ 'Content-Type': 'application/json; charset=utf-8', 'X-CSRF-Token': '1' }", "new Headers({ 'x-csrf-token': '1' })", "[['x-csrf-token', '1']]", "async () => new Headers({ 'X-Csrf-Token': '1' })"]
  for (const [i, form] of forms.entries()) {
    await visit.run(`(() => {
      const element = document.createElement('tooljet-embed')
      element.headers = ${form}
      main.replaceChildren(element)
    })()`)
    await until('it asks', async () => (await visit.run<object[]>('sent')).length > i)
    t.same((await visit.run<object[]>('sent'))[i], { 'content-type': 'application/json', 'x-csrf-token': '1' }, form)
  }
})

test('an answer that says to come at once, or before, is no reason to ask all the time', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, '', { prepare: (page) => page.clock.install() })
  await visit.page.clock.pauseAt(Date.now() + 60_000)
  for (const retryAfter of ['-7', '0', 'null', "'soon'"]) {
    await visit.run(`(() => {
      const element = document.createElement('tooljet-embed')
      window.asked = 0
      element.fetch = async () => { asked++; return Response.json({ code: 'TOOLJET_EMBED_BUSY', retryAfter: ${retryAfter}, queue: { position: 3, etaSeconds: 9, ticket: 'x' } }, { status: 429 }) }
      main.replaceChildren(element)
    })()`)
    await visit.page.clock.runFor(10_000)
    const asked = await visit.run<number>('asked')
    t.ok(asked >= 2 && asked <= 11, `retryAfter ${retryAfter}: ${asked} times in ten seconds`)
  }
})

test('cookies are sent, unless there are headers or the page says otherwise', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, '')
  await visit.run('(window.used = [], window.fetch = ((fetch) => (url, options) => { used.push(options.credentials); return fetch(url, options) })(fetch))')
  const cases = [['', undefined, 'include'], ['', { 'x-csrf-token': '1' }, 'same-origin'], ['include', { 'x-csrf-token': '1' }, 'include'], ['omit', undefined, 'omit']] as const
  for (const [i, [credentials, headers, used]] of cases.entries()) {
    await visit.run(`(() => {
      const element = document.createElement('tooljet-embed')
      if (${JSON.stringify(credentials)}) element.setAttribute('credentials', '${credentials}')
      element.headers = ${JSON.stringify(headers)}
      main.replaceChildren(element)
    })()`)
    await until('it asks', async () => (await visit.run<string[]>('used')).length > i)
    t.equal((await visit.run<string[]>('used'))[i], used)
  }
})

test("a 403 that is not the plugin's own, and codes that mean something in JavaScript", { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, '')
  const cases: Array<[status: number, code: unknown, said: string]> = [
    [403, 'FST_CSRF_INVALID_TOKEN', 'The app cannot be opened.'],
    [403, undefined, 'The app cannot be opened.'],
    [403, 'TOOLJET_EMBED_APP_NOT_ALLOWED', 'You have no access to this app. Ask your administrator.'],
    [400, 'constructor', 'The app cannot be opened.'],
    [400, '__proto__', 'The app cannot be opened.'],
    [404, 'toString', 'The app, or your account, cannot be found. Ask your administrator.'],
    [401, { code: 1 }, 'Your session has ended. Sign in again.'],
  ]
  let answer: { status: number, json: object } | undefined
  await visit.page.route('**/api/get-tooljet-url', (route) => route.fulfill(answer))
  for (const [status, code, said] of cases) {
    answer = { status, json: { code } }
    await visit.put(SALES_APP)
    t.match(await visit.isIn('fatal'), { said, message: said }, `${status} ${String(code)}`)
  }
  t.same(visit.violations, [])
})

test("a frame that the page's own policy blocks is noticed at once", { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { csp: { 'frame-src': ["'self'"] } })
  const visit = await host.visit(t)
  t.match(await visit.isIn('fatal'), { said: 'This site does not allow the app. Ask your administrator.', retry: 'Try again', frames: [] })
  t.match((await visit.seen('fatal'))[0]!.detail, { code: 'BLOCKED_BY_CSP', status: 0 })
  t.equal(await visit.types(), 'loading error fatal')
  t.ok(visit.complaints.includes(`error: tooljet-embed: Content-Security-Policy lacks frame-src ${host.toolJet.url}`), 'and a hint')

  // a policy that only reports blocks nothing
  const other = await EmbedHost.open(t, { before: (app) => { app.addHook('onSend', async (_request, reply) => { reply.header('content-security-policy-report-only', "frame-src 'self'") }) } })
  const fine = await other.visit(t)
  await fine.sees('ready')
  t.ok(fine.violations.some((line) => line.startsWith('csp: frame-src')))
  t.same(await fine.seen('error'), [])
})

test('what takes longer than 8 s is said so, once, and read out', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  host.toolJet.faults = ({ path }) => path === 'mint' ? { hang: true } : undefined
  const visit = await host.visit(t, SALES_APP, { prepare: (page) => page.clock.install() })
  await visit.sees('loading')
  await visit.page.clock.fastForward('00:07')
  t.match(await visit.look(), { said: 'Opening the app…' })
  await visit.page.clock.fastForward('00:02')
  await until('it is said', async () => (await visit.look()).said === 'This takes longer than usual…')
  t.match(await visit.look(), { state: 'loading', message: 'This takes longer than usual…', retry: '' })
  t.equal(await visit.types(), 'loading')
})

test('a failure counts down, and is read out just once', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, '', { prepare: (page) => page.clock.install() })
  await visit.page.route('**/api/get-tooljet-url', (route) => route.fulfill({ status: 503, json: { code: 'TOOLJET_EMBED_UNAVAILABLE', retryAfter: 20 } }))
  await visit.put(SALES_APP)
  const { said } = await visit.isIn('error')
  const seconds: number[] = []
  for (let i = 0; i < 12; i++) {
    await visit.page.clock.runFor(1000)
    seconds.push(Number(/Trying again in (\d+) s\.$/.exec((await visit.look()).message)![1]))
  }
  // that clock goes on by itself, too
  t.ok(seconds.every((left, i) => i === 0 || (left < seconds[i - 1]! && left > seconds[i - 1]! - 4)), `it says ${seconds.join(', ')}`)
  t.ok(seconds[0]! >= 18 && seconds[0]! <= 25)
  t.equal((await visit.look()).said, said)
})

test('a page that is morphed takes the attribute away: the element goes on, and knows what it shows', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t)
  await visit.sees('ready')
  await visit.run('el.removeAttribute("state")')
  await visit.run('el.setAttribute("app", "inventory")')
  await visit.sees('ready', 2)
  await until('it shows the other app', async () => (await visit.frame()).url().includes(INVENTORY.id))
  t.equal((await visit.look()).state, 'ready')
  await visit.run('el.setAttribute("state", "fatal")')
  await until('the attribute is right again', async () => (await visit.look()).state === 'ready')
  t.equal((await visit.look()).frames.length, 1)
  t.equal(visit.asks.length, 2)
})

test('browsers of three years ago', { ...IN_A_BROWSER }, async (t) => {
  const host = await EmbedHost.open(t, { options: { patExpiry: 8, minRemaining: 7 } })
  const visit = await host.visit(t, SALES_APP, {
    prepare: (page) => page.addInitScript(`
      delete AbortSignal.any
      delete AbortSignal.timeout
      delete URL.canParse
      delete URL.parse
      delete Promise.withResolvers
      delete Promise.try
      delete Element.prototype.moveBefore
      for (const name of Object.getOwnPropertyNames(Element.prototype)) if (/^aria|^role$/.test(name)) delete Element.prototype[name]`),
  })
  await visit.sees('ready')
  t.equal(await visit.user(), ANA)
  await visit.sees('renewed')
  t.match(await visit.run('el.shadowRoot.querySelector("[part=base]").getAttributeNames().sort().join()'), /aria-busy,aria-label,part,role/)
  t.same(visit.violations, [])
})

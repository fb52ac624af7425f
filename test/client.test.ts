import { execFileSync } from 'node:child_process'
import fs, { readFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import Fastify from 'fastify'
import { t as tap, test } from 'tap'
import { buildClient } from '../.ci/build-client.js'
import tooljetEmbed from '../plugin/index.js'
import { chromiumPath, closeBrowserAfter } from './support/browser.js'
import { EmbedHost } from './support/embed-host.js'
import { plainEnv } from './support/plain-env.js'
import { ANA, API_TOKEN, INVENTORY, newPrefix, releaseRedisAfter, SALES } from './support/portal.js'
import { sharedRedisUrl } from './support/redis.js'
import { until } from './support/until.js'

const IN_A_BROWSER = chromiumPath() === undefined ? { skip: 'there is no chromium on this machine' } : {}
const SANDBOX = 'allow-scripts allow-same-origin allow-forms allow-popups allow-popups-to-escape-sandbox allow-downloads allow-modals'
const ROOT = join(import.meta.dirname, '..')

releaseRedisAfter(tap)
closeBrowserAfter(tap)
buildClient() // of the sources as they are now

test('the module is small, and does nothing that a content security policy is against', async (t) => {
  const source = readFileSync(join(ROOT, 'dist/browser/tooljet-embed.js'))
  t.ok(gzipSync(source, { level: 9 }).length < 5120, `${gzipSync(source, { level: 9 }).length} bytes gzipped`)
  t.notMatch(String(source), /\beval\b|new Function|innerHTML|outerHTML|insertAdjacentHTML|document\.write|localStorage|sessionStorage|indexedDB|document\.cookie|console\.(?!error)|history\.|^import|https?:\/\/\w/m)
  const onAServer = execFileSync(process.execPath, ['--input-type=module', '-e', "console.log(Object.keys(await import('fastify-tooljet-embed/client')).sort().join())"], { cwd: ROOT, env: plainEnv() })
  t.equal(String(onAServer).trim(), 'TooljetEmbedElement,mountTooljetApp,strings', 'a page that a server renders may import it')
})

test('the plugin serves the module under a name of its content', async (t) => {
  const open = async (options: object) => {
    const app = Fastify()
    t.teardown(() => app.close())
    app.register(tooljetEmbed, { tooljet: { url: 'http://127.0.0.1:9', apiToken: API_TOKEN }, redis: await sharedRedisUrl(), keyPrefix: newPrefix(), authenticate: async () => {}, ...options })
    await app.ready()
    return app
  }
  const app = await open({})
  const { path, url, integrity } = app.tooljetEmbed.client!
  t.equal(path, '/tooljet-embed.js')
  t.match(url, /^\/tooljet-embed\.js\?v=[\w-]{43}$/)
  const named = await app.inject(url)
  t.match(named, { statusCode: 200, headers: { 'content-type': 'text/javascript; charset=utf-8', 'cache-control': 'public, max-age=31536000, immutable', 'x-content-type-options': 'nosniff', etag: /^"[\w-]{43}"$/ } })
  t.equal(integrity.replace('sha256-', ''), Buffer.from(String(named.headers.etag).slice(1, -1), 'base64url').toString('base64'))

  const plain = await app.inject(path)
  t.match(plain, { statusCode: 200, headers: { 'cache-control': 'no-cache', etag: named.headers.etag }, body: named.body })
  t.match(await app.inject(`${path}?v=old`), { statusCode: 200, headers: { 'cache-control': 'no-cache' } }, 'the name of another version is not kept for ever')
  for (const known of [named.headers.etag, `W/${named.headers.etag}`, `"other", ${named.headers.etag}`, '*']) {
    t.match(await app.inject({ url: path, headers: { 'if-none-match': String(known) } }), { statusCode: 304, body: '' })
  }
  t.equal((await app.inject({ url: path, headers: { 'if-none-match': '"other"' } })).statusCode, 200)
  t.match(await app.inject({ method: 'HEAD', url: path }), { statusCode: 200, body: '' })

  const prefixed = await open({ prefix: '/portal', route: { path: '/it\'s/"here"' }, client: { path: '/embed.js' } })
  const elsewhere = prefixed.tooljetEmbed.client!
  t.equal(elsewhere.path, '/portal/embed.js')
  t.not(elsewhere.url.split('=')[1], url.split('=')[1])
  t.match((await prefixed.inject(elsewhere.url)).body, 'import.meta.resolve("./it\'s/%22here%22")', 'it knows where the route is')
  t.equal((await prefixed.inject('/tooljet-embed.js')).statusCode, 404)

  for (const options of [{ client: false }, { route: false }]) {
    const without = await open(options)
    t.equal(without.tooljetEmbed.client, undefined)
    t.equal((await without.inject('/tooljet-embed.js')).statusCode, 404)
  }
  const alone = await open({ route: false, client: {} })
  t.equal((await alone.inject('/tooljet-embed.js')).statusCode, 200, 'for a route that the host writes with the decorator')
})

test('start errors about the module', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  app.get('/tooljet-embed.js', async () => 'mine')
  app.register(tooljetEmbed, { tooljet: { url: 'http://127.0.0.1:9', apiToken: API_TOKEN }, redis: await sharedRedisUrl(), keyPrefix: newPrefix(), authenticate: async () => {} })
  await t.rejects(async () => app.ready(), { code: 'TOOLJET_EMBED_OPTIONS', message: /"client\.path" is "\/tooljet-embed\.js", which is already taken, expected false, or a path/ })

  // the one file of a plugin that was never built
  const { readFileSync: read } = fs
  fs.readFileSync = ((path, ...rest) => read(String(path).replace('tooljet-embed.js', 'not-there.js'), ...rest)) as typeof read
  syncBuiltinESMExports()
  t.teardown(() => {
    fs.readFileSync = read
    syncBuiltinESMExports()
  })
  const unbuilt = Fastify()
  t.teardown(() => unbuilt.close())
  unbuilt.register(tooljetEmbed, { tooljet: { url: 'http://127.0.0.1:9', apiToken: API_TOKEN }, redis: await sharedRedisUrl(), keyPrefix: newPrefix(), authenticate: async () => {} })
  await t.rejects(async () => unbuilt.ready(), { code: 'TOOLJET_EMBED_OPTIONS', message: /"npm run build" makes it, and option client: false does without/, cause: { code: 'ENOENT' } })
})

test('an app shows, in a frame that tells nothing', IN_A_BROWSER, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, '<tooljet-embed app="sales" frame-title="Sales" allow="clipboard-write" height="500"></tooljet-embed>')
  await visit.sees('ready')
  t.equal(await visit.user(), ANA)
  const look = await visit.look()
  t.match(look, { state: 'ready', busy: 'false', said: 'The app is open.', retry: '' })
  t.match(look.frames, [{
    name: '', referrerPolicy: 'no-referrer', title: 'Sales', allow: `clipboard-write ${host.toolJet.url}`, inert: false, sandbox: SANDBOX,
  }])
  const { origin } = new URL((await visit.frame()).url())
  t.equal(origin, host.toolJet.url)
  t.equal(await visit.types(), 'loading ready')
  const { redirectUrl, ...told } = visit.asks[0]!.reply
  t.same((await visit.seen('ready'))[0]!.detail, told, 'all but the URL')

  const { token } = host.toolJet.mints[0] as { token: string }
  const kept = await visit.run<string>('JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, history.state, location.href, main.innerHTML])')
  t.notMatch(kept, token)
  t.notMatch(visit.complaints.join(), token)
  t.same(visit.violations, [])
  t.equal(await visit.run('el.getBoundingClientRect().height'), 500)
  t.match(await visit.run('getComputedStyle(el.shadowRoot.querySelector("[part=base]")).minHeight'), '500px')
})

test('attributes: which app, where from, and what only dresses', IN_A_BROWSER, async (t) => {
  const host = await EmbedHost.open(t, { options: { apps: undefined } as never })
  const visit = await host.visit(t, `<tooljet-embed app-id="${SALES.id}"></tooljet-embed>`)
  await visit.isIn('ready')
  await visit.run('(el.setAttribute("frame-title", "Umsatz"), el.setAttribute("height", "40vh"), el.setAttribute("app-id", el.getAttribute("app-id")))')
  t.equal((await visit.look()).frames[0]?.title, 'Umsatz')
  t.equal(await visit.run('el.shadowRoot.querySelector("[part=base]").style.height'), '40vh')
  t.equal(visit.asks.length, 1, 'for a new title nothing is asked')

  await visit.put('<tooljet-embed app-slug="sales" sandbox="allow-scripts allow-same-origin"></tooljet-embed>')
  t.equal((await visit.isIn('ready')).frames[0]?.sandbox, 'allow-scripts allow-same-origin')
  await visit.run('el.setAttribute("endpoint", "/nowhere")')
  t.match(await visit.isIn('fatal'), { said: 'The app, or your account, cannot be found. Ask your administrator.', frames: [] })
  t.match((await visit.seen('fatal'))[0]?.detail, { code: 'HTTP_404', status: 404 })
  t.match(visit.asks.map(({ sent }) => sent), [{ appId: SALES.id }, { appSlug: 'sales' }])
  t.same(visit.violations, [])
})

test('loading="lazy" asks for nothing before it comes into view', IN_A_BROWSER, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, '<p></p>')
  await visit.run('main.firstElementChild.style.height = "5000px"')
  await visit.run(`(() => {
    for (const [app, loading] of [['sales', 'lazy'], ['inventory', 'eager']]) {
      const element = Object.assign(document.createElement('tooljet-embed'), { id: loading })
      element.setAttribute('app', app)
      element.setAttribute('loading', loading)
      main.append(element)
    }
  })()`)
  await visit.sees('ready')
  await visit.passes(500)
  t.same(visit.asks.map(({ sent }) => sent['app']), ['inventory'])
  await visit.run('document.getElementById("lazy").scrollIntoView()')
  await visit.sees('ready', 2)
  t.same(visit.asks.map(({ sent }) => sent['app']), ['inventory', 'sales'])
})

test('mountTooljetApp, strings and slots', IN_A_BROWSER, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, '')
  host.toolJet.faults = () => ({ delayMs: 600 })
  await visit.run(`import(document.querySelector('script').src).then(({ mountTooljetApp, strings }) => {
    strings.loading = 'Einen Moment…'
    window.mounted = mountTooljetApp(main, { app: 'sales', frameTitle: 'Sales', height: 300, timeout: 20, strings: { ready: 'Da.' }, on: { ready: (event) => { window.told = event.detail.source } } })
  })`)
  t.match(await visit.isIn('loading'), { said: 'Einen Moment…', busy: 'true' })
  host.toolJet.faults = undefined
  t.match(await visit.isIn('ready'), { said: 'Da.', frames: [{ title: 'Sales' }] })
  t.equal(await visit.run('told'), 'minted')
  await visit.run('mounted.reload()')
  await visit.sees('ready', 2)
  t.equal(await visit.run('told'), 'reused')
  await visit.run('mounted.destroy()')
  t.equal(await visit.run('main.childElementCount'), 0)
  await visit.run('mounted.reload()')
  await visit.passes(400)
  t.equal(visit.asks.length, 2, 'what is not in the page asks for nothing')

  await visit.run('fetch("/page").then(() => { document.cookie = "user=; max-age=0" })')
  await visit.page.context().clearCookies()
  await visit.put('<tooljet-embed app="sales"><b slot="loading">mine, loading</b><b slot="error">mine, failed</b></tooljet-embed>')
  await visit.run('el.strings = { 401: "Bitte anmelden." }')
  await visit.run('el.reload()')
  t.match(await visit.isIn('fatal'), { said: 'Bitte anmelden.' }, 'by its status')
  t.ok(await visit.page.getByText('mine, failed').isVisible())
  t.notOk(await visit.page.getByText('mine, loading').isVisible())
  t.notOk(await visit.page.getByRole('button').isVisible(), 'the slot is in the place of sentence and button')
  t.same(visit.violations, [])
})

test('a near end is announced, may be put off, and the swap is seen by nobody', IN_A_BROWSER, async (t) => {
  const host = await EmbedHost.open(t, { options: { patExpiry: 8, minRemaining: 7 } })
  const visit = await host.visit(t, '')
  await visit.run(`(() => {
    window.onSeen = (event) => { if (event.type === 'beforerenew' && event.target.putOff-- > 0) event.preventDefault() }
    const element = document.createElement('tooljet-embed')
    element.setAttribute('app', 'sales')
    element.putOff = 2
    main.append(element)
    window.gaps = 0
    const watch = () => {
      if (element.getAttribute('state') !== 'ready' || [...element.shadowRoot.querySelectorAll('iframe')].filter(({ inert }) => !inert).length !== 1) gaps++
      window.watching = requestAnimationFrame(watch)
    }
    element.addEventListener('ready', watch, { once: true })
  })()`)
  await visit.sees('ready')
  const first = (await visit.look()).frames[0]!.id
  await visit.run('el.shadowRoot.querySelector("iframe").focus()')
  const renewed = await visit.sees('renewed')
  t.equal(await visit.types(), 'loading ready beforerenew beforerenew beforerenew renewed')
  const [one, two] = await visit.seen('beforerenew')
  t.ok(two!.at - one!.at >= 240, 'putting it off gives time')
  t.match(one!.detail, { urlId: visit.asks[0]!.reply.urlId, expiresIn: /^[0-7]$/ })
  t.match(renewed.detail, { urlId: visit.asks.at(-1)!.reply.urlId, source: 'minted' })

  const { frames } = await visit.look()
  t.equal(frames.length, 1)
  t.not(frames[0]!.id, first)
  t.equal(await visit.run('gaps'), 0, 'in each picture there is one frame to see')
  t.equal(await visit.run('el.shadowRoot.activeElement.localName'), 'iframe', 'focus goes along')
  t.equal(await visit.user(), ANA)
  t.equal(host.toolJet.mints.length, 2)
  t.same(visit.violations, [])
})

test('however it is added, moved and changed, there is one frame', IN_A_BROWSER, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t)
  await visit.isIn('ready')
  await visit.run('(() => { for (let i = 0; i < 30; i++) { el.setAttribute("app", i % 2 ? "sales" : "inventory"); main.append(el); el.remove(); main.prepend(el); el.reload() } el.setAttribute("app", "inventory") })()')
  await visit.sees('ready', 2)
  await until('the frame is of the last app', async () => (await visit.frame()).url().includes(INVENTORY.id))
  t.equal((await visit.looks()).flatMap(({ frames }) => frames).length, 1)
  t.ok(visit.asks.length <= 3, `${visit.asks.length} asks, not 120`)

  await visit.run('(window.begun = 0, window.fetch = ((fetch) => (...args) => { begun++; return fetch(...args) })(fetch))')
  await visit.run(`(async () => {
    for (let i = 0; i < 20; i++) {
      el.setAttribute('app', i % 2 ? 'inventory' : 'sales')
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  })()`)
  await visit.isIn('ready')
  const begun = await visit.run<number>('begun')
  t.ok(begun <= 4, `${begun} asks for 20 changes in quick succession`)

  const { id } = (await visit.look()).frames[0]!
  const events = await visit.types()
  await visit.run('(() => { const other = document.createElement("section"); document.body.append(other); other.moveBefore(el, null); main.remove() })()')
  t.equal((await visit.look()).frames[0]!.id, id)
  t.equal(await visit.types(), events, 'moveBefore() leaves it as it is')

  await visit.run('el.destroy()')
  t.match(await visit.look(), { state: null, frames: [], retry: '', said: '' })
  await visit.run('el.setAttribute("app", "sales")')
  const asks = visit.asks.length
  await visit.passes(500) // longer than a start is put off
  t.equal(visit.asks.length, asks, 'what is destroyed stays so')
  await visit.run('el.reload()')
  await visit.isIn('ready')
  t.same(visit.violations, [])
})

test('listeners may end what they are told of', IN_A_BROWSER, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t, '')
  for (const type of ['loading', 'ready']) {
    await visit.run(`(window.onSeen = (event) => { if (event.type === '${type}') event.target.remove() })`)
    await visit.put('<tooljet-embed app="sales"></tooljet-embed>')
    await visit.sees(type)
    await until('it is gone', async () => await visit.run('el') === null)
  }
  await visit.passes(700) // longer than it looks for what is due
  t.equal(visit.asks.length, 1, 'the first was gone before it asked')
  t.equal(visit.page.frames().length, 1)
})

test('fifty fast navigations leave one frame, and nothing behind', IN_A_BROWSER, async (t) => {
  const host = await EmbedHost.open(t)
  const visit = await host.visit(t)
  await visit.isIn('ready')
  const cdp = await visit.page.context().newCDPSession(visit.page)
  await cdp.send('Performance.enable')
  const measure = async () => {
    for (let i = 0; i < 3; i++) await cdp.send('HeapProfiler.collectGarbage')
    const { metrics } = await cdp.send('Performance.getMetrics')
    const value = (name: string): number => metrics.find((metric) => metric.name === name)!.value
    return { listeners: value('JSEventListeners'), nodes: value('Nodes'), frames: value('Frames'), heap: value('JSHeapUsedSize') }
  }
  const navigate = async (times: number): Promise<void> => {
    for (let i = 0; i < times; i++) {
      // now a page with another element, as a router does; now the same with another app
      await visit.run(i % 2 ? 'el.setAttribute(\'app\', \'inventory\')' : '(() => { const next = document.createElement(\'tooljet-embed\'); next.setAttribute(\'app\', \'sales\'); main.replaceChildren(next) })()')
      await visit.passes(i % 5 * 20)
    }
    await until('the last one is open', async () => (await visit.look()).state === 'ready' && (await visit.frame()).url().includes(INVENTORY.id))
  }
  await navigate(10)
  const before = await measure()
  await navigate(50)
  const after = await until('what has gone is collected', async () => {
    const now = await measure()
    return now.nodes <= before.nodes + 50 ? now : undefined
  })
  t.equal((await visit.looks()).flatMap(({ frames }) => frames).length, 1)
  t.equal(visit.page.frames().length, 2)
  t.ok(after.listeners <= before.listeners + 2, `listeners: ${before.listeners}, then ${after.listeners}`)
  t.ok(after.frames <= before.frames, `frames: ${before.frames}, then ${after.frames}`)
  t.ok(after.heap < before.heap + 500_000, `heap: ${before.heap}, then ${after.heap}`)
  t.comment(JSON.stringify({ before, after }))
  t.ok(host.toolJet.mints.length <= 2, 'one mint per app')

  const pending: string[] = []
  visit.page.on('requestfinished', (request) => { pending.push(request.url()) })
  await visit.run('el.remove()')
  const gone = await measure()
  t.ok(gone.listeners < after.listeners, 'removing takes its listeners along')
  t.equal(visit.page.frames().length, 1)
  t.same(visit.violations, [])
})

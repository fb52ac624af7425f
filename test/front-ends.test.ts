import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { buildSync, transformSync } from 'esbuild'
import type { FastifyInstance } from 'fastify'
import { t as tap, test, type Test } from 'tap'
import { buildClient } from '../.ci/build-client.js'
import { ToolJetStandIn } from '../example/tooljet/server.js'
import { chromiumPath, closeBrowserAfter, visit } from './support/browser.js'
import { blocksOf } from './support/markdown.js'
import { ANA, API_TOKEN, JWT_SECRET, newPrefix, releaseRedisAfter, SALES } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { keysOf, sharedRedisUrl } from './support/redis.js'
import { until } from './support/until.js'

/*
 * The code of docs/front-ends.md, run as it is written there.
 */

const IN_A_BROWSER = chromiumPath() === undefined ? { skip: 'there is no chromium on this machine' } : {}
const PAGE = 'https://app.example.com'
const ROUTE = '/api/get-tooljet-url'

releaseRedisAfter(tap)
closeBrowserAfter(tap)
buildClient()

const blocks = blocksOf('docs/front-ends.md')

function blockWith (...texts: string[]): string {
  const found = blocks.filter(({ code }) => texts.every((text) => code.includes(text)))
  if (found.length !== 1) throw new Error(`${found.length} blocks have ${texts.join(' and ')}`)
  return found[0]!.code
}

const BEARER = blockWith('fastifyCors', "origin: 'https://app.example.com' }")
const COOKIE = blockWith('fastifyCors', 'credentials: true')
const CSRF = blockWith('x-csrf-token', 'authenticate')

/** A host of these blocks, and of the plugin, where they do not register it themselves. */
async function openHost (t: Test, code: string): Promise<FastifyInstance> {
  const toolJet = await new ToolJetStandIn({ apiToken: API_TOKEN }).listen()
  t.teardown(() => toolJet.close())
  const redis = newClient(await sharedRedisUrl())
  const keyPrefix = newPrefix()
  t.teardown(async () => {
    await Promise.all((await keysOf(redis, keyPrefix)).map((key) => redis.del(key)))
    redis.disconnect()
  })
  const options = `keyPrefix: '${keyPrefix}', encryptionKey: 'encryption-key-of-the-tests', apps: { sales: { appId: '${SALES.id}' } },`
  const register = `import tooljetEmbed from 'fastify-tooljet-embed'
    app.register(tooljetEmbed, {
      tooljet: { url: process.env['TOOLJET_URL'], apiToken: process.env['TOOLJET_API_TOKEN'] },
      redis: process.env['REDIS_URL'],
    })`
  Object.assign(process.env, { JWT_SECRET, TOOLJET_URL: toolJet.url, TOOLJET_API_TOKEN: API_TOKEN, REDIS_URL: await sharedRedisUrl() })
  const source = `import Fastify from 'fastify'
    export const app = Fastify()
    ${code}
    ${code.includes('tooljetEmbed') ? '' : register}`
    .replace('app.register(tooljetEmbed, {', `$& ${options}`)
    .replaceAll("'fastify-tooljet-embed'", JSON.stringify(new URL('../plugin/index.ts', import.meta.url).href))
  const file = join(t.testdir({}), 'host.mjs')
  writeFileSync(file, transformSync(source, { loader: 'ts', format: 'esm' }).code)
  const { app } = await import(pathToFileURL(file).href) as { app: FastifyInstance }
  t.teardown(() => app.close())
  await app.ready()
  return app
}

async function preflight (app: FastifyInstance, headers: string) {
  const reply = await app.inject({ method: 'OPTIONS', url: ROUTE, headers: { origin: PAGE, 'access-control-request-method': 'POST', 'access-control-request-headers': headers } })
  return { status: reply.statusCode, headers: reply.headers }
}

async function post (app: FastifyInstance, headers: Record<string, string>, origin = PAGE) {
  const reply = await app.inject({ method: 'POST', url: ROUTE, payload: { app: 'sales' }, headers: { origin, ...headers } })
  return { status: reply.statusCode, headers: reply.headers, body: reply.json() as Record<string, unknown> }
}

test('a bearer token from another origin', async (t) => {
  const app = await openHost(t, BEARER)
  const bearer = { authorization: `Bearer ${app.jwt.sign({ email: ANA })}` }
  const allowed = await preflight(app, 'authorization,content-type')
  t.match(allowed, { status: 204, headers: { 'access-control-allow-origin': PAGE, 'access-control-allow-headers': 'authorization,content-type', 'access-control-allow-methods': /POST/ } })
  t.equal(allowed.headers['access-control-allow-credentials'], undefined)
  t.match(await post(app, bearer), { status: 200, headers: { 'access-control-allow-origin': PAGE }, body: { source: 'minted' } })
  t.match(await post(app, {}), { status: 401, headers: { 'access-control-allow-origin': PAGE }, body: { code: 'TOOLJET_EMBED_UNAUTHENTICATED' } }, 'the page can read that, too')
  t.match(await post(app, bearer, 'https://evil.example'), { headers: { 'access-control-allow-origin': PAGE } }, 'no other page')
})

test('a cookie from another origin', async (t) => {
  const app = await openHost(t, COOKIE)
  t.match(await preflight(app, 'content-type'), { status: 204, headers: { 'access-control-allow-origin': PAGE, 'access-control-allow-credentials': 'true' } })
  t.match(await post(app, { cookie: `token=${app.jwt.sign({ email: ANA })}` }), { status: 200, headers: { 'access-control-allow-credentials': 'true' } })
  t.match(await post(app, {}), { status: 401 })
})

test('a CSRF header', async (t) => {
  const app = await openHost(t, COOKIE + CSRF)
  const cookie = `token=${app.jwt.sign({ email: ANA, csrf: 'right' })}`
  t.match(await post(app, { cookie, 'x-csrf-token': 'right' }), { status: 200 })
  for (const headers of [{ cookie }, { cookie, 'x-csrf-token': 'wrong' }]) {
    t.match(await post(app, headers as Record<string, string>), { status: 403, body: { message: 'The CSRF token is missing or wrong' } })
  }
  t.match(await post(app, { 'x-csrf-token': 'right' }), { status: 401 })
})

/** A page with this script, and an API that says 401. @returns what the API was asked */
async function openPage (t: Test, script: string, html = '') {
  const folder = t.testdir({ 'page.tsx': script })
  const { outputFiles } = buildSync({ entryPoints: [join(folder, 'page.tsx')], bundle: true, format: 'esm', jsx: 'automatic', write: false, define: { 'process.env.NODE_ENV': '"production"' } })
  const { page, complaints } = await visit(t, PAGE)
  const asked: Array<Record<string, string>> = []
  await page.route('https://api.example.com/**', async (route) => {
    asked.push(await route.request().allHeaders())
    await route.fulfill({ status: 401, headers: { 'access-control-allow-origin': PAGE }, json: { code: 'TOOLJET_EMBED_UNAUTHENTICATED' } })
  })
  await page.route(`${PAGE}/`, (route) => route.fulfill({ contentType: 'text/html', body: `<!doctype html><div id="root">${html}</div><script type="module" src="/page.js"></script>` }))
  await page.route(`${PAGE}/page.js*`, (route) => route.fulfill({ contentType: 'text/javascript', body: outputFiles[0]!.text }))
  await page.goto('/')
  return { page, asked, complaints }
}

test('React 19: the token is sent, and a 401 is heard', { ...IN_A_BROWSER }, async (t) => {
  const { page, asked } = await openPage(t, `${blockWith('export function Sales')}
    import { createRoot } from 'react-dom/client'
    const signedOut = () => { document.title = 'signed out' }
    createRoot(document.querySelector('#root')!).render(<Sales accessToken={async () => 'react'} onSignedOut={signedOut} />)`)
  t.match(await until('it asks', () => asked[0]), { authorization: 'Bearer react', origin: PAGE })
  await until('it hears the 401', async () => await page.title() === 'signed out')
})

test('Next: a page that a server has rendered sends the token, and leaves nothing when it goes', { ...IN_A_BROWSER }, async (t) => {
  const block = blockWith("'use client'")
  const component = block.replace("'use client'\n", '')
  const folder = t.testdir({
    'server.tsx': `${component}
    import { renderToString } from 'react-dom/server'
    export const html = renderToString(<TooljetApp app='sales' accessToken={async () => 'server'} />)`
  })
  const file = join(folder, 'server.mjs')
  buildSync({ entryPoints: [join(folder, 'server.tsx')], outfile: file, bundle: true, platform: 'node', format: 'esm', packages: 'external', jsx: 'automatic' })
  const { html } = await import(pathToFileURL(file).href) as { html: string }
  t.equal(html, '<div></div>', 'there is no element on a server, and it does no harm')

  const { page, asked, complaints } = await openPage(t, `${component}
    import { hydrateRoot } from 'react-dom/client'
    const accessToken = async () => 'next'
    const root = hydrateRoot(document.querySelector('#root')!, <TooljetApp app='sales' accessToken={accessToken} />)
    Object.assign(window, { leave: () => root.unmount() })`, html)
  t.match(await until('it asks', () => asked[0]), { authorization: 'Bearer next' })
  await page.locator('tooljet-embed[state=fatal]').waitFor()
  t.same(complaints.filter((complaint) => !complaint.includes('401')), [], 'hydrated without a word')
  await page.evaluate('leave()')
  t.equal(await page.locator('tooljet-embed').count(), 0)
})

test('a page that loads the module twice has one element, and no error', { ...IN_A_BROWSER }, async (t) => {
  const { asked, complaints } = await openPage(t, `import 'fastify-tooljet-embed/client'
    document.title += '.'`, `<tooljet-embed app="sales" endpoint="https://api.example.com${ROUTE}" credentials="omit"></tooljet-embed><script type="module" src="/page.js?2"></script>`)
  await until('it asks', () => asked[0])
  t.same(complaints.filter((complaint) => !complaint.includes('401')), [])
})

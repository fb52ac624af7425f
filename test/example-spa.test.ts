import { t as tap, test, type Test } from 'tap'
import { buildClient } from '../.ci/build-client.js'
import { createApi } from '../example/spa/api.js'
import { servePage } from '../example/spa/serve-page.js'
import { ToolJetStandIn } from '../example/tooljet/server.js'
import { startServer } from '../example/redis.js'
import { chromiumPath, closeBrowserAfter, visit } from './support/browser.js'
import { Child, freePorts, isPortFree } from './support/child.js'
import { ANA, API_TOKEN, JWT_SECRET, newPrefix, readStream, releaseRedisAfter } from './support/portal.js'
import { newClient } from './support/redis-client.js'
import { keysOf, sharedRedisUrl } from './support/redis.js'
import { until } from './support/until.js'

const IN_A_BROWSER = chromiumPath() === undefined ? { skip: 'there is no chromium on this machine' } : {}
const ROUTE = '/api/get-tooljet-url'

releaseRedisAfter(tap)
closeBrowserAfter(tap)
buildClient() // the page bundles it

/** The page, its API of another origin, and a ToolJet of another site. @param patExpiry,tokenSeconds seconds */
async function openSpa (t: Test, { patExpiry, tokenSeconds }: { patExpiry: number, tokenSeconds: number }) {
  const port = await freePorts(2)
  const pageUrl = `http://localhost:${port}`
  const apiUrl = `http://localhost:${port + 1}`
  const keyPrefix = newPrefix()
  const secret = { current: JWT_SECRET }
  const redisUrl = await sharedRedisUrl()
  const redis = newClient(redisUrl)
  t.teardown(async () => {
    await Promise.all((await keysOf(redis, keyPrefix)).map((key) => redis.del(key)))
    redis.disconnect()
  })
  const toolJet = await new ToolJetStandIn({ apiToken: API_TOKEN }).listen()
  t.teardown(() => toolJet.close())
  const api = createApi({
    pageOrigin: pageUrl,
    jwtSecret: async () => secret.current,
    tooljet: { url: toolJet.url, apiToken: API_TOKEN },
    redis: redisUrl,
    tokenSeconds,
    embed: { keyPrefix, patExpiry, encryptionKey: 'encryption-key-of-the-tests' },
  })
  t.teardown(() => api.close())
  await api.listen({ port: port + 1, host: 'localhost' })
  const page = await servePage({ port, apiUrl })
  t.teardown(() => page.close())
  const audit = async () => (await readStream(redis, `${keyPrefix}audit`)).filter(({ event }) => event!.startsWith('url.'))
  return { pageUrl, apiUrl, toolJet, secret, audit }
}

/** All that a page asks of the route, as it goes over the wire. */
async function watch (t: Test, pageUrl: string) {
  const visitor = await visit(t, pageUrl)
  const requests: Array<{ headers: Record<string, string>, replyHeaders: Record<string, string>, status: number }> = []
  visitor.page.on('response', async (response) => {
    const request = response.request()
    if (new URL(request.url()).pathname !== ROUTE || request.method() !== 'POST') return
    requests.push({ headers: await request.allHeaders(), replyHeaders: await response.allHeaders(), status: response.status() })
  })
  return { ...visitor, requests }
}

test('the page of another origin: signs in, shows the app, renews it with the next token, signs in anew after a 401', { ...IN_A_BROWSER, timeout: 120_000 }, async (t) => {
  const { pageUrl, apiUrl, toolJet, secret, audit } = await openSpa(t, { patExpiry: 6, tokenSeconds: 4 })
  const { page, requests, complaints } = await watch(t, pageUrl)
  await page.context().addCookies([{ name: 'of_another_app', value: 'on localhost', url: apiUrl }])
  await page.goto('/')
  await page.getByRole('button', { name: ANA }).click()
  const app = page.locator('tooljet-embed')
  const user = () => app.locator('iframe').last().contentFrame().locator('#user').textContent()
  await app.and(page.locator('[state=ready]')).waitFor()
  t.equal(await user(), ANA)

  const [first] = requests
  t.match(first, { status: 200, headers: { authorization: /^Bearer ey/, origin: pageUrl }, replyHeaders: { 'access-control-allow-origin': pageUrl } })
  t.equal(first!.headers['cookie'], undefined)
  t.equal(first!.replyHeaders['access-control-allow-credentials'], undefined)
  t.equal(first!.replyHeaders['set-cookie'], undefined)
  t.same(await page.evaluate('[localStorage.length, sessionStorage.length, document.cookie]'), [0, 0, 'of_another_app=on localhost'], 'the token is in memory only')

  await until('ToolJet has given another URL', () => toolJet.mints.length > 1)
  await until('the renewal is seen', async () => (await audit()).filter(({ event }) => event === 'url.minted').length > 1)
  const { status, headers } = requests.at(-1)!
  t.equal(status, 200)
  t.match(headers['authorization'], /^Bearer ey/)
  t.not(headers['authorization'], first!.headers['authorization'], 'by the next token')
  t.equal(await app.getAttribute('state'), 'ready', 'the app shows all the while')
  for (const event of await audit()) t.match(event, { event: /^url\.(minted|reused)$/, outcome: 'success', email: ANA, app: 'sales' })
  t.same(complaints, [])

  secret.current = `another-${JWT_SECRET}` // no token is good any more
  await page.getByText('Your session has ended. Please sign in again.').waitFor()
  t.equal(requests.at(-1)!.status, 401)
  t.equal(await app.count(), 0)
  await page.getByRole('button', { name: ANA }).click()
  await app.and(page.locator('[state=ready]')).waitFor()
  t.equal(await user(), ANA)

  const before = requests.length
  await page.getByRole('button', { name: 'Sign out' }).click()
  await page.getByText('You have signed out.').waitFor()
  t.equal(await app.count(), 0)
  t.equal(requests.length, before)
})

test('a user without access, another app, and another page', { ...IN_A_BROWSER, timeout: 60_000 }, async (t) => {
  const { pageUrl, apiUrl } = await openSpa(t, { patExpiry: 600, tokenSeconds: 300 })
  const { page, asks } = await watch(t, pageUrl)
  await page.goto('/')
  await page.getByRole('button', { name: 'cleo@acme.test' }).click()
  const app = page.locator('tooljet-embed')
  await app.and(page.locator('[state=fatal]')).waitFor()
  t.match(await until('the answer', () => asks[0]), { status: 403, reply: { code: 'TOOLJET_EMBED_ACCESS_DENIED' } })
  await page.getByRole('button', { name: 'Inventory' }).click()
  await app.and(page.locator('[state=ready]')).waitFor()

  const others = await visit(t, 'http://127.0.0.1:1')
  await others.page.route('http://127.0.0.1:1/', (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }))
  await others.page.goto('/')
  t.equal(await others.page.evaluate(`fetch('${apiUrl}/api/demo-users').then(() => 'read', () => 'refused')`), 'refused')
})

test('npm run example:spa starts all of it, and Ctrl-C stops it', { timeout: 90_000 }, async (t) => {
  const server = await startServer()
  t.teardown(() => server.stop())
  const port = await freePorts(2)
  const child = Child.start(t, ['--import', 'tsx', 'example/spa/start.ts'], { PORT: String(port), REDIS_URL: server.url, npm_lifecycle_event: 'example:spa' })
  const output = await child.prints('Ctrl-C stops all of it.', 60_000)
  t.match(output, `Page      http://localhost:${port} `)
  t.match(output, `API       http://localhost:${port + 1} `)
  t.match(await (await fetch(`http://localhost:${port}/`)).text(), '<title>Acme</title>')
  const token = await fetch(`http://localhost:${port + 1}/api/token`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ email: ANA }) })
  const { token: bearer } = await token.json() as { token: string }
  const reply = await fetch(`http://localhost:${port + 1}${ROUTE}`, { method: 'POST', headers: { 'content-type': 'application/json', authorization: `Bearer ${bearer}` }, body: '{"app":"sales"}' })
  t.match(await reply.json(), { source: 'minted' })
  child.process.kill('SIGINT')
  t.equal(await child.ends(), 0)
  t.equal(child.output, output, 'nothing went wrong on the way')
  for (const taken of [port, port + 1]) t.ok(await isPortFree(taken), `port ${taken} is free again`)
})

test('npm run example:spa says what is wrong with its settings', { timeout: 60_000 }, async (t) => {
  const child = Child.start(t, ['--import', 'tsx', 'example/spa/start.ts'], { PORT: 'http' })
  t.equal(await child.ends(), 1)
  t.match(child.output, /^The example cannot start: PORT is "http", expected a port number from 1 to 65535\n$/)
})

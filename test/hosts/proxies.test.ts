import { once } from 'node:events'
import { createServer, request as call, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { t as tap, test, type Test } from 'tap'
import { Agent, interceptors, MockAgent, ProxyAgent } from 'undici'
import type { TooljetTarget } from '../../plugin/index.js'
import { CERT, KEY } from '../support/certificate.js'
import { ANA, API_TOKEN, BEN, Portal, releaseRedisAfter } from '../support/portal.js'
import { stopwatch } from '../support/stopwatch.js'

releaseRedisAfter(tap)

/* ToolJet behind a proxy of the company, behind an access proxy, or not there at all: how a host says the way to it. */

const VARIABLES = ['HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'http_proxy', 'https_proxy', 'no_proxy', 'ALL_PROXY', 'all_proxy']

function setEnv (t: Test, env: Record<string, string>): void {
  const before = Object.fromEntries(VARIABLES.map((name) => [name, process.env[name]]))
  t.teardown(() => {
    for (const [name, value] of Object.entries(before)) {
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
    }
  })
  for (const name of VARIABLES) delete process.env[name]
  Object.assign(process.env, env)
}

/** A proxy that takes every host for one port here, and what it was asked for. */
async function openProxy (t: Test): Promise<{ url: string, asked: string[], leadTo: (url: string) => void }> {
  const asked: string[] = []
  let port = 1
  const sockets = new Set<Socket>()
  const proxy = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`)
    const { method, headers } = request
    const onward = call({ port, host: '127.0.0.1', method, path: new URL(request.url!).pathname, headers }, (reply) => {
      response.writeHead(reply.statusCode!, reply.headers)
      reply.pipe(response)
    })
    request.pipe(onward.on('error', () => response.destroy()))
  })
  proxy.on('connect', (request, socket: Socket) => {
    asked.push(`CONNECT ${request.url}`)
    const target = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
      target.pipe(socket).pipe(target)
    })
    for (const one of [target, socket]) {
      sockets.add(one)
      one.on('error', () => {})
    }
  })
  const url = await listening(t, proxy)
  t.teardown(() => { for (const socket of sockets) socket.destroy() })
  return { url, asked, leadTo: (url) => { port = Number(new URL(url).port) } }
}

async function listening (t: Test, server: Server): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** A portal whose ToolJet has another address. */
function openPortal (t: Test, target: Partial<TooljetTarget>): Promise<Portal> {
  return Portal.open(t, { options: { tooljet: { url: 'http://tooljet.test', apiToken: API_TOKEN, embedOrigins: ['http://tooljet.test'], ...target } }, toolJet: { publicUrl: 'http://tooljet.test' } })
}

test('HTTP_PROXY is the way to ToolJet, but for hosts of NO_PROXY, and is told once', async (t) => {
  const { url, asked, leadTo } = await openProxy(t)
  setEnv(t, { HTTP_PROXY: url })
  const portal = await openPortal(t, {})
  leadTo(portal.toolJet.url)
  t.match(await portal.ask(ANA), { status: 200 })
  t.same(asked, ['POST http://tooljet.test/api/ext/users/personal-access-token'])
  const lines = portal.logLines.filter(({ msg }) => msg === 'tooljet-embed: ToolJet is called through a proxy')
  t.match(lines, [{ level: 30, proxy: new URL(url).host }])

  setEnv(t, { HTTP_PROXY: url, NO_PROXY: 'other.test,.test' })
  const direct = await openPortal(t, { timeoutMs: 2000 })
  t.match(await direct.ask(ANA), { status: 503 }, 'tooljet.test is nowhere')
  t.equal(asked.length, 1)
  t.notOk(direct.logText.includes('through a proxy'))
})

test('a ToolJet on loopback is never called through a proxy', async (t) => {
  const { url, asked } = await openProxy(t)
  setEnv(t, { HTTP_PROXY: url, HTTPS_PROXY: url })
  t.match(await (await Portal.open(t)).ask(ANA), { status: 200 })
  t.same(asked, [])
})

test('HTTPS_PROXY carries TLS that it cannot read', async (t) => {
  const tls = createTlsServer({ key: KEY, cert: CERT })
  const tlsUrl = await listening(t, tls)
  const { url, asked, leadTo } = await openProxy(t)
  leadTo(tlsUrl)
  setEnv(t, { HTTPS_PROXY: url })
  const portal = await openPortal(t, { url: 'https://tooljet.test' })
  t.match(await portal.ask(ANA), { status: 503 }, 'the certificate is not trusted')
  t.same(asked, ['CONNECT tooljet.test:443'])
})

test('a variable that is no proxy stops the start, and is not shown', async (t) => {
  setEnv(t, { HTTPS_PROXY: 'socks5://hunter2@proxy.test' })
  await t.rejects(openPortal(t, { url: 'https://tooljet.test' }), { code: 'TOOLJET_EMBED_OPTIONS', message: /HTTPS_PROXY is something else \(not shown\), expected a URL like/ })
})

test("a dispatcher of the host's: a proxy, a mock; it is not closed with the plugin", async (t) => {
  const { url, asked, leadTo } = await openProxy(t)
  const dispatcher = new ProxyAgent(url)
  t.teardown(() => dispatcher.destroy())
  const portal = await openPortal(t, { dispatcher })
  leadTo(portal.toolJet.url)
  t.match(await portal.ask(ANA), { status: 200 })
  t.equal(asked.length, 1)
  await portal.app.close()
  t.equal((dispatcher as unknown as { closed: boolean }).closed, false)

  const mock = new MockAgent()
  mock.disableNetConnect()
  const redirectUrl = 'http://tooljet.test/embed-apps/8ba8bf0e-6b8f-4e07-abb9-6fd2d816fabc?personal-access-token=pat_1&appSlug=sales'
  mock.get('http://tooljet.test').intercept({ path: '/api/ext/users/personal-access-token', method: 'POST' }).reply(201, { personalAccessToken: 'pat_1', redirectUrl })
  const mocked = await openPortal(t, { dispatcher: mock })
  t.match(await mocked.ask(ANA), { status: 200, body: { redirectUrl } })

  const composed = new Agent().compose(interceptors.dns())
  t.match(await (await Portal.open(t, { target: { dispatcher: composed } })).ask(ANA), { status: 200 })
})

test('closing does not wait for a call that a dispatcher of the host carries', async (t) => {
  const dispatcher = new Agent()
  t.teardown(() => dispatcher.destroy())
  const portal = await Portal.open(t, { target: { dispatcher } })
  portal.toolJet.faults = () => ({ hang: true })
  const asked = portal.ask(ANA)
  while (portal.toolJet.calls.length === 0) await new Promise((resolve) => { setImmediate(resolve) })
  const waited = stopwatch()
  await portal.app.close()
  t.ok(waited() < 5000)
  await asked.catch(() => {})
})

test('further headers go with every call of ToolJet, and into no log', async (t) => {
  const headers = { 'CF-Access-Client-Id': 'portal', 'CF-Access-Client-Secret': 'hunter2' }
  const portal = await Portal.open(t, { target: { headers, checkAccess: true } })
  t.match(await portal.ask(ANA), { status: 200 })
  const sent = { headers: { 'cf-access-client-id': 'portal', 'cf-access-client-secret': 'hunter2' } }
  t.match([portal.toolJet.calls, portal.toolJet.sessionCalls], [[sent], [sent]])
  portal.toolJet.faults = () => ({ reply: { status: 401 } })
  await portal.ask(BEN)
  t.notOk(portal.logText.includes('hunter2'))

  const wrong = async (headers: unknown, message: RegExp) => t.rejects(openPortal(t, { headers: headers as never }), { code: 'TOOLJET_EMBED_OPTIONS', message })
  await wrong({ Authorization: 'Bearer hunter2' }, /^(?!.*hunter2).*names of headers other than authorization/)
  await wrong({ 'a b': 'x' }, /"a b"/)
  await wrong({ 'x-key': 'hunter2\r\n' }, /^(?!.*hunter2).*tooljet\.headers\.x-key/)
  await wrong({ 'x-key': 7 }, /tooljet\.headers\.x-key/)
  await t.rejects(openPortal(t, { dispatcher: {} as never }), { code: 'TOOLJET_EMBED_OPTIONS', message: /tooljet\.dispatcher/ })
})

test('what is wrong with an address or a token is said', async (t) => {
  await t.rejects(openPortal(t, { url: '' }), { message: /"tooljet\.url" is empty/ })
  await t.rejects(openPortal(t, { url: 'tooljet.acme.test' }), { message: /does not begin with http:\/\/ or https:\/\// })
  await t.rejects(openPortal(t, { apiToken: 'Basic hunter2' }), { message: /^(?!.*hunter2).*without "Basic "/ })
})

test('a ToolJet that refuses connections is unavailable, also where the time is over in the pause before a further try', async (t) => {
  for (const timeoutMs of [20, 60, 100, 150]) {
    const portal = await openPortal(t, { url: 'http://127.0.0.1:1', timeoutMs })
    t.match(await portal.ask(ANA), { status: 503, body: { code: 'TOOLJET_EMBED_UNAVAILABLE' } }, `${timeoutMs} ms`)
    t.match(portal.logLines.find(({ msg }) => /mint failed/.test(String(msg))), { err: { message: /^ToolJet is not available: it cannot be reached: \S/ } }, 'one sentence, with the cause')
  }
})

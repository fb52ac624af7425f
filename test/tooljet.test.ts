import { createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { inspect } from 'node:util'
import { t as tap, test, type Test } from 'tap'
import { SALES } from '../example/tooljet/seed.js'
import { ToolJetStandIn } from '../example/tooljet/server.js'
import { freePort } from '../example/redis.js'
import { ANA, API_TOKEN, BEN, Portal, releaseRedisAfter } from './support/portal.js'
import { pauseAsked } from '../plugin/tooljet/replies.js'
import { CERT, KEY } from './support/certificate.js'
import { stopwatch } from './support/stopwatch.js'
import { until } from './support/until.js'

releaseRedisAfter(tap)

/** A server that speaks raw bytes. */
async function rawServer (t: Test, onConnection: (socket: Socket, count: number) => void): Promise<{ url: string, connections: () => number }> {
  let count = 0
  const sockets = new Set<Socket>()
  const server: Server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    onConnection(socket, ++count)
  }).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  t.teardown(() => { for (const socket of sockets) socket.destroy(); server.close() })
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, connections: () => count }
}

const portalOf = (t: Test, url: string, timeoutMs = 2000) => Portal.open(t, { options: { tooljet: { url, apiToken: API_TOKEN, timeoutMs } } })

test('a sub-path is kept, the token is sent verbatim, one connection serves many mints', async (t) => {
  const requests: string[] = []
  const { url, connections } = await rawServer(t, (socket) => {
    socket.on('data', (chunk) => {
      requests.push(String(chunk))
      const body = JSON.stringify({ redirectUrl: `${url}/base/embed-apps/${SALES.id}?personal-access-token=pat_1` })
      socket.write(`HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
    })
  })
  const portal = await portalOf(t, `${url}/base/`)
  t.equal((await portal.ask(ANA)).status, 200)
  t.equal((await portal.ask(BEN)).status, 200)
  t.match(requests[0], /^POST \/base\/api\/ext\/users\/personal-access-token HTTP\/1\.1\r\n/)
  t.match(requests[0], new RegExp(`authorization: Basic ${API_TOKEN}\r\n`, 'i'))
  t.equal(connections(), 1)
})

test('embedOrigins names the front end, where that is not the API', async (t) => {
  const portal = await Portal.open(t, { toolJet: {} })
  portal.toolJet.faults = () => ({ reply: { status: 201, body: { redirectUrl: `https://apps.acme.test/embed-apps/${SALES.id}?personal-access-token=pat_1` } } })
  t.equal((await portal.ask(ANA)).body.code, 'TOOLJET_EMBED_BAD_REPLY')
  const { toolJet } = portal
  const other = await Portal.open(t, { options: { tooljet: { url: toolJet.url, apiToken: API_TOKEN, embedOrigins: ['https://apps.acme.test', 'https://other.acme.test'] } } })
  t.equal((await other.ask(ANA)).body.redirectUrl, `https://apps.acme.test/embed-apps/${SALES.id}?personal-access-token=pat_1`)
  toolJet.faults = () => ({ reply: { status: 201, body: { redirectUrl: `https://user:hunter2@apps.acme.test/embed-apps/${SALES.id}` } } })
  t.equal((await other.ask(BEN)).body.code, 'TOOLJET_EMBED_BAD_REPLY', 'a URL with credentials is of no origin')
  t.notMatch(other.logText, /hunter2/)
  for (const odd of ['\r\nX: y', '"><script>', ' ', '\t', '\u0000', '`']) {
    toolJet.faults = () => ({ reply: { status: 201, body: { redirectUrl: `https://apps.acme.test/embed-apps/${SALES.id}${odd}` } } })
    t.equal((await other.ask(BEN)).body.code, 'TOOLJET_EMBED_BAD_REPLY', `read past by a URL's parser, and perhaps not by a page: ${JSON.stringify(odd)}`)
    await other.redis.del(...(await other.keys()).filter((key) => key.includes(':limit:')))
  }
  t.same(other.app.tooljetEmbed.origins, ['https://apps.acme.test', 'https://other.acme.test'])
})

test('refused connections are tried again, twice at most', async (t) => {
  const port = await freePort()
  const portal = await portalOf(t, `http://127.0.0.1:${port}`)
  const began = performance.now()
  t.match(await portal.ask(ANA), { status: 503, body: { code: 'TOOLJET_EMBED_UNAVAILABLE' } })
  t.ok(performance.now() - began >= 140, 'with pauses')

  const asked = portal.ask(BEN)
  const standIn = new ToolJetStandIn({ apiToken: API_TOKEN, port, seed: { apps: [SALES], users: [{ email: BEN, apps: ['sales'] }] } })
  await standIn.listen()
  t.teardown(() => standIn.close())
  t.equal((await asked).status, 200, 'a server that comes up meanwhile is reached')
})

test('502 and 503 are tried again, twice at most; a success ends it', async (t) => {
  for (const status of [502, 503]) {
    const portal = await Portal.open(t)
    portal.toolJet.faults = () => ({ reply: { status } })
    t.equal((await portal.ask(ANA)).status, 503)
    t.equal(portal.toolJet.calls.length, 3)
    portal.toolJet.faults = () => (portal.toolJet.calls.length === 4 ? { reply: { status } } : undefined)
    t.equal((await portal.ask(BEN)).status, 200)
    t.equal(portal.toolJet.calls.length, 5)
  }
})

test('what may have reached ToolJet is never sent twice', async (t) => {
  for (const fault of [{ cut: 'before' }, { cut: 'middle' }, { hang: true }, { reply: { status: 500 } }, { reply: { status: 504 } }] as const) {
    const standIn = await new ToolJetStandIn({ apiToken: API_TOKEN }).listen()
    t.teardown(() => standIn.close())
    const portal = await portalOf(t, standIn.url, 200)
    standIn.faults = () => fault
    t.ok([503, 504].includes((await portal.ask(ANA)).status), JSON.stringify(fault))
    t.equal(standIn.calls.length, 1)
  }
})

test('one deadline covers slow headers, a slow body, and all tries together', async (t) => {
  const dripping = await rawServer(t, (socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n')
      const drip = setInterval(() => socket.write('1\r\n \r\n'), 20)
      socket.once('close', () => clearInterval(drip))
    })
  })
  const silent = await rawServer(t, () => {})
  for (const { url } of [dripping, silent]) {
    const portal = await portalOf(t, url, 200)
    const waited = stopwatch()
    t.match(await portal.ask(ANA), { status: 504, body: { code: 'TOOLJET_EMBED_TIMEOUT' } })
    t.ok(waited() < 1000)
  }
  const standIn = await new ToolJetStandIn({ apiToken: API_TOKEN }).listen()
  t.teardown(() => standIn.close())
  standIn.faults = () => (standIn.calls.length === 1 ? { reply: { status: 502 } } : { hang: true })
  const portal = await portalOf(t, standIn.url, 400)
  t.equal((await portal.ask(ANA)).status, 504)
  t.equal(standIn.calls.length, 2)
})

test('after repeated failures the whole fleet sends one probe at a time, and goes on after one success', async (t) => {
  const [one, other] = await Portal.openSeveral(t, 2, { options: { rateLimit: false } }) as [Portal, Portal]
  const { toolJet } = one
  toolJet.faults = () => ({ delayMs: 50, reply: { status: 500 } })
  const ask = (i: number) => (i % 2 === 0 ? one : other).ask(ANA, { appSlug: `app-${i}` })
  for (let i = 0; i < 5; i++) t.equal((await ask(i)).body.code, 'TOOLJET_EMBED_UNAVAILABLE')
  t.equal(toolJet.calls.length, 5)
  t.ok(await one.redis.pttl((await one.keys()).find((key) => key.endsWith(':failures'))!) > 0, 'failures far apart are not in a row')
  const storm = await Promise.all(Array.from({ length: 60 }, (_, i) => ask(100 + i)))
  t.ok(storm.every(({ status, body, headers }) => status === 503 && body.code === 'TOOLJET_EMBED_UNAVAILABLE' && Number(headers['retry-after']) >= 1))
  t.ok(toolJet.calls.length <= 6, `${toolJet.calls.length} calls`)

  toolJet.faults = undefined
  await until('a probe gets through', async () => (await other.ask(ANA)).status === 200)
  t.equal((await one.ask(BEN)).status, 200, 'then all go on')
  toolJet.faults = () => ({ reply: { status: 500 } })
  for (let i = 0; i < 5; i++) await ask(200 + i)
  t.ok(toolJet.calls.length >= 12, 'failures are counted anew')
})

test('failures with a success between them are not in a row', async (t) => {
  const portal = await Portal.open(t, { options: { rateLimit: false } })
  const { toolJet } = portal
  const failing = { reply: { status: 500 } }
  const plan = [failing, failing, failing, failing, undefined, failing, failing, failing, failing]
  toolJet.faults = () => plan[toolJet.calls.length - 1]
  for (let i = 0; i < plan.length; i++) t.equal((await portal.ask(ANA, i === 4 ? { appId: SALES.id } : { appSlug: `app-${i}` })).status, i === 4 ? 200 : 503)
  t.equal(toolJet.calls.length, plan.length)
})

test('a bad certificate and a name that does not resolve are ToolJet being unavailable', async (t) => {
  const tls = createTlsServer({ key: KEY, cert: CERT }).listen(0, '127.0.0.1')
  await new Promise((resolve) => tls.once('listening', resolve))
  t.teardown(() => { tls.close() })
  for (const url of [`https://127.0.0.1:${(tls.address() as AddressInfo).port}`, 'http://tooljet.invalid']) {
    const portal = await portalOf(t, url)
    t.match(await portal.ask(ANA), { status: 503, body: { code: 'TOOLJET_EMBED_UNAVAILABLE' } }, url)
    t.ok(portal.logLines.some(({ level, msg }) => level === 50 && /mint failed/.test(String(msg))))
  }
})

test('what ToolJet sent is in no error, not even as a cause', async (t) => {
  const { url } = await rawServer(t, (socket) => {
    socket.once('data', () => socket.end('HTTP/1.1 201 Created\r\nno header pat_5ec7e7 \r\n\r\n'))
  })
  let seen: unknown
  const portal = await Portal.open(t, {
    options: { tooljet: { url, apiToken: API_TOKEN } },
    before: (app) => { app.setErrorHandler(async (error, _request, reply) => { seen = error; return reply.code(500).send({}) }) },
  })
  await portal.askByDecorator(ANA)
  t.match(seen, { code: 'TOOLJET_EMBED_UNAVAILABLE', cause: { message: /HTTP\/1\.1 protocol/ } })
  t.notMatch(inspect(seen, { depth: 9, showHidden: true }), /5ec7e7/)
})

test('a Retry-After that is neither seconds nor a date is none', (t) => {
  for (const value of ['3, 4', '1.5', '-5', ['5', '5'], 'soon']) {
    t.match(pauseAsked({ status: 429, headers: { 'retry-after': value }, body: '' }), { seconds: 60, isGiven: false }, String(value))
  }
  const headers = { date: 'Fri, 27 Nov 2026 10:00:00 GMT', 'retry-after': 'Fri, 27 Nov 2026 10:00:30 GMT' }
  t.match(pauseAsked({ status: 429, headers, body: '' }), { seconds: 30, isGiven: true })
  t.end()
})

test('an endless body is let go at its bound', async (t) => {
  let sent = 0
  const { url } = await rawServer(t, (socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n')
      const block = `4000\r\n${'x'.repeat(0x4000)}\r\n`
      const send = (): void => { while (!socket.destroyed && socket.write(block)) sent += 0x4000 }
      socket.on('drain', send)
      send()
    })
  })
  const portal = await portalOf(t, url)
  t.match(await portal.ask(ANA), { status: 502, body: { code: 'TOOLJET_EMBED_BAD_REPLY' } })
  const soFar = sent
  await until('the connection is closed', () => sent - soFar < 10_000_000)
})
